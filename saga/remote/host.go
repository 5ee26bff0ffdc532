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
	// Name is the name of the service: 1 to 64 letters, digits, dots, dashes and
	// underscores, the same as in the [ServiceConfig] of every caller. A signature
	// is valid for one name only, so nobody can send a request for one service to
	// another one with the same keys. Required with Keys.
	Name string

	// Keys are the keys for signatures. A request that is not signed with one of
	// them is refused.
	Keys []Key

	// AllowUnsigned accepts requests without a signature. Then only the network, or
	// mutual TLS, keeps others out. A host that a DTM server calls needs it, because
	// a DTM server does not sign. It excludes Keys.
	AllowUnsigned bool

	// Window is the time for which one signature is valid. A tenth of it is for
	// callers with clocks ahead of the host's. The rest is for callers with clocks
	// behind, and for the transmission. A request that arrives again within the
	// Window has no second effect, because of the barrier. Defaults to 5 minutes.
	// The minimum is 10 seconds, because a signature has whole seconds.
	Window time.Duration

	// MaxPayload is the most bytes of a request's body, without the results of earlier
	// branches: these have at most 7 MB. Defaults to 1 MiB.
	MaxPayload int64

	// MaxConcurrent is the most requests that are read or called at the same time. A batch
	// of calls is one request, whose body may have 1 MiB even if MaxPayload is smaller.
	// Beyond it, a request waits for a second, before its body is read, and is then
	// answered 503. With Keys, requests without a valid signature are refused before
	// that and do not count. MaxConcurrent times MaxPayload, and the results,
	// bounds the memory of all bodies.
	// Defaults to 256.
	MaxConcurrent int

	// ReadTimeout bounds the time to read one body. A shorter ReadTimeout of the
	// [http.Server] takes precedence. It needs a ResponseWriter that supports
	// [http.ResponseController.SetReadDeadline], as those of net/http and gin do.
	// Defaults to 10 seconds.
	ReadTimeout time.Duration

	// CallTimeout bounds one call of a branch. Defaults to 10 seconds.
	CallTimeout time.Duration

	// Outcomes are the engines that the host asks for the outcome of a transaction of
	// which it has a branch in doubt; see [participant.Config] and "In doubt" in the
	// documentation of package participant. Call Run to ask. Defaults to none.
	Outcomes []participant.Outcomes

	// AskAfter is how long a branch has to be in doubt before the host asks. Defaults to
	// 5 minutes.
	AskAfter time.Duration

	// MaxBatch is the most calls that share a commit; see [participant.Config]. Defaults to
	// 128.
	MaxBatch int

	// Observers are told of the calls of branches; see [saga.Observer]. A call continues the
	// trace of its caller: that of the header traceparent, or, in a batch, that of the call.
	// Defaults to none.
	Observers []saga.Observer

	// Logger logs errors and refused requests. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Host is a participant that serves its branches over HTTP. Register branches with it as
// with an engine, and mount it. The last part of the path is the kind of branch.
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
	queue    time.Duration // the longest wait for a slot
	refused  refusals
}

var (
	_ http.Handler   = (*Host)(nil)
	_ saga.Registrar = (*Host)(nil)
)

const (
	minWindow     = 10 * time.Second
	defaultWindow = 5 * time.Minute
	defaultQueue  = time.Second
)

// NewHost returns a host with its barrier in db. Package schema installs the schema in
// db. The error wraps [saga.ErrInvalid] if the configuration is wrong.
func NewHost(ctx context.Context, db *gorm.DB, config HostConfig) (*Host, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("remote: new host: %w", err)
	}
	h := &Host{
		config:   config,
		verifier: verifier{service: config.Name, keys: config.Keys, window: config.Window},
		now:      time.Now,
		slots:    make(chan struct{}, config.MaxConcurrent),
		queue:    defaultQueue,
	}
	h.Participant, err = participant.New(ctx, db, participant.Config{
		CallTimeout: config.CallTimeout, MaxDelay: h.maxDelay(), Outcomes: config.Outcomes, AskAfter: config.AskAfter, MaxBatch: config.MaxBatch,
		Observers: config.Observers, Logger: config.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("remote: new host: %w", err)
	}
	return h, nil
}

func (c HostConfig) withDefaults() (HostConfig, error) {
	if err := checkReceiver(c.Name, c.Keys, c.AllowUnsigned, c.Window); err != nil {
		return c, err
	}
	if c.MaxPayload < 0 || c.MaxConcurrent < 0 || c.ReadTimeout < 0 {
		return c, fmt.Errorf("%w: the MaxPayload, MaxConcurrent or ReadTimeout is negative", saga.ErrInvalid)
	}
	c.Keys = slices.Clone(c.Keys)
	if c.Window == 0 {
		c.Window = defaultWindow
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

// checkReceiver checks how a receiver of requests knows who calls.
func checkReceiver(name string, keys []Key, allowUnsigned bool, window time.Duration) error {
	if err := checkKeys(keys, name); err != nil {
		return err
	}
	switch {
	case len(keys) == 0 && !allowUnsigned:
		return fmt.Errorf("%w: there are no Keys, so anybody could call: set Keys, or AllowUnsigned if the network keeps others out", saga.ErrInvalid)
	case len(keys) > 0 && allowUnsigned:
		return fmt.Errorf("%w: Keys and AllowUnsigned exclude each other", saga.ErrInvalid)
	case window < 0:
		return fmt.Errorf("%w: the Window is negative: %s", saga.ErrInvalid, window)
	case window > 0 && window < minWindow:
		return fmt.Errorf("%w: the Window is %s, at least %s are needed", saga.ErrInvalid, window, minWindow)
	}
	return nil
}

// maxDelay returns the longest time after a call for which a recorded request of it can
// still run. A signature is valid for one Window. The clocks of the caller, of the
// replicas of the host, and of the database may differ by another Window. The request
// may also wait, and its body has to be read. Without signatures there is no such bound.
func (h *Host) maxDelay() time.Duration {
	if !h.Signed() {
		return 0
	}
	return 2*h.config.Window + h.queue + h.config.ReadTimeout
}

// Signed reports whether the host refuses requests without a signature, such as those of
// a DTM server.
func (h *Host) Signed() bool { return len(h.config.Keys) > 0 }

// enter takes a slot, and leave gives it back.
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
	return &refusal{http.StatusServiceUnavailable, "the host has too many requests now"}
}

func (h *Host) leave() { <-h.slots }

// refusals limits the log lines about refused requests to one per second.
type refusals struct{ second, missed atomic.Int64 }

// next reports whether to log this one, and how many before it were not logged.
func (r *refusals) next(now time.Time) (missed int64, log bool) {
	last := r.second.Load()
	if last == now.Unix() || !r.second.CompareAndSwap(last, now.Unix()) {
		r.missed.Add(1)
		return 0, false
	}
	return r.missed.Swap(0), true
}
