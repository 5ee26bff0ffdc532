package remote

import (
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
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// ServiceConfig configures a [Service]. The zero value works, unsigned. A service
// without keys opens nothing: a [Host] with keys refuses its calls.
type ServiceConfig struct {
	// Name is the [HostConfig.Name] of the service. Required with Keys.
	Name string

	// Keys sign the calls, with the first of them, and answers count only if
	// they are signed with it too. Without any, calls are not signed, and an
	// answer counts if it names the request that it answers.
	Keys []Key

	// PlainDTM is for a service whose branches are not behind a [Host] and
	// follow DTM's HTTP convention alone. Its answers name nothing, so that 200
	// with an empty body, the word SUCCESS, or a JSON object without another
	// dtm_result or an error counts as done, whoever answered. It excludes Keys.
	PlainDTM bool

	// Timeout bounds one request. Defaults to 5 seconds; the engine's own limit
	// for a call, [embedded.Config.CallTimeout], holds as well.
	Timeout time.Duration

	// Client makes the requests: its transport has the certificates of TLS and
	// mutual TLS. Redirects are refused and cookies ignored in any case.
	// Defaults to a client that keeps up to 100 idle connections.
	Client *http.Client

	// Resolve, if it is not nil, is asked before each request where the service
	// is, and may answer differently each time. Hosts are then the hosts, with
	// their ports if the URL has one, that it may name.
	Resolve func(ctx context.Context) (baseURL string, err error)
	Hosts   []string
}

// Service calls branches that another service hosts; see [Host]. It is safe for
// concurrent use.
type Service struct {
	base   *url.URL // nil with a resolver
	config ServiceConfig
	client *http.Client
	now    func() time.Time
}

var _ saga.Remote = (*Service)(nil)

// NewService returns the service whose branches are at baseURL, below which each
// kind has its own path: "https://stock.example/branches". With a Resolve, the
// baseURL is empty.
func NewService(baseURL string, config ServiceConfig) (*Service, error) {
	if err := checkKeys(config.Keys, config.Name); err != nil {
		return nil, fmt.Errorf("remote: service: %w", err)
	}
	config.Keys, config.Hosts = slices.Clone(config.Keys), slices.Clone(config.Hosts)
	s := &Service{config: config, now: time.Now}
	switch {
	case config.PlainDTM && len(config.Keys) > 0:
		return nil, fmt.Errorf("remote: service: %w: Keys and PlainDTM exclude each other: a branch that follows DTM's convention alone checks no signature", saga.ErrInvalid)
	case config.Timeout < 0:
		return nil, fmt.Errorf("remote: service: %w: the Timeout is negative", saga.ErrInvalid)
	case config.Resolve != nil && (baseURL != "" || len(config.Hosts) == 0):
		return nil, fmt.Errorf("remote: service: %w: with Resolve, Hosts say which hosts it may name, and there is no base URL", saga.ErrInvalid)
	case config.Resolve == nil:
		base, err := parseBase(baseURL)
		if err != nil {
			return nil, fmt.Errorf("remote: service: %w", err)
		}
		s.base = base
	}
	if config.Timeout == 0 {
		s.config.Timeout = 5 * time.Second
	}
	if config.Client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 100, 100
		transport.MaxResponseHeaderBytes = 64 << 10
		config.Client = &http.Client{Transport: transport}
	}
	s.client = wire.Client(config.Client)
	return s, nil
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

// URL returns where a kind of branch is called.
func (s *Service) URL(ctx context.Context, kind string) (*url.URL, error) {
	base := s.base
	if base == nil {
		text, err := s.config.Resolve(ctx)
		if err != nil {
			return nil, fmt.Errorf("finding the service: %w", err)
		}
		if base, err = parseBase(text); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(s.config.Hosts, func(host string) bool { return strings.EqualFold(host, base.Host) }) {
			return nil, fmt.Errorf("%w: the resolver names the host %q, which is not among the Hosts of the service", saga.ErrInvalid, base.Host)
		}
	}
	return base.JoinPath(kind), nil
}

// tries is how often a Try is sent when no answer comes.
const tries = 3

// Call makes one call of a branch. A Try that gets no answer that counts is sent
// again, twice at most: if it had come, the barrier of the host knows it. See
// [saga.Remote].
//
// An error that is no [saga.Rejection] has a method Public, which returns a text
// without addresses and details, fit for callers. The text of Error is for
// operators.
func (s *Service) Call(ctx context.Context, call saga.Call) error {
	for attempt := 1; ; attempt++ {
		err := s.post(ctx, call)
		if call.Op != barrier.Try || attempt == tries || !errors.Is(err, wire.ErrUnanswered) {
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

func (s *Service) post(ctx context.Context, call saga.Call) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.config.Timeout, fmt.Errorf("it did not answer within %s", s.config.Timeout))
	defer cancel()
	err := s.exchange(ctx, call)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// exchange sends one request, and takes its answer.
func (s *Service) exchange(ctx context.Context, call saga.Call) error {
	address, err := s.URL(ctx, call.Kind)
	if err != nil {
		return wire.NewFault(call.Kind, "could not be found", err)
	}
	if s.config.PlainDTM {
		return wire.Post(ctx, s.client, address, call)
	}
	query := wire.Query(call)
	if err = wire.CheckCaller(call.Caller); err != nil {
		return wire.NewFault(call.Kind, "cannot be called", fmt.Errorf("%w: %w", saga.ErrInvalid, err))
	}
	if call.Caller != "" {
		query.Set(wire.Caller, call.Caller)
	}
	r, err := wire.NewRequest(ctx, address, call, query)
	if err != nil {
		return err
	}
	id := newRequestID()
	r.Header.Set(headerRequest, id)
	var signed *signature
	if s.Signed() {
		made := s.config.Keys[0].sign(r, s.config.Name, call.Payload, s.now())
		signed = &made
	}
	response, err := wire.Do(s.client, r, call)
	if err != nil {
		return err
	}
	reply, err := readReply(response, call, id, signed)
	if err != nil {
		return wire.Unanswered(call.Kind, err)
	}
	return wire.Outcome(call, response.Status, reply, response.From)
}

// readReply reads an answer. It refuses one that is not of a host, or not to this
// request.
func readReply(response wire.Response, call saga.Call, id string, signed *signature) (reply wire.Reply, err error) {
	notOfHost := func(why string) error {
		if response.Status >= 300 && response.Status < 400 {
			return wire.Redirected(response)
		}
		return fmt.Errorf("%s answered %d, but not as a host of branches: %s: %s", response.From, response.Status, why, wire.Message(response.Body))
	}
	if signed != nil && !signed.signs(response.Header.Get(headerAnswer), response.Status, response.Body) {
		return reply, notOfHost("the answer is not signed for this request")
	}
	if err := json.Unmarshal(response.Body, &reply); err != nil || response.Cut || reply.Answers == nil {
		return reply, notOfHost("the answer does not say what it answers")
	}
	if *reply.Answers != (wire.Answer{GID: call.GID, BranchID: call.BranchID, Op: string(call.Op), Request: id}) {
		return reply, notOfHost("the answer is to another request")
	}
	return reply, nil
}

// Signed reports whether the calls are signed, which those of a DTM server are
// not.
func (s *Service) Signed() bool { return len(s.config.Keys) > 0 }
