package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// RequestTimeout bounds the work on one request. After it, a transaction goes on in the
// background. The caller learns its outcome by repeating the request.
const RequestTimeout = 30 * time.Second

// NewServer returns a server with limits: for the times of header, body, answer and idle
// connections, and for the size of a header. Decode bounds the size of a body.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      15*time.Second + RequestTimeout + 5*time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// Listen listens on a TCP address. It refuses an address that other machines reach,
// unless public has the hosts by which they call the service.
func Listen(addr string, public Hosts) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: is it in use? choose another address: %w", addr, err)
	}
	if at, ok := listener.Addr().(*net.TCPAddr); !public.Any() && (!ok || !at.IP.IsLoopback()) {
		listener.Close()
		return nil, fmt.Errorf("other machines reach %s, and this example does not authenticate: use 127.0.0.1, or give with -public the hosts by which they call it", addr)
	}
	return listener, nil
}

// Hosts is a flag: the host names, besides this machine's, that requests may name.
type Hosts []string

// Any reports whether there is one.
func (h Hosts) Any() bool { return len(h) > 0 }

// String returns the hosts with commas.
func (h Hosts) String() string { return strings.Join(h, ",") }

// Set reads hosts with commas.
func (h *Hosts) Set(text string) error {
	*h = nil
	for host := range strings.SplitSeq(text, ",") {
		host = strings.TrimSpace(host)
		if host == "" || strings.ContainsAny(host, "/@* ") {
			return errors.New("give host names with commas between them, such as shop.example")
		}
		*h = append(*h, hostname(host))
	}
	return nil
}

// With returns h with the host of a URL added.
func (h Hosts) With(location string) Hosts {
	at, err := url.Parse(location)
	if err != nil || at.Hostname() == "" {
		return h
	}
	return append(h[:len(h):len(h)], strings.ToLower(at.Hostname()))
}

// hostname returns the host of a Host header in lower case, without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// local reports whether a request names this machine: by a loopback name, or by the
// address that it arrived at.
func local(r *http.Request) bool {
	host := hostname(r.Host)
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ip.IsLoopback() || ok && ip.Equal(at.IP)
}
