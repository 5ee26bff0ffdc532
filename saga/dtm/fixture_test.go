package dtm_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/dtm"
	"github.com/tccsaga/tccsaga/saga/dtm/dtmtest"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	dtmtest.Clean()
	os.Exit(code)
}

// ring is the payload of a branch of the process that executes: it rings a bell.
type ring struct{ Times int }

func (ring) Branch() string { return "bell.ring" }

// bell is the branch, in the table bells.
type bell struct{ fail func(op barrier.Op) error }

func (b *bell) Try(_ context.Context, tx *gorm.DB, in ring) error {
	return b.count(tx, barrier.Try, in)
}
func (b *bell) Confirm(_ context.Context, tx *gorm.DB, in ring) error {
	return b.count(tx, barrier.Confirm, in)
}
func (b *bell) Cancel(_ context.Context, tx *gorm.DB, in ring) error {
	return b.count(tx, barrier.Cancel, in)
}

func (b *bell) count(tx *gorm.DB, op barrier.Op, in ring) error {
	if b.fail != nil {
		if err := b.fail(op); err != nil {
			return err
		}
	}
	column := map[barrier.Op]string{barrier.Try: "tried", barrier.Confirm: "confirmed", barrier.Cancel: "cancelled"}[op]
	return tx.Exec("UPDATE bells SET "+column+" = "+column+" + ?", in.Times).Error
}

// network is what lies before an HTTP server; it can be disturbed.
type network struct {
	URL     string
	mu      sync.Mutex
	disturb func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

func newNetwork(t *testing.T, next http.Handler) *network {
	t.Helper()
	n := &network{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		disturb := n.disturb
		n.mu.Unlock()
		if disturb == nil {
			disturb = func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }
		}
		disturb(w, r, next)
	}))
	t.Cleanup(server.Close)
	n.URL = server.URL
	return n
}

func (n *network) disturbed(by func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.disturb = by
}

// loses loses the replies to an operation, the last part of the path, n times
// from the k-th on.
func loses(operation string, k, n int64) func(w http.ResponseWriter, r *http.Request, next http.Handler) {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if path.Base(r.URL.Path) == operation {
			if i := seen.Add(1); i >= k && i < k+n {
				next.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
		}
		next.ServeHTTP(w, r)
	}
}

// bench is a process that executes transactions, a stock service, and a DTM
// server, with a network in between.
type bench struct {
	t             *testing.T
	server        *dtmtest.Server
	toServer      *network
	toStock, toUs *network
	stockDB, db   *gorm.DB
	shelf         *stock.Stock
	hosts         [2]*remote.Host // the stock's, ours
	bell          *bell
	engine        *dtm.Engine
	available     int64
}

func newHost(t *testing.T, db *gorm.DB) (*remote.Host, *network) {
	t.Helper()
	host, err := remote.NewHost(t.Context(), db, remote.HostConfig{AllowUnsigned: true, Logger: slog.New(slog.DiscardHandler)})
	sagatest.Must(t, err)
	return host, newNetwork(t, host)
}

func newBench(t *testing.T, config dtm.Config) *bench {
	t.Helper()
	b := &bench{t: t, server: dtmtest.Start(t), stockDB: sqltest.Open(t, "sqlite"), db: sqltest.Open(t, "sqlite"), bell: &bell{}, available: 100}
	at, err := url.Parse(b.server.URL)
	sagatest.Must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: at.Scheme, Host: at.Host})
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	b.toServer = newNetwork(t, proxy)
	b.hosts[0], b.toStock = newHost(t, b.stockDB)
	b.hosts[1], b.toUs = newHost(t, b.db)
	b.shelf = stock.New(b.stockDB)
	sagatest.Must(t, b.shelf.Put(t.Context(), "phone", b.available))
	sagatest.Must(t, tcc.Register(b.hosts[0], b.shelf))
	sagatest.Must(t, b.db.Exec("CREATE TABLE bells (tried INT NOT NULL, confirmed INT NOT NULL, cancelled INT NOT NULL)").Error)
	sagatest.Must(t, b.db.Exec("INSERT INTO bells VALUES (0, 0, 0)").Error)

	config.Host, config.HostURL = b.hosts[1], b.toUs.URL+"/branches"
	if config.RetryInterval == 0 {
		config.RetryInterval = time.Second
	}
	b.engine, err = dtm.Open(t.Context(), b.toServer.URL+at.Path, config)
	sagatest.Must(t, err)
	service, err := remote.NewService(b.toStock.URL+"/branches", remote.ServiceConfig{})
	sagatest.Must(t, err)
	sagatest.Must(t, tcc.Register(b.engine, b.bell))
	sagatest.Must(t, tcc.RegisterRemote[stock.Lock](b.engine, service))
	return b
}

func phones(n int64) stock.Lock {
	return stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: n}}}
}

// holds checks the stock, and the bells.
func (b *bench) holds(locked, sold int64, tried, confirmed, cancelled int) {
	b.t.Helper()
	level, err := b.shelf.Get(b.t.Context(), "phone")
	sagatest.Must(b.t, err)
	if level.Locked != locked || level.Sold != sold || level.Available != b.available-locked-sold {
		b.t.Errorf("stock %+v, want %d locked, %d sold", level, locked, sold)
	}
	var row struct{ Tried, Confirmed, Cancelled int }
	sagatest.Must(b.t, b.db.Raw("SELECT tried, confirmed, cancelled FROM bells").Scan(&row).Error)
	if row.Tried != tried || row.Confirmed != confirmed || row.Cancelled != cancelled {
		b.t.Errorf("bells %+v, want %d tried, %d confirmed, %d cancelled", row, tried, confirmed, cancelled)
	}
}

func (b *bench) reaches(gid string, state saga.State) *saga.Transaction {
	b.t.Helper()
	return sagatest.Reach(b.t, b.engine, gid, state)
}

func long(n int) string { return strings.Repeat("x", n) }

func copyBody(into io.Writer, r *http.Request) {
	if _, err := io.Copy(into, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func body(text string) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }
