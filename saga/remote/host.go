package remote

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/participant"
)

// HostConfig configures a [Host]. It needs Name and Keys, or AllowUnsigned.
type HostConfig struct {
	// Name says which service this is: 1 to 64 letters, digits, dots, dashes and
	// underscores, the same in the [ServiceConfig] of every caller. A signature
	// is good for one name only, so that a request to one service cannot be
	// repeated to another one with the same keys. Required with Keys.
	Name string

	// Keys are the keys that a request may be signed with; any other request is
	// refused.
	Keys []Key

	// AllowUnsigned lets every request in, and excludes Keys. Then only the
	// network, or mutual TLS, keeps others out. A DTM server needs it, because
	// it does not sign.
	AllowUnsigned bool

	// Window is for how long one signature is good, from the first moment to
	// the last. A tenth of it is for callers whose clocks are ahead of this
	// host's; the rest is for clocks behind and for the way. Within it a request
	// may come again, and the barrier knows it. Defaults to 5 minutes; at least
	// 10 seconds, because a signature has whole seconds.
	Window time.Duration

	// MaxPayload is the most bytes of a request's body. Defaults to 1 MiB.
	MaxPayload int64

	// MaxConcurrent is the most requests whose bodies are read, or that are
	// called, at the same time. Beyond it, a request waits for a second, unread,
	// and is then answered 503. Requests without a valid signature are refused
	// before that and do not count. MaxConcurrent times MaxPayload bounds the
	// memory that bodies take. Defaults to 256.
	MaxConcurrent int

	// ReadTimeout bounds the reading of one body; a shorter ReadTimeout of the
	// [http.Server] holds as well. It needs a ResponseWriter that supports
	// [http.ResponseController.SetReadDeadline], as those of net/http and gin do.
	// Defaults to 10 seconds.
	ReadTimeout time.Duration

	// CallTimeout bounds one call of a branch. Defaults to 10 seconds.
	CallTimeout time.Duration

	// Logger takes what goes wrong. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Host has the branches of a service, and their barrier, and lets others call
// them over HTTP. Register branches with it as with an engine, and mount it: the
// last part of the path is the kind of branch.
//
//	mux.Handle("/branches/", host)                         // net/http
//	router.POST("/branches/:kind", gin.WrapH(host))        // gin
//
// It is safe for concurrent use.
type Host struct {
	*participant.Participant
	config   HostConfig
	verifier verifier
	now      func() time.Time
	slots    chan struct{} // of MaxConcurrent requests
	queue    time.Duration // how long a request waits for a slot
	refused  refusals
}

var (
	_ http.Handler   = (*Host)(nil)
	_ saga.Registrar = (*Host)(nil)
)

const (
	minWindow    = 10 * time.Second
	defaultQueue = time.Second
)

// NewHost returns a host with its barrier in db, where the schema of package sql
// has to be installed. An error wraps [saga.ErrInvalid] if the configuration is
// wrong.
func NewHost(ctx context.Context, db *gorm.DB, config HostConfig) (*Host, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("remote: host: %w", err)
	}
	h := &Host{
		config:   config,
		verifier: verifier{service: config.Name, keys: config.Keys, window: config.Window},
		now:      time.Now,
		slots:    make(chan struct{}, config.MaxConcurrent),
		queue:    defaultQueue,
	}
	h.Participant, err = participant.New(ctx, db, participant.Config{
		CallTimeout: config.CallTimeout, MaxDelay: h.maxDelay(), Logger: config.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("remote: host: %w", err)
	}
	return h, nil
}

func (c HostConfig) withDefaults() (HostConfig, error) {
	if err := checkKeys(c.Keys, c.Name); err != nil {
		return c, err
	}
	switch {
	case len(c.Keys) == 0 && !c.AllowUnsigned:
		return c, fmt.Errorf("%w: there are no Keys, so that anybody could call: give it Keys, or set AllowUnsigned if the network keeps others out", saga.ErrInvalid)
	case len(c.Keys) > 0 && c.AllowUnsigned:
		return c, fmt.Errorf("%w: Keys and AllowUnsigned exclude each other", saga.ErrInvalid)
	case c.Window < 0 || c.MaxPayload < 0 || c.MaxConcurrent < 0 || c.ReadTimeout < 0:
		return c, fmt.Errorf("%w: the Window, MaxPayload, MaxConcurrent or ReadTimeout is negative", saga.ErrInvalid)
	case c.Window > 0 && c.Window < minWindow:
		return c, fmt.Errorf("%w: the Window is %s, at least %s are needed", saga.ErrInvalid, c.Window, minWindow)
	}
	c.Keys = slices.Clone(c.Keys)
	if c.Window == 0 {
		c.Window = 5 * time.Minute
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = 1 << 20
	}
	if c.MaxConcurrent == 0 {
		c.MaxConcurrent = 256
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// maxDelay is how long after a call a captured request for it can still run. A
// signature is good for a Window. The clocks of the caller, of the replicas of
// the host, and of the database may differ by another one. Then the request may
// wait, and be read. Without signatures there is no such bound.
func (h *Host) maxDelay() time.Duration {
	if !h.Signed() {
		return 0
	}
	return 2*h.config.Window + h.queue + h.config.ReadTimeout
}

// Signed reports whether the host refuses requests that are not signed, such as
// those of a DTM server.
func (h *Host) Signed() bool { return len(h.config.Keys) > 0 }

// enter takes a slot; leave gives it back.
func (h *Host) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(h.queue)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return &refusal{http.StatusServiceUnavailable, "the host has too many requests at the moment"}
}

func (h *Host) leave() { <-h.slots }

// refusals keeps a flood of refused requests from filling the log: it lets one
// in a second through, with the number of those before.
type refusals struct{ second, missed atomic.Int64 }

// next reports whether this one is to be logged, and how many were not.
func (r *refusals) next(now time.Time) (missed int64, log bool) {
	last := r.second.Load()
	if last == now.Unix() || !r.second.CompareAndSwap(last, now.Unix()) {
		r.missed.Add(1)
		return 0, false
	}
	return r.missed.Swap(0), true
}
