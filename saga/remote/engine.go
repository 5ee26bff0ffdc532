package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
	"github.com/tccsaga/tccsaga/saga/participant"
)

// EngineConfig configures an [Engine]. The zero value works, without signatures. [Outcomes]
// with keys refuse the questions of an Engine without keys.
type EngineConfig struct {
	// Name is the [OutcomesConfig.Name] of the service that has the engine. Required with
	// Keys.
	Name string

	// Keys are the keys for signatures. The first one signs the questions, and an answer
	// counts only if it is signed with the same key. Without keys, an answer counts if it
	// names the question.
	Keys []Key

	// Timeout bounds one question. Defaults to 5 seconds.
	Timeout time.Duration

	// Client makes the requests; see [ServiceConfig.Client].
	Client *http.Client
}

// Engine is an engine in another process that a host asks for outcomes; see [Outcomes]. It
// is safe for concurrent use.
type Engine struct {
	address *url.URL
	config  EngineConfig
	client  *http.Client
	now     func() time.Time
}

var _ participant.Outcomes = (*Engine)(nil)

// NewEngine returns the engine whose [Outcomes] are mounted at address, for example
// "https://orders.example/outcomes".
func NewEngine(address string, config EngineConfig) (*Engine, error) {
	e, err := newEngine(address, config)
	if err != nil {
		return nil, fmt.Errorf("remote: new engine: %w", err)
	}
	return e, nil
}

func newEngine(address string, config EngineConfig) (*Engine, error) {
	if err := checkKeys(config.Keys, config.Name); err != nil {
		return nil, err
	}
	if config.Timeout < 0 {
		return nil, fmt.Errorf("%w: the Timeout is negative", saga.ErrInvalid)
	}
	base, err := parseBase(address)
	if err != nil {
		return nil, err
	}
	config.Keys = slices.Clone(config.Keys)
	if config.Timeout == 0 {
		config.Timeout = 5 * time.Second
	}
	return &Engine{address: base, config: config, client: newClient(config.Client), now: time.Now}, nil
}

// Outcome asks the engine for the state of a transaction; see [participant.Outcomes].
func (e *Engine) Outcome(ctx context.Context, caller, gid string) (saga.State, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.config.Timeout, fmt.Errorf("no answer within %s", e.config.Timeout))
	defer cancel()
	state, err := e.outcome(ctx, caller, gid)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	if err != nil {
		return "", fmt.Errorf("remote: outcome of %s: %w", gid, err)
	}
	return state, nil
}

func (e *Engine) outcome(ctx context.Context, caller, gid string) (saga.State, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, questionURL(e.address, caller, gid).String(), nil)
	if err != nil {
		return "", err
	}
	id := newRequestID()
	r.Header.Set(headerRequest, id)
	var signed *signature
	if len(e.config.Keys) > 0 {
		made := e.config.Keys[0].sign(r, e.config.Name, nil, e.now())
		signed = &made
	}
	response, err := wire.Send(e.client, r)
	if err != nil {
		return "", err
	}
	return readOutcome(response, outcomeReply{Log: caller, GID: gid, Request: id}, signed)
}

// readOutcome reads an answer. It refuses an answer that is not from [Outcomes], or is to
// another question.
func readOutcome(a wire.Response, asked outcomeReply, signed *signature) (saga.State, error) {
	stranger := func(why string) error {
		if a.Status >= 300 && a.Status < 400 {
			return wire.Redirected(a)
		}
		return fmt.Errorf("%s answered %d, but not as an engine does: %s: %s", a.From, a.Status, why, wire.Message(a.Body))
	}
	var reply outcomeReply
	switch {
	case signed != nil && !signed.signs(a.Header.Get(headerAnswer), a.Status, a.Body):
		return "", stranger("the answer is not signed for this request")
	case json.Unmarshal(a.Body, &reply) != nil || a.Cut:
		return "", stranger("the answer does not name the question")
	case reply.Log != asked.Log || reply.GID != asked.GID || reply.Request != asked.Request:
		return "", stranger("the answer is to another question")
	}
	switch a.Status {
	case http.StatusOK:
	case http.StatusMisdirectedRequest:
		return "", fmt.Errorf("%s: %w", a.From, saga.ErrOtherLog)
	case http.StatusTooEarly:
		return "", fmt.Errorf("%s: %w", a.From, saga.ErrOngoing)
	default:
		return "", fmt.Errorf("%s answered %d %s: %s %s", a.From, a.Status, http.StatusText(a.Status), wire.Clip(reply.Message, maxShown), wire.Clip(reply.ErrorID, 32))
	}
	switch reply.State {
	case stateUnknown:
		return "", saga.ErrNotFound
	case "":
		return "", errors.New("the answer has no state")
	}
	return reply.State, nil
}
