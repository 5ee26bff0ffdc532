package action_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// lossy is a service whose answers are lost.
type lossy struct {
	service
	op   barrier.Op
	lost int // answers that are still lost
}

func (l *lossy) Call(ctx context.Context, call saga.Call) error {
	err := l.service.Call(ctx, call)
	if call.Op == l.op && l.lost > 0 {
		l.lost--
		if call.Result != nil {
			*call.Result = nil
		}
		return errors.Join(errDown, err)
	}
	return err
}

// farther is an action of a lossy service.
type farther struct{ L string }

func (farther) Branch() string { return "act.farther" }

// withLossy adds a kind of action to the bench, in a service that loses answers.
func (b *bench) withLossy(op barrier.Op, lost int) *lossy {
	b.t.Helper()
	l := &lossy{b.service, op, lost}
	sagatest.Must(b.t, action.Register(b.service, local[farther]{b.journal, nil, func(in farther) string { return in.L }}))
	sagatest.Must(b.t, action.RegisterRemote[farther](b.engine, l))
	return l
}

// The answer of an action in another service is lost. The action was done, and is compensated
// with the result that only the service has.
func TestLostAnswerOfAnAction(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.withLossy(barrier.Try, 1)
		b.execute(action.NewSaga("g").Step(away{"a"}).Step(farther{"b"}), saga.Cancelled)
		b.did("do a, do b, undo b, undo a")
		b.knew("undo b", "01=a1 02=b1 done=b1")
	})
}

// Whichever COMMIT is not answered, made or not made: an action that was done is compensated, or
// the saga is confirmed, and the caller is told what happened.
func TestUnansweredCommits(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(gid string, b *bench) *action.Saga{
		"resident": func(gid string, b *bench) *action.Saga {
			return action.NewSaga(gid).Step(here{gid + "a"}).Step(here{gid + "b"}).AfterDecision(here{gid + "z"})
		},
		"mixed": func(gid string, b *bench) *action.Saga {
			return action.NewSaga(gid).Step(here{gid + "a"}).Parallel(away{gid + "b"}, out{gid + "c"}).Step(here{gid + "d"}).Step(far{gid + "e"}).AfterDecision(away{gid + "z"})
		},
		"compensated": func(gid string, b *bench) *action.Saga {
			b.journal.fail("do "+gid+"e", action.Reject(errNo))
			return action.NewSaga(gid).Step(here{gid + "a"}).Parallel(away{gid + "b"}, out{gid + "c"}).Step(here{gid + "d"}).Step(far{gid + "e"})
		},
	} {
		for _, forward := range []bool{false, true} {
			for _, where := range []string{"the log", "the other database"} {
				if name == "resident" && where != "the log" {
					continue
				}
				t.Run(name+map[bool]string{true: ", forward"}[forward]+", "+where, func(t *testing.T) {
					t.Parallel()
					commits(t, build, forward, where == "the log")
				})
			}
		}
	}
}

func commits(t *testing.T, build func(gid string, b *bench) *action.Saga, forward, inLog bool) {
	lossyDB, loss := sqltest.OpenLossy(t)
	plain := sqltest.Open(t, "sqlite")
	b := &bench{t: t, db: plain, other: lossyDB}
	if inLog {
		b.db, b.other = lossyDB, plain
	}
	config := quick
	// Only the calls themselves commit: nothing comes in between.
	config.Poll, config.Lease = 1<<61, 1<<61
	b.fill(config)
	sagatest.Run(t, b.engine)
	options := saga.Options{}
	if forward {
		options.TryAttempts = saga.Unlimited
	}
	for _, committed := range []bool{false, true} {
		for nth := 1; ; nth++ {
			lost := loss.Count()
			gid := sagatest.GID()[5:13]
			s := build(gid, b)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			loss.Arm(nth, committed)
			_, err := s.ExecuteWith(ctx, b.engine, options)
			loss.Arm(0, false)
			cancel()
			none := loss.Count() == lost
			b.settles(s, err, options)
			if t.Failed() {
				t.Logf("COMMIT %d, made %t", nth, committed)
				return
			}
			if none {
				break // there are not so many
			}
		}
	}
	if loss.Count() < 2 {
		t.Errorf("only %d COMMITs were lost", loss.Count())
	}
}

// settles lets another instance bring a saga to its end, and compares it with what the caller
// was told.
func (b *bench) settles(s *action.Saga, told error, options saga.Options) {
	t, gid := b.t, s.GID()
	t.Helper()
	helper := b.open(quick)
	running := make(chan error)
	stopping, stop := context.WithCancel(t.Context())
	sqltest.Exec(t, b.db, "UPDATE saga_transactions SET due_at = created_at, owner = '' WHERE due_at IS NOT NULL")
	go func() { running <- helper.Run(stopping) }()
	defer func() { stop(); <-running }()
	if errors.Is(told, saga.ErrUnknown) {
		_, told = s.ExecuteWith(t.Context(), helper, options)
	}
	done, undone := map[string]int{}, map[string]int{}
	count := func() {
		clear(done)
		clear(undone)
		for _, e := range b.history() {
			if len(e.Letter) < len(gid) || e.Letter[:len(gid)] != gid {
				continue
			}
			if e.What == "do" {
				done[e.Letter]++
			} else {
				undone[e.Letter]++
			}
		}
	}
	switch {
	case told == nil:
		sagatest.Reach(t, helper, gid, saga.Confirmed)
		if count(); len(undone) > 0 || done[gid+"z"] != 1 || done[gid+"a"] != 1 {
			t.Errorf("told confirmed: done %v, undone %v", done, undone)
		}
	case errors.Is(told, saga.ErrCancelled):
		sagatest.Reach(t, helper, gid, saga.Cancelled)
		count()
		for letter := range done {
			if undone[letter] == 0 {
				t.Errorf("told cancelled, and %s was not compensated: done %v, undone %v", letter, done, undone)
			}
		}
	default:
		t.Errorf("told %v", told)
	}
}

// An action that does not return in time may have had its effect, and is compensated.
func TestActionThatTimesOut(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, place := range []string{"away", "far", "out"} {
			t.Run(place, func(t *testing.T) {
				b := newBench(t, sqltest.Open(t, db.Name()), embedded.Config{CallTimeout: 300 * time.Millisecond})
				b.gateway.after = true
				b.journal.hold("do b")
				_, err := action.NewSaga("g").Step(away{"a"}).Step(payload("b", place)).Execute(t.Context(), b.engine)
				if !errors.Is(err, saga.ErrCancelled) {
					t.Fatal(err)
				}
				b.reaches("g", saga.Cancelled)
				b.undone("b")
				if place != "out" {
					b.did("do a, undo a")
					return
				}
				b.did("do a, do b, undo b, undo b, undo a") // twice, because the request may arrive late
				b.knew("undo b", "01=a1 done=nil")
			})
		}
	})
}
