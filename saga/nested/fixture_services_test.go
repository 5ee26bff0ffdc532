package nested_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/nested"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func keys(t *testing.T) []remote.Key {
	t.Helper()
	key, err := remote.NewKey("2026-11", []byte("32 random bytes from a safe place"))
	sagatest.Must(t, err)
	return []remote.Key{key}
}

// serve mounts the nested branches of a site, and returns the address.
func serve(t *testing.T, s *site) string {
	t.Helper()
	host, err := remote.NewHost(t.Context(), s.db, remote.HostConfig{Name: "hotel", Keys: keys(t), CallTimeout: quick.CallTimeout, Logger: slog.New(slog.DiscardHandler)})
	sagatest.Must(t, err)
	s.nests(host)
	mux := http.NewServeMux()
	mux.Handle("/branches/", host)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// network is between an agency and the hotel. The hotel behind it can be replaced.
type network struct {
	server *httptest.Server
	hotel  atomic.Pointer[url.URL]

	mu    sync.Mutex
	loses map[barrier.Op]int // how many answers are lost
	calls map[barrier.Op]int
}

func newNetwork(t *testing.T, hotel string) *network {
	t.Helper()
	n := &network{loses: map[barrier.Op]int{}, calls: map[barrier.Op]int{}}
	n.leadsTo(t, hotel)
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(n.hotel.Load()) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	n.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op := barrier.Op(r.URL.Query().Get("op"))
		n.mu.Lock()
		n.calls[op]++
		lost := n.loses[op] > 0
		n.loses[op]--
		n.mu.Unlock()
		if !lost {
			proxy.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}))
	t.Cleanup(n.server.Close)
	return n
}

func (n *network) leadsTo(t *testing.T, hotel string) {
	t.Helper()
	at, err := url.Parse(hotel)
	sagatest.Must(t, err)
	n.hotel.Store(at)
}

// lose loses the answers to the next calls of op.
func (n *network) lose(op barrier.Op, answers int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loses[op] = answers
}

// called returns how many calls of op there were.
func (n *network) called(op barrier.Op) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[op]
}

// newAgency is a site in another service: its stays and tours are nested transactions of the
// hotel behind the network.
func newAgency(t *testing.T, n *network) *site {
	t.Helper()
	agency := newSite(t, sqltest.Open(t, "sqlite"), quick)
	hotel, err := remote.NewService(n.server.URL+"/branches", remote.ServiceConfig{Name: "hotel", Keys: keys(t)})
	sagatest.Must(t, err)
	sagatest.Must(t, tcc.RegisterRemote[stay](agency.engine, hotel))
	sagatest.Must(t, tcc.RegisterRemote[tour](agency.engine, hotel))
	return agency
}

// eachService runs a test with an agency and a hotel, which has a database of each kind.
func eachService(t *testing.T, config embedded.Config, test func(t *testing.T, agency, hotel *site, n *network)) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		hotel := newSite(t, db, config)
		sagatest.Must(t, nested.Register(hotel.engine, nested.Branch[stay]{Child: hotel.engine, Plan: planStay})) // of a tour
		n := newNetwork(t, serve(t, hotel))
		test(t, newAgency(t, n), hotel, n)
	})
}
