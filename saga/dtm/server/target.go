package server

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// target is an entry of Config.Hosts.
type target struct {
	host   string // in lower case, with its port if it has one
	prefix string // empty, or with a leading and without a trailing slash
	kind   string // of its branches of TCC and XA
	action string // kind of its actions of sagas and messages
	query  string // kind of the local transactions of messages, which have a query_prepared
}

type targets []target

// noTarget is the target of branches without any URL.
var noTarget = target{kind: "dtm-none", action: "dtma-none", query: "dtmq-none"}

func parseTargets(entries []string) (all targets, err error) {
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: Config.Hosts is empty: list the hosts of the branches", saga.ErrInvalid)
	}
	for _, entry := range entries {
		t, err := parseTarget(entry)
		if err != nil {
			return nil, fmt.Errorf("%w: Config.Hosts: %q: %w", saga.ErrInvalid, entry, err)
		}
		for _, other := range all {
			if other.kind == t.kind {
				return nil, fmt.Errorf("%w: Config.Hosts names %q twice", saga.ErrInvalid, entry)
			}
		}
		all = append(all, t)
	}
	return all, nil
}

func parseTarget(entry string) (t target, err error) {
	if strings.Contains(entry, "://") {
		return t, errors.New("it is a URL; write host:port or host:port/prefix, both schemes are allowed")
	}
	at, err := url.Parse("http://" + entry)
	if err != nil {
		return t, err
	}
	t.host, t.prefix = lower(at.Host), strings.TrimSuffix(at.EscapedPath(), "/")
	switch {
	case at.Hostname() == "" || !isASCII(entry) || strings.Contains(at.Hostname(), ":") && at.Host[0] != '[':
		return t, errors.New("it has no host, or one that is not ASCII, or an IPv6 address without brackets")
	case at.User != nil || at.RawQuery != "" || at.ForceQuery || strings.Contains(entry, "#"):
		return t, errors.New("only a host, a port and a path are possible")
	case t.prefix != "" && (at.EscapedPath() != at.Path || !under(at.Path, t.prefix)):
		return t, errors.New("its path holds segments . or .., or escaped characters")
	}
	entry = t.host + t.prefix
	t.kind, t.action, t.query = kindOf("dtm", entry), kindOf("dtma", entry), kindOf("dtmq", entry)
	return t, nil
}

// kindOf returns the kind of an entry, in the characters of a kind: 1 to 64 letters,
// digits, dots, dashes and underscores. No two entries have the same kind.
func kindOf(first, entry string) string {
	var b strings.Builder
	b.WriteString(first + ".")
	for i := range len(entry) {
		switch c := entry[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	if b.Len() <= 64 {
		return b.String()
	}
	sum := sha256.Sum256([]byte(entry))
	return first + "-" + hex.EncodeToString(sum[:20])
}

// find returns the target of a branch. As on a DTM server, an operation with an empty URL
// does nothing.
func (all targets) find(b branch) (target, error) {
	found, t := noTarget, b.transType()
	for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
		u := struct{ name, address string }{t.op(op), b.url(op)}
		if u.address == "" {
			continue
		}
		at, err := all.of(u.address)
		switch {
		case err != nil:
			return at, fmt.Errorf("%w: the URL of %s: %w", saga.ErrInvalid, u.name, err)
		case found != noTarget && found != at:
			return at, fmt.Errorf("%w: the URLs of a branch are in different places, %s%s and %s%s: a branch is in one",
				saga.ErrInvalid, found.host, found.prefix, at.host, at.prefix)
		}
		found = at
	}
	return found, nil
}

func (all targets) of(address string) (found target, err error) {
	at, err := parse(address)
	if err != nil {
		return found, err
	}
	host := false
	for _, t := range all {
		host = host || t.host == lower(at.Host)
		if t.has(at) && (found.kind == "" || len(t.prefix) > len(found.prefix)) {
			found = t
		}
	}
	switch {
	case found.kind != "":
		return found, nil
	case host:
		return found, fmt.Errorf("the path %q of %s is not among those that this server may call", wire.Clip(at.EscapedPath(), 200), at.Host)
	default:
		return found, fmt.Errorf("the host %q is not among those that this server may call", wire.Clip(at.Host, 200))
	}
}

func (t target) has(at *url.URL) bool {
	if t.host != lower(at.Host) {
		return false
	}
	escaped := lower(at.EscapedPath())
	return t.prefix == "" || !strings.Contains(escaped, "%2f") && under(at.Path, t.prefix)
}

// under reports whether a path is below a prefix for every server. Servers read dots,
// parameters of segments, backslashes and double escapes in different ways.
func under(path, prefix string) bool {
	if path != prefix && !strings.HasPrefix(path, prefix+"/") || strings.ContainsAny(path, `\%`) ||
		!utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl) {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		segment, _, _ = strings.Cut(segment, ";")
		if strings.Trim(segment, ". \t") == "" && segment != "" {
			return false
		}
	}
	return true
}

// maxURL is the most characters of a URL.
const maxURL = 2048

// reserved are the parameters that a call sets, or that name the caller.
var reserved = []string{"gid", "trans_type", "branch_id", "op", "caller"}

// parse checks the URL of a branch.
func parse(address string) (*url.URL, error) {
	switch {
	case len(address) > maxURL:
		return nil, fmt.Errorf("it has %d characters, %d are allowed", len(address), maxURL)
	case !isASCII(address):
		return nil, errors.New("it holds spaces, control characters or characters beyond ASCII: escape them")
	}
	at, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("it is not a URL")
	case at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "":
		return nil, fmt.Errorf("%q does not begin with http:// or https:// and a host", wire.Clip(address, 200))
	case at.User != nil:
		return nil, errors.New("it holds a user")
	case strings.Contains(address, "#"):
		return nil, errors.New("it holds a fragment, which cannot be sent")
	}
	return at, checkQuery(at.RawQuery)
}

// checkQuery refuses parameters that a branch could confuse with those of the call.
func checkQuery(query string) error {
	for parameter := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		name, _, _ := strings.Cut(parameter, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		for _, ours := range reserved {
			if strings.EqualFold(strings.TrimSpace(name), ours) {
				return fmt.Errorf("its query holds %s, which only the call may set", ours)
			}
		}
	}
	return nil
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// lower turns ASCII letters into lower case.
func lower(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, text)
}
