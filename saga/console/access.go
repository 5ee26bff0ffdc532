package console

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// refusal is why a request is not served.
type refusal struct {
	key  string // of the text
	text string // of the host application; may be empty
}

func (r *refusal) Error() string { return r.key + " " + r.text }

// authorize returns the name of the sender of a request, or a refusal.
func (c *Console) authorize(r *http.Request, verb Verb) (who string, refused *refusal) {
	if c.config.ReadOnly && !verb.reads() {
		return "", &refusal{key: "denied.readonly"}
	}
	if c.config.Authorize == nil {
		if !verb.reads() {
			return "", &refusal{key: "denied.nohook"}
		}
		if !local(r) {
			return "", &refusal{key: "denied.remote"}
		}
		return "", nil
	}
	who, err := c.config.Authorize(r, verb)
	if err != nil {
		return "", &refusal{key: "denied.hook", text: err.Error()}
	}
	if who == "" && !verb.reads() {
		return "", &refusal{key: "denied.noname"}
	}
	return who, nil
}

// local reports whether a request comes from this machine, and not through a proxy. The name of
// the host is checked too: a page of another site that has its name resolved to a loopback
// address sends its own name.
func local(r *http.Request) bool {
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header.Get(header) != "" {
			return false
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if name, _, splitErr := net.SplitHostPort(host); splitErr == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// errCrossSite is the refusal of an act that another site has sent.
var errCrossSite = errors.New("cross-site")
