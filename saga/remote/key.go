package remote

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"regexp"
	"sync"

	"github.com/tccsaga/tccsaga/saga"
)

// Key is a secret that the two ends of a call share. Make one with [NewKey]. The
// secret cannot be read from a Key: no verb of package fmt, no logger and no
// encoder of the standard library shows it.
//
// To replace a key, first add the new key to every [Host], next to the old one. Then make
// it the first key of every [Service]. Then remove the old key everywhere.
type Key struct {
	id string
	// A function value hides the secret from printers and encoders that read
	// unexported fields by reflection.
	sum func(text []byte) []byte
}

// minSecret is the fewest bytes of a secret: the size of the hash.
const minSecret = sha256.Size

var validName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)

// NewKey returns a key. The id names the key in requests and logs. It has 1 to 64
// letters, digits, dots, dashes and underscores. The secret has at least 32 bytes, which
// should come from [crypto/rand]; NewKey copies it. The error wraps [saga.ErrInvalid].
func NewKey(id string, secret []byte) (Key, error) {
	switch {
	case !validName.MatchString(id):
		return Key{}, fmt.Errorf("remote: new key: %w: the id %.80q of a key must be 1 to 64 letters, digits, dots, dashes and underscores", saga.ErrInvalid, id)
	case len(secret) < minSecret:
		return Key{}, fmt.Errorf("remote: new key: %w: the secret of the key %s has %d bytes, at least %d are needed", saga.ErrInvalid, id, len(secret), minSecret)
	case bytes.Count(secret, secret[:1]) == len(secret):
		return Key{}, fmt.Errorf("remote: new key: %w: the secret of the key %s is one byte repeated: fill it from crypto/rand", saga.ErrInvalid, id)
	}
	secret = bytes.Clone(secret)
	free := sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}
	return Key{id, func(text []byte) []byte {
		h := free.Get().(hash.Hash)
		defer free.Put(h)
		h.Reset()
		h.Write(text)
		return h.Sum(nil)
	}}, nil
}

// String returns "key" and the id.
func (k Key) String() string { return "key " + k.id }

// MarshalText returns the same as String, so encoders and loggers show the id of the
// key. There is no way back from this text to the Key.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// mac returns HMAC-SHA256 (RFC 2104) over lines of text without line breaks. The first
// line says what is signed, so the code of a request never matches an answer.
func (k Key) mac(lines ...string) []byte {
	text := make([]byte, 0, 256)
	for _, line := range lines {
		text = append(append(text, line...), '\n')
	}
	return k.sum(text)
}

// checkKeys checks the keys of a host or a service, and the name of the service.
func checkKeys(keys []Key, name string) error {
	seen := map[string]bool{}
	for _, key := range keys {
		switch {
		case key.sum == nil:
			return fmt.Errorf("%w: a key is empty: make keys with NewKey", saga.ErrInvalid)
		case seen[key.id]:
			return fmt.Errorf("%w: two keys have the id %s", saga.ErrInvalid, key.id)
		}
		seen[key.id] = true
	}
	if len(keys) > 0 && !validName.MatchString(name) {
		return fmt.Errorf("%w: the Name is %.80q: with Keys it must be the name of the service, 1 to 64 letters, digits, dots, dashes and underscores, the same in HostConfig and ServiceConfig", saga.ErrInvalid, name)
	}
	return nil
}
