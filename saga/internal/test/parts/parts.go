// Package parts has the values that the parts of an engine are constructed from, so that
// each part can be tested without an engine.
package parts

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/limit"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// Instance is the instance that the parts belong to.
const Instance = "instance-1"

// CallTimeout is the time limit of a branch call.
const CallTimeout = 10 * time.Second

// Kit has the parts that other parts need, on one database.
type Kit struct {
	DB       *gorm.DB
	Log      *txlog.Log
	LogID    string
	Registry *txn.Registry
	Builder  *txn.Builder
	Reader   *follow.Reader
	Calls    *call.Caller
	Life     *lifetime.Lifetime
	Paused   *pause.Kinds
	Warn     *warn.Logger
	Logger   *slog.Logger
	InFlight *inflight.Registry

	// Limits are those of the branches that are registered from now on.
	Limits limit.Limits

	t testing.TB
}

// New returns a Kit on db.
func New(t testing.TB, db *gorm.DB) *Kit {
	t.Helper()
	k := &Kit{DB: db, InFlight: &inflight.Registry{}, Logger: slog.New(slog.DiscardHandler),
		Limits: limit.Limits{Rate: 1000, Failures: 100, Cooldown: time.Minute}, t: t}
	var err error
	k.Log, err = txlog.New(db)
	k.ok(err)
	t.Cleanup(k.Log.Close)
	k.LogID, err = k.Log.ID(t.Context())
	k.ok(err)
	k.Registry, err = txn.NewRegistry(db)
	k.ok(err)
	k.Builder = &txn.Builder{Registry: k.Registry, Caller: k.LogID, MaxPayload: 1 << 20, MaxBytes: 8 << 20}
	k.Reader = follow.New(db, k.Log, 20*time.Millisecond)
	k.Life = lifetime.New(t.Context(), CallTimeout)
	t.Cleanup(k.Life.End)
	k.Warn = warn.New(k.Logger)
	k.Paused = pause.New(k.Log, k.Warn, func(string, bool) {})
	k.Calls = call.New(call.Config{Timeout: CallTimeout, Logger: k.Logger, Instance: Instance})
	return k
}

// Shared returns a [call.Shared] whose batches have at most maxBatch members.
func (k *Kit) Shared(maxBatch int) *call.Shared {
	k.t.Helper()
	shared, err := call.NewShared(k.DB, k.Calls, maxBatch)
	k.ok(err)
	k.t.Cleanup(shared.Close)
	return shared
}

// Commits returns a [commit.Writer] whose batches have at most maxBatch members.
func (k *Kit) Commits(maxBatch int) *commit.Writer {
	k.t.Helper()
	shared := k.Shared(maxBatch)
	return commit.New(k.Log, k.Life, shared.Local(), shared.Alone(), maxBatch, 2, func(context.Context, int) {})
}

// Encode encodes the input of a branch.
func Encode(input any) ([]byte, error) { return json.Marshal(input) }

// Register adds a kind of branch to the registry.
func (k *Kit) Register(b saga.Branch) *txn.Branch {
	k.t.Helper()
	registered, err := txn.NewBranch(b, limit.NewBreaker(b.Kind(), k.Limits, k.Logger, limit.Hooks{Release: func([]string) {}}))
	k.ok(err)
	k.ok(k.Registry.Add(k.t.Context(), registered))
	return registered
}

// Local registers a kind of branch in the log's database.
func (k *Kit) Local(kind string, s *Script) *txn.Branch {
	k.t.Helper()
	return k.Register(saga.NewLocal(kind, Encode, saga.Local{Work: s.Work}))
}

// External registers a kind of branch that acts on no database.
func (k *Kit) External(kind string, s *Script) *txn.Branch {
	k.t.Helper()
	return k.Register(saga.NewExternal(kind, Encode, saga.External{Try: s.Effect, Confirm: s.Effect, Cancel: s.Effect}))
}

// Remote registers a kind of branch of another service.
func (k *Kit) Remote(kind string, s *Script) *txn.Branch {
	k.t.Helper()
	return k.Register(saga.NewRemote(kind, Encode, s))
}

// pattern is the pattern of all transactions of the tests.
const pattern = "tcc"

// Prepare returns a transaction with branches of the kinds, which is not in the log.
func (k *Kit) Prepare(gid string, kinds ...string) *txn.Txn {
	k.t.Helper()
	plan := saga.Plan{GID: gid, Pattern: pattern}
	for _, kind := range kinds {
		plan.Steps = append(plan.Steps, saga.Step{Kind: kind})
	}
	t, err := k.Builder.Prepare(plan)
	k.ok(err)
	return t
}

// Start returns the first row of a transaction in the log.
func (k *Kit) Start(t *txn.Txn) txlog.Start {
	return txlog.Start{GID: t.GID, Pattern: pattern, Digest: t.Digest(pattern), State: txlog.Trying, Owner: Instance,
		Deadline: time.Minute, Due: time.Minute, Branches: t.Rows()}
}

// In runs work in a local transaction of the log's database.
func (k *Kit) In(work func(tx *gorm.DB) error) {
	k.t.Helper()
	k.ok(k.DB.WithContext(k.t.Context()).Transaction(work))
}

// Insert writes the first row of a transaction.
func (k *Kit) Insert(start txlog.Start) {
	k.t.Helper()
	k.In(func(tx *gorm.DB) error { return k.Log.Insert(k.t.Context(), tx, start) })
}

// Decided returns a transaction that is tried and decided, and due again after due.
func (k *Kit) Decided(state saga.State, due time.Duration, gid string, kinds ...string) *txn.Txn {
	k.t.Helper()
	t := k.Prepare(gid, kinds...)
	k.Insert(k.Start(t))
	for _, s := range t.Steps {
		k.Barrier(t, s, barrier.Try)
	}
	decision := txlog.Decision{GID: gid, Epoch: 1, State: string(state), By: txlog.ByCaller, Owner: Instance, Due: due}
	k.In(func(tx *gorm.DB) error { return k.Log.Decide(k.t.Context(), tx, decision) })
	t.State, t.Planned, t.Decided = state, true, time.Now()
	return t
}

// Barrier writes a call of a step into the barrier, without its work. A remote step has no
// barrier here.
func (k *Kit) Barrier(t *txn.Txn, s *txn.Step, op barrier.Op) {
	k.t.Helper()
	if s.Branch == nil || s.Branch.Database == nil {
		return
	}
	_, err := barrier.Do(k.t.Context(), s.Branch.Database, call.Request(t.Call(s, op)), func(*gorm.DB) error { return nil })
	k.ok(err)
}

// Record reads a transaction. It leaves out how long ago it was begun and decided, so that two
// reads compare equal.
func (k *Kit) Record(gid string) (r txlog.Record) {
	k.t.Helper()
	k.In(func(tx *gorm.DB) (err error) {
		r, err = k.Log.Get(k.t.Context(), tx, gid)
		return err
	})
	r.SinceDecision, r.SinceBegin = 0, 0
	return r
}

// State reads the state of a transaction; empty if there is none.
func (k *Kit) State(gid string) saga.State {
	k.t.Helper()
	found, err := k.Log.List(k.t.Context(), txlog.Filter{Prefix: gid, Limit: 1})
	k.ok(err)
	if len(found) == 0 {
		return ""
	}
	return saga.State(found[0].State)
}

// Attempts reads the failed calls of a transaction.
func (k *Kit) Attempts(gid string) (all []txlog.Attempt) {
	k.t.Helper()
	k.In(func(tx *gorm.DB) error {
		attempts, err := k.Log.Attempts(k.t.Context(), tx, gid)
		all = attempts[gid]
		return err
	})
	return all
}

// Done returns the ids of the branches that are marked done.
func (k *Kit) Done(gid string) string {
	k.t.Helper()
	var done []string
	k.In(func(tx *gorm.DB) error {
		branches, err := k.Log.BranchesIn(k.t.Context(), tx, gid)
		for _, b := range branches[gid] {
			if !b.DoneAt.IsZero() {
				done = append(done, b.ID)
			}
		}
		return err
	})
	return strings.Join(done, " ")
}

// Rows returns the barrier rows of a transaction in db, as "01 tried, 02 confirmed".
func (k *Kit) Rows(db *gorm.DB, gid string) string {
	k.t.Helper()
	rows, err := barrier.Look(k.t.Context(), db, gid)
	k.ok(err)
	all := make([]string, len(rows))
	for i, r := range rows {
		all[i] = fmt.Sprintf("%s %s", r.BranchID, r.State)
	}
	return strings.Join(all, ", ")
}

// Age sets times in db, of rows of a transaction, to some time ago.
func (k *Kit) Age(db *gorm.DB, gid string, ago time.Duration, table string, columns ...string) {
	k.t.Helper()
	d, err := dialect.Of(db)
	k.ok(err)
	for _, column := range columns {
		_, err := db.Statement.ConnPool.ExecContext(k.t.Context(), d.SQL("UPDATE "+table+" SET "+column+" = {after ?} WHERE gid = ?"), -ago.Microseconds(), gid)
		k.ok(err)
	}
}

func (k *Kit) ok(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}
