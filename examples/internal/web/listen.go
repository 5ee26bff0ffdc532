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

// RequestTimeout bounds the work on one request. A transaction that is under way
// then goes on in the background, and the caller learns its outcome by sending
// the request again.
const RequestTimeout = 30 * time.Second

// NewServer returns a server with a bound on everything that a client can keep
// busy: the time for the header, for the body and for the answer, the time of a
// connection without a request, and the size of a header. Decode bounds bodies.
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

// Listen listens on a TCP address. It refuses one that other machines reach,
// unless public names the hosts that they call the service by.
func Listen(addr string, public Hosts) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: is it in use? choose another address: %w", addr, err)
	}
	if at, ok := listener.Addr().(*net.TCPAddr); !public.Any() && (!ok || !at.IP.IsLoopback()) {
		listener.Close()
		return nil, fmt.Errorf("other machines reach %s, and this example asks nobody who they are: use 127.0.0.1, or say with -public by which hosts they call it", addr)
	}
	return listener, nil
}

// Hosts is a flag with the host names, besides those of this machine, that
// requests may be for.
type Hosts []string

// Any reports whether there is one.
func (h Hosts) Any() bool { return len(h) > 0 }

// String returns the hosts with commas.
func (h Hosts) String() string { return strings.Join(h, ",") }

// Set takes hosts with commas.
func (h *Hosts) Set(text string) error {
	*h = nil
	for host := range strings.SplitSeq(text, ",") {
		host = strings.TrimSpace(host)
		if host == "" || strings.ContainsAny(host, "/@* ") {
			return errors.New("it takes host names with commas between them, such as shop.example")
		}
		*h = append(*h, hostname(host))
	}
	return nil
}

// With returns h and the host of a URL that the service is called at.
func (h Hosts) With(location string) Hosts {
	at, err := url.Parse(location)
	if err != nil || at.Hostname() == "" {
		return h
	}
	return append(h[:len(h):len(h)], strings.ToLower(at.Hostname()))
}

// hostname is the host of a Host header, in small letters and without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// local reports whether a request is for this machine: by a name of the loopback
// interface, or by the address that it arrived at.
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
