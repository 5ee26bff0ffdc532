package dtm

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
)

// Config configures an [Engine]. The zero value works for a process without
// branches of its own.
type Config struct {
	// Host has the branches that this process registers for itself, and HostURL
	// is where the DTM server reaches it: it has to be mounted there, without
	// keys, before the first transaction.
	Host    *remote.Host
	HostURL string

	// Timeout is how long a transaction with a known plan may stay undecided,
	// and OpenTimeout an opened one. Whole seconds. Default to 30 seconds and 15
	// minutes.
	Timeout, OpenTimeout time.Duration

	// RequestTimeout bounds one request to the DTM server, and one of the server
	// to a branch. Whole seconds. Defaults to 5 seconds.
	RequestTimeout time.Duration

	// RetryInterval is how soon the server repeats a call that failed, at first.
	// Whole seconds. Defaults to the server's own setting.
	RetryInterval time.Duration
}

// Engine is a [saga.Engine] on a DTM server. It is safe for concurrent use, and
// holds nothing that has to be closed.
type Engine struct {
	config Config
	client client

	mu       sync.RWMutex
	branches map[string]branch
}

var _ saga.Engine = (*Engine)(nil)

// Open returns an engine on the DTM server at serverURL, such as
// "http://localhost:36789/api/dtmsvr", and checks that it answers.
func Open(ctx context.Context, serverURL string, config Config) (*Engine, error) {
	server, err := url.Parse(serverURL)
	if err != nil || server.Scheme != "http" && server.Scheme != "https" || server.Host == "" {
		return nil, fmt.Errorf("dtm: open: %w: the URL of the server is %q, it should be like http://localhost:36789/api/dtmsvr", saga.ErrInvalid, serverURL)
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"Timeout", &config.Timeout, 30 * time.Second},
		{"OpenTimeout", &config.OpenTimeout, 15 * time.Minute},
		{"RequestTimeout", &config.RequestTimeout, 5 * time.Second},
		{"RetryInterval", &config.RetryInterval, 0},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
		if err := wholeSeconds(*d.value); err != nil {
			return nil, fmt.Errorf("dtm: open: Config.%s: %w", d.name, err)
		}
	}
	if err := checkHost(config); err != nil {
		return nil, fmt.Errorf("dtm: open: %w", err)
	}
	e := &Engine{config: config, client: client{server: strings.TrimSuffix(serverURL, "/"), timeout: config.RequestTimeout}, branches: map[string]branch{}}
	if err := e.client.ping(ctx); err != nil {
		return nil, fmt.Errorf("dtm: open: is the DTM server running at %s? %w", redacted(serverURL), err)
	}
	return e, nil
}

// redacted is a URL without its password.
func redacted(text string) string {
	at, err := url.Parse(text)
	if err != nil {
		return "the URL that was given"
	}
	return at.Redacted()
}

func checkHost(config Config) error {
	if config.Host == nil {
		return nil
	}
	if config.Host.Signed() {
		return fmt.Errorf("%w: Config.Host wants signed calls, and a DTM server cannot sign", saga.ErrInvalid)
	}
	at, err := url.Parse(config.HostURL)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return fmt.Errorf("%w: Config.HostURL is %q, it should say where the DTM server reaches Config.Host, like http://orders:8080/branches", saga.ErrInvalid, config.HostURL)
	}
	return nil
}

// wholeSeconds refuses what DTM cannot express.
func wholeSeconds(d time.Duration) error {
	if d < 0 || d%time.Second != 0 {
		return fmt.Errorf("%w: %s are not whole seconds, which is all that DTM has", saga.ErrInvalid, d)
	}
	return nil
}

// branch is a registered kind of branch.
type branch struct {
	encode func(input any) ([]byte, error)
	url    func(ctx context.Context) (*url.URL, error) // where the server calls it
	try    func(ctx context.Context, call saga.Call) error
}

// place says where a service is; [remote.Service] does.
type place interface {
	URL(ctx context.Context, kind string) (*url.URL, error)
	Signed() bool
}

// Register makes a kind of branch known: one of this process at its Host, or one
// of another service; see [saga.Registrar].
func (e *Engine) Register(b saga.Branch) error {
	registered, kind := branch{encode: b.Encoder()}, b.Kind()
	if service, remote := b.Shape().(saga.Remote); remote {
		at, ok := service.(place)
		switch {
		case !ok:
			return fmt.Errorf("dtm: register %s: %w: its %T does not say where a DTM server reaches it: use a remote.Service", kind, saga.ErrInvalid, service)
		case at.Signed():
			return fmt.Errorf("dtm: register %s: %w: its service wants signed calls, and a DTM server cannot sign", kind, saga.ErrInvalid)
		}
		registered.url = func(ctx context.Context) (*url.URL, error) { return at.URL(ctx, kind) }
		registered.try = service.Call
		return e.add(kind, registered)
	}
	if e.config.Host == nil {
		return fmt.Errorf("dtm: register %s: %w: a DTM server reaches the branches of this process only by a Config.Host", kind, saga.ErrInvalid)
	}
	if err := e.config.Host.Register(b); err != nil {
		return err
	}
	base, err := url.Parse(e.config.HostURL)
	if err != nil {
		return err
	}
	registered.url = func(context.Context) (*url.URL, error) { return base.JoinPath(kind), nil }
	registered.try = e.config.Host.Call
	return e.add(kind, registered)
}

func (e *Engine) add(kind string, b branch) error {
	if kind == "" || b.encode == nil {
		return fmt.Errorf("dtm: register %q: %w: the kind is empty or Encode is nil", kind, saga.ErrInvalid)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.branches[kind]; known {
		return fmt.Errorf("dtm: register %s: %w: the kind is registered already", kind, saga.ErrInvalid)
	}
	e.branches[kind] = b
	return nil
}

// maxPayload is what DTM's tables hold of a branch's payload (a BLOB).
const maxPayload = 1<<16 - 1

// validBranchID is what DTM numbers branches with, two digits per level.
var validBranchID = regexp.MustCompile(`^(\d\d){1,10}$`)

// step is a branch that is to be tried.
type step struct {
	branch
	call saga.Call
	url  string
}

func (e *Engine) newStep(ctx context.Context, gid, branchID string, s saga.Step) (*step, error) {
	if err := checkGID(gid); err != nil {
		return nil, err
	}
	if !validBranchID.MatchString(branchID) {
		return nil, fmt.Errorf("%w: the branch id %q: DTM has ids of two digits per level", saga.ErrInvalid, branchID)
	}
	e.mu.RLock()
	b, known := e.branches[s.Kind]
	e.mu.RUnlock()
	if !known {
		return nil, fmt.Errorf("%w: branch %s: %w: %q is not registered in this process", saga.ErrInvalid, branchID, saga.ErrUnknownKind, s.Kind)
	}
	payload, err := b.encode(s.Input)
	if err != nil {
		return nil, fmt.Errorf("%w: branch %s, %s: %w", saga.ErrInvalid, branchID, s.Kind, err)
	}
	if len(payload) > maxPayload {
		return nil, fmt.Errorf("%w: branch %s, %s: its input has %d bytes as JSON, DTM allows %d", saga.ErrInvalid, branchID, s.Kind, len(payload), maxPayload)
	}
	at, err := b.url(ctx)
	if err != nil {
		return nil, fmt.Errorf("branch %s, %s: %w", branchID, s.Kind, err)
	}
	return &step{branch: b, url: at.String(), call: saga.Call{GID: gid, BranchID: branchID, Kind: s.Kind, Op: barrier.Try, Attempt: 1, Payload: payload}}, nil
}

func checkGID(gid string) error {
	if err := barrier.ValidateGID(gid); err != nil {
		return fmt.Errorf("%w: %w", saga.ErrInvalid, err)
	}
	if strings.Contains(gid, ";") {
		return fmt.Errorf("%w: the gid %q has a semicolon, which DTM takes out of it", saga.ErrInvalid, gid)
	}
	return nil
}

// seconds checks the timeout of one transaction and applies the default.
func seconds(timeout, fallback time.Duration) (int64, error) {
	if timeout == 0 {
		timeout = fallback
	}
	if err := wholeSeconds(timeout); err != nil {
		return 0, fmt.Errorf("the timeout: %w", err)
	}
	return int64(timeout / time.Second), nil
}

// tryBranch makes the Try of a step.
func (s *step) tryBranch(ctx context.Context) error {
	if err := s.try(ctx, s.call); err != nil {
		return fmt.Errorf("%s: %w", s.call.Kind, err)
	}
	return nil
}

// errUndecided is of a transaction that somebody else is still executing.
var errUndecided = errors.New("it is still undecided")
