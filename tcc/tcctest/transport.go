package tcctest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Transport is the transport of an HTTP client whose requests can be made to
// fail. Give it to the client of the branch, and to [Case.HTTP]:
//
//	var wire tcctest.Transport
//	branch := Payments{Client: &http.Client{Transport: &wire}}
//	tcctest.ExerciseExternal(t, db, branch, tcctest.Case[Charge]{HTTP: &wire, ...})
//
// The zero Transport is ready to use, by one exercise at a time. Its methods may
// be called from several goroutines.
type Transport struct {
	// Base makes the requests. Defaults to [http.DefaultTransport].
	Base http.RoundTripper

	mu         sync.Mutex
	spoil      spoil
	at         int // the request to spoil, from 1
	count      int // requests since set
	total      int
	end        func() // ends the context of the call
	spoiled    string // the request that was spoiled
	ignoresEnd bool   // it did not end with the context of the call
}

// spoil is how a request goes wrong.
type spoil int

const (
	unspoiled  spoil = iota
	unsent           // it does not arrive
	refused          // it is answered with the status 503, and does nothing
	unanswered       // it arrives, and the reply is lost
	stuck            // the context of the call ends, and the request waits for its own context
)

// says describes the fault for a message.
func (s spoil) says() string {
	return map[spoil]string{unsent: "does not arrive", refused: "is answered with the status 503", unanswered: "arrives, and its reply is lost",
		stuck: "is not answered when the context ends"}[s]
}

var errWire = errors.New("the connection is lost, on purpose")

// set makes the at-th request from now go wrong.
func (t *Transport) set(s spoil, at int, end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spoil, t.at, t.count, t.end, t.spoiled, t.ignoresEnd = s, at, 0, end, "", false
}

// clear ends spoiling, and returns the request that was spoiled.
func (t *Transport) clear() (spoiled string, ignoresEnd bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spoil = unspoiled
	return t.spoiled, t.ignoresEnd
}

func (t *Transport) used() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total > 0
}

func (t *Transport) next(r *http.Request) (s spoil, end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
	t.total++
	if t.spoil == unspoiled || t.count != t.at {
		return unspoiled, nil
	}
	t.spoiled = r.Method + " " + r.URL.Path
	return t.spoil, t.end
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	s, end := t.next(r)
	if s != unspoiled && s != unanswered && r.Body != nil {
		defer r.Body.Close()
	}
	switch s {
	case unsent:
		return nil, errWire
	case refused:
		return &http.Response{Status: "503 Service Unavailable", StatusCode: http.StatusServiceUnavailable, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
	case unanswered:
		response, err := base.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		response.Body.Close()
		return nil, errWire
	case stuck:
		return nil, t.stay(r, end)
	}
	return base.RoundTrip(r)
}

// stay ends the context of the call, and waits for the context of the request.
func (t *Transport) stay(r *http.Request, end func()) error {
	end()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-r.Context().Done():
		return r.Context().Err()
	case <-timer.C:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ignoresEnd = true
		return fmt.Errorf("waiting for an answer: %w", errWire)
	}
}
