package server

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// Pattern is the pattern of the API's transactions in the log, such as for
// [saga.Filter].
const Pattern = "dtm.tcc"

// Engine is what the API runs on: a [embedded.Engine].
type Engine interface {
	saga.Engine

	// Within returns an engine that knows only the transactions of a pattern;
	// see [embedded.Engine.Within].
	Within(pattern string) saga.Engine
}

// Config configures the API. Hosts are needed.
type Config struct {
	// Hosts say where branches may be, each as "host", "host:port",
	// "host/prefix" or "host:port/prefix". The URL of a branch has to have the
	// same host and port, as they are written, whatever the case of the letters;
	// its scheme is http or https. With a prefix, its path has to be the prefix
	// or to go on with a slash after it, and it may hold none of these: segments
	// "." and "..", encoded slashes, backslashes, percent signs. Of several
	// entries that match, the one with the longest prefix counts. Each entry is a
	// kind of branch of its own; see the documentation of the package.
	Hosts []string

	// GIDPrefix begins the gid of every transaction of the API; others are
	// refused. The log has each gid once: without a prefix that nothing else
	// uses, a client of the API can take the gids that other programs are about
	// to use. At most 64 characters. Defaults to none.
	GIDPrefix string

	// Client calls the branches; redirects are refused and cookies ignored in
	// any case. Defaults to a client with up to 256 connections per host, of which
	// it keeps up to 100 when they are idle.
	Client *http.Client

	// MaxTimeout is the longest timeout_to_fail. Defaults to 24 hours.
	MaxTimeout time.Duration

	// MaxData is the most bytes of the data of one branch, and
	// MaxTransactionData of all branches of a transaction with their URLs. They
	// default to 65,535, as on a DTM server, and to 1 MiB. Branches that are
	// registered at the same time may exceed the second together.
	MaxData, MaxTransactionData int

	// MaxBody is the most bytes of a request. Defaults to 512 KiB.
	MaxBody int64

	// BodyTimeout is how long the body of a request may take to arrive, and a
	// large answer to be taken. It needs a [http.ResponseWriter] that [http.ResponseController] can use. Defaults to
	// 5 seconds.
	BodyTimeout time.Duration

	// MaxRequests is the most requests that are read and worked on at once.
	// Others wait for up to BodyTimeout and are answered 503 then. As many
	// requests with wait_result again may wait for their result. Defaults to 128.
	MaxRequests int

	// MaxWait is how long a request with wait_result waits for the end of the
	// transaction, before it is answered 425. Defaults to 10 seconds.
	MaxWait time.Duration

	// Logger takes what goes wrong. Defaults to [slog.Default].
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if err := cmp.Or(
		setDefault("MaxTimeout", &c.MaxTimeout, 24*time.Hour),
		setDefault("BodyTimeout", &c.BodyTimeout, 5*time.Second),
		setDefault("MaxWait", &c.MaxWait, 10*time.Second),
		setDefault("MaxBody", &c.MaxBody, 512<<10),
		setDefault("MaxData", &c.MaxData, 1<<16-1),
		setDefault("MaxTransactionData", &c.MaxTransactionData, 1<<20),
		setDefault("MaxRequests", &c.MaxRequests, 128),
	); err != nil {
		return c, err
	}
	if c.GIDPrefix != "" && (barrier.ValidateGID(c.GIDPrefix) != nil || strings.Contains(c.GIDPrefix, ";") || len(c.GIDPrefix) > 64) {
		return c, fmt.Errorf("%w: Config.GIDPrefix is %q, at most 64 characters that a gid may have are possible", saga.ErrInvalid, c.GIDPrefix)
	}
	if c.MaxTimeout < time.Second {
		return c, fmt.Errorf("%w: Config.MaxTimeout is %s, and timeout_to_fail has whole seconds", saga.ErrInvalid, c.MaxTimeout)
	}
	if c.Client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConns, transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost = 0, 100, 256
		c.Client = &http.Client{Transport: transport}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Client = wire.Client(c.Client)
	return c, nil
}

func setDefault[T int | int64 | time.Duration](name string, value *T, fallback T) error {
	if *value < 0 {
		return fmt.Errorf("%w: Config.%s is negative", saga.ErrInvalid, name)
	}
	if *value == 0 {
		*value = fallback
	}
	return nil
}

// api is the handler.
type api struct {
	engine      saga.Engine // knows only the API's transactions
	config      Config
	targets     targets
	crossOrigin *http.CrossOriginProtection
	requests    *semaphore.Weighted
	waits       *semaphore.Weighted
}

// New returns the API on top of engine, with which it registers a kind of branch
// for each entry of Config.Hosts: call it once per engine, before the engine
// runs. The handler acts only on transactions that were prepared through it, or
// through another such handler on the same log.
func New(engine Engine, config Config) (http.Handler, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	hosts, err := parseTargets(config.Hosts)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	a := &api{engine: engine.Within(Pattern), config: config, targets: hosts, crossOrigin: http.NewCrossOriginProtection(),
		requests: semaphore.NewWeighted(int64(config.MaxRequests)), waits: semaphore.NewWeighted(int64(config.MaxRequests))}
	for _, t := range append(hosts, nowhere) {
		err := a.engine.Register(saga.NewRemote(t.kind, encode, &caller{client: config.Client, target: t}))
		if err != nil {
			return nil, fmt.Errorf("server: %w", err)
		}
	}
	return a, nil
}
