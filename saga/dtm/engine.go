package dtm

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
)

// Config configures an [Engine]. The zero value works for a process without
// branches of its own.
type Config struct {
	// Host has the branches of this process, and HostURL is its address for the DTM
	// server. Mount the Host at this address, without keys, before the first
	// transaction.
	Host    *remote.Host
	HostURL string

	// Timeout is the longest time from begin to decision of a transaction that
	// Execute runs. OpenTimeout is the same for a transaction that Begin opens. Both
	// are whole seconds. They default to 30 seconds and 15 minutes.
	Timeout, OpenTimeout time.Duration

	// RequestTimeout bounds one request to the DTM server, and one request of the
	// server to a branch. Whole seconds. Defaults to 5 seconds.
	RequestTimeout time.Duration

	// RetryInterval is the first pause of the server before it repeats a failed
	// call. Whole seconds. Defaults to the server's own setting.
	RetryInterval time.Duration
}

// Engine is a [saga.Engine] on a DTM server. It is safe for concurrent use, and
// needs no Close.
type Engine struct {
	config Config
	client client
	kinds  registry
}

var _ saga.Engine = (*Engine)(nil)

// Open returns an engine on the DTM server at serverURL, such as
// "http://localhost:36789/api/dtmsvr". It checks that the server answers.
func Open(ctx context.Context, serverURL string, config Config) (*Engine, error) {
	e, err := open(ctx, serverURL, config)
	return e, wrap("open", "", err)
}

func open(ctx context.Context, serverURL string, config Config) (*Engine, error) {
	if !isHTTP(serverURL) {
		return nil, fmt.Errorf("%w: the URL of the server is %q, it should be like http://localhost:36789/api/dtmsvr", saga.ErrInvalid, serverURL)
	}
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{config: config, client: client{server: strings.TrimSuffix(serverURL, "/"), timeout: config.RequestTimeout}}
	if err := e.client.ping(ctx); err != nil {
		return nil, fmt.Errorf("is the DTM server running at %s? %w", redacted(serverURL), err)
	}
	return e, nil
}

func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"Timeout", &c.Timeout, 30 * time.Second},
		{"OpenTimeout", &c.OpenTimeout, 15 * time.Minute},
		{"RequestTimeout", &c.RequestTimeout, 5 * time.Second},
		{"RetryInterval", &c.RetryInterval, 0},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
		if err := wholeSeconds(*d.value); err != nil {
			return c, fmt.Errorf("the %s: %w", d.name, err)
		}
	}
	switch {
	case c.Host == nil:
		return c, nil
	case c.Host.Signed():
		return c, fmt.Errorf("%w: Config.Host requires signed calls, and a DTM server cannot sign", saga.ErrInvalid)
	case !isHTTP(c.HostURL):
		return c, fmt.Errorf("%w: Config.HostURL is %q, it should be the address of Config.Host for the DTM server, like http://orders:8080/branches", saga.ErrInvalid, c.HostURL)
	}
	return c, nil
}

// isHTTP reports whether text is an HTTP URL with a host.
func isHTTP(text string) bool {
	at, err := url.Parse(text)
	return err == nil && (at.Scheme == "http" || at.Scheme == "https") && at.Host != ""
}

// redacted returns a URL without its password.
func redacted(text string) string {
	at, err := url.Parse(text)
	if err != nil {
		return "the URL that was given"
	}
	return at.Redacted()
}

// Register registers a kind of branch: one of this process at its Host, or one of another
// service; see [saga.Registrar].
func (e *Engine) Register(b saga.Branch) error {
	service, isRemote := b.Shape().(saga.Remote)
	if isRemote {
		k, err := remoteKind(b, service)
		if err == nil {
			err = e.kinds.add(b.Kind(), k)
		}
		return wrap("register", b.Kind(), err)
	}
	if e.config.Host == nil {
		return wrap("register", b.Kind(), fmt.Errorf("%w: a DTM server can call the branches of this process only with a Config.Host", saga.ErrInvalid))
	}
	if err := e.config.Host.Register(b); err != nil {
		return err // it names the operation and the kind
	}
	return wrap("register", b.Kind(), e.kinds.add(b.Kind(), hostedKind(b, e.config.Host, e.config.HostURL)))
}

// Lookup returns a transaction as the server records it; see [saga.Engine]. The server
// has no record of attempts, of actions of operators, and of barrier rows.
func (e *Engine) Lookup(ctx context.Context, gid string) (*saga.Transaction, error) {
	if err := checkGID(gid); err != nil {
		return nil, wrap("lookup", gid, err)
	}
	found, err := e.client.query(ctx, gid)
	if err != nil {
		return nil, wrap("lookup", gid, err)
	}
	return found.view(), nil
}

func checkGID(gid string) error {
	if err := barrier.ValidateGID(gid); err != nil {
		return fmt.Errorf("%w: %w", saga.ErrInvalid, err)
	}
	if strings.Contains(gid, ";") {
		return fmt.Errorf("%w: the gid %q has a semicolon, which DTM removes", saga.ErrInvalid, gid)
	}
	return nil
}

// seconds returns the timeout of one transaction, with the default.
func seconds(timeout, fallback time.Duration) (int64, error) {
	if timeout == 0 {
		timeout = fallback
	}
	if err := wholeSeconds(timeout); err != nil {
		return 0, fmt.Errorf("the timeout: %w", err)
	}
	return int64(timeout / time.Second), nil
}

// wholeSeconds refuses durations that DTM cannot express.
func wholeSeconds(d time.Duration) error {
	if d < 0 || d%time.Second != 0 {
		return fmt.Errorf("%w: %s is negative or not in whole seconds, as DTM needs", saga.ErrInvalid, d)
	}
	return nil
}

// wrap adds the operation, and the gid, branch or kind, to an error. An error about the
// outcome of a transaction names the transaction itself and stays as it is.
func wrap(operation, subject string, err error) error {
	if err == nil {
		return nil
	}
	switch err.(type) { //nolint:errorlint // Only the error itself names the transaction first.
	case *saga.CancelledError, *saga.UnknownError:
		return err
	}
	if subject == "" || len(subject) > maxSubject || strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("dtm: %s: %w", operation, err) // err says what is wrong with the subject
	}
	return fmt.Errorf("dtm: %s %s: %w", operation, subject, err)
}

// maxSubject is the longest subject in an error: a gid and a branch id.
const maxSubject = barrier.MaxGID + 1 + barrier.MaxBranchID
