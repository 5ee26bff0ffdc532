package tcc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// Branches that work with a *sql.Tx or sqlx are part of the local transactions of
// the engine: alone and in shared commits, with prepared statements of gorm and
// without. In a transaction of one's own they are part of it, also where gorm is
// on a connection that is no *sql.Tx.
func TestSQLTxInBranches(t *testing.T) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		for name, handle := range map[string]struct{ prepared, watched bool }{"plain": {}, "prepared": {prepared: true}, "watched": {watched: true}} {
			t.Run(dialect+"/"+name, func(t *testing.T) {
				t.Parallel()
				db := sqltest.Connect(t, sqltest.Create(t, dialect), &gorm.Config{PrepareStmt: handle.prepared})
				sagatest.Must(t, schema.Migrate(t.Context(), db))
				sqltest.Exec(t, db, entryTables[dialect])
				watch := &watching{}
				if handle.watched {
					pool, err := db.DB()
					sagatest.Must(t, err)
					pool.SetMaxOpenConns(6) // so few that the engine keeps none for itself
					watch.DB = pool
					db.Statement.ConnPool, db.ConnPool = watch, watch
				}
				b := &bench{t: t, db: db}
				orch := sagatest.Open(t, db, quick)
				b.orch = orch
				sagatest.Must(t, tcc.Register(orch, entries{dialect}))
				sagatest.Run(t, orch)
				var callers sync.WaitGroup
				for i := range 20 {
					callers.Go(func() {
						in := entry{fmt.Sprint("good-", i), int64(i), time.Now(), []byte{0, byte(i), 255}}
						if outcome, err := tcc.Execute(t.Context(), orch, sagatest.GID(), in); err != nil || outcome.State != saga.Confirmed {
							t.Errorf("%+v, %v", outcome, err)
						}
					})
					callers.Go(func() {
						_, err := tcc.Execute(t.Context(), orch, sagatest.GID(), entry{Name: fmt.Sprint("bad-", i), Cents: -1})
						if !errors.Is(err, saga.ErrCancelled) || !errors.Is(err, errShort) {
							t.Error(err)
						}
					})
				}
				callers.Wait()
				tx, err := tcc.Begin(t.Context(), orch, sagatest.GID())
				sagatest.Must(t, err)
				sagatest.Must(t, tx.Try(t.Context(), entry{Name: "open"}))
				_, err = tx.Cancel(t.Context(), "it was a test")
				sagatest.Must(t, err)
				var found struct{ All, Good, Cancelled int }
				sagatest.Must(t, db.Raw("SELECT COUNT(*) AS \"all\", COUNT(CASE WHEN note = 'confirmed' THEN 1 END) AS good, COUNT(CASE WHEN note = 'cancelled' THEN 1 END) AS cancelled FROM entries").
					Row().Scan(&found.All, &found.Good, &found.Cancelled))
				if found.All != 21 || found.Good != 20 || found.Cancelled != 1 {
					t.Errorf("%+v", found)
				}

				// In a transaction of one's own, too.
				failed := errors.New("on purpose")
				err = db.WithContext(t.Context()).Transaction(func(tx *gorm.DB) error {
					plain, err := tcc.SQLTx(tx)
					if err != nil {
						return err
					}
					if _, err := plain.Exec("DELETE FROM entries"); err != nil {
						return err
					}
					return failed
				})
				var left int
				sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM entries").Scan(&left).Error)
				if !errors.Is(err, failed) || left != 21 {
					t.Errorf("%d left, %v", left, err)
				}
				if seen := watch.statements.Load(); handle.watched && seen == 0 {
					t.Error("the statement went around the user's own ConnPool")
				}
			})
		}
	}
}

func TestSQLTxOutsideATransaction(t *testing.T) {
	t.Parallel()
	if _, err := tcc.SQLTx(sqltest.Open(t, "sqlite")); err == nil || !strings.Contains(err.Error(), "tcc: SQLTx: the database handle is not in a transaction") {
		t.Error(err)
	}
}

// sqlCredit is a branch that works with a *sql.Tx only.
type sqlCredit struct{ entries }

func (c sqlCredit) change(ctx context.Context, tx *gorm.DB, statement string, arguments ...any) (int64, error) {
	return change(ctx, tx, c.sql(statement), arguments...)
}

func (c sqlCredit) Try(ctx context.Context, tx *gorm.DB, in hold) error {
	n, err := c.change(ctx, tx, "UPDATE accounts SET credit = credit - ?, held = held + ? WHERE id = ? AND credit >= ?", in.Cents, in.Cents, in.Account, in.Cents)
	if err == nil && n == 0 {
		return tcc.Reject(errShort)
	}
	return err
}

func (c sqlCredit) Confirm(ctx context.Context, tx *gorm.DB, in hold) error {
	return one(c.change(ctx, tx, "UPDATE accounts SET held = held - ?, spent = spent + ? WHERE id = ?", in.Cents, in.Cents, in.Account))
}

func (c sqlCredit) Cancel(ctx context.Context, tx *gorm.DB, in hold) error {
	return one(c.change(ctx, tx, "UPDATE accounts SET held = held - ?, credit = credit + ? WHERE id = ?", in.Cents, in.Cents, in.Account))
}

// Such a branch can be exercised, on the connection that fails on purpose.
func TestExerciseABranchWithSQLTx(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		sqltest.Exec(t, db, "CREATE TABLE accounts (id INT PRIMARY KEY, credit INT NOT NULL, held INT NOT NULL, spent INT NOT NULL)")
		sqltest.Exec(t, db, "INSERT INTO accounts VALUES (1, 0, 0, 0)")
		tcctest.Exercise(t, db, sqlCredit{entries{db.Dialector.Name()}}, tcctest.Case[hold]{
			Payload: hold{1, 30},
			Reset: func(ctx context.Context, db *gorm.DB) error {
				return db.WithContext(ctx).Exec("UPDATE accounts SET credit = 100, held = 0, spent = 0").Error
			},
			State: func(ctx context.Context, db *gorm.DB) (any, error) {
				var row struct{ Credit, Held, Spent int }
				err := db.WithContext(ctx).Raw("SELECT credit, held, spent FROM accounts").Scan(&row).Error
				return row, err
			},
			Capacity: 3,
		})
	})
}

// endless notes whether a method got a context that never ends.
type endless struct {
	kept[hold]
	calls, endless int
}

func (e *endless) note(ctx context.Context, tx *gorm.DB) {
	e.calls++
	if ctx.Done() == nil || tx.Statement.Context.Done() == nil {
		e.endless++
	}
}

func (e *endless) Confirm(ctx context.Context, tx *gorm.DB, _ hold) error {
	e.note(ctx, tx)
	return nil
}

func (e *endless) TryAll(ctx context.Context, tx *gorm.DB, _ []tcc.Item[hold]) ([]error, error) {
	e.note(ctx, tx)
	return nil, nil
}

func (e *endless) ConfirmAll(ctx context.Context, tx *gorm.DB, _ []tcc.Item[hold]) error {
	e.note(ctx, tx)
	return nil
}

func (e *endless) Clean(ctx context.Context, tx *gorm.DB, _ []string) error {
	e.note(ctx, tx)
	return nil
}

// Each method gets a context that ends, whatever calls it, so that SQLTx works in
// it.
func TestContextsOfBranchesEnd(t *testing.T) {
	t.Parallel()
	c, b := catcher{}, &endless{}
	sagatest.Must(t, tcc.Register(c, b))
	ctx := context.Background()
	call := saga.Call{GID: "g", BranchID: "01", Kind: "credit.hold", Op: barrier.Confirm, Payload: []byte("{}")}
	registered := c["credit.hold"]
	sagatest.Must(t, registered.Shape().(saga.Local).Work(ctx, noDatabase(t), call))
	for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
		_, err := registered.Shape().(saga.Local).WorkBatch(ctx, noDatabase(t), op, []saga.BatchCall{{Call: call}})
		sagatest.Must(t, err)
	}
	sagatest.Must(t, registered.Shape().(saga.Local).Clean(ctx, noDatabase(t), []string{"g"}))
	if b.calls != 4 || b.endless != 0 {
		t.Errorf("of %d calls, %d got a context that never ends", b.calls, b.endless)
	}
}

// stumbling meets a deadlock in its first Try, by the server's word.
type stumbling struct {
	kept[hold]
	dialect string
	tries   int
	told    error
}

func (s *stumbling) Try(ctx context.Context, tx *gorm.DB, _ hold) error {
	if s.tries++; s.tries > 1 {
		return nil
	}
	plain, err := tcc.SQLTx(tx)
	if err != nil {
		return err
	}
	_, err = plain.ExecContext(ctx, map[string]string{
		"mysql":    "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213",
		"postgres": "DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '40P01'; END $$",
	}[s.dialect])
	s.told = err
	return err
}

// A deadlock is tried again, as it is with gorm.
func TestDeadlockInSQLTxIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			orch := sagatest.Open(t, sqltest.Open(t, dialect), quick)
			b := &stumbling{dialect: dialect}
			sagatest.Must(t, tcc.Register(orch, b))
			outcome, err := tcc.Execute(t.Context(), orch, sagatest.GID(), hold{1, 1})
			if err != nil || !outcome.Finished() || b.tries < 2 || b.told == nil {
				t.Errorf("%+v, %v after %d tries; told %v", outcome, err, b.tries, b.told)
			}
		})
	}
}
