package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
	"github.com/tccsaga/tccsaga/saga/participant"
)

// OutcomesConfig configures [Outcomes]. It needs Name and Keys, or AllowUnsigned.
type OutcomesConfig struct {
	// Name is the name of the service that has the engine, the same as in the
	// [EngineConfig] of every host that asks. Required with Keys.
	Name string

	// Keys are the keys for signatures. A question that is not signed with one of them is
	// refused.
	Keys []Key

	// AllowUnsigned accepts questions without a signature. Then anybody who reaches the
	// port can read the state of a transaction whose gid and log id are known. It excludes
	// Keys.
	AllowUnsigned bool

	// Window is the time for which one signature is valid; see [HostConfig.Window].
	// Defaults to 5 minutes; at least 10 seconds.
	Window time.Duration

	// MaxConcurrent is the most questions that read the log at the same time. Beyond it,
	// a question is answered 503. Defaults to 16.
	MaxConcurrent int

	// Timeout bounds the read of the log. Defaults to 5 seconds.
	Timeout time.Duration

	// Logger logs errors and refused questions. Defaults to [slog.Default].
	Logger *slog.Logger
}

func (c OutcomesConfig) withDefaults() (OutcomesConfig, error) {
	if err := checkReceiver(c.Name, c.Keys, c.AllowUnsigned, c.Window); err != nil {
		return c, err
	}
	if c.MaxConcurrent < 0 || c.Timeout < 0 {
		return c, fmt.Errorf("%w: the MaxConcurrent or Timeout is negative", saga.ErrInvalid)
	}
	c.Keys = slices.Clone(c.Keys)
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.MaxConcurrent == 0 {
		c.MaxConcurrent = 16
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Outcomes answers hosts that ask for the outcome of a transaction. Mount it in the service
// that has the engine:
//
//	mux.Handle("/outcomes", outcomes)                  // net/http
//	router.GET("/outcomes", gin.WrapH(outcomes))       // gin
//
// An answer has the log, the gid and the state of the transaction, and nothing else. It is
// safe for concurrent use.
type Outcomes struct {
	engine   participant.Outcomes
	config   OutcomesConfig
	verifier verifier
	now      func() time.Time
	slots    chan struct{}
	refused  refusals
}

var _ http.Handler = (*Outcomes)(nil)

// NewOutcomes returns the handler for an engine. The error wraps [saga.ErrInvalid] if the
// configuration is wrong.
func NewOutcomes(engine participant.Outcomes, config OutcomesConfig) (*Outcomes, error) {
	config, err := config.withDefaults()
	if engine == nil {
		err = fmt.Errorf("%w: the engine is nil", saga.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("remote: new outcomes: %w", err)
	}
	return &Outcomes{
		engine:   engine,
		config:   config,
		verifier: verifier{service: config.Name, keys: config.Keys, window: config.Window},
		now:      time.Now,
		slots:    make(chan struct{}, config.MaxConcurrent),
	}, nil
}

// outcomeReply is the body of an answer to a question. It names the question.
type outcomeReply struct {
	Log     string     `json:"log"`
	GID     string     `json:"gid"`
	State   saga.State `json:"state,omitempty"` // with 200
	Request string     `json:"request"`         // the id of the request
	questionFailure
}

// stateUnknown is the state of a transaction that is not in the log.
const stateUnknown saga.State = "unknown"

// ServeHTTP answers one question; see "In doubt" in the documentation of the package.
func (o *Outcomes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, err := o.verifier.readHead(r, o.now())
	var state saga.State
	if err == nil {
		err = checkQuestion(r, h, http.MethodGet)
	}
	if err == nil {
		state, err = o.outcome(r.Context(), h.query.Get(wire.Caller), h.query.Get("gid"))
	}
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // the body is not read
	}
	status, reply := o.reply(h, r, err)
	reply.State = state
	body, err := json.Marshal(reply)
	if err != nil {
		panic(err) // a struct of strings
	}
	h.signed.write(w, status, body)
}

// outcome asks the engine.
func (o *Outcomes) outcome(ctx context.Context, log, gid string) (saga.State, error) {
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	default:
		return "", &refusal{http.StatusServiceUnavailable, "there are too many questions now"}
	}
	ctx, cancel := context.WithTimeout(ctx, o.config.Timeout)
	defer cancel()
	state, err := o.engine.Outcome(ctx, log, gid)
	if errors.Is(err, saga.ErrNotFound) && !errors.Is(err, saga.ErrOtherLog) {
		return stateUnknown, nil
	}
	return state, err
}

// reply returns the answer to a question with the error err.
func (o *Outcomes) reply(h head, r *http.Request, err error) (status int, reply outcomeReply) {
	reply = outcomeReply{Log: wire.Clip(h.query.Get(wire.Caller), maxShown), GID: wire.Clip(h.query.Get("gid"), maxShown), Request: h.id}
	switch {
	case err == nil:
		return http.StatusOK, reply
	case errors.Is(err, saga.ErrOtherLog):
		o.refused.log(o.config.Logger, r, http.StatusMisdirectedRequest, err)
		reply.Message = saga.ErrOtherLog.Error()
		return http.StatusMisdirectedRequest, reply
	case errors.Is(err, saga.ErrOngoing):
		reply.Message = "wait for the call of the engine"
		return http.StatusTooEarly, reply
	}
	status, failed, known := failedQuestion(&o.refused, o.config.Logger, r, "the log", reply.GID, err)
	if !known {
		return status, outcomeReply{questionFailure: failed}
	}
	reply.questionFailure = failed
	return status, reply
}

// questionURL returns the address of a question.
func questionURL(base *url.URL, log, gid string) *url.URL {
	address := *base
	address.RawQuery = url.Values{"gid": {gid}, wire.Caller: {log}}.Encode()
	return &address
}
