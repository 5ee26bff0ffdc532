package remote

import (
	"net/http"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// SetClock moves the clock of a host.
func (h *Host) SetClock(now func() time.Time) { h.now = now }

// SetClock moves the clock of a service.
func (s *Service) SetClock(now func() time.Time) { s.now = now }

// SetQueue changes how long a request waits for a slot.
func (h *Host) SetQueue(d time.Duration) { h.queue = d }

// MaxDelay is how long a captured request can still run.
func (h *Host) MaxDelay() time.Duration { return h.maxDelay() }

// Sign signs a request to a service as a caller does, under a new id if it has
// none.
func (k Key) Sign(r *http.Request, service string, body []byte, now time.Time) {
	if r.Header.Get(headerRequest) == "" {
		r.Header.Set(headerRequest, newRequestID())
	}
	k.sign(r, service, body, now)
}

// Gather keeps the calls of a service until n of them wait, and then sends them as one request.
func (s *Service) Gather(n int) { s.calls.groups.Gather("", n) }

// ReadBarrier reads an answer to an unsigned question for barrier rows.
func ReadBarrier(status int, body []byte, caller, gid, id string) ([]barrier.Row, error) {
	return readBarrier(wire.Response{From: "host", Status: status, Header: http.Header{}, Body: body}, barrierReply{Caller: caller, GID: gid, Request: id}, nil)
}
