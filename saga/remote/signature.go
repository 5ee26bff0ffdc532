package remote

import (
	"crypto/hmac"
	"crypto/rand"
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

	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

const (
	// headerRequest holds the random id of a request, 32 hexadecimal digits.
	headerRequest = "Tccsaga-Request"

	// headerSignature holds "key=ID, time=SECONDS, length=BYTES, body=SHA256, mac=HEX".
	headerSignature = "Tccsaga-Signature"

	// headerAnswer holds "mac=HEX" in the answer to a signed request.
	headerAnswer = "Tccsaga-Answer"

	// maxSignature is the most bytes of a signature.
	maxSignature = 512
)

var (
	validRequestID = regexp.MustCompile(`^[0-9a-f]{32}$`)
	validDigest    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func newRequestID() string {
	id := make([]byte, 16)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// signature is the content of a verified signature. It has the length and the digest of
// the body, which is read later.
type signature struct {
	key    Key
	mac    string // of the request, in hexadecimal
	length int64
	digest string
}

// sign signs a request: its id, the time, and everything that the receiver acts on.
func (k Key) sign(r *http.Request, service string, body []byte, now time.Time) signature {
	digest := sha256.Sum256(body)
	s := signature{key: k, length: int64(len(body)), digest: hex.EncodeToString(digest[:])}
	at := strconv.FormatInt(now.Unix(), 10)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		panic(err) // package wire has encoded it
	}
	s.mac = hex.EncodeToString(k.requestMAC(service, at, r, r.URL, query, s))
	r.Header.Set(headerSignature, fmt.Sprintf("key=%s, time=%s, length=%d, body=%s, mac=%s", k.id, at, s.length, s.digest, s.mac))
	return s
}

func (k Key) requestMAC(service, at string, r *http.Request, sent *url.URL, query url.Values, s signature) []byte {
	return k.mac("tccsaga-2 request", service, at, r.Header.Get(headerRequest), r.Method, sent.EscapedPath(), query.Encode(),
		strconv.FormatInt(s.length, 10), s.digest)
}

// answerCode returns the header of an answer to a signed request.
func (s signature) answerCode(status int, body []byte) string {
	digest := sha256.Sum256(body)
	return "mac=" + hex.EncodeToString(s.key.mac("tccsaga-2 answer", s.mac, strconv.Itoa(status), hex.EncodeToString(digest[:])))
}

// signs reports whether text is the header of an answer to the request.
func (s signature) signs(text string, status int, body []byte) bool {
	return hmac.Equal([]byte(text), []byte(s.answerCode(status, body)))
}

var errSignature = errors.New("the signature is missing or wrong, or its time is too far off")

// verifier checks the signatures of requests.
type verifier struct {
	service string
	keys    []Key
	window  time.Duration // for which a signature is valid
}

// early returns how far in the future the time of a signature may be, because clocks
// differ. It is part of the window.
func (v verifier) early() time.Duration { return v.window / 10 }

// verify checks the header of a request, without the body. The text of the error is for
// the log of the host; the caller does not see it.
func (v verifier) verify(r *http.Request, sent *url.URL, query url.Values, now time.Time) (s signature, err error) {
	wrong := func(format string, arguments ...any) error {
		return fmt.Errorf("%w: %s", errSignature, fmt.Sprintf(format, arguments...))
	}
	header := r.Header.Values(headerSignature)
	switch {
	case len(header) == 0:
		return signature{}, wrong("the request is not signed")
	case len(header) > 1 || len(header[0]) > maxSignature:
		return signature{}, wrong("there are several signatures, or the signature is too long")
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(header[0], ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := parts[name]; twice {
			return signature{}, wrong("the signature has the part %q twice", wire.Clip(name, 20))
		}
		parts[name] = value
	}
	seconds, err := strconv.ParseInt(parts["time"], 10, 64)
	if err != nil {
		return signature{}, wrong("the time is not a number")
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > v.window-v.early() || age < -v.early() {
		return signature{}, wrong("the signature is %s old, and %s to %s are allowed", age.Round(time.Second), -v.early(), v.window-v.early())
	}
	given, err := hex.DecodeString(parts["mac"])
	if err != nil {
		return signature{}, wrong("the code is not hexadecimal")
	}
	if s.length, err = strconv.ParseInt(parts["length"], 10, 64); err != nil || s.length < 0 {
		return signature{}, wrong("the length is not a number")
	}
	if s.digest = parts["body"]; !validDigest.MatchString(s.digest) {
		return signature{}, wrong("the digest of the body is not SHA-256 in hexadecimal")
	}
	for _, s.key = range v.keys {
		if s.key.id != parts["key"] {
			continue
		}
		mac := s.key.requestMAC(v.service, parts["time"], r, sent, query, s)
		if s.mac = hex.EncodeToString(mac); !hmac.Equal(given, mac) {
			return signature{}, wrong("the code does not match the key %s and the service %s", s.key.id, v.service)
		}
		if r.ContentLength >= 0 && r.ContentLength != s.length {
			return signature{}, wrong("the request declares %d bytes, and %d are signed", r.ContentLength, s.length)
		}
		return s, nil
	}
	return signature{}, wrong("the key %q is unknown", wire.Clip(parts["key"], 64))
}
