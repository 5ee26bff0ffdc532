package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console/internal/assets"
	"github.com/tccsaga/tccsaga/saga/console/internal/gate"
	"github.com/tccsaga/tccsaga/saga/console/internal/words"
	"github.com/tccsaga/tccsaga/saga/embedded"
)

const (
	// places is the number of requests that read the database at once.
	places = 4
	// patience is how long a request waits for a place.
	patience = 3 * time.Second
	// timeout limits a request for a page.
	timeout = 10 * time.Second
	// actTimeout limits an act: a decision calls the branches once before it returns.
	actTimeout = time.Minute
	// maxBody is the largest body of a request, in bytes.
	maxBody = 64 << 10
)

// Console is an http.Handler with the pages. It is safe for concurrent use. Close it at the end.
type Console struct {
	ops     *embedded.Operations
	config  Config
	guard   *http.CrossOriginProtection
	gate    *gate.Gate
	cache   gate.Cache
	sets    map[string]*set // by language
	bulks   *bulks
	skew    atomic.Int64 // the database's clock minus that of the process
	dialect string
}

// New returns a Console of the log of ops. Register it under [Config.Path] with a method of a
// router that also gets all paths below, such as
//
//	mux.Handle("/console/", c)                     // net/http
//	router.Any("/console/*path", gin.WrapH(c))     // gin
//
// The Operations stay those of the caller: close them after the Console.
func New(ops *embedded.Operations, config Config) (*Console, error) {
	if ops == nil {
		return nil, errNoOperations
	}
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Console{ops: ops, config: config, guard: http.NewCrossOriginProtection(), gate: gate.New(places, patience),
		sets: make(map[string]*set), dialect: ops.Dialect()}
	c.bulks = newBulks(ops, config.Logger)
	for _, lang := range words.Languages {
		c.sets[lang] = parse(c, words.For(lang))
	}
	return c, nil
}

// Close ends the bulk actions that this Console runs, and waits until each of them has ended its
// current act. Any console or command can continue them. Requests may still come afterwards, but
// they can begin no bulk action.
func (c *Console) Close() { c.bulks.close() }

// ServeHTTP answers a request for a page, an asset or an act.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := c.name(r.URL.Path)
	if asset, is := strings.CutPrefix(name, "assets/"); ok && is {
		secure(w.Header())
		assets.Serve(w, r, asset)
		return
	}
	secure(w.Header())
	w.Header().Set("Cache-Control", "no-store")
	if ok && name == "" && !strings.HasSuffix(r.URL.Path, "/") {
		http.Redirect(w, r, c.link("", nil), http.StatusMovedPermanently)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	limit := timeout
	if r.Method == http.MethodPost {
		limit = actTimeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	newVisit(c, w, r.WithContext(ctx), name).serve(routes[name])
}

// name returns the name of a page from the path of a request. The path may still have the Path
// of the console, or not.
func (c *Console) name(path string) (string, bool) {
	if rest, ok := strings.CutPrefix(path, c.config.Path); ok && (rest == "" || rest[0] == '/') {
		path = rest
	}
	return strings.CutPrefix("/"+strings.TrimPrefix(path, "/"), "/")
}

// secure sets the headers that tell a browser what the pages may do.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// now returns the time of the database's clock, as of the last overview.
func (c *Console) now() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }

// overview returns the overview, which all pages share for a short time.
func (c *Console) overview(ctx context.Context) (*saga.Overview, error) {
	return gate.Get(ctx, &c.cache, "overview", 2*time.Second, timeout, func(ctx context.Context) (*saga.Overview, error) {
		o, err := c.ops.Overview(ctx)
		if err == nil {
			c.skew.Store(int64(time.Until(o.Now)))
		}
		return o, err
	})
}

// link returns the path of a page.
func (c *Console) link(name string, parameters url.Values) string {
	path := c.config.Path + "/" + name
	if len(parameters) > 0 {
		path += "?" + parameters.Encode()
	}
	return path
}
