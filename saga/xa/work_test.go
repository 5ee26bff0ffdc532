package xa_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// What a Work may do with its handle, and what is refused.
func TestWork(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		d, mysql := open(t, db), db.Name() == "mysql"
		var work func(ctx context.Context, tx *gorm.DB) error
		e := sagatest.Open(t, db, embedded.Config{CallTimeout: 2 * time.Second})
		sagatest.Must(t, xa.Register(e, d, xa.Func[add](func(ctx context.Context, tx *gorm.DB, in add) error {
			if err := (adder{}).Work(ctx, tx, in); err != nil {
				return err
			}
			return work(ctx, tx)
		})))
		sagatest.Run(t, e)
		exec := func(statement string) func(context.Context, *gorm.DB) error {
			return func(_ context.Context, tx *gorm.DB) error { return tx.Exec(statement).Error }
		}
		const more = "UPDATE numbers SET n = n + 100 WHERE id = 2"
		for name, c := range map[string]struct {
			work func(ctx context.Context, tx *gorm.DB) error
			want string // in the reason of the cancel; empty if it is confirmed
			two  int    // is added to the second number
		}{
			"a statement": {exec(more), "", 100},
			"a savepoint": {func(_ context.Context, tx *gorm.DB) error {
				return tx.Transaction(func(tx *gorm.DB) error { return exec(more)(nil, tx) })
			}, "", 100},
			"the call": {func(ctx context.Context, _ *gorm.DB) error { return require(tcc.CallOf(ctx).Kind == "number.add") }, "", 0},
			"a savepoint that is rolled back": {func(_ context.Context, tx *gorm.DB) error {
				_ = tx.Transaction(func(tx *gorm.DB) error { return errors.Join(exec(more)(nil, tx), errors.New("on purpose")) })
				return nil
			}, "", 0},
			"plain SQL": {func(ctx context.Context, tx *gorm.DB) error {
				plain, err := tcc.SQLTx(tx)
				if err == nil {
					_, err = plain.ExecContext(ctx, more)
				}
				return err
			}, "", 100},
			"a prepared statement": {func(ctx context.Context, tx *gorm.DB) error {
				plain, err := tcc.SQLTx(tx)
				sagatest.Must(t, err)
				statement, err := plain.PrepareContext(ctx, more)
				if err == nil {
					_, err = statement.ExecContext(ctx)
				}
				return err
			}, "", 100},
			"a session with PrepareStmt": {func(_ context.Context, tx *gorm.DB) error {
				return exec(more)(nil, tx.Session(&gorm.Session{PrepareStmt: true}))
			},
				"takes no session with PrepareStmt", 0},
			"COMMIT":              {exec("COMMIT"), "belongs to the framework", 0},
			"ROLLBACK":            {exec("ROLLBACK"), "belongs to the framework", 0},
			"XA END":              {exec("XA END 'x'"), "belongs to the framework", 0},
			"PREPARE TRANSACTION": {exec("PREPARE TRANSACTION 'x'"), "belongs to the framework", 0},
			"an error":            {exec("UPDATE nothing SET n = 1"), "its database answered with", 0},
			"a panic":             {func(context.Context, *gorm.DB) error { panic("on purpose") }, "on purpose", 0},
			"no return":           {func(context.Context, *gorm.DB) error { runtime.Goexit(); return nil }, "did not return", 0},
			"the time": {func(ctx context.Context, tx *gorm.DB) error {
				if mysql {
					return tx.Exec("SELECT SLEEP(60)").Error
				}
				return tx.Exec("SELECT pg_sleep(60)").Error
			}, "did not return within 2s", 0},
			"a reason": {func(context.Context, *gorm.DB) error { return tcc.Reject(errors.New("too many")) }, "too many", 0},
		} {
			work = c.work
			one, two, gid := number(t, db, 1), number(t, db, 2), gidOf(t, db)
			_, err := tcc.Execute(t.Context(), e, gid, add{1, 1})
			state, added := saga.Confirmed, 1
			if c.want != "" {
				state, added = saga.Cancelled, 0
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
			sagatest.Reach(t, e, gid, state)
			if a, b := number(t, db, 1)-one, number(t, db, 2)-two; a != added || b != c.two || locked(db, 1) || len(prepared(t, db, gid)) > 0 {
				t.Errorf("%s: added %d and %d, want %d and %d; left: %v", name, a, b, added, c.two, prepared(t, db, gid))
			}
			if taken, held := d.Places(); taken != 0 || held != 0 {
				t.Errorf("%s: %d places are taken, %d connections held", name, taken, held)
			}
		}
	})
}

func require(condition bool) error {
	if !condition {
		return errors.New("not as required")
	}
	return nil
}

// Statements that the server refuses in a prepared transaction: one that commits implicitly, and
// a temporary table.
func TestWorkThatCannotBePrepared(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		statement, want := "CREATE TABLE later (id INT)", "1399"
		if db.Name() == "postgres" {
			statement, want = "CREATE TEMPORARY TABLE later (id INT)", "0A000"
		}
		e := engine(t, db, open(t, db), adder{after: func(_ context.Context, tx *gorm.DB, _ add) error { return tx.Exec(statement).Error }})
		gid := gidOf(t, db)
		_, err := tcc.Execute(t.Context(), e, gid, add{1, 5})
		if !errors.Is(err, saga.ErrCancelled) || !strings.Contains(errors.Unwrap(err).Error(), want) {
			t.Error(err)
		}
		sagatest.Reach(t, e, gid, saga.Cancelled)
		if number(t, db, 1) != 0 || locked(db, 1) {
			t.Error("something is left")
		}
	})
}

// After a deadlock, Work runs again, also if it ignores the error.
func TestDeadlock(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		for _, ignored := range []bool{false, true} {
			var runs atomic.Int32
			met := make(chan struct{}, 2)
			meet := make(chan struct{})
			e := engine(t, sqltest.Open(t, "sqlite"), open(t, db), adder{after: func(_ context.Context, tx *gorm.DB, in add) error {
				if runs.Add(1) <= 2 { // each of both has its first row
					met <- struct{}{}
					if len(met) == 2 {
						close(meet)
					}
					<-meet
				}
				err := tx.Exec("UPDATE numbers SET n = n + ? WHERE id = ?", in.N, 3-in.ID).Error
				if ignored {
					return nil
				}
				return err
			}})
			one, two := number(t, db, 1), number(t, db, 2)
			ended := make(chan error, 2)
			for _, in := range []add{{1, 5}, {2, 7}} {
				gid := gidOf(t, db)
				go func() {
					_, err := tcc.Execute(t.Context(), e, gid, in)
					ended <- err
				}()
			}
			if err := errors.Join(<-ended, <-ended); err != nil {
				t.Errorf("ignored %v: %v", ignored, err)
			}
			if a, b := number(t, db, 1)-one, number(t, db, 2)-two; a != 12 || b != 12 || runs.Load() < 3 {
				t.Errorf("ignored %v: added %d and %d in %d runs", ignored, a, b, runs.Load())
			}
		}
	})
}
