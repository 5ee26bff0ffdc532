package remote

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// Key is a secret that the two ends of a call share. To replace one, give the
// new key to every [Host], next to the old one; then to every [Service], as the
// first; then take the old one away everywhere.
type Key struct {
	ID     string // names the key in requests: 1 to 64 letters, digits, dots, dashes and underscores
	Secret []byte // at least 32 random bytes
}

// String leaves the secret out, and so do all verbs of package fmt and the loggers.
func (k Key) String() string   { return "key " + k.ID }
func (k Key) GoString() string { return k.String() }

var validKeyID = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)

func checkKeys(keys []Key) error {
	seen := map[string]bool{}
	for _, key := range keys {
		switch {
		case !validKeyID.MatchString(key.ID):
			return fmt.Errorf("%w: the id %q of a key must be 1 to 64 letters, digits, dots, dashes and underscores", saga.ErrInvalid, key.ID)
		case len(key.Secret) < 32:
			return fmt.Errorf("%w: the key %s has %d bytes, at least 32 are needed", saga.ErrInvalid, key.ID, len(key.Secret))
		case seen[key.ID]:
			return fmt.Errorf("%w: two keys have the id %s", saga.ErrInvalid, key.ID)
		}
		seen[key.ID] = true
	}
	return nil
}

// signatureHeader holds "key=ID, time=SECONDS, mac=HEX".
const signatureHeader = "Tccsaga-Signature"

// sign signs a request, with its whole query, body and time.
func (k Key) sign(r *http.Request, body []byte, now time.Time) {
	at := strconv.FormatInt(now.Unix(), 10)
	r.Header.Set(signatureHeader, "key="+k.ID+", time="+at+", mac="+
		hex.EncodeToString(k.mac(at, r.Method, r.URL.EscapedPath(), r.URL.Query(), body)))
}

// mac is HMAC-SHA256 (RFC 2104) over the parts of a request, each on a line of
// its own; none of them can hold a line break.
func (k Key) mac(at, method, path string, query url.Values, body []byte) []byte {
	digest := sha256.Sum256(body)
	mac := hmac.New(sha256.New, k.Secret)
	fmt.Fprintf(mac, "tccsaga-1\n%s\n%s\n%s\n%s\n%x", at, method, path, query.Encode(), digest)
	return mac.Sum(nil)
}

var errSignature = errors.New("the signature is missing or wrong, or its time is too far off")

// verify checks the signature of a request. The error does not say what is
// wrong; the log of the host does.
func verify(keys []Key, window time.Duration, now time.Time, r *http.Request, body []byte) error {
	parts := map[string]string{}
	for part := range strings.SplitSeq(r.Header.Get(signatureHeader), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	if parts["mac"] == "" {
		return fmt.Errorf("%w: the request is not signed", errSignature)
	}
	seconds, err := strconv.ParseInt(parts["time"], 10, 64)
	if err != nil {
		return fmt.Errorf("%w: the time is not a number", errSignature)
	}
	if off := now.Sub(time.Unix(seconds, 0)); off > window || off < -window {
		return fmt.Errorf("%w: its time is %s off", errSignature, off.Round(time.Second))
	}
	given, err := hex.DecodeString(parts["mac"])
	if err != nil {
		return fmt.Errorf("%w: the code is not hexadecimal", errSignature)
	}
	// As it was sent, also behind http.StripPrefix.
	sent, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return fmt.Errorf("%w: %w", errSignature, err)
	}
	for _, key := range keys {
		if key.ID == parts["key"] {
			if hmac.Equal(given, key.mac(parts["time"], r.Method, sent.EscapedPath(), sent.Query(), body)) {
				return nil
			}
			return fmt.Errorf("%w: the code is not that of the key %s", errSignature, key.ID)
		}
	}
	return fmt.Errorf("%w: the key %q is unknown", errSignature, parts["key"])
}
