package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/tccsaga/tccsaga/examples/internal/processtest"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func TestMain(m *testing.M) { os.Exit(processtest.Run(m)) }

func startProcess(t *testing.T, arguments ...string) (*processtest.Process, client) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	p := processtest.New(t, "Stop with Ctrl-C", append([]string{"-addr", addr}, arguments...)...)
	p.Start()
	return p, client{t, "http://" + addr}
}

// placed is what the callers were told in the end.
type placed struct {
	mu       sync.Mutex
	statuses map[string]int
	answers  atomic.Int64
}

const (
	manyOrders = 2000
	callers    = 32
	pieces     = 5000
)

// number describes the i-th order: every seventh asks for too much.
func number(i int) (id string, quantity int) {
	if i%7 == 3 {
		return fmt.Sprintf("n-%d", i), pieces + 1
	}
	return fmt.Sprintf("n-%d", i), 1 + i%3
}

// place sends all orders from many callers, every fifth twice, and each again
// until there is an answer.
func (p *placed) place(c client) {
	p.statuses = map[string]int{}
	work := make(chan int)
	go func() {
		defer close(work)
		for i := range manyOrders {
			work <- i
			if i%5 == 0 {
				work <- i
			}
		}
	}()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range work {
				id, quantity := number(i)
				p.note(c.t, id, c.insist(id, quantity))
			}
		})
	}
	wg.Wait()
}

// insist sends an order again while the service is down or does not know.
func (c client) insist(id string, quantity int) int {
	body := fmt.Sprintf(`{"order_id":%q,"sku":"phone","quantity":%d}`, id, quantity)
	status := 0
	sagatest.Eventually(c.t, "an answer for "+id, func() bool {
		response, err := http.Post(c.base+"/orders", "application/json", strings.NewReader(body))
		if err != nil {
			return false
		}
		defer response.Body.Close()
		io.Copy(io.Discard, response.Body)
		if status = response.StatusCode; status == http.StatusAccepted {
			status = http.StatusCreated // decided: it will be placed
		}
		return status != http.StatusServiceUnavailable
	})
	return status
}

func (p *placed) note(t *testing.T, id string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before, known := p.statuses[id]; known && before != status {
		t.Errorf("%s: answered %d and then %d", id, before, status)
	}
	p.statuses[id] = status
	p.answers.Add(1)
}

// balance compares what the callers were told with stock and consumer.
func (p *placed) balance(c client) {
	sold, confirmed := 0, map[string]int{}
	for i := range manyOrders {
		id, quantity := number(i)
		switch status := p.statuses[id]; {
		case status == http.StatusCreated && quantity <= pieces:
			sold += quantity
			confirmed[id] = 1
		case status == http.StatusConflict && quantity > pieces:
		default:
			c.t.Errorf("%s: answered %d", id, status)
		}
	}
	handled := map[string]int{}
	sagatest.Eventually(c.t, "every confirmed order is handled", func() bool {
		clear(handled)
		for _, n := range c.notifications() {
			handled[n.OrderID]++
		}
		return len(handled) >= len(confirmed)
	})
	sagatest.Eventually(c.t, "nothing is locked any more", func() bool {
		_, level := c.call("GET", "/stock/phone", "")
		return fmt.Sprint(level["locked"]) == "0"
	})
	clear(handled)
	for _, n := range c.notifications() {
		handled[n.OrderID]++
	}
	if !maps.Equal(handled, confirmed) {
		c.t.Errorf("handled %d orders, confirmed %d, or one more than once", len(handled), len(confirmed))
	}
	c.stock(pieces-sold, 0, sold)
}

// The service's books balance on what it runs on by default and on servers.
func setups(t *testing.T, test func(t *testing.T, arguments []string)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, []string{"-data", t.TempDir()})
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		dsn, err := mysqldriver.ParseDSN(sqltest.Create(t, "mysql").DSN)
		if err != nil {
			t.Fatal(err)
		}
		location := url.URL{Scheme: "mysql", User: url.UserPassword(dsn.User, dsn.Passwd), Host: dsn.Addr, Path: "/" + dsn.DBName}
		test(t, []string{"-data", t.TempDir(), "-db", location.String(), "-nats", broker(t)})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, []string{"-data", t.TempDir(), "-db", sqltest.Create(t, "postgres").DSN, "-nats", broker(t)})
	})
}

// broker starts a NATS server that outlives the service.
func broker(t *testing.T) string {
	t.Helper()
	server, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT,
		NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	if !server.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server did not start")
	}
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	return server.ClientURL()
}

func TestManyOrdersFromManyCallers(t *testing.T) {
	setups(t, func(t *testing.T, arguments []string) {
		_, c := startProcess(t, arguments...)
		c.expect("PUT", "/stock/phone", fmt.Sprintf(`{"available":%d}`, pieces), 200, nil)
		var p placed
		p.place(c)
		p.balance(c)
	})
}

// The same with the process killed, and started again, ten times on the way.
func TestManyOrdersWithKills(t *testing.T) {
	setups(t, func(t *testing.T, arguments []string) {
		service, c := startProcess(t, arguments...)
		c.expect("PUT", "/stock/phone", fmt.Sprintf(`{"available":%d}`, pieces), 200, nil)
		var p placed
		placing := make(chan struct{})
		go func() {
			defer close(placing)
			p.place(c)
		}()
		const kills = 10
		for n := range kills {
			sagatest.Eventually(c.t, "some more answers", func() bool { return p.answers.Load() > int64(manyOrders*(n+1)/(kills+2)) })
			service.Kill()
			service.Start()
		}
		<-placing
		p.balance(c)
	})
}

// The process dies right after the decision, before the message is published;
// restarted, it finishes.
func TestDeathAfterTheDecision(t *testing.T) {
	t.Parallel()
	service, c := startProcess(t, "-data", t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	c.expect("POST", "/faults", `{"die_after_decision":true}`, 200, nil)
	_, err := http.Post(c.base+"/orders", "application/json", strings.NewReader(`{"order_id":"1","sku":"phone","quantity":1}`))
	if err == nil {
		t.Fatal("the process answered")
	}
	service.Wait()
	service.Start()
	c.stock(9, 0, 1) // the stock is confirmed in the decision's own commit
	c.notified("1")
	var answer Answer
	_, text := c.raw("POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`)
	if err := json.Unmarshal(text, &answer); err != nil || answer.Status != "confirmed" {
		t.Errorf("%s, %v", text, err)
	}
}
