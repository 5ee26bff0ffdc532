package remote_test

import (
	"bytes"
	"compress/gzip"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestSignatures(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a", "b"), Window: time.Minute})
	th.host.SetClock(func() time.Time { return now })
	a := keys("a")[0]
	for name, c := range map[string]struct {
		key    remote.Key
		off    time.Duration
		change func(r *http.Request) // after signing
		status int
	}{
		"first key":              {key: a, status: 200},
		"second key":             {key: keys("b")[0], status: 200},
		"a little ahead":         {key: a, off: 6 * time.Second, status: 200},
		"a little behind":        {key: a, off: -54 * time.Second, status: 200},
		"too far ahead":          {key: a, off: 7 * time.Second, status: 401},
		"too far behind":         {key: a, off: -55 * time.Second, status: 401},
		"unknown key":            {key: keys("c")[0], status: 401},
		"other secret":           {key: another(t, "a"), status: 401},
		"unsigned":               {key: a, change: func(r *http.Request) { r.Header.Del("Tccsaga-Signature") }, status: 401},
		"garbage":                {key: a, change: func(r *http.Request) { r.Header.Set("Tccsaga-Signature", "key=a, time=now, mac=zz") }, status: 401},
		"another gid":            {key: a, change: set("gid", "other"), status: 401},
		"another operation":      {key: a, change: set("op", "cancel"), status: 401},
		"another kind":           {key: a, change: func(r *http.Request) { r.URL.Path = "/branches/meal.reserve" }, status: 401},
		"another body":           {key: a, change: body(`{"Row":1,"Number":3}`), status: 401},
		"one more parameter":     {key: a, change: set("more", "1"), status: 401},
		"a caller":               {key: a, change: set("caller", "me"), status: 401},
		"a parameter twice":      {key: a, change: func(r *http.Request) { r.URL.RawQuery += "&op=try" }, status: 401},
		"a semicolon":            {key: a, change: func(r *http.Request) { r.URL.RawQuery += ";op=cancel" }, status: 401},
		"another method":         {key: a, change: func(r *http.Request) { r.Method = http.MethodPut }, status: 401},
		"a body that is longer":  {key: a, change: body(two + " "), status: 401},
		"a body that is shorter": {key: a, change: body(two[1:]), status: 401},
		"chunks":                 {key: a, change: chunked(two), status: 200},
		"longer, in chunks":      {key: a, change: chunked(two + " "), status: 401},
		"shorter, in chunks":     {key: a, change: chunked(two[1:]), status: 401},
		"gzip": {key: a, change: func(r *http.Request) {
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			w.Write([]byte(two))
			w.Close()
			body(packed.String())(r)
			r.Header.Set("Content-Encoding", "gzip")
		}, status: 401},
		"another id":     {key: a, change: func(r *http.Request) { r.Header.Set("Tccsaga-Request", strings.Repeat("0", 32)) }, status: 401},
		"no id":          {key: a, change: func(r *http.Request) { r.Header.Del("Tccsaga-Request") }, status: 401},
		"two ids":        {key: a, change: func(r *http.Request) { r.Header.Add("Tccsaga-Request", strings.Repeat("0", 32)) }, status: 401},
		"two signatures": {key: a, change: func(r *http.Request) { r.Header.Add("Tccsaga-Signature", r.Header.Get("Tccsaga-Signature")) }, status: 401},
		"a part twice": {key: a, change: func(r *http.Request) {
			r.Header.Set("Tccsaga-Signature", r.Header.Get("Tccsaga-Signature")+", key=a")
		}, status: 401},
		"a later time": {key: a, change: func(r *http.Request) {
			r.Header.Set("Tccsaga-Signature", strings.Replace(r.Header.Get("Tccsaga-Signature"), "time=1", "time=+1", 1))
		}, status: 401},
		"a long signature": {key: a, change: func(r *http.Request) { r.Header.Set("Tccsaga-Signature", strings.Repeat("x", 5000)) }, status: 401},
		"the order of the query": {key: a, change: func(r *http.Request) {
			parts := strings.Split(r.URL.RawQuery, "&")
			slices.Reverse(parts)
			r.URL.RawQuery = strings.Join(parts, "&")
		}, status: 200},
	} {
		r := request(t, th.url(), sagatest.GID(), barrier.Try, two)
		c.key.Sign(r, "theatre", []byte(two), now.Add(c.off))
		if c.change != nil {
			c.change(r)
		}
		if status, text := send(t, r); status != c.status {
			t.Errorf("%s: %d %s, want %d", name, status, text, c.status)
		}
	}
	th.holds(88, 12, 0) // six of them

	// A signed request that comes again does nothing.
	r := request(t, th.url(), sagatest.GID(), barrier.Try, two)
	a.Sign(r, "theatre", []byte(two), now)
	for range 3 {
		body(two)(r)
		if status, text := send(t, r); status != 200 {
			t.Errorf("replayed: %d %s", status, text)
		}
	}
	th.holds(86, 14, 0)
}

// Keys are replaced while calls go on.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	th := newTheatre(t, db, remote.HostConfig{Keys: keys("old", "new")})
	for _, signing := range [][]remote.Key{keys("old"), keys("new", "old"), keys("new")} {
		a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{Keys: signing}))
		outcome, err := tcc.Execute(t.Context(), a.orch, sagatest.GID(), seats{Row: 1, Number: 1})
		if err != nil || outcome.State != saga.Confirmed {
			t.Errorf("signed with %s: %+v, %v", signing[0], outcome, err)
		}
	}
	th.holds(97, 0, 3)
	if err := newService(t, th.url(), remote.ServiceConfig{}).Call(t.Context(), try(sagatest.GID())); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("unsigned: %v", err)
	}
	th.holds(97, 0, 3)
}

// The secret of a key is in nothing that is printed or encoded.
func TestKeysShowNoSecret(t *testing.T) {
	t.Parallel()
	secret := []byte("0123456789-secret-secret-0123456789")
	key, err := remote.NewKey("a", secret)
	sagatest.Must(t, err)
	nested := struct {
		Key    remote.Key
		Many   []remote.Key
		Named  map[string]remote.Key
		Any    any
		Config remote.ServiceConfig
		hidden remote.Key
	}{key, []remote.Key{key}, map[string]remote.Key{"k": key}, key, remote.ServiceConfig{Keys: []remote.Key{key}}, key}
	service := newService(t, "http://stock", remote.ServiceConfig{Keys: []remote.Key{key}})
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "% x", "%#x", "%T", "%p"} {
		for _, value := range []any{key, &key, nested, &nested, service, []any{key}} {
			texts = append(texts, fmt.Sprintf(verb, value))
		}
	}
	for _, value := range []any{key, &key, nested, service} {
		var text, jsonText strings.Builder
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "key", value)
		slog.New(slog.NewJSONHandler(&jsonText, nil)).Info("x", "key", value)
		var gobbed bytes.Buffer
		encoded, _ := json.Marshal(value)         // it may refuse
		_ = gob.NewEncoder(&gobbed).Encode(value) // likewise
		texts = append(texts, text.String(), jsonText.String(), string(encoded), gobbed.String())
	}
	shown := []string{string(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret), fmt.Sprint(secret), fmt.Sprintf("%o", secret),
		fmt.Sprintf("%b", secret), fmt.Sprintf("%c", secret), fmt.Sprintf("%U", secret), fmt.Sprintf("%#v", secret), "MDEyMzQ1Njc4OS1zZWNyZXQt"}
	for _, text := range texts {
		for _, s := range shown {
			if strings.Contains(text, strings.Trim(s, "[]")) {
				t.Errorf("the secret is in %s", text)
			}
		}
	}
	if text, err := json.Marshal(key); string(text) != `"key a"` || err != nil {
		t.Errorf("the id is not shown: %s, %v", text, err)
	}
	clear(secret) // the key has a copy
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: []remote.Key{key}})
	sagatest.Must(t, newService(t, th.url(), remote.ServiceConfig{Keys: []remote.Key{key}}).Call(t.Context(), try(sagatest.GID())))
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	good := []byte("some 32 bytes that nobody guesses")
	for name, c := range map[string]struct {
		id     string
		secret []byte
	}{
		"no id": {"", good}, "an id of spaces": {"a b", good}, "a long id": {strings.Repeat("a", 65), good}, "two lines": {"a\nb", good},
		"no secret": {"a", nil}, "a short secret": {"a", good[:31]}, "a secret that was never filled": {"a", make([]byte, 32)},
	} {
		if _, err := remote.NewKey(c.id, c.secret); !errors.Is(err, saga.ErrInvalid) || len(err.Error()) > 300 || strings.Contains(err.Error(), string(good[:20])) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A request to one service is none to another with the same keys.
func TestReplayToAnotherService(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a")})
	r := request(t, th.url(), sagatest.GID(), barrier.Try, two)
	keys("a")[0].Sign(r, "opera", []byte(two), time.Now())
	if status, text := send(t, r); status != http.StatusUnauthorized || strings.Contains(text, "opera") {
		t.Errorf("%d %s", status, text)
	}
	th.holds(100, 0, 0)
}

// The clocks of the two ends may differ by a little in one direction, and by most
// of the window in the other; together that is one window.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a"), Window: 5 * time.Minute})
	now := time.Unix(1_700_000_000, 0)
	service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")})
	service.SetClock(func() time.Time { return now })
	for _, c := range []struct {
		host time.Duration // ahead of the service
		good bool
	}{
		{-31 * time.Second, false}, {-30 * time.Second, true}, {0, true}, {270 * time.Second, true}, {271 * time.Second, false}, {-1e6 * time.Hour, false}, {1e6 * time.Hour, false},
	} {
		th.host.SetClock(func() time.Time { return now.Add(c.host) })
		if err := service.Call(t.Context(), try(sagatest.GID())); (err == nil) != c.good {
			t.Errorf("the host is ahead by %s: %v", c.host, err)
		}
	}
}
