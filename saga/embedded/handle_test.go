package embedded_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	naming "gorm.io/gorm/schema"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Thing is a row of a branch that keeps its tables under a prefix.
type Thing struct {
	GID    string `gorm:"column:gid"`
	Op     string
	Tenant string
}

// ownHandle returns another handle on the pool of db, as a user sets it up: with a
// table prefix, a callback and a setting.
func ownHandle(t *testing.T, db *gorm.DB, creates *atomic.Int64) *gorm.DB {
	t.Helper()
	pool, err := db.DB()
	ok(err)
	prefix := "app_"
	var dialector gorm.Dialector = &sqlite.Dialector{Conn: pool}
	switch db.Name() {
	case "mysql":
		dialector = mysql.New(mysql.Config{Conn: pool})
	case "postgres":
		prefix = "app." // a schema
		ok(db.Exec("CREATE SCHEMA app").Error)
		dialector = postgres.New(postgres.Config{Conn: pool})
	}
	own, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard, NamingStrategy: naming.NamingStrategy{TablePrefix: prefix}})
	ok(err)
	ok(own.AutoMigrate(&Thing{}))
	ok(own.Callback().Create().Before("gorm:create").Register("test:tenant", func(tx *gorm.DB) {
		creates.Add(1)
		if tenant, set := tx.Get("tenant"); set {
			tx.Statement.SetColumn("Tenant", tenant, true)
		}
	}))
	return own.Set("tenant", "acme").Session(&gorm.Session{})
}

// A branch's own handle on the engine's pool is the one that its methods, its bulk
// methods and its Clean get.
func TestABranchsOwnHandle(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		var creates atomic.Int64
		own := ownHandle(t, db, &creates)
		inside := func(_ context.Context, tx *gorm.DB, call saga.Call) error {
			return tx.Create(&Thing{GID: call.GID, Op: string(call.Op)}).Error
		}
		branch := spec{Kind: "own", Database: own, Work: inside, Encode: encode,
			Clean: func(_ context.Context, tx *gorm.DB, gids []string) error {
				return tx.Where("gid IN ?", gids).Delete(&Thing{}).Error
			}}
		bulk := branch
		bulk.Kind = "bulk"
		bulk.WorkBatch = func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
			var things []Thing
			for _, call := range calls {
				things = append(things, Thing{GID: call.GID, Op: string(op)})
			}
			return nil, tx.Create(&things).Error
		}
		orch := opened(t, db, embedded.Config{CallTimeout: 500 * time.Millisecond, Retention: time.Second}, branch, bulk)
		host, err := participant.New(t.Context(), db, participant.Config{CallTimeout: 500 * time.Millisecond})
		ok(err)
		ok(register(host, branch))
		things := func(gid string) (n int64) {
			ok(own.Session(&gorm.Session{}).Model(&Thing{}).Where("gid = ? AND tenant = 'acme'", gid).Count(&n).Error)
			return n
		}
		check := func(gid string) {
			t.Helper()
			if n := things(gid); n != 2 {
				t.Errorf("%s has %d rows in the branch's own table, want 2", gid, n)
			}
		}
		plan := planOf("alone", "own")
		plan.Timeout = time.Hour // it is not cleaned
		_, err = orch.Execute(t.Context(), plan)
		ok(err)
		check("alone")
		for _, kind := range []string{"own", "bulk"} {
			orch.GatherDecisions(planOf("x", kind), 6)
			var callers sync.WaitGroup
			for i := range 6 {
				callers.Go(func() {
					plan := planOf(fmt.Sprintf("%s-%d", kind, i), kind)
					plan.Timeout = time.Hour
					_, err := orch.Execute(t.Context(), plan)
					if err != nil {
						t.Error(err)
					}
					check(plan.GID)
				})
			}
			callers.Wait()
		}
		for _, gid := range []string{"open", "hosted"} {
			ok(orch.Begin(t.Context(), saga.Opening{GID: "open-" + gid, Timeout: time.Hour}))
		}
		ok(orch.Try(t.Context(), "open-open", "01", saga.Step{Kind: "own"}))
		_, err = orch.Cancel(t.Context(), "open-open", "on purpose")
		ok(err)
		ends(t, orch, "open-open")
		check("open-open")
		for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
			call := saga.Call{GID: "hosted", BranchID: "01", Kind: "own", Op: op, Payload: []byte("{}")}
			ok(host.Call(t.Context(), call))
		}
		check("hosted")
		eventually(t, "the participant cleans", func() bool {
			_, err := host.Clean(t.Context(), time.Second)
			ok(err)
			return things("hosted") == 0
		})

		plan = planOf("old", "own", "bulk")
		plan.Timeout = time.Second
		outcome, err := orch.Execute(t.Context(), plan)
		if outcome.State != saga.Confirmed {
			t.Fatal(outcome, err)
		}
		eventually(t, "the engine cleans", func() bool { return things("old") == 0 })
		check("alone")
	})
}
