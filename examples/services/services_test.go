package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/tccsaga/tccsaga/examples/internal/processtest"
	"github.com/tccsaga/tccsaga/saga/dtm/dtmtest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// databases are the three databases of a test: SQLite files, or one each on
// SQLite, MariaDB and PostgreSQL.
func databases(t *testing.T, dialect string) []string {
	if dialect == "sqlite" {
		return []string{"-data", t.TempDir()}
	}
	config, err := mysqldriver.ParseDSN(sqltest.Create(t, "mysql").DSN)
	if err != nil {
		t.Fatal(err)
	}
	location := url.URL{Scheme: "mysql", User: url.UserPassword(config.User, config.Passwd), Host: config.Addr, Path: "/" + config.DBName}
	return []string{"-data", t.TempDir(), "-order-db", location.String(), "-stock-db", sqltest.Create(t, "postgres").DSN}
}

func each(t *testing.T, test func(t *testing.T, arguments []string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, databases(t, "sqlite")) })
	t.Run("three servers", func(t *testing.T) { test(t, databases(t, "mixed")) })
}

func TestOrders(t *testing.T) {
	each(t, func(t *testing.T, arguments []string) {
		s := startTrio(t, arguments...)
		s.start()
		tour(t, s)
	})
}

// tour is what the README shows.
func tour(t *testing.T, s *trio) {
	s.put("phone", 10)
	statuses := map[string]int{}
	for _, c := range []struct {
		order  Order
		status int
		says   string
	}{
		{Order{OrderID: "1001", SKU: "phone", Quantity: 1, Email: "ann@example.com"}, 201, ""},
		{Order{OrderID: "1001", SKU: "phone", Quantity: 1, Email: "ann@example.com"}, 201, ""},
		{Order{OrderID: "1001", SKU: "phone", Quantity: 2, Email: "ann@example.com"}, 409, "sent before"},
		{Order{OrderID: "1002", SKU: "phone", Quantity: 99, Email: "ann@example.com"}, 409, "phone"},
		{Order{OrderID: "1003", SKU: "phone", Quantity: 1, Email: "none"}, 409, "no e-mail address"},
		{Order{OrderID: "1004", SKU: "dog", Quantity: 1, Email: "ann@example.com"}, 409, "dog"},
		{Order{OrderID: "a b", SKU: "phone", Quantity: 1}, 400, "order_id"},
	} {
		status, reason := s.place(c.order)
		if status != c.status || !strings.Contains(reason, c.says) {
			t.Errorf("%+v: %d %s, want %d with %q", c.order, status, reason, c.status, c.says)
		}
		if c.order.OrderID == "1001" && statuses["1001"] == 0 || c.order.OrderID != "1001" {
			statuses[c.order.OrderID] = status
		}
	}
	s.balanced(10, statuses)
	var found struct {
		State    string
		Branches []struct{ Kind string }
	}
	if status := send(http.MethodGet, s.orderAt+"/transactions/order-1001", nil, &found); status != 200 || found.State != "confirmed" || len(found.Branches) != 3 {
		t.Errorf("the transaction: %d %+v", status, found)
	}
	var rows []struct{ State string }
	if status := send(http.MethodGet, s.stockAt+"/barrier/order-1001", nil, &rows); status != 200 || len(rows) != 1 || rows[0].State != "confirmed" {
		t.Errorf("the barrier: %d %+v", status, rows)
	}
}

// The same orders, driven by a DTM server.
func TestOrdersOnDTM(t *testing.T) {
	each(t, func(t *testing.T, arguments []string) {
		s := startTrio(t, append(arguments, "-engine", "dtm", "-dtm", dtmtest.Start(t).URL)...)
		s.start()
		tour(t, s)
	})
}

func TestKilledUnderLoadOnDTM(t *testing.T) {
	s := startTrio(t, append(databases(t, "sqlite"), "-engine", "dtm", "-dtm", dtmtest.Start(t).URL)...)
	storm(t, s, 60)
}

// A service is down when it is to be tried.
func TestServiceDownInTheMiddle(t *testing.T) {
	s := startTrio(t, databases(t, "sqlite")...)
	s.start()
	s.put("phone", 10)
	s.mail.Kill()
	if status, reason := s.place(Order{OrderID: "1", SKU: "phone", Quantity: 1, Email: "a@b"}); status != 409 {
		t.Errorf("with no notification service: %d %s", status, reason)
	}
	s.mail.Start()
	if status, reason := s.place(Order{OrderID: "2", SKU: "phone", Quantity: 1, Email: "a@b"}); status != 201 {
		t.Errorf("with the service back: %d %s", status, reason)
	}
	s.balanced(10, map[string]int{"1": 409, "2": 201})
}

// The order service decides, and then its calls do not reach the other services. They ask it,
// and end their branches.
func TestServicesAskForTheOutcome(t *testing.T) {
	each(t, func(t *testing.T, arguments []string) {
		s := startTrio(t, append(arguments, "-ask-after", "200ms")...)
		s.network.toOrder.Store(true)
		s.start()
		s.put("phone", 10)
		s.network.left.Store(2) // the two Trys
		s.network.ends.Store(true)
		order := Order{OrderID: "1", SKU: "phone", Quantity: 1, Email: "ann@example.com"}
		if status := send(http.MethodPost, s.orderAt+"/orders", order, nil); status != 202 {
			t.Fatalf("an order whose Confirms do not arrive: %d", status)
		}
		s.balanced(10, map[string]int{"1": 201}) // in the stock and the notification service
		var found struct{ State string }
		if status := send(http.MethodGet, s.orderAt+"/transactions/order-1", nil, &found); status != 200 || found.State != "confirming" {
			t.Errorf("%d %+v", status, found)
		}
		s.network.ends.Store(false)
		if status, reason := s.place(order); status != 201 {
			t.Errorf("%d %s", status, reason)
		}
	})
}

// All three are killed at random while orders are placed over a network that
// delays requests and loses replies.
func TestKilledUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, arguments []string) { storm(t, startTrio(t, arguments...), 120) })
}

// storm places orders while every service is killed in turn.
func storm(t *testing.T, s *trio, n int) {
	s.start()
	s.put("phone", 100)
	s.network.bad.Store(true)
	var mu sync.Mutex
	statuses := map[string]int{}
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for k := i; k < n; k += 8 {
				o := Order{OrderID: fmt.Sprint(k), SKU: "phone", Quantity: 1, Email: "a@b"}
				if k%10 == 9 {
					o.Email = "none"
				}
				status, _ := s.place(o)
				mu.Lock()
				statuses[o.OrderID] = status
				mu.Unlock()
			}
		})
	}
	placed := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(statuses)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i, p := range []*processtest.Process{s.stock, s.order, s.mail, s.order, s.stock, s.mail} {
		for placed() < (i+1)*n/8 && t.Context().Err() == nil {
			<-tick.C
		}
		p.Kill()
		p.Start()
	}
	callers.Wait()
	s.network.bad.Store(false)
	if s.network.lost.Load() == 0 {
		t.Error("the network lost nothing")
	}
	counts := map[int]int{}
	for _, status := range statuses {
		counts[status]++
	}
	t.Logf("answers %v, %d replies lost", counts, s.network.lost.Load())
	if !slices.Equal(slices.Sorted(maps.Keys(counts)), []int{201, 409}) {
		t.Errorf("answers %v", counts)
	}
	s.balanced(100, statuses)
}
