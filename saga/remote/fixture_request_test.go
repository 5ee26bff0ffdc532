package remote_test

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// request is a branch call by hand.
func request(t *testing.T, base, gid string, op barrier.Op, body string) *http.Request {
	t.Helper()
	query := url.Values{"gid": {gid}, "trans_type": {"tcc"}, "branch_id": {"01"}, "op": {string(op)}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/seats.reserve?"+query.Encode(), strings.NewReader(body))
	sagatest.Must(t, err)
	return r
}

func send(t *testing.T, r *http.Request) (status int, body string) {
	t.Helper()
	reply, err := http.DefaultClient.Do(r)
	sagatest.Must(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	sagatest.Must(t, err)
	return reply.StatusCode, string(text)
}

func set(name, value string) func(r *http.Request) {
	return func(r *http.Request) {
		query := r.URL.Query()
		query.Set(name, value)
		r.URL.RawQuery = query.Encode()
	}
}

func body(text string) func(r *http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
}

// keys returns keys whose secrets follow from their ids.
func keys(ids ...string) []remote.Key {
	var all []remote.Key
	for _, id := range ids {
		secret := sha256.Sum256([]byte(id))
		key, err := remote.NewKey(id, secret[:])
		if err != nil {
			panic(err)
		}
		all = append(all, key)
	}
	return all
}

// another returns a key with the same id and another secret.
func another(t *testing.T, id string) remote.Key {
	t.Helper()
	key, err := remote.NewKey(id, []byte("another secret of at least 32 bytes"))
	sagatest.Must(t, err)
	return key
}

// try is a call to the theatre.
func try(gid string) saga.Call {
	return saga.Call{GID: gid, BranchID: "01", Kind: "seats.reserve", Op: barrier.Try, Payload: []byte(two)}
}

func chunked(text string) func(r *http.Request) {
	return func(r *http.Request) {
		body(text)(r)
		r.ContentLength = -1
	}
}
