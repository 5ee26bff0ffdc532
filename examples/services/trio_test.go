package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/examples/internal/processtest"
	"github.com/tccsaga/tccsaga/saga/dtm/dtmtest"
)

func TestMain(m *testing.M) {
	code := processtest.Run(m)
	dtmtest.Clean()
	os.Exit(code)
}

// trio is the three services.
type trio struct {
	t                        *testing.T
	order, stock, mail       *processtest.Process
	orderAt, stockAt, mailAt string
	network                  *network
}

// network is between the services: a proxy before each, which delays requests
// and loses replies, or lets only the first few requests through.
type network struct {
	bad     atomic.Bool
	ends    atomic.Bool
	toOrder atomic.Bool  // requests to the order service are let through all the same
	left    atomic.Int64 // requests that are let through if it ends
	passed  atomic.Int64
	lost    atomic.Int64
}

// before returns the URL of a proxy before the service at addr.
func (n *network) before(t *testing.T, addr string, toOrder bool) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.ends.Load() && !(toOrder && n.toOrder.Load()) && n.left.Add(-1) < 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if !n.bad.Load() {
			proxy.ServeHTTP(w, r)
			return
		}
		i := n.passed.Add(1)
		delay := time.NewTimer(time.Duration(i%7) * 3 * time.Millisecond)
		defer delay.Stop()
		<-delay.C
		if i%5 != 0 {
			proxy.ServeHTTP(w, r)
			return
		}
		n.lost.Add(1)
		proxy.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func startTrio(t *testing.T, arguments ...string) *trio {
	t.Helper()
	var addrs []string
	for range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		addrs = append(addrs, listener.Addr().String())
	}
	s := &trio{t: t, network: &network{}, orderAt: "http://" + addrs[0], stockAt: "http://" + addrs[1], mailAt: "http://" + addrs[2]}
	arguments = append([]string{"-order-addr", addrs[0], "-stock-addr", addrs[1], "-notification-addr", addrs[2],
		"-order-url", s.network.before(t, addrs[0], true), "-stock-url", s.network.before(t, addrs[1], false), "-notification-url", s.network.before(t, addrs[2], false)}, arguments...)
	for name, p := range map[string]**processtest.Process{"stock": &s.stock, "notification": &s.mail, "order": &s.order} {
		*p = processtest.New(t, " is at http://", append(slices.Clone(arguments), "-service", name)...)
	}
	return s
}

func (s *trio) start() {
	s.t.Helper()
	s.stock.Start()
	s.mail.Start()
	s.order.Start()
}

// send sends a request and decodes the answer; status 0 is none.
func send(method, address string, in, out any) (status int) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			panic(err)
		}
	}
	r, err := http.NewRequest(method, address, &body)
	if err != nil {
		panic(err)
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{Timeout: 30 * time.Second}
	reply, err := client.Do(r)
	if err != nil {
		return 0
	}
	defer reply.Body.Close()
	if out != nil && json.NewDecoder(reply.Body).Decode(out) != nil {
		return 0
	}
	return reply.StatusCode
}

func (s *trio) put(sku string, available int) {
	s.t.Helper()
	if status := send(http.MethodPut, s.stockAt+"/stock/"+sku, map[string]int{"available": available}, nil); status != http.StatusOK {
		s.t.Fatalf("putting stock: %d", status)
	}
}

// place sends an order again and again until it is answered for good.
func (s *trio) place(o Order) (status int, reason string) {
	for {
		var answer struct{ Reason, Error string }
		status := send(http.MethodPost, s.orderAt+"/orders", o, &answer)
		if status == http.StatusAccepted {
			status = http.StatusCreated // decided: it will be placed
		}
		if status != 0 && status != http.StatusServiceUnavailable {
			return status, answer.Reason + answer.Error
		}
		pause := time.NewTimer(50 * time.Millisecond) // the service may be starting
		<-pause.C
		if s.t.Context().Err() != nil {
			return 0, ""
		}
	}
}

type level struct{ Available, Locked, Sold int64 }

// balanced waits until nothing is pending anywhere, and checks that each service
// has the orders that the callers were told are placed, and no others.
func (s *trio) balanced(put int64, statuses map[string]int) {
	s.t.Helper()
	placed := 0
	for _, status := range statuses {
		if status == http.StatusCreated {
			placed++
		}
	}
	want := fmt.Sprintf("sold %d, locked 0, placed %d, sent %d", placed, placed, placed)
	var got string
	var orders []Order
	limit := time.After(60 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var stock level
		var notifications []Notification
		orders = nil
		ok := send(http.MethodGet, s.stockAt+"/stock/phone", nil, &stock) == http.StatusOK &&
			send(http.MethodGet, s.orderAt+"/orders", nil, &orders) == http.StatusOK &&
			send(http.MethodGet, s.mailAt+"/notifications", nil, &notifications) == http.StatusOK
		count := map[string]int{}
		for _, o := range orders {
			count[o.State]++
		}
		for _, n := range notifications {
			count[n.State]++
		}
		got = fmt.Sprintf("sold %d, locked %d, placed %d, sent %d", stock.Sold, stock.Locked, count["placed"], count["sent"])
		if ok && got == want && count["pending"]+count["prepared"] == 0 && stock.Available+stock.Sold == put {
			break
		}
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("%s, pending %d, prepared %d, available %d; want %s", got, count["pending"], count["prepared"], stock.Available, want)
		}
	}
	for _, o := range orders {
		if (o.State == "placed") != (statuses[o.OrderID] == http.StatusCreated) {
			s.t.Errorf("%s is %s, and the caller was told %d", o.OrderID, o.State, statuses[o.OrderID])
		}
	}
}
