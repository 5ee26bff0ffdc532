package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// ServiceConfig configures a [Service]. The zero value works, without signatures. A
// [Host] with keys refuses the calls of a Service without keys.
type ServiceConfig struct {
	// Name is the [HostConfig.Name] of the service. Required with Keys.
	Name string

	// Keys are the keys for signatures. The first one signs the calls, and an
	// answer counts only if it is signed with the same key. Without keys, calls are
	// not signed, and an answer counts if it names the request.
	Keys []Key

	// PlainDTM is for a service with branches that follow DTM's HTTP convention and
	// are not behind a [Host]. Their answers do not name the request. So a call
	// counts as done if any program answers 200 with an empty body, the word
	// SUCCESS, null, or a JSON object without another dtm_result or an error. It
	// excludes Keys.
	PlainDTM bool

	// Timeout bounds one request. The engine's limit for a call, CallTimeout in
	// embedded.Config, applies too. Defaults to 5 seconds.
	Timeout time.Duration

	// Client makes the requests. Its transport has the certificates of TLS and
	// mutual TLS. The Service never follows redirects and ignores cookies. Defaults
	// to a client that keeps up to 100 idle connections.
	Client *http.Client

	// Resolve, if it is not nil, returns the base URL of the service before each
	// request. The URL may differ each time.
	Resolve func(ctx context.Context) (baseURL string, err error)

	// Hosts are the hosts that Resolve may return, each with its port if the URL
	// has one. Required with Resolve.
	Hosts []string
}

// Service calls the branches of another service; see [Host]. It is safe for concurrent
// use.
type Service struct {
	base   *url.URL // nil with a resolver
	config ServiceConfig
	client *http.Client
	now    func() time.Time
	calls  *batcher
}

var _ saga.Remote = (*Service)(nil)

// NewService returns the service with its branches below baseURL, for example
// "https://stock.example/branches". The path of a branch is that of baseURL and the
// kind. With a Resolve, baseURL is empty.
func NewService(baseURL string, config ServiceConfig) (*Service, error) {
	s, err := newService(baseURL, config)
	if err != nil {
		return nil, fmt.Errorf("remote: new service: %w", err)
	}
	return s, nil
}

func newService(baseURL string, config ServiceConfig) (*Service, error) {
	if err := checkKeys(config.Keys, config.Name); err != nil {
		return nil, err
	}
	config.Keys, config.Hosts = slices.Clone(config.Keys), slices.Clone(config.Hosts)
	s := &Service{config: config, now: time.Now}
	switch {
	case config.PlainDTM && len(config.Keys) > 0:
		return nil, fmt.Errorf("%w: Keys and PlainDTM exclude each other: a branch of plain DTM does not check signatures", saga.ErrInvalid)
	case config.Timeout < 0:
		return nil, fmt.Errorf("%w: the Timeout is negative", saga.ErrInvalid)
	case config.Resolve != nil && baseURL != "":
		return nil, fmt.Errorf("%w: there are a Resolve and a base URL: the base URL must be empty", saga.ErrInvalid)
	case config.Resolve != nil && len(config.Hosts) == 0:
		return nil, fmt.Errorf("%w: there is a Resolve without Hosts: list the hosts that it may return", saga.ErrInvalid)
	case config.Resolve == nil:
		base, err := parseBase(baseURL)
		if err != nil {
			return nil, err
		}
		s.base = base
	}
	if config.Timeout == 0 {
		s.config.Timeout = 5 * time.Second
	}
	s.client = newClient(config.Client)
	s.calls = newBatcher(s)
	return s, nil
}

// newClient returns a client that follows no redirects; c, if it is not nil, or the default.
func newClient(c *http.Client) *http.Client {
	if c == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 100, 100
		transport.MaxResponseHeaderBytes = 64 << 10
		c = &http.Client{Transport: transport}
	}
	return wire.Client(c)
}

func parseBase(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: the base URL: %w", saga.ErrInvalid, err)
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "":
		return nil, fmt.Errorf("%w: the base URL %q must begin with http:// or https:// and a host", saga.ErrInvalid, text)
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("%w: the base URL %s may have no user, query or fragment", saga.ErrInvalid, base.Redacted())
	}
	return base, nil
}

// URL returns the address at which a kind of branch is called.
func (s *Service) URL(ctx context.Context, kind string) (*url.URL, error) {
	address, err := s.address(ctx, kind)
	if err != nil {
		return nil, fmt.Errorf("remote: URL of %s: %w", kind, err)
	}
	return address, nil
}

func (s *Service) address(ctx context.Context, kind string) (*url.URL, error) {
	base := s.base
	if base == nil {
		text, err := s.config.Resolve(ctx)
		if err != nil {
			return nil, fmt.Errorf("resolve the service: %w", err)
		}
		if base, err = parseBase(text); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(s.config.Hosts, func(host string) bool { return strings.EqualFold(host, base.Host) }) {
			return nil, fmt.Errorf("%w: Resolve returned the host %q, which is not among the Hosts of the service", saga.ErrInvalid, base.Host)
		}
	}
	return base.JoinPath(kind), nil
}

// maxAttempts is the most times that a Try or an Ask without an answer is sent.
const maxAttempts = 3

// Call makes one call of a branch; see [saga.Remote]. If a Try or an Ask gets no answer that
// counts, Call sends it again, at most twice. The barrier of the host makes this safe.
//
// An error that is not a [*saga.Rejection] has a method Public. It returns a text without
// addresses and details, for callers. The text of Error is for operators.
func (s *Service) Call(ctx context.Context, call saga.Call) error {
	for attempt := 1; ; attempt++ {
		err := s.post(ctx, call)
		if call.Op != barrier.Try && call.Op != barrier.Ask || attempt == maxAttempts || !errors.Is(err, wire.ErrUnanswered) {
			return err
		}
		pause := time.NewTimer(jitter.UpTo(ctx, 50*time.Millisecond<<attempt))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// post makes one call once, in a batch or alone.
func (s *Service) post(ctx context.Context, call saga.Call) error {
	if err := wire.CheckCaller(call.Caller); err != nil && !s.config.PlainDTM {
		return wire.NewFault(call.Kind, "cannot be called", fmt.Errorf("%w: %w", saga.ErrInvalid, err))
	}
	end := time.Now().Add(s.config.Timeout)
	if s.calls.takes(call) {
		if err := s.calls.call(ctx, call); !errors.Is(err, batch.ErrAlone) {
			return withCause(ctx, err)
		}
	}
	ctx, cancel := context.WithDeadlineCause(ctx, end, fmt.Errorf("no answer within %s", s.config.Timeout))
	defer cancel()
	return withCause(ctx, s.exchange(ctx, call))
}

// withCause adds the reason why ctx ended to an error.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// exchange sends one request and reads the answer.
func (s *Service) exchange(ctx context.Context, call saga.Call) error {
	address, err := s.address(ctx, call.Kind)
	if err != nil {
		return wire.NewFault(call.Kind, "could not be found", err)
	}
	if s.config.PlainDTM {
		if call.Op == barrier.Ask {
			return wire.NewFault(call.Kind, "cannot be asked", s.CannotDecide())
		}
		return wire.Post(ctx, s.client, address, call)
	}
	query := wire.Query(call)
	if call.Caller != "" {
		query.Set(wire.Caller, call.Caller)
	}
	sent := call
	if sent.Payload, err = wire.Body(call, query); err != nil {
		return wire.NewFault(call.Kind, "cannot be called", fmt.Errorf("%w: its results: %w", saga.ErrInvalid, err))
	}
	r, err := wire.NewRequest(ctx, address, sent, query)
	if err != nil {
		return err
	}
	id := newRequestID()
	r.Header.Set(headerRequest, id)
	signed := s.sign(r, sent.Payload)
	response, err := wire.Do(s.client, r, call)
	if err != nil {
		return err
	}
	reply, err := readReply(response, response.Header.Get(headerAnswer), call, id, signed)
	if err != nil {
		return wire.Unanswered(call.Kind, err)
	}
	if err = wire.Outcome(call, response.Status, reply, response.From); err == nil && call.Result != nil {
		*call.Result = reply.Returned
	}
	return err
}

// sign signs a request; nil without keys.
func (s *Service) sign(r *http.Request, body []byte) *signature {
	if !s.Signed() {
		return nil
	}
	made := s.config.Keys[0].sign(r, s.config.Name, body, s.now())
	return &made
}

// readReply reads an answer with a code. It refuses an answer that is not from a host, or is to
// another request.
func readReply(response wire.Response, code string, call saga.Call, id string, signed *signature) (reply wire.Reply, err error) {
	notOfHost := func(why string) error {
		if response.Status >= 300 && response.Status < 400 {
			return wire.Redirected(response)
		}
		return fmt.Errorf("%s answered %d, but not as a host of branches does: %s: %s", response.From, response.Status, why, wire.Message(response.Body))
	}
	if signed != nil && !signed.signs(code, response.Status, response.Body) {
		return reply, notOfHost("the answer is not signed for this request")
	}
	this := wire.Answer{GID: call.GID, BranchID: call.BranchID, Op: string(call.Op), Request: id}
	var known [512]byte
	if done, plain := wire.AppendDone(known[:0], this); plain && response.Status == http.StatusOK && bytes.Equal(response.Body, done) {
		return wire.Reply{Result: wire.Success}, nil
	}
	if err := json.Unmarshal(response.Body, &reply); err != nil || response.Cut || reply.Answers == nil {
		return reply, notOfHost("the answer does not name the request")
	}
	if *reply.Answers != this {
		return reply, notOfHost("the answer is to another request")
	}
	return reply, nil
}

// CannotDecide returns why no branch of the service can decide a transaction, or nil; see
// [saga.Step].
func (s *Service) CannotDecide() error {
	if s.config.PlainDTM {
		return errors.New("a service of plain DTM cannot be asked whether a Try was committed")
	}
	return nil
}

// Signed reports whether the calls are signed. A DTM server cannot make such calls.
func (s *Service) Signed() bool { return len(s.config.Keys) > 0 }
