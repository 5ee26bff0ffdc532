package embedded_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A COMMIT that the server answers with "I do not know", or with a shutdown, is
// unknown until it is certain: what is told is what happened, whether it was made
// or not.
func TestACommitOfWhichTheServerDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, state := range []sqlState{"40003", "57P01", "57P02", "08006", "08007"} {
		for _, translate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/translate=%t", string(state), translate), func(t *testing.T) {
				t.Parallel()
				s, db := newServer(t, "postgres", &gorm.Config{TranslateError: translate})
				c := newCareless(t, db, "", 0)
				orch := opened(t, db, embedded.Config{Lease: time.Hour}, spec{Kind: "a", Work: c.inside})
				for _, made := range []bool{false, true} {
					for nth := range 3 {
						gid := fmt.Sprintf("%t-%d", made, nth)
						s.commit.Store(&commitFault{err: state, made: made}) // some other COMMIT of the engine may take it
						outcome, err := orch.Execute(t.Context(), planOf(gid, "a"))
						if outcome.State != saga.Confirmed && outcome.State != saga.Confirming {
							t.Errorf("%s: %+v, %v", gid, outcome, err)
						}
						c.check(db, gid, ends(t, orch, gid), 1)
					}
				}
			})
		}
	}
}

// A COMMIT that a deferred constraint refuses is a no: nothing was reserved, and
// the transaction is cancelled at once; a Confirm that is refused so is a failed
// attempt.
func TestADeferredConstraint(t *testing.T) {
	t.Parallel()
	for _, translate := range []bool{false, true} {
		t.Run(fmt.Sprintf("translate=%t", translate), func(t *testing.T) {
			t.Parallel()
			_, db := newServer(t, "postgres", &gorm.Config{TranslateError: translate})
			sagatest.Must(t, db.Exec("CREATE TABLE parents (id INT PRIMARY KEY)").Error)
			sagatest.Must(t, db.Exec("CREATE TABLE children (id INT, parent INT REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)").Error)
			var tries atomic.Int64
			violating := func(op barrier.Op) func(context.Context, *gorm.DB, saga.Call) error {
				return func(_ context.Context, tx *gorm.DB, call saga.Call) error {
					if call.Op == barrier.Try {
						tries.Add(1)
					}
					if call.Op != op {
						return nil
					}
					return tx.Exec("INSERT INTO children VALUES (1, 1)").Error
				}
			}
			deliver := map[barrier.Op]saga.Effect{barrier.Confirm: sending}
			orch := opened(t, db, embedded.Config{}, spec{Kind: "try", Work: violating(barrier.Try)},
				spec{Kind: "confirm", Work: violating(barrier.Confirm), Effects: deliver}, spec{Kind: "good", Work: violating("")})
			outcome, err := orch.Execute(t.Context(), planOf("try", "good", "try"))
			if outcome.State != saga.Cancelled || outcome.Code != saga.CodeRefused || !errors.Is(err, saga.ErrCancelled) {
				t.Errorf("%+v, %v", outcome, err)
			}
			if n := tries.Load(); n > 4 {
				t.Errorf("%d Trys", n)
			}
			_, err = orch.Execute(t.Context(), planOf("confirm", "good", "confirm"))
			sagatest.Must(t, err)
			sagatest.Eventually(t, "attempts are in the log", func() bool {
				found, err := orch.Lookup(t.Context(), "confirm")
				sagatest.Must(t, err)
				return len(found.Branches[1].Attempts) > 1
			})
			sagatest.Must(t, db.Exec("INSERT INTO parents VALUES (1)").Error)
			if state := ends(t, orch, "confirm"); state != saga.Confirmed {
				t.Errorf("it is %s", state)
			}
		})
	}
}

// failingMember is the member of a batch whose Try fails.
type failingMember struct {
	err   error
	tries atomic.Int64
}

// A network error of a branch's own is no fault of the database: its Try is called
// once, and once more if it was in a batch of several.
func TestANetworkErrorOfABranch(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		var failing sync.Map // by gid: *failingMember
		inside := func(_ context.Context, _ *gorm.DB, call saga.Call) error {
			member, fails := failing.Load(call.GID)
			if !fails || call.Op != barrier.Try {
				return nil
			}
			member.(*failingMember).tries.Add(1)
			return fmt.Errorf("asking elsewhere: %w", member.(*failingMember).err)
		}
		together := func(ctx context.Context, tx *gorm.DB, _ barrier.Op, all []saga.BatchCall) ([]error, error) {
			failures := make([]error, len(all))
			for i, call := range all {
				failures[i] = inside(ctx, tx, call.Call)
			}
			return failures, nil
		}
		orch := opened(t, db, embedded.Config{}, spec{Kind: "plain", Work: inside}, spec{Kind: "bulk", Work: inside, WorkBatch: together})
		for n, foreign := range []error{io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, refused} {
			for _, kind := range []string{"plain", "bulk"} {
				for _, members := range []int{1, 10} {
					name := fmt.Sprintf("%d-%s-%d", n, kind, members)
					if members > 1 {
						orch.GatherDecisions(planOf("x", kind), members)
					}
					bad := &failingMember{err: fmt.Errorf("on purpose: %w", foreign)}
					var callers sync.WaitGroup
					for i := range members {
						callers.Go(func() {
							gid, want := fmt.Sprintf("%s-%d", name, i), saga.Confirmed
							if i == members/2 {
								want = saga.Cancelled
								failing.Store(gid, bad)
							}
							outcome, err := orch.Execute(t.Context(), planOf(gid, kind))
							if outcome.State != want {
								t.Errorf("%s: %+v, %v", gid, outcome, err)
							}
						})
					}
					callers.Wait()
					if got := bad.tries.Load(); got > min(2, int64(members)) {
						t.Errorf("%s: the Try that fails was called %d times", name, got)
					}
				}
			}
		}
	})
}

// After a failover the pool has connections to a server that takes no writes any
// more. They are not kept: not by the engine, and not by the heartbeat.
func TestConnectionsToAServerThatIsReadOnly(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			s, db := newServer(t, dialect, &gorm.Config{})
			c := newCareless(t, db, "", 0)
			orch := opened(t, db, embedded.Config{Lease: 600 * time.Millisecond}, spec{Kind: "a", Work: c.inside})
			_, err := orch.Execute(t.Context(), planOf("before", "a"))
			sagatest.Must(t, err)
			pool, err := db.DB()
			sagatest.Must(t, err)
			pool.SetMaxOpenConns(9) // no other is left but the heartbeat's
			s.readOnly.Store(true)
			pool.SetMaxIdleConns(0)  // the connections to the old server end,
			pool.SetMaxIdleConns(10) // and new ones are of one that is read-only
			var conns []*sql.Conn
			for range 8 { // the heartbeat has one of its own
				conn, err := pool.Conn(t.Context())
				sagatest.Must(t, err)
				conns = append(conns, conn)
			}
			for _, conn := range conns {
				sagatest.Must(t, conn.Close())
			}
			s.readOnly.Store(false)
			var callers sync.WaitGroup
			for i := range 20 {
				callers.Go(func() {
					for n := 0; ; n++ { // as a user repeats what was not answered
						gid := fmt.Sprintf("after-%d", i)
						outcome, err := orch.Execute(t.Context(), planOf(gid, "a"))
						if outcome.State == saga.Confirmed {
							c.check(db, gid, saga.Confirmed, 1)
							return
						}
						if n == 20 {
							t.Errorf("%s: %+v, %v", gid, outcome, err)
							return
						}
					}
				})
			}
			callers.Wait()
		})
	}
}

// The connection of the heartbeat leads to a server that becomes read-only, and so
// do the next few: it beats on with the first one that does not.
func TestTheHeartbeatLeavesAServerThatIsReadOnly(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			s, db := newServer(t, dialect, &gorm.Config{})
			pool, err := db.DB()
			sagatest.Must(t, err)
			s.readOnly.Store(true)
			pool.SetMaxIdleConns(0)
			pool.SetMaxIdleConns(10)
			var conns []*sql.Conn
			for range 10 {
				conn, err := pool.Conn(t.Context())
				sagatest.Must(t, err)
				conns = append(conns, conn)
			}
			for _, conn := range conns {
				sagatest.Must(t, conn.Close())
			}
			if _, err := embedded.Open(t.Context(), db, embedded.Config{}); err == nil {
				t.Error("an engine has opened on a server that is read-only")
			}
			s.readOnly.Store(false)
			// Whatever is left of that server in the pool, Open gets past it.
			for range 12 {
				var orch *embedded.Engine
				if orch, err = embedded.Open(t.Context(), db, embedded.Config{}); err == nil {
					sagatest.Must(t, orch.Stop(t.Context()))
					break
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}
