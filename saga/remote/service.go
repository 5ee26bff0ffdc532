package remote

import (
	"context"
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

// ServiceConfig configures a [Service]. The zero value works, unsigned.
type ServiceConfig struct {
	// Keys sign the calls, with the first of them. Without any, calls are not
	// signed.
	Keys []Key

	// Timeout bounds one request. Defaults to 5 seconds; the engine's own limit
	// for a call, [saga.Config.CallTimeout], holds as well.
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
}

var _ saga.Remote = (*Service)(nil)

// NewService returns the service whose branches are at baseURL, below which each
// kind has its own path: "https://stock.example/branches". With a Resolve, the
// baseURL is empty.
func NewService(baseURL string, config ServiceConfig) (*Service, error) {
	if err := checkKeys(config.Keys); err != nil {
		return nil, fmt.Errorf("remote: service: %w", err)
	}
	s := &Service{config: config}
	switch {
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

// Call makes one call of a branch. A Try that gets no answer is sent again, twice
// at most: if it had come, the barrier of the host knows it. See [saga.Remote].
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
	address, err := s.URL(ctx, call.Kind)
	if err != nil {
		return err
	}
	err = wire.Post(ctx, s.client, address, call, func(r *http.Request, body []byte) {
		if len(s.config.Keys) > 0 {
			s.config.Keys[0].sign(r, body, time.Now())
		}
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// Signed reports whether the calls are signed, which those of a DTM server are
// not.
func (s *Service) Signed() bool { return len(s.config.Keys) > 0 }
