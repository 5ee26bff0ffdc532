package barrier_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The verdict table, cell by cell, as doc.go has it.
var cells = []struct {
	op      barrier.Op
	before  string
	verdict barrier.Verdict
	after   string
}{
	{barrier.Try, "", barrier.Run, "tried"},
	{barrier.Try, "tried", barrier.Duplicate, "tried"},
	{barrier.Try, "confirmed", barrier.Duplicate, "confirmed"},
	{barrier.Try, "suspended", barrier.Suspended, "suspended"},
	{barrier.Try, "cancelled", barrier.Suspended, "cancelled"},
	{barrier.Confirm, "", barrier.Conflict, ""},
	{barrier.Confirm, "tried", barrier.Run, "confirmed"},
	{barrier.Confirm, "confirmed", barrier.Duplicate, "confirmed"},
	{barrier.Confirm, "suspended", barrier.Conflict, "suspended"},
	{barrier.Confirm, "cancelled", barrier.Conflict, "cancelled"},
	{barrier.Cancel, "", barrier.EmptyRollback, "suspended"},
	{barrier.Cancel, "tried", barrier.Run, "cancelled"},
	{barrier.Cancel, "confirmed", barrier.Conflict, "confirmed"},
	{barrier.Cancel, "suspended", barrier.Duplicate, "suspended"},
	{barrier.Cancel, "cancelled", barrier.Duplicate, "cancelled"},
	{barrier.Apply, "", barrier.Run, "confirmed"},
	{barrier.Apply, "confirmed", barrier.Duplicate, "confirmed"},
	{barrier.Apply, "tried", barrier.Conflict, "tried"},
	{barrier.Apply, "suspended", barrier.Conflict, "suspended"},
	{barrier.Apply, "cancelled", barrier.Conflict, "cancelled"},
	{barrier.Ask, "", barrier.EmptyRollback, "suspended"},
	{barrier.Ask, "tried", barrier.Duplicate, "tried"},
	{barrier.Ask, "confirmed", barrier.Duplicate, "confirmed"},
	{barrier.Ask, "suspended", barrier.EmptyRollback, "suspended"},
	{barrier.Ask, "cancelled", barrier.EmptyRollback, "cancelled"},
}

// each runs a test on every dialect, with and without gorm's PrepareStmt, and
// on MySQL also with clientFoundRows, which changes what it counts as affected.
func each(t *testing.T, test func(t *testing.T, db *gorm.DB)) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		database := func(t *testing.T) sqltest.Database {
			database := sqltest.Create(t, dialect)
			migrate(t, database)
			return database
		}
		for _, prepare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/prepare=%t", dialect, prepare), func(t *testing.T) {
				t.Parallel()
				test(t, sqltest.Connect(t, database(t), &gorm.Config{PrepareStmt: prepare}))
			})
		}
		if dialect == "mysql" {
			t.Run("mysql/clientFoundRows", func(t *testing.T) {
				t.Parallel()
				found := database(t)
				found.DSN += "?clientFoundRows=true"
				test(t, sqltest.Connect(t, found, &gorm.Config{}))
			})
		}
	}
}

func TestVerdicts(t *testing.T) {
	isolations := map[string]sql.IsolationLevel{"": sql.LevelDefault, "/repeatable read": sql.LevelRepeatableRead}
	each(t, func(t *testing.T, db *gorm.DB) {
		for name, isolation := range isolations {
			if db.Dialector.Name() == "sqlite" && isolation != sql.LevelDefault {
				continue
			}
			for i, cell := range cells {
				t.Run(fmt.Sprintf("%s after %q%s", cell.op, cell.before, name), func(t *testing.T) {
					checkCell(t, db, barrier.Key{GID: fmt.Sprintf("cell-%d-%d", isolation, i), BranchID: "01"}, isolation, cell.op, cell.before, cell.verdict, cell.after)
				})
			}
		}
	})
}

func checkCell(t *testing.T, db *gorm.DB, key barrier.Key, isolation sql.IsolationLevel, op barrier.Op, before string, want barrier.Verdict, after string) {
	if before != "" {
		sagatest.Must(t, db.Exec("INSERT INTO saga_barrier (gid, branch_id, state, turned_away) VALUES (?, ?, ?, 0)", key.GID, key.BranchID, before).Error)
	}
	tx := db.Begin(&sql.TxOptions{Isolation: isolation})
	defer tx.Rollback()
	// An old snapshot must not deceive the barrier.
	tx.Exec("SELECT COUNT(*) FROM saga_barrier")
	got, err := barrier.Call(t.Context(), tx, barrier.Request{Key: key, Op: op})
	if got != want {
		t.Fatalf("verdict %q (%v), want %q", got, err, want)
	}
	if wantErr := map[barrier.Verdict]error{barrier.Suspended: barrier.ErrSuspended, barrier.Conflict: barrier.ErrConflict}[want]; !errors.Is(err, wantErr) || (err != nil) != (wantErr != nil) {
		t.Fatalf("error %v, want %v", err, wantErr)
	}
	if err := tx.Commit().Error; err != nil {
		t.Fatalf("the barrier ended the caller's transaction: %v", err)
	}
	state, turnedAway := read(t, db, key)
	if state != after {
		t.Errorf("row %q, want %q", state, after)
	}
	wantAway := 1
	if before == "" || want == barrier.Run {
		wantAway = 0
	}
	if turnedAway != wantAway {
		t.Errorf("turned away %d, want %d", turnedAway, wantAway)
	}
}

func read(t *testing.T, db *gorm.DB, key barrier.Key) (state string, turnedAway int) {
	t.Helper()
	rows, err := barrier.Look(t.Context(), db, key.GID)
	sagatest.Must(t, err)
	for _, row := range rows {
		if row.Key == key {
			if (row.TurnedAway > 0) == row.TurnedAwayAt.IsZero() {
				t.Errorf("turned away %d times, last at %v", row.TurnedAway, row.TurnedAwayAt)
			}
			return string(row.State), row.TurnedAway
		}
	}
	return "", 0
}

// A Try and a Cancel in flight together: either Try ran and Cancel gave back,
// or Cancel came first and Try was refused. Nothing else.
func TestTryAgainstCancelInFlight(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	each(t, func(t *testing.T, db *gorm.DB) {
		sagatest.Must(t, db.Exec("CREATE TABLE effects (gid VARCHAR(64) PRIMARY KEY, tries INT NOT NULL, cancels INT NOT NULL)").Error)
		outcomes := map[string]int{}
		for round := range rounds {
			key := barrier.Key{GID: fmt.Sprintf("race-%d", round), BranchID: "01"}
			sagatest.Must(t, db.Exec("INSERT INTO effects VALUES (?, 0, 0)", key.GID).Error)
			outcomes[race(t, db, key)]++
		}
		t.Logf("outcomes: %v", outcomes)
	})
}

func race(t *testing.T, db *gorm.DB, key barrier.Key) string {
	var tryVerdict, cancelVerdict barrier.Verdict
	var tryErr, cancelErr error
	start := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		<-start
		tryVerdict, tryErr = barrier.Do(t.Context(), db, barrier.Request{Key: key, Op: barrier.Try}, func(tx *gorm.DB) error {
			return tx.Exec("UPDATE effects SET tries = tries + 1 WHERE gid = ?", key.GID).Error
		})
	})
	wg.Go(func() {
		<-start
		cancelVerdict, cancelErr = barrier.Do(t.Context(), db, barrier.Request{Key: key, Op: barrier.Cancel}, func(tx *gorm.DB) error {
			return tx.Exec("UPDATE effects SET cancels = cancels + 1 WHERE gid = ?", key.GID).Error
		})
	})
	close(start)
	wg.Wait()

	var effect struct{ Tries, Cancels int }
	sagatest.Must(t, db.Raw("SELECT tries, cancels FROM effects WHERE gid = ?", key.GID).Scan(&effect).Error)
	state, _ := read(t, db, key)
	got := fmt.Sprintf("try=%s cancel=%s row=%s tries=%d cancels=%d", tryVerdict, cancelVerdict, state, effect.Tries, effect.Cancels)
	switch got {
	case "try=run cancel=run row=cancelled tries=1 cancels=1":
		if tryErr != nil || cancelErr != nil {
			t.Fatalf("%s: %v, %v", got, tryErr, cancelErr)
		}
	case "try=suspended cancel=empty rollback row=suspended tries=0 cancels=0":
		if !errors.Is(tryErr, barrier.ErrSuspended) || cancelErr != nil {
			t.Fatalf("%s: %v, %v", got, tryErr, cancelErr)
		}
	default:
		t.Fatalf("%s (%v, %v)", got, tryErr, cancelErr)
	}
	return got
}

// Many copies of one call at once: its work runs once.
func TestRepeatedCallsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
			key := barrier.Key{GID: "repeat-" + string(op), BranchID: "01"}
			if op != barrier.Try {
				if _, err := barrier.Do(t.Context(), db, barrier.Request{Key: key, Op: barrier.Try}, nothing); err != nil {
					t.Fatal(err)
				}
			}
			var mu sync.Mutex
			verdicts := map[barrier.Verdict]int{}
			var wg sync.WaitGroup
			for range 12 {
				wg.Go(func() {
					verdict, err := barrier.Do(t.Context(), db, barrier.Request{Key: key, Op: op}, nothing)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					verdicts[verdict]++
				})
			}
			wg.Wait()
			if verdicts[barrier.Run] != 1 || verdicts[barrier.Duplicate] != 11 {
				t.Errorf("%s: %v", op, verdicts)
			}
			if _, turnedAway := read(t, db, key); turnedAway != 11 {
				t.Errorf("%s: turned away %d", op, turnedAway)
			}
		}
	})
}

func nothing(*gorm.DB) error { return nil }

func TestCallerKeepsItsTransaction(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		key := barrier.Key{GID: "rolled-back", BranchID: "01"}
		tx := db.Begin()
		if verdict, err := barrier.Call(t.Context(), tx, barrier.Request{Key: key, Op: barrier.Try}); verdict != barrier.Run {
			t.Fatal(verdict, err)
		}
		sagatest.Must(t, tx.Rollback().Error)
		if state, _ := read(t, db, key); state != "" {
			t.Errorf("the row outlived the caller's rollback: %s", state)
		}
	})
}

// A connection that is lost fails the call, whatever statement it was lost
// before.
func TestWithoutAConnection(t *testing.T) {
	t.Parallel()
	for _, prepare := range []bool{false, true} {
		db, loss := sqltest.OpenLossy(t)
		db = db.Session(&gorm.Session{PrepareStmt: prepare})
		for n, ops := range [][]barrier.Op{{barrier.Try}, {barrier.Try, barrier.Try}, {barrier.Try, barrier.Confirm, barrier.Confirm}, {barrier.Cancel, barrier.Cancel}} {
			for in := 1; ; in++ {
				gid := fmt.Sprintf("%d-%d", n, in)
				loss.Cut(0)
				cut := db.Transaction(func(tx *gorm.DB) error {
					for _, op := range ops[:len(ops)-1] {
						if _, err := barrier.Call(t.Context(), tx, barrier.Request{Key: barrier.Key{GID: gid, BranchID: "01"}, Op: op}); err != nil {
							t.Error(err)
						}
					}
					loss.Cut(in)
					_, err := barrier.Call(t.Context(), tx, barrier.Request{Key: barrier.Key{GID: gid, BranchID: "01"}, Op: ops[len(ops)-1]})
					if loss.WasCut() != errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%v, cut before statement %d: %v", ops, in, err)
					}
					return err
				})
				if cut == nil {
					break
				}
			}
		}
	}
}

func TestFailedWorkLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		key := barrier.Key{GID: "failed", BranchID: "01"}
		failure := errors.New("no")
		if _, err := barrier.Do(t.Context(), db, barrier.Request{Key: key, Op: barrier.Try}, func(*gorm.DB) error { return failure }); err != failure {
			t.Fatal(err)
		}
		func() {
			defer func() { recover() }()
			barrier.Do(t.Context(), db, barrier.Request{Key: key, Op: barrier.Try}, func(*gorm.DB) error { panic("work") })
		}()
		if state, _ := read(t, db, key); state != "" {
			t.Errorf("row %q after failed work", state)
		}
	})
}

func TestBadInput(t *testing.T) {
	db := sqltest.Open(t, "sqlite")
	inTransaction := func(call func(tx *gorm.DB) error) error {
		tx := db.Begin()
		defer tx.Rollback()
		return call(tx)
	}
	call := func(key barrier.Key, op barrier.Op) error {
		return inTransaction(func(tx *gorm.DB) error {
			_, err := barrier.Call(t.Context(), tx, barrier.Request{Key: key, Op: op})
			return err
		})
	}
	good := barrier.Key{GID: "g", BranchID: "01"}
	cases := map[string]struct {
		err  error
		says string
	}{
		"empty gid":    {call(barrier.Key{BranchID: "01"}, barrier.Try), "gid is empty"},
		"long gid":     {call(barrier.Key{GID: strings.Repeat("g", 129), BranchID: "01"}, barrier.Try), "129 characters"},
		"space in gid": {call(barrier.Key{GID: "a b", BranchID: "01"}, barrier.Try), "without spaces"},
		"empty branch": {call(barrier.Key{GID: "g"}, barrier.Try), "branch id is empty"},
		"unknown op":   {call(good, "commit"), `unknown operation "commit"`},
		"no transaction": {func() error {
			_, err := barrier.Call(context.Background(), db, barrier.Request{Key: good, Op: barrier.Try})
			return err
		}(), "not in a transaction"},
	}
	for name, c := range cases {
		if c.err == nil || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, c.err, c.says)
		}
	}
}
