package remote

import (
	"net/http"
	"time"
)

// SetClock moves the clock of a host.
func (h *Host) SetClock(now func() time.Time) { h.now = now }

// Sign signs a request as a service does.
func (k Key) Sign(r *http.Request, body []byte, now time.Time) { k.sign(r, body, now) }
