package remote_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Clean removes old, final rows and nothing else.
func TestClean(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		th := newTheatre(t, db, remote.HostConfig{CallTimeout: 5 * time.Second})
		calls := func(gid string, ops ...barrier.Op) {
			for _, op := range ops {
				if status, text := send(t, request(t, th.url(), gid, op, two)); status != 200 {
					t.Fatal(status, text)
				}
			}
		}
		calls("confirmed", barrier.Try, barrier.Confirm)
		calls("cancelled", barrier.Try, barrier.Cancel)
		calls("suspended", barrier.Cancel)
		calls("tried", barrier.Try)
		// Several branches, of which one is still to be confirmed.
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			for i := range 5000 {
				key := barrier.Key{GID: fmt.Sprintf("many-%04d", i/3), BranchID: saga.BranchID(i%3 + 1)}
				op := barrier.Cancel
				if i == 2000 {
					op = barrier.Try
				}
				if _, err := barrier.Call(ctx, tx, barrier.Request{Key: key, Op: op}); err != nil {
					return err
				}
			}
			return nil
		}))
		// In the log of an engine that lives in the same database.
		orch := sagatest.Open(t, db, quick)
		sagatest.Must(t, tcc.Register(orch, &reserving[meal]{read: func(p meal) (int, int) { return 1, p.Number }}))
		if _, err := tcc.Execute(ctx, orch, "own", meal{1}); err != nil {
			t.Fatal(err)
		}
		sagatest.Must(t, orch.Stop(ctx))

		if n, err := th.host.Clean(ctx, time.Hour); n != 0 || err != nil {
			t.Errorf("nothing is an hour old: %d, %v", n, err)
		}
		if _, err := th.host.Clean(ctx, 9*time.Second); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("too young: %v", err)
		}
		quicker := newCleaner(t, db)
		keep := &keeper{}
		sagatest.Must(t, tcc.Register(quicker, keep))
		if n, err := quicker.Clean(ctx, 2*time.Millisecond); n != 3+1666 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		if len(keep.cleaned) != 3+1666 {
			t.Errorf("the branch has cleaned %d", len(keep.cleaned))
		}
		var left []string
		sagatest.Must(t, db.Raw("SELECT DISTINCT gid FROM saga_barrier ORDER BY gid").Scan(&left).Error)
		if want := []string{"many-0666", "own", "tried"}; !slices.Equal(left, want) {
			t.Errorf("left %v, want %v", left, want)
		}
	})
}

// newCleaner returns a host whose Clean takes an age of 2 milliseconds.
func newCleaner(t *testing.T, db *gorm.DB) *remote.Host {
	t.Helper()
	host, err := remote.NewHost(t.Context(), db, remote.HostConfig{AllowUnsigned: true, CallTimeout: time.Millisecond})
	sagatest.Must(t, err)
	return host
}

// keeper is a branch that keeps something of each transaction.
type keeper struct {
	reserving[seats]
	cleaned []string
	before  func(tx *gorm.DB, gids []string) error
}

func (k *keeper) Clean(_ context.Context, tx *gorm.DB, gids []string) error {
	if k.before != nil {
		if err := k.before(tx, gids); err != nil {
			return err
		}
	}
	k.cleaned = append(k.cleaned, gids...)
	return nil
}

// fill writes rows of one transaction, cancelled long ago but for those in tried.
func fill(t *testing.T, db *gorm.DB, gid string, rows int, tried ...int) {
	t.Helper()
	sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
		for i := range rows {
			op := barrier.Cancel
			if slices.Contains(tried, i) {
				op = barrier.Try
			}
			if _, err := barrier.Call(t.Context(), tx, barrier.Request{Key: barrier.Key{GID: gid, BranchID: fmt.Sprintf("%05d", i)}, Op: op}); err != nil {
				return err
			}
		}
		return tx.Exec("UPDATE saga_barrier SET cancelled_at = '2020-01-01 00:00:00.000' WHERE gid = ? AND state = 'suspended'", gid).Error
	}))
}

func gidsLeft(t *testing.T, db *gorm.DB) (left []string) {
	t.Helper()
	sagatest.Must(t, db.Raw("SELECT DISTINCT gid FROM saga_barrier ORDER BY gid").Scan(&left).Error)
	return left
}

// Transactions with more rows than a page hold up nothing behind them, wherever
// the page ends.
func TestCleanLargeTransactions(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		newTable(t, db)
		fill(t, db, "a", 4000)
		fill(t, db, "b", 1)
		fill(t, db, "c", 8100, 8050) // not final in its third page
		fill(t, db, "d", 4100, 0)    // nor in its first row
		fill(t, db, "e", 4500)
		fill(t, db, "f", 3)
		if n, err := newCleaner(t, db).Clean(t.Context(), 2*time.Millisecond); n != 4 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		if left := gidsLeft(t, db); !slices.Equal(left, []string{"c", "d"}) {
			t.Errorf("left %v", left)
		}
	})
}

// Between the first look and the removal, a transaction is used again. A Clean of
// a branch, which comes in between, stands in for another process.
func TestCleanLooksAgain(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		newTable(t, db)
		fill(t, db, "a", 1)
		fill(t, db, "b", 1)
		cleaner := newCleaner(t, db)
		keep := &keeper{before: func(tx *gorm.DB, gids []string) error {
			_, err := barrier.Call(ctx, tx, barrier.Request{Key: barrier.Key{GID: "a", BranchID: "late"}, Op: barrier.Try})
			return err
		}}
		sagatest.Must(t, tcc.Register(cleaner, keep))
		if _, err := cleaner.Clean(ctx, 2*time.Millisecond); err != nil {
			t.Error(err)
		}
		rows, err := barrier.Look(ctx, db, "a")
		sagatest.Must(t, err)
		if len(rows) != 1 || rows[0].State != barrier.StateTried {
			t.Errorf("the row that came in between: %+v", rows)
		}

		// A transaction that the first look returned and that was used since is not old.
		fill(t, db, "c", 2)
		gids, _, err := barrierrows.Old(ctx, db, barrierrows.Cursor{}, 0)
		sagatest.Must(t, err)
		if !slices.Equal(gids, []string{"c"}) {
			t.Fatalf("old: %v", gids)
		}
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			_, err := barrier.Call(ctx, tx, barrier.Request{Key: barrier.Key{GID: "c", BranchID: "late"}, Op: barrier.Try})
			return err
		}))
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			again, _, err := barrierrows.LockOld(ctx, tx, gids, 0)
			if len(again) != 0 {
				t.Errorf("still old: %v", again)
			}
			return err
		}))
	})
}

// otherKeeper is a keeper of another kind.
type otherKeeper struct {
	reserving[meal]
	cleaned []string
}

func (k *otherKeeper) Clean(_ context.Context, _ *gorm.DB, gids []string) error {
	k.cleaned = append(k.cleaned, gids...)
	return nil
}

// A branch is told to clean what is of its kind, or of no kind that is known.
func TestCleanByKind(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		newTable(t, db)
		for gid, kind := range map[string]string{"a": seats{}.Branch(), "b": meal{}.Branch(), "c": ""} {
			fill(t, db, gid, 1)
			sagatest.Must(t, db.Exec("UPDATE saga_barrier SET kind = ? WHERE gid = ?", kind, gid).Error)
		}
		cleaner, one, other := newCleaner(t, db), &keeper{}, &otherKeeper{}
		sagatest.Must(t, tcc.Register(cleaner, one))
		sagatest.Must(t, tcc.Register(cleaner, other))
		if removed, err := cleaner.Clean(t.Context(), 2*time.Millisecond); err != nil || removed != 3 {
			t.Errorf("%d removed, %v", removed, err)
		}
		slices.Sort(one.cleaned)
		slices.Sort(other.cleaned)
		if !slices.Equal(one.cleaned, []string{"a", "c"}) || !slices.Equal(other.cleaned, []string{"b", "c"}) {
			t.Errorf("cleaned %v and %v", one.cleaned, other.cleaned)
		}
	})
}

// A transaction is used again while the batch before its own is removed: it is looked at
// once more, and left as it is.
func TestCleanLooksAtEachBatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		newTable(t, db)
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			for i := range 500 { // a batch
				if _, err := barrier.Call(ctx, tx, barrier.Request{Key: barrier.Key{GID: fmt.Sprintf("a-%03d", i), BranchID: "01"}, Op: barrier.Cancel}); err != nil {
					return err
				}
			}
			return tx.Exec("UPDATE saga_barrier SET cancelled_at = '2020-01-01 00:00:00.000'").Error
		}))
		fill(t, db, "b", 1)
		cleaner := newCleaner(t, db)
		keep := &keeper{before: func(tx *gorm.DB, gids []string) error {
			if slices.Contains(gids, "b") {
				return nil
			}
			_, err := barrier.Call(ctx, tx, barrier.Request{Key: barrier.Key{GID: "b", BranchID: "late"}, Op: barrier.Try})
			return err
		}}
		sagatest.Must(t, tcc.Register(cleaner, keep))
		if _, err := cleaner.Clean(ctx, 2*time.Millisecond); err != nil {
			t.Error(err)
		}
		rows, err := barrier.Look(ctx, db, "b")
		sagatest.Must(t, err)
		if len(rows) != 2 || slices.Contains(keep.cleaned, "b") {
			t.Errorf("rows %+v; cleaned is %t", rows, slices.Contains(keep.cleaned, "b"))
		}
	})
}

// The rows are locked from the second look to the end, and a call waits for them.
func TestCleanLocks(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		newTable(t, db)
		fill(t, db, "a", 1)
		cancel := func(ctx context.Context) (barrier.Verdict, error) {
			return barrier.Do(ctx, db, barrier.Request{Key: barrier.Key{GID: "a", BranchID: "00000"}, Op: barrier.Cancel}, func(*gorm.DB) error { return nil })
		}
		called := make(chan barrier.Verdict, 1)
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			gids, _, err := barrierrows.LockOld(ctx, tx, []string{"a"}, 0)
			if err != nil || len(gids) != 1 {
				t.Fatalf("%v, %v", gids, err)
			}
			if db.Name() != "sqlite" { // where a call waits without a look at its context
				short, end := context.WithTimeout(ctx, 200*time.Millisecond)
				defer end()
				if verdict, err := cancel(short); err == nil {
					t.Errorf("a call did not wait: %s", verdict)
				}
			}
			go func() {
				verdict, err := cancel(ctx)
				if err != nil {
					t.Error(err)
				}
				called <- verdict
			}()
			return barrierrows.RemoveOld(ctx, tx, gids, 0)
		}))
		// Before the lock it would be a duplicate, or lose its row.
		if verdict := <-called; verdict != barrier.EmptyRollback {
			t.Errorf("a call that waited for Clean: %s", verdict)
		}
	})
}

// A branch that cannot clean keeps its batch, and nothing else; a panic is an
// error.
func TestCleanGoesOn(t *testing.T) {
	t.Parallel()
	db := newTable(t, sqltest.Open(t, "sqlite"))
	for i := range 1200 { // three batches
		fill(t, db, fmt.Sprintf("g-%04d", i), 1)
	}
	cleaner := newCleaner(t, db)
	faults := []func(){func() { panic("a nil map") }, func() {}, func() {}}
	broken := errors.New("on purpose")
	keep := &keeper{before: func(_ *gorm.DB, gids []string) error {
		fault := faults[0]
		faults = faults[1:]
		fault()
		if gids[0] == "g-0500" {
			return broken
		}
		return nil
	}}
	sagatest.Must(t, tcc.Register(cleaner, keep))
	n, err := cleaner.Clean(t.Context(), 2*time.Millisecond)
	if n != 200 || err == nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if left := gidsLeft(t, db); len(left) != 1000 {
		t.Errorf("left %d", len(left))
	}
	keep.before = nil
	if n, err := cleaner.Clean(t.Context(), 2*time.Millisecond); n != 1000 || err != nil {
		t.Errorf("then removed %d, %v", n, err)
	}
}

// A captured request cannot run again after Clean, whatever the clocks: at the
// least age that Clean takes, its signature is no longer good.
func TestReplayAfterClean(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	th := newTheatre(t, db, remote.HostConfig{Keys: keys("a"), Window: 5 * time.Minute, CallTimeout: 3 * time.Second, ReadTimeout: 4 * time.Second})
	atLeast := th.host.MaxDelay() + 6*time.Second
	if want := 2*5*time.Minute + 4*time.Second; th.host.MaxDelay() < want {
		t.Errorf("a captured request can still run after %s: twice the window and the reading take %s", th.host.MaxDelay(), want)
	}
	if _, err := th.host.Clean(t.Context(), atLeast-1); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("too young: %v", err)
	}
	if _, err := th.host.Participant.Clean(t.Context(), atLeast-1); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("too young, around the host: %v", err)
	}

	now := time.Now()
	th.host.SetClock(func() time.Time { return now })
	gid := sagatest.GID()
	// Signed by a clock that is as far ahead as it may be, and captured.
	captured := request(t, th.url(), gid, barrier.Try, two)
	keys("a")[0].Sign(captured, "theatre", []byte(two), now.Add(30*time.Second))
	replay := func() int {
		body(two)(captured)
		status, _ := send(t, captured)
		return status
	}
	if status := replay(); status != 200 {
		t.Fatal(status)
	}
	cancel := request(t, th.url(), gid, barrier.Cancel, two)
	keys("a")[0].Sign(cancel, "theatre", []byte(two), now)
	if status, text := send(t, cancel); status != 200 {
		t.Fatal(status, text)
	}
	// Time passes: in the database, and on the clock of the host, which is slow.
	old := now.UTC().Add(-atLeast - time.Minute).Format("2006-01-02 15:04:05.000")
	sqltest.Exec(t, db, "UPDATE saga_barrier SET tried_at = ?, cancelled_at = ?", old, old)
	if n, err := th.host.Clean(t.Context(), atLeast); n != 1 || err != nil {
		t.Fatalf("removed %d, %v", n, err)
	}
	th.host.SetClock(func() time.Time { return now.Add(atLeast - 5*time.Minute) })
	if status := replay(); status != http.StatusUnauthorized {
		t.Errorf("captured, and sent again after Clean: %d", status)
	}
	th.holds(100, 0, 0)
}

// Two handles on one pool are one database: the rows go with what all branches
// there keep.
func TestCleanSharedPool(t *testing.T) {
	t.Parallel()
	db := newTable(t, sqltest.Open(t, "sqlite"))
	fill(t, db, "a", 1)
	cleaner := newCleaner(t, db)
	keep := &keeper{reserving: reserving[seats]{db: db.Session(&gorm.Session{NewDB: true})}}
	sagatest.Must(t, tcc.Register(cleaner, keep))
	if n, err := cleaner.Clean(t.Context(), 2*time.Millisecond); n != 1 || err != nil || !slices.Equal(keep.cleaned, []string{"a"}) {
		t.Errorf("removed %d, %v; the branch has cleaned %v", n, err, keep.cleaned)
	}
}
