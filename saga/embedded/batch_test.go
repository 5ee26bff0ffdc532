package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// take is what the branches of these tests are called with: pieces of a pot,
// and what is to go wrong.
type take struct {
	Pot   int
	N     int
	Fault string
}

// pots are branches that hold pieces of pots: "bulk", "plain", and "sent",
// which acts outside before its Confirm.
type pots struct {
	t      *testing.T
	db     *gorm.DB
	orch   *embedded.Engine
	sizes  sync.Map // by operation and kind: of the largest joint call
	faulty atomic.Bool
}

const potCount = 20

func newPots(t *testing.T, db *gorm.DB, config embedded.Config) *pots {
	t.Helper()
	p := idlePots(t, db, config)
	ended := make(chan error, 1)
	go func() { ended <- p.orch.Run(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(p.orch.Stop(ctx), <-ended); err != nil {
			t.Error(err)
		}
	})
	return p
}

// idlePots does nothing in the background.
func idlePots(t *testing.T, db *gorm.DB, config embedded.Config) *pots {
	t.Helper()
	p := &pots{t: t, db: db}
	p.faulty.Store(true)
	ok(db.Exec("CREATE TABLE pots (id INT PRIMARY KEY, free INT NOT NULL, held INT NOT NULL, sold INT NOT NULL)").Error)
	for id := range potCount {
		ok(db.Exec("INSERT INTO pots VALUES (?, 1000, 0, 0)", id).Error)
	}
	config.Logger = slog.New(slog.DiscardHandler)
	config.MinBackoff, config.MaxBackoff, config.Poll = 5*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	p.orch = p.open(config)
	return p
}

func (p *pots) open(config embedded.Config) *embedded.Engine {
	return p.openWith(config, func(*spec) {})
}

// openWith opens an engine whose branches are changed.
func (p *pots) openWith(config embedded.Config, change func(*spec)) *embedded.Engine {
	orch, err := embedded.Open(p.t.Context(), p.db, config)
	ok(err)
	encode := func(input any) ([]byte, error) { return json.Marshal(input) }
	plain := spec{Kind: "plain", Database: p.db, Encode: encode, Work: p.inside}
	bulk := plain
	bulk.Kind, bulk.WorkBatch = "bulk", p.together
	sent := plain
	sent.Kind = "sent"
	sent.Effects = map[barrier.Op]saga.Effect{
		barrier.Confirm: func(_ context.Context, call saga.Call) (any, error) { return call.GID, p.fails(call, "send") },
	}
	sent.EffectBatches = map[barrier.Op]saga.EffectBatch{barrier.Confirm: p.send}
	for _, b := range []spec{plain, bulk, sent} {
		change(&b)
		ok(register(orch, b))
	}
	return orch
}

func (p *pots) plan(gid string, t take, kinds ...string) saga.Plan {
	plan := saga.Plan{GID: gid, Pattern: "test"}
	for _, kind := range kinds {
		plan.Steps = append(plan.Steps, saga.Step{Kind: kind, Input: t})
	}
	return plan
}

func (p *pots) execute(gid string, t take, kinds ...string) (saga.Outcome, error) {
	return p.orch.Execute(p.t.Context(), p.plan(gid, t, kinds...))
}

func (p *pots) fails(call saga.Call, how string) error {
	var t take
	ok(json.Unmarshal(call.Payload, &t))
	if p.faulty.Load() && t.Fault == call.Kind+" "+how {
		return errors.New("on purpose: " + t.Fault)
	}
	return nil
}

func (p *pots) inside(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	var t take
	ok(json.Unmarshal(call.Payload, &t))
	err := errors.Join(p.fails(call, string(call.Op)), p.move(tx, call.Op, t))
	if call.Kind == "sent" && call.Op == barrier.Confirm && call.Receipt != call.GID {
		p.t.Errorf("%s has the receipt %v", call.GID, call.Receipt)
	}
	switch {
	case call.Op != barrier.Try:
	case p.fails(call, "panic") != nil:
		panic("on purpose")
	case p.fails(call, "slow") != nil:
		timer := time.NewTimer(200 * time.Millisecond) // it is the subject of the test
		defer timer.Stop()
		<-timer.C
	case p.fails(call, "sql") != nil:
		return tx.Exec("INSERT INTO pots VALUES (1, 1, 1, 1)").Error
	case p.fails(call, "swallow") != nil:
		tx.Exec("INSERT INTO pots VALUES (1, 1, 1, 1)")
	}
	return err
}

func (p *pots) move(tx *gorm.DB, op barrier.Op, t take) error {
	columns := map[barrier.Op][2]string{barrier.Try: {"free", "held"}, barrier.Confirm: {"held", "sold"}, barrier.Cancel: {"held", "free"}}[op]
	query := strings.NewReplacer("FROM", columns[0], "TO", columns[1]).Replace("UPDATE pots SET FROM = FROM - ?, TO = TO + ? WHERE id = ? AND FROM >= ?")
	result := tx.Exec(query, t.N, t.N, t.Pot, t.N)
	if result.Error == nil && result.RowsAffected == 0 {
		return fmt.Errorf("pot %d has no %d %s", t.Pot, t.N, columns[0])
	}
	return result.Error
}

func (p *pots) together(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
	key := call{string(op), calls[0].Kind}
	if most, _ := p.sizes.Load(key); most == nil || most.(int) < len(calls) {
		p.sizes.Store(key, len(calls))
	}
	failures := make([]error, len(calls))
	for i, c := range calls {
		var t take
		ok(json.Unmarshal(c.Payload, &t))
		if failures[i] = p.fails(c.Call, string(op)); failures[i] != nil {
			continue
		}
		if p.fails(c.Call, "panic") != nil {
			panic("on purpose")
		}
		if failures[i] = p.move(tx, op, t); failures[i] != nil && !strings.Contains(failures[i].Error(), "has no") {
			return nil, failures[i]
		}
	}
	return failures, nil
}

func (p *pots) send(_ context.Context, calls []saga.BatchCall) (receipts []any, failures []error) {
	p.sizes.Store(call{"send", calls[0].Kind}, len(calls))
	if p.fails(calls[0].Call, "forget") != nil {
		return nil, nil
	}
	for _, c := range calls {
		receipts, failures = append(receipts, c.GID), append(failures, p.fails(c.Call, "send"))
	}
	return receipts, failures
}

type call struct{ op, kind string }

// executeBatch executes n transactions on as many pots, in one batch; those whose
// number is in the list have the fault.
func (p *pots) executeBatch(name string, n int, fault string, faulty []int, kinds ...string) (outcomes []saga.Outcome, errs []error) {
	p.orch.GatherDecisions(p.plan("x", take{}, kinds...), n)
	outcomes, errs = make([]saga.Outcome, n), make([]error, n)
	var callers sync.WaitGroup
	for i := range n {
		what := take{Pot: i, N: 1}
		if slices.Contains(faulty, i) {
			what.Fault = fault
		}
		callers.Go(func() { outcomes[i], errs[i] = p.execute(fmt.Sprintf("%s-%02d", name, i), what, kinds...) })
	}
	callers.Wait()
	return outcomes, errs
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-limit:
			t.Fatalf("never came: %s", what)
		case <-tick.C:
		}
	}
}

func (p *pots) books(pot, free, held, sold int) {
	p.t.Helper()
	var row struct{ Free, Held, Sold int }
	ok(p.db.Raw("SELECT free, held, sold FROM pots WHERE id = ?", pot).Scan(&row).Error)
	if row.Free != free || row.Held != held || row.Sold != sold {
		p.t.Errorf("pot %d: %d free, %d held, %d sold; want %d, %d, %d", pot, row.Free, row.Held, row.Sold, free, held, sold)
	}
}

// A failing call in a shared commit hurts no other, and is told as if it had
// been alone.
func TestAFailureInCompany(t *testing.T) {
	const n = 10
	cases := []struct {
		fault  string // kind and where
		kinds  []string
		state  saga.State // of those with the fault
		reason string
	}{
		{"", []string{"bulk", "plain"}, saga.Confirmed, ""},
		{"", []string{"plain"}, saga.Confirmed, ""},
		{"bulk try", []string{"bulk", "plain"}, saga.Cancelled, "bulk: on purpose: bulk try"},
		{"bulk try", []string{"plain", "bulk"}, saga.Cancelled, "bulk: on purpose: bulk try"},
		{"plain try", []string{"bulk", "plain"}, saga.Cancelled, "plain: on purpose: plain try"},
		{"plain try", []string{"plain", "bulk"}, saga.Cancelled, "plain: on purpose: plain try"},
		{"plain panic", []string{"bulk", "plain"}, saga.Cancelled, "plain: panic: on purpose"},
		{"plain sql", []string{"plain", "bulk"}, saga.Cancelled, "plain: "},
		{"bulk confirm", []string{"bulk", "plain"}, saga.Confirming, ""},
		{"plain confirm", []string{"bulk", "plain"}, saga.Confirming, ""},
		{"plain confirm", []string{"bulk", "plain", "sent"}, saga.Confirming, ""},
		{"sent send", []string{"bulk", "sent"}, saga.Confirming, ""},
		{"sent confirm", []string{"bulk", "sent"}, saga.Confirming, ""},
	}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPots(t, db, embedded.Config{})
		sold := 0
		for at, c := range cases {
			for _, faulty := range [][]int{{0}, {4}, {n - 1}, {1, 2, 7}} {
				p.faulty.Store(true)
				name := fmt.Sprintf("%d %s of %v in %v", at, c.fault, faulty, c.kinds)
				outcomes, errs := p.executeBatch(strings.NewReplacer(" ", "-", "[", "", "]", "").Replace(name), n, c.fault, faulty, c.kinds...)
				p.faulty.Store(false)
				sold += len(c.kinds)
				for i, o := range outcomes {
					want := saga.Confirmed
					if slices.Contains(faulty, i) {
						want = c.state
					}
					if o.State != want || errors.Is(errs[i], saga.ErrCancelled) != (want == saga.Cancelled) || (errs[i] != nil) != (want == saga.Cancelled) {
						t.Errorf("%s: number %d is %q, %v; want %q", name, i, o.State, errs[i], want)
					}
					if want == saga.Cancelled {
						if o.Reason != c.reason && !(strings.HasSuffix(c.reason, ": ") && strings.HasPrefix(o.Reason, c.reason)) {
							t.Errorf("%s: the reason of number %d is %q, want %q", name, i, o.Reason, c.reason)
						}
						ok(db.Exec("UPDATE pots SET sold = sold + ?, free = free - ? WHERE id = ?", len(c.kinds), len(c.kinds), i).Error) // for the sum below
					}
					eventually(t, name+" ends", func() bool {
						found, err := p.orch.Lookup(t.Context(), o.GID)
						ok(err)
						return found.State.Finished()
					})
					p.books(i, 1000-sold, 0, sold)
				}
			}
		}
		for _, op := range []string{"try", "confirm"} {
			if most, _ := p.sizes.Load(call{op, "bulk"}); most != n {
				t.Errorf("the largest joint %s has %v calls, want %d", op, most, n)
			}
		}
	})
}

// On PostgreSQL a failed statement that its branch keeps to itself spoils the
// local transaction for those after it. They are not blamed for it.
func TestASwallowedErrorInCompany(t *testing.T) {
	t.Parallel()
	p := newPots(t, sqltest.Open(t, "postgres"), embedded.Config{})
	outcomes, errs := p.executeBatch("swallow", 10, "plain swallow", []int{3, 9}, "bulk", "plain")
	for i, o := range outcomes {
		want := saga.Confirmed
		if i == 3 || i == 9 {
			want = saga.Cancelled
		}
		if o.State != want {
			t.Errorf("number %d is %q, %v", i, o.State, errs[i])
		}
	}
}

// What was rejected for want of stock that another one of the batch has taken
// rests on what is committed.
func TestLastPiecesInCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, kind := range []string{"bulk", "plain"} {
			t.Run(kind, func(t *testing.T) {
				db := sqltest.Open(t, db.Name())
				p := newPots(t, db, embedded.Config{})
				ok(db.Exec("UPDATE pots SET free = 3 WHERE id = 1").Error)
				p.orch.GatherDecisions(p.plan("x", take{}, kind, "plain"), 10)
				var confirmed, short atomic.Int64
				var callers sync.WaitGroup
				for i := range 10 {
					callers.Go(func() {
						plan := p.plan(fmt.Sprintf("last-%d", i), take{Pot: 1, N: 1}, kind, "plain")
						plan.Steps[1].Input = take{Pot: 2, N: 1}
						outcome, err := p.orch.Execute(t.Context(), plan)
						switch {
						case err == nil && outcome.State == saga.Confirmed:
							confirmed.Add(1)
						case outcome.State == saga.Cancelled && strings.Contains(outcome.Reason, "pot 1 has no 1 free"):
							short.Add(1)
						default:
							t.Errorf("%+v, %v", outcome, err)
						}
					})
				}
				callers.Wait()
				if confirmed.Load() != 3 || short.Load() != 7 {
					t.Errorf("%d confirmed, %d short", confirmed.Load(), short.Load())
				}
				p.books(1, 0, 0, 3)
				p.books(2, 997, 0, 3)
			})
		}
	})
}

// One of a batch uses a gid that was used before, by another instance.
func TestAUsedGIDInCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPots(t, db, embedded.Config{})
		other := p.open(embedded.Config{Logger: slog.New(slog.DiscardHandler)})
		_, err := other.Execute(t.Context(), p.plan("used-03", take{Pot: 3, N: 1}, "bulk"))
		ok(err)
		_, err = other.Execute(t.Context(), p.plan("used-05", take{Pot: 3, N: 7}, "bulk"))
		ok(err)
		outcomes, errs := p.executeBatch("used", 10, "", nil, "bulk")
		for i, o := range outcomes {
			if i == 5 {
				if !errors.Is(errs[i], saga.ErrMismatch) {
					t.Errorf("another plan with the same gid: %v", errs[i])
				}
				continue
			}
			if o.State != saga.Confirmed || errs[i] != nil {
				t.Errorf("number %d: %+v, %v", i, o, errs[i])
			}
		}
		p.books(3, 992, 0, 8)
		p.books(5, 1000, 0, 0)
		p.books(6, 999, 0, 1)
	})
}

// A caller who goes away while the batch gathers leaves nothing behind.
func TestACallerLeavesTheCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPots(t, db, embedded.Config{})
		p.orch.GatherDecisions(p.plan("x", take{}, "bulk"), 3)
		leaving, leave := context.WithCancel(t.Context())
		gone := make(chan error, 2)
		for _, i := range []int{1, 2} {
			go func() {
				_, err := p.orch.Execute(leaving, p.plan(fmt.Sprintf("gone-%d", i), take{Pot: i, N: 1}, "bulk"))
				gone <- err
			}()
		}
		eventually(t, "both wait for the batch", func() bool { return p.orch.WaitingDecisions(p.plan("x", take{}, "bulk")) == 2 })
		leave()
		outcome, err := p.execute("stays", take{Pot: 3, N: 1}, "bulk")
		if err != nil || outcome.State != saga.Confirmed {
			t.Errorf("who stays: %+v, %v", outcome, err)
		}
		for range 2 {
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("who leaves: %v", err)
			}
		}
		p.books(1, 1000, 0, 0)
		p.books(2, 1000, 0, 0)
		p.books(3, 999, 0, 1)
	})
}

// Somebody holds a lock that one of the batch needs. The others do not wait for
// it, and for a while everybody goes alone. The connections go back to the pool
// as they were.
func TestALockedRowInCompany(t *testing.T) {
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			for _, kind := range []string{"bulk", "plain"} {
				t.Run(kind, func(t *testing.T) {
					p := newPots(t, sqltest.Open(t, dialect), embedded.Config{CallTimeout: time.Hour, Timeout: time.Hour})
					holder := p.db.Begin()
					defer holder.Rollback()
					ok(holder.Exec("UPDATE pots SET free = free - 1 WHERE id = 4").Error)
					plan := p.plan("x", take{}, kind)
					p.orch.GatherDecisions(plan, 10)
					var others, stuck sync.WaitGroup
					for i := range 10 {
						group := &others
						if i == 4 {
							group = &stuck
						}
						group.Go(func() {
							outcome, err := p.execute(fmt.Sprintf("locked-%d", i), take{Pot: i, N: 1}, kind)
							if err != nil || outcome.State != saga.Confirmed {
								t.Errorf("number %d: %+v, %v", i, outcome, err)
							}
						})
					}
					others.Wait()
					if p.orch.Shares(plan) {
						t.Error("commits are still shared")
					}
					ok(holder.Commit().Error)
					stuck.Wait()
					for i := range 10 {
						if i != 4 {
							p.books(i, 999, 0, 1)
						}
					}
					p.books(4, 998, 0, 1)
					ok(unlimited(p.db))
				})
			}
			ok(unlimited(db))
		})
	}
}

// unlimited checks every connection of the pool.
func unlimited(db *gorm.DB) error {
	query, want := "SELECT CAST(@@innodb_lock_wait_timeout = @@global.innodb_lock_wait_timeout AS CHAR)", "1"
	if db.Name() == "postgres" {
		query, want = "SHOW lock_timeout", "0"
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	var errs []error
	for range pool.Stats().OpenConnections {
		conn, err := pool.Conn(context.Background())
		if err != nil {
			return err
		}
		defer conn.Close()
		var got string
		if err := conn.QueryRowContext(context.Background(), query).Scan(&got); err != nil || got != want {
			errs = append(errs, fmt.Errorf("a connection has the limit %q: %v", got, err))
		}
	}
	return errors.Join(errs...)
}

// Confirms that fail in a shared last commit are each made alone.
func TestArrivalsInCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPots(t, db, embedded.Config{})
		p.orch.GatherFinishes(p.plan("x", take{}, "bulk", "sent"), 10)
		var callers sync.WaitGroup
		for i := range 10 {
			callers.Go(func() {
				what := take{Pot: i, N: 1}
				if i == 4 {
					what.Fault = "sent confirm"
				}
				want := map[bool]saga.State{false: saga.Confirmed, true: saga.Confirming}[i == 4]
				outcome, err := p.execute(fmt.Sprintf("finish-%d", i), what, "bulk", "sent")
				if err != nil || outcome.State != want {
					t.Errorf("number %d: %+v, %v", i, outcome, err)
				}
			})
		}
		callers.Wait()
		for i := range 10 {
			if i == 4 {
				p.books(i, 998, 1, 1)
			} else {
				p.books(i, 998, 0, 2)
			}
		}
		p.faulty.Store(false)
		eventually(t, "the last is confirmed", func() bool {
			found, err := p.orch.Lookup(t.Context(), "finish-4")
			ok(err)
			return found.State == saga.Confirmed
		})
		p.books(4, 998, 0, 2)
	})
}

// What is delivered together and fails hurts no other, and each has its own
// receipt.
func TestDeliveriesInCompany(t *testing.T) {
	t.Parallel()
	p := newPots(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	deliver := func(name, fault string, faulty ...int) {
		p.orch.GatherEffects("sent", 10)
		outcomes, errs := p.executeBatch(name, 10, fault, faulty, "bulk", "sent")
		for i, o := range outcomes {
			want := saga.Confirmed
			if slices.Contains(faulty, i) {
				want = saga.Confirming
			}
			if o.State != want || errs[i] != nil {
				t.Errorf("%s: number %d: %+v, %v", name, i, o, errs[i])
			}
		}
		if n, _ := p.sizes.Load(call{"send", "sent"}); n != 10 {
			t.Errorf("%v were readyStep together", n)
		}
	}
	deliver("one", "sent send", 4)
	deliver("none", "")
	deliver("forgotten", "sent forget", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9) // a branch that does not count well
	p.faulty.Store(false)
	for _, gid := range []string{"one-04", "forgotten-00", "forgotten-09"} {
		eventually(t, gid+" is confirmed", func() bool {
			found, err := p.orch.Lookup(t.Context(), gid)
			ok(err)
			return found.State == saga.Confirmed
		})
	}
}

// Large transactions, and MaxBatch 1, go alone.
func TestWhoGoesAlone(t *testing.T) {
	t.Parallel()
	p := newPots(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	kinds := slices.Repeat([]string{"bulk"}, 8)
	if !p.orch.Shares(p.plan("x", take{}, kinds...)) {
		t.Error("eight branches go alone")
	}
	if p.orch.Shares(p.plan("x", take{}, append(kinds, "bulk")...)) {
		t.Error("nine branches share commits")
	}
	if p.orch.Shares(p.plan("x", take{Fault: strings.Repeat("x", 20_000)}, "bulk")) {
		t.Error("20 kB share commits")
	}
	alone := p.open(embedded.Config{MaxBatch: 1})
	if alone.Shares(p.plan("x", take{}, "bulk")) {
		t.Error("a batch of one shares commits")
	}
}

// The COMMIT that ten share is not answered: each is told what happened.
func TestAnUnansweredCommitInCompany(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{false, true} {
		db, loss := sqltest.OpenLossy(t)
		p := newPots(t, db, embedded.Config{Lease: time.Hour}) // nobody else comes in between
		for i, kinds := range [][]string{{"bulk"}, {"plain", "bulk"}} {
			loss.Arm(1, committed)
			outcomes, errs := p.executeBatch(fmt.Sprintf("lost-%d", i), 10, "bulk try", []int{4}, kinds...)
			for n, o := range outcomes {
				want := saga.Confirmed
				if n == 4 {
					want = saga.Cancelled
				}
				if o.State != want {
					t.Errorf("made %t, %v: number %d is %+v, %v; want %q", committed, kinds, n, o, errs[n], want)
				}
			}
		}
		if loss.Count() != 2 {
			t.Errorf("%d COMMITs were lost", loss.Count())
		}
		p.books(4, 1000, 0, 0)
		p.books(5, 997, 0, 3)
	}
}

// Calls that take long keep others waiting only once in a while.
func TestSlowCallsInCompany(t *testing.T) {
	t.Parallel()
	p := newPots(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	plan := p.plan("x", take{}, "plain")
	outcomes, errs := p.executeBatch("slow", 10, "plain slow", []int{2, 3, 4, 5, 6}, "plain")
	for i, o := range outcomes {
		if o.State != saga.Confirmed {
			t.Errorf("number %d: %+v, %v", i, o, errs[i])
		}
	}
	if p.orch.Shares(plan) {
		t.Error("commits are still shared")
	}
}

// What a transaction costs, as the package documentation says: statements
// besides BEGIN and COMMIT, those of the branches included, and COMMITs.
func TestTraffic(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name                string
		kinds               []string
		callers             int
		statements, commits int
	}{
		{"resident, alone", []string{"plain", "plain"}, 1, 3 + 4, 1},
		{"resident and outside, alone", []string{"plain", "sent"}, 1, 3 + 3 + 2 + 1, 2},
		{"resident, ten together", []string{"plain", "plain"}, 10, 3 + 10*4, 1},
	}
	for _, c := range cases {
		db, loss := sqltest.OpenLossy(t)
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		p.execute("first", take{Pot: 1, N: 1}, "plain") // begins the lease
		before, commitsBefore := loss.Traffic()
		p.executeBatch(c.name[:3], c.callers, "", nil, c.kinds...)
		statements, commits := loss.Traffic()
		if statements -= before; statements != c.statements {
			t.Errorf("%s: %d statements, want %d", c.name, statements, c.statements)
		}
		if commits -= commitsBefore; commits != c.commits {
			t.Errorf("%s: %d commits, want %d", c.name, commits, c.commits)
		}
	}
}
