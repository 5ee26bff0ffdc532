package server

import (
	"cmp"
	"context"
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

// Patterns of the API's transactions in the log, for example in a [saga.Filter].
const (
	PatternTCC  = "dtm.tcc"
	PatternSaga = "dtm.saga"
	PatternMsg  = "dtm.msg"
	PatternXA   = "dtm.xa"
)

// Engine is the engine of the API: an embedded.Engine.
type Engine interface {
	saga.Engine
	List(context.Context, saga.Filter) ([]saga.Summary, error)
	Retry(ctx context.Context, gid string, by saga.Operator) error

	// Record begins a transaction whose branch that decides is tried by somebody else.
	Record(context.Context, saga.Plan) error

	// Within returns an engine with only the transactions of a pattern.
	Within(pattern string) saga.Engine
}

// Config configures the API. Hosts are required.
type Config struct {
	// Hosts are the places where branches may be, each as "host", "host:port",
	// "host/prefix" or "host:port/prefix". The URL of a branch must have the host
	// and the port exactly as an entry has them; only upper and lower case may
	// differ. Its scheme is http or https. If the entry has a prefix, the path of the URL must be the prefix, or continue
	// it after a slash. Such a path must not have the segments "." and "..", encoded
	// slashes, backslashes or percent signs. If several entries match, the longest
	// prefix counts. Each entry is a kind of branch of its own; see the
	// documentation of the package.
	Hosts []string

	// GIDPrefix is the beginning of every gid of the API; other gids are refused.
	// The log has each gid only once. Without a prefix that no other program uses, a
	// client of the API can occupy the gids of other programs. At most 64
	// characters. Defaults to no prefix.
	GIDPrefix string

	// Credentials are those of the clients. Without any, every program that reaches the
	// API may use all of it. The API checks them in the header of each request, so
	// use TLS where others can read the network.
	Credentials []Credential

	// Topics has the URLs of the subscribers of each topic of messages. A message has the
	// subscribers that the topic has when it is prepared, or submitted if it was not prepared. They are on Hosts.
	Topics map[string][]string

	// Client calls the branches. The API never follows redirects and ignores
	// cookies. Defaults to a client with up to 256 connections per host; up to 100
	// of them may be idle.
	Client *http.Client

	// MaxTimeout is the longest timeout_to_fail. Defaults to 24 hours.
	MaxTimeout time.Duration

	// MaxData is the most bytes of the data of one branch. MaxTransactionData is the
	// most bytes of the data and URLs of all branches of a transaction. They default
	// to 65,535, as on a DTM server, and to 1 MiB. Branches that are registered at
	// the same time may together exceed MaxTransactionData.
	MaxData, MaxTransactionData int

	// MaxBody is the most bytes of a request. Defaults to 512 KiB.
	MaxBody int64

	// BodyTimeout limits the time to receive the body of a request, and to send a
	// large answer. It needs a [http.ResponseWriter] that [http.ResponseController]
	// supports. Defaults to 5 seconds.
	BodyTimeout time.Duration

	// MaxRequests is the most requests that are handled at the same time. Others wait
	// for up to BodyTimeout and are then answered 503. In addition, the same number
	// of requests with wait_result may wait for their result. Defaults to 128.
	MaxRequests int

	// MaxWait is the longest time that a request with wait_result waits for the end of
	// the transaction. It is then answered 425. Defaults to 10 seconds.
	MaxWait time.Duration

	// Logger logs errors. Defaults to [slog.Default].
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
	if err := checkPrefix("Config.GIDPrefix", c.GIDPrefix); err != nil {
		return c, fmt.Errorf("%w: %w", saga.ErrInvalid, err)
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

func checkPrefix(name, prefix string) error {
	if prefix != "" && (barrier.ValidateGID(prefix) != nil || strings.Contains(prefix, ";") || len(prefix) > 64) {
		return fmt.Errorf("%s is %q, it must be at most 64 characters that a gid may have", name, prefix)
	}
	return nil
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
	engines     [numTypes]saga.Engine // each has only the API's transactions of a type
	viewer      viewer
	planner     *planner
	awaiter     *awaiter
	clients     clients
	config      Config
	targets     targets
	crossOrigin *http.CrossOriginProtection
	requests    *semaphore.Weighted
}

// New returns the API on top of engine. It registers a kind of branch with engine for
// each entry of Config.Hosts. So call it once per engine, before the engine runs. The
// handler acts only on transactions that were prepared through it, or through another
// handler of this package on the same log.
func New(engine Engine, config Config) (http.Handler, error) {
	a, err := newAPI(engine, config)
	if err != nil {
		return nil, fmt.Errorf("server: new: %w", err)
	}
	return a, nil
}

func newAPI(engine Engine, config Config) (*api, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	hosts, err := parseTargets(config.Hosts)
	if err != nil {
		return nil, err
	}
	for topic, urls := range config.Topics {
		for _, address := range urls {
			if _, err = hosts.find(branch{Type: msg.stored(), Action: address}); err != nil {
				return nil, fmt.Errorf("Config.Topics: %q: %w", topic, err)
			}
		}
	}
	known, err := parseCredentials(config.Credentials, config.GIDPrefix)
	if err != nil {
		return nil, err
	}
	waits := semaphore.NewWeighted(int64(config.MaxRequests))
	a := &api{viewer: viewer{engine}, awaiter: &awaiter{waits, config.MaxWait}, clients: known, config: config, targets: hosts,
		crossOrigin: http.NewCrossOriginProtection(), requests: semaphore.NewWeighted(int64(config.MaxRequests))}
	for t := range numTypes {
		a.engines[t] = engine.Within(t.pattern())
	}
	a.planner = &planner{a.awaiter, a.engines, engine.Record, config, hosts}
	for _, t := range append(hosts, noTarget) {
		c := &caller{client: config.Client, target: t}
		err := cmp.Or(engine.Register(saga.NewRemote(t.kind, encode, c)), engine.Register(saga.NewRemote(t.action, encode, c).AsAction()),
			engine.Register(saga.NewRemote(t.query, encode, c).AsAction()))
		if err != nil {
			return nil, err
		}
	}
	return a, engine.Register(saga.NewRemote(settingsKind, encode, keeper{}))
}
