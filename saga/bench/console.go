//go:build !without_console

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/embedded"
)

func init() { consoleExperiment = (*Suite).console }

// console measures what the pages of the console read in a large log, and what a console that
// refreshes itself costs the engine.
func (s *Suite) console(ctx context.Context) error {
	for _, database := range []string{"mysql", "postgres"} {
		if s.Database != "" && s.Database != database {
			continue
		}
		if err := s.consoleOn(ctx, database); err != nil {
			return fmt.Errorf("%s: %w", database, err)
		}
	}
	return nil
}

func (s *Suite) consoleOn(ctx context.Context, database string) error {
	db, err := openDatabase(ctx, database)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := (history{s.Finished, s.Failing}).fill(ctx, db); err != nil {
		return err
	}
	if !s.Short {
		fmt.Fprintf(os.Stderr, "console   %-9s filled in %s\n", database, time.Since(began).Round(time.Second))
	}
	e, err := newEmbedded(ctx, "tccsaga", db)
	if err != nil {
		return err
	}
	err = func() error {
		ops := e.orch.Operations()
		if err := s.ask(ctx, database, ops); err != nil {
			return err
		}
		return s.refresh(ctx, e, ops)
	}()
	if closed := e.Close(); err == nil {
		err = closed
	}
	return err
}

// reading is a question of a page.
type reading struct {
	page, name string
	ask        func(ctx context.Context, ops *embedded.Operations) (rows int, err error)
	times      int // how often ask reads; 0 is once
}

// homeReadings are those of the home, and of the list as it is at first.
var homeReadings = []reading{
	{page: "home", name: "Overview", ask: func(ctx context.Context, ops *embedded.Operations) (int, error) {
		_, err := ops.Overview(ctx)
		return 1, err
	}},
	{page: "home", name: "Activity, an hour in 60 parts", ask: func(ctx context.Context, ops *embedded.Operations) (int, error) {
		all, err := ops.Activity(ctx, time.Now(), time.Minute, 60)
		return len(all), err
	}},
	{page: "list", name: "unfinished", ask: find(saga.Query{Unfinished: true}, 1)},
	{page: "list", name: "unfinished, counted", ask: count(saga.Query{Unfinished: true})},
}

func find(q saga.Query, pages int) func(context.Context, *embedded.Operations) (int, error) {
	return func(ctx context.Context, ops *embedded.Operations) (rows int, err error) {
		for q, page := q, 0; page < pages; page++ {
			found, err := ops.Find(ctx, q)
			if err != nil {
				return 0, err
			}
			rows = len(found.Transactions)
			if q.After = found.Next; q.After == "" {
				break
			}
		}
		return rows, nil
	}
}

func count(q saga.Query) func(context.Context, *embedded.Operations) (int, error) {
	return func(ctx context.Context, ops *embedded.Operations) (int, error) {
		n, err := ops.Count(ctx, q)
		return n.N, err
	}
}

// readings are all of them.
func readings(s *Suite) []reading {
	month := time.Duration(s.Finished) * 500 * time.Millisecond // the age of the oldest
	all := slices.Clone(homeReadings)
	for _, q := range []struct {
		name string
		saga.Query
	}{
		{"all, newest first", saga.Query{}},
		{"all, oldest first", saga.Query{OldestFirst: true}},
		{"unfinished, oldest first", saga.Query{Unfinished: true, OldestFirst: true}},
		{"attention", saga.Query{Attention: true}},
		{"attention, oldest first", saga.Query{Attention: true, OldestFirst: true}},
		{"paused", saga.Query{Paused: true}},
		{"state trying", saga.Query{States: []saga.State{saga.Trying}}},
		{"state cancelled", saga.Query{States: []saga.State{saga.Cancelled}}},
		{"gid prefix of one", saga.Query{Prefix: "order-100004711"}},
		{"gid prefix of millions", saga.Query{Prefix: "order-10"}},
		{"gid prefix of millions, and attention", saga.Query{Prefix: "order-10", Attention: true}},
		{"gid prefix of nothing", saga.Query{Prefix: "nothing-"}},
		{"label of one", saga.Query{Label: "order", Value: "1000500"}},
		{"label of many", saga.Query{Label: "customer", Value: "customer-500"}},
		{"value of any label", saga.Query{Value: "customer-500"}},
		{"value of no label", saga.Query{Value: "nobody"}},
		{"text in errors, frequent, unfinished", saga.Query{Unfinished: true, Text: "connection refused"}},
		{"text in errors, rare, unfinished", saga.Query{Unfinished: true, Text: "certificate"}},
		{"text in errors, frequent", saga.Query{Text: "connection refused"}},
		{"text in reasons", saga.Query{Text: "not enough"}},
		{"text of nothing", saga.Query{Text: "no such text"}},
		{"kind of all", saga.Query{Kind: "bench.lock"}},
		{"kind of few, unfinished", saga.Query{Kind: "bench.pay", Unfinished: true}},
		{"kind of nothing", saga.Query{Kind: "nothing"}},
		{"owner", saga.Query{Owner: "instance-7"}},
		{"owner of nothing", saga.Query{Owner: "nobody"}},
		{"pattern of nothing", saga.Query{Pattern: "saga"}},
		{"older than a half of all", saga.Query{CreatedBefore: time.Now().Add(-month / 2)}},
		{"unfinished, older than an hour", saga.Query{Unfinished: true, CreatedBefore: time.Now().Add(-time.Hour), OldestFirst: true}},
		{"cancelled, an hour a week ago", saga.Query{States: []saga.State{saga.Cancelled}, CreatedAfter: time.Now().Add(-169 * time.Hour), CreatedBefore: time.Now().Add(-168 * time.Hour)}},
	} {
		all = append(all, reading{page: "list", name: q.name, ask: find(q.Query, 1)})
		if q.Prefix != "" || q.Value != "" || q.Text != "" || q.Kind != "" || q.Attention {
			all = append(all, reading{page: "list", name: q.name + ", counted", ask: count(q.Query)})
		}
	}
	return append(all,
		reading{page: "list", name: "all, each of 10 pages", ask: find(saga.Query{}, 10), times: 10},
		reading{page: "list", name: "text of nothing, each of 10 pages", ask: find(saga.Query{Text: "no such text"}, 10), times: 10},
		reading{page: "list", name: "unfinished, each of 10 pages", ask: find(saga.Query{Unfinished: true}, 10), times: 10},
		reading{page: "list", name: "a page of 1,000", ask: find(saga.Query{Limit: 1_000}, 1)},
		reading{page: "transaction", name: "Lookup, finished", ask: look("order-100004711")},
		reading{page: "transaction", name: "Lookup, failing", ask: look("failing-100004711")},
		reading{page: "kinds", name: "Kinds", ask: func(ctx context.Context, ops *embedded.Operations) (int, error) {
			kinds, err := ops.Kinds(ctx)
			return len(kinds), err
		}},
		reading{page: "instances", name: "Instances", ask: func(ctx context.Context, ops *embedded.Operations) (int, error) {
			instances, err := ops.Instances(ctx)
			return len(instances), err
		}},
		reading{page: "audit log", name: "Actions", ask: act(saga.ActionQuery{})},
		reading{page: "audit log", name: "Actions of one operator", ask: act(saga.ActionQuery{Who: "operator-1"})},
		reading{page: "audit log", name: "Actions of nobody", ask: act(saga.ActionQuery{Who: "nobody"})},
		reading{page: "audit log", name: "Actions on a transaction", ask: act(saga.ActionQuery{GID: "failing-100004711"})},
	)
}

func look(gid string) func(context.Context, *embedded.Operations) (int, error) {
	return func(ctx context.Context, ops *embedded.Operations) (int, error) {
		t, err := ops.Lookup(ctx, gid)
		if err != nil {
			return 0, err
		}
		return 1 + len(t.Branches), nil
	}
}

func act(q saga.ActionQuery) func(context.Context, *embedded.Operations) (int, error) {
	return func(ctx context.Context, ops *embedded.Operations) (int, error) {
		page, err := ops.Actions(ctx, q)
		return len(page.Actions), err
	}
}

// ask times each reading.
func (s *Suite) ask(ctx context.Context, database string, ops *embedded.Operations) error {
	times := 21
	if s.Short {
		times = 5
	}
	for _, r := range readings(s) {
		q := Question{Database: database, Page: r.page, Name: r.name}
		for range times {
			began := time.Now()
			rows, err := r.ask(ctx, ops)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", r.page, r.name, err)
			}
			q.Took, q.Rows = append(q.Took, time.Since(began)/time.Duration(max(r.times, 1))), rows
		}
		s.questions = append(s.questions, q)
		if !s.Short {
			fmt.Fprintf(os.Stderr, "console   %-9s %-12s %-45s %5d rows  median %9s  max %9s\n", database, q.Page, q.Name, q.Rows, took(middle(q.Took, same), 10*time.Microsecond), took(slices.Max(q.Took), 10*time.Microsecond))
		}
	}
	return nil
}

// refresh places orders all the time. In turns, a console that refreshes its home and its list
// each second is there or not.
func (s *Suite) refresh(ctx context.Context, e *Embedded, ops *embedded.Operations) error {
	pairs, window := 15, 2*time.Second
	if s.Short {
		pairs, window = 3, time.Second
	}
	pages, err := console.New(ops, console.Config{Authorize: func(*http.Request, console.Verb) (string, error) { return "ann", nil }})
	if err != nil {
		return err
	}
	defer pages.Close()
	cost, err := s.costOf(ctx, e, pages)
	if err != nil {
		return err
	}
	found := Refreshing{Database: e.db.dialect, CPU: cost}
	placing, stop := context.WithCancel(ctx)
	defer stop()
	failures := make(chan error, 64)
	var placed atomic.Int64
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for placing.Err() == nil {
				n := orders.Add(1)
				if err := e.Place(ctx, Order{ID: fmt.Sprintf("o-%d", n), SKU: spread(n)}); err != nil {
					failures <- err
					return
				}
				placed.Add(1)
			}
		})
	}
	time.Sleep(window) // until connections are open
	for i := range pairs {
		var pair [2]float64
		for k := range 2 {
			with := (i + k) % 2
			began, before := time.Now(), placed.Load()
			for next := began; next.Before(began.Add(window)); {
				if with == 1 {
					if err := refreshOnce(ctx, pages); err != nil {
						return err
					}
				}
				next = next.Add(time.Second)
				time.Sleep(time.Until(next))
			}
			pair[with] = float64(placed.Load()-before) / time.Since(began).Seconds()
		}
		found.Pairs = append(found.Pairs, pair)
		if !s.Short {
			fmt.Fprintf(os.Stderr, "console   %-9s %7.0f/s without a console, %.0f/s with one\n", found.Database, pair[0], pair[1])
		}
	}
	stop()
	callers.Wait()
	s.refreshing = append(s.refreshing, found)
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}

// refreshOnce gets the home and the list from the console, as a browser does.
func refreshOnce(ctx context.Context, pages http.Handler) error {
	for _, path := range []string{"/console/", "/console/transactions?unfinished=1"} {
		answer := httptest.NewRecorder()
		pages.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
		if answer.Code != http.StatusOK {
			return fmt.Errorf("%s: status %d: %.300s", path, answer.Code, answer.Body)
		}
	}
	return nil
}

// costOf returns how much time of the processors a refresh takes, if there is one each second
// and the engine has nothing to do.
func (s *Suite) costOf(ctx context.Context, e *Embedded, pages http.Handler) (time.Duration, error) {
	seconds := 10
	if s.Short {
		seconds = 3
	}
	var used [2]time.Duration // without and with the refreshes
	for with := range used {
		before, err := e.db.counters()
		if err != nil {
			return 0, err
		}
		client := clientCPU()
		for range seconds {
			if with == 1 {
				if err := refreshOnce(ctx, pages); err != nil {
					return 0, err
				}
			}
			time.Sleep(time.Second)
		}
		client = clientCPU() - client
		after, err := e.db.counters()
		if err != nil {
			return 0, err
		}
		used[with] = after.CPU - before.CPU + client
	}
	return max(0, used[1]-used[0]) / time.Duration(seconds), nil
}
