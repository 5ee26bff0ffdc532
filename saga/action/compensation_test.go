package action_test

import (
	"context"
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

// A compensation that fails is called again, and the compensations of earlier steps wait for it.
func TestCompensationThatFails(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		for i, place := range [][]string{{"here", "away"}, {"away", "here"}, {"far", "out"}, {"out", "far"}} {
			gid := string(rune('0' + i))
			a, second, c, d := "a"+gid, "b"+gid, "c"+gid, "d"+gid
			b.journal.fail("do "+d, action.Reject(errNo))
			b.journal.fail("undo "+second, errDown, errDown, errDown)
			before := len(b.history())
			s := action.NewSaga(gid).Step(payload(a, place[0])).Step(payload(second, place[1])).Step(payload(c, "away")).Step(payload(d, "far"))
			if _, err := s.Execute(t.Context(), b.engine); err == nil {
				t.Fatal("it is not cancelled")
			}
			found := b.reaches(gid, saga.Cancelled)
			want := "do " + a + ", do " + second + ", do " + c + ", undo " + c + ", undo " + second + ", undo " + a
			if got := calls(b.history()[before:]); got != want {
				t.Errorf("%v: the effects are %s, want %s", place, got, want)
			}
			if n := len(found.Branches[1].Attempts); n != 3 || found.Branches[1].Attempts[0].Operation != barrier.Cancel || found.Failures != 4 {
				t.Errorf("%v: attempts %+v, failures %d", place, found.Branches[1].Attempts, found.Failures)
			}
			if n := b.journal.called("undo " + a); n != 1 {
				t.Errorf("%v: the first step was compensated %d times", place, n)
			}
		}
	})
}

// The compensations of a group do not wait for each other, and those of earlier steps wait for
// the whole group.
func TestCompensationOfAGroupThatFails(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.journal.fail("do e", action.Reject(errNo))
		b.journal.fail("undo b", errDown, errDown)
		b.journal.fail("undo d", errDown, errDown, errDown)
		s := action.NewSaga("g").Step(here{"a"}).Parallel(away{"b"}, here{"c"}, far{"d"}).Step(far{"e"})
		if _, err := s.Execute(t.Context(), b.engine); err == nil {
			t.Fatal("it is not cancelled")
		}
		b.reaches("g", saga.Cancelled)
		b.did("do a, (do b, do c, do d), undo c, undo b, undo d, undo a")
		b.knew("undo a", "01=a1 02=b1 03=c1 04=d1 done=a1")
	})
}

// Another instance continues the compensations of a process that has died between two of them. It
// has the results, and repeats nothing.
func TestDeathBetweenCompensations(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newStill(t, db, still)
		b.journal.fail("do e", action.Reject(errNo))
		b.journal.fail("undo c", errDown)
		s := action.NewSaga("g").Step(away{"a"}).Step(here{"b"}).Step(far{"c"}).Step(out{"d"}).Step(far{"e"})
		b.execute(s, saga.Cancelling)
		b.did("do a, do b, do c, do d, undo d")
		found, err := b.engine.Lookup(t.Context(), "g")
		sagatest.Must(t, err)
		if by := found.Branches[3]; by.DoneAt.IsZero() || by.Barrier.State != barrier.StateCancelled {
			t.Errorf("the last step: %+v", by)
		}
		b.die()
		second := b.open(quick)
		sagatest.Run(t, second)
		b.reaches("g", saga.Cancelled)
		b.did("do a, do b, do c, do d, undo d, undo c, undo b, undo a")
		b.knew("undo c", "01=a1 02=b1 03=c1 04=d1 done=c1")
		b.knew("undo a", "01=a1 02=b1 03=c1 04=d1 done=a1")
		if n := b.journal.called("undo d"); n != 1 {
			t.Errorf("the last step was compensated %d times", n)
		}
	})
}

// An undecided saga of a process that has died is compensated: also the action that was under way.
func TestDeathInAnAction(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, place := range []string{"away", "far", "out"} {
			t.Run(place, func(t *testing.T) {
				config := still
				if config.CallTimeout = 1500 * time.Millisecond; place == "out" {
					config.CallTimeout = 30 * time.Second // the action is not given up before its end
				}
				b, gid := newStill(t, sqltest.Open(t, db.Name()), config), "g"
				entered, gate := b.journal.hold("do c")
				s := action.NewSaga(gid).Step(away{"a"}).Step(here{"b"}).Step(away{"d"}).Step(payload("c", place))
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					s.Execute(context.WithoutCancel(t.Context()), b.engine)
				}()
				await(t, entered)
				config.MinBackoff, config.MaxBackoff = 0, 0
				b.die()
				second := b.open(config)
				sagatest.Run(t, second)
				found := sagatest.Reach(t, second, gid, saga.Cancelling)
				if found.Code != saga.CodeGone {
					t.Errorf("it is cancelled because of %q, %s", found.Code, found.Reason)
				}
				close(gate)
				sagatest.Reach(t, second, gid, saga.Cancelled)
				<-ended
				// The barrier refuses the late Do, or undoes it.
				var order []string
				for _, e := range b.history() {
					if e.Letter != "c" {
						order = append(order, e.What+" "+e.Letter)
					}
				}
				if !inOrder(order, "do a, do b, do d, undo d, undo b, undo a") {
					t.Errorf("the effects are %v", order)
				}
				knew := "01=a1 02=b1 03=d1 done=b1"
				if place == "out" { // its Cancel waits for the end of Do, which has a result
					knew = "01=a1 02=b1 03=d1 04=c1 done=b1"
				}
				b.knew("undo b", knew)
				b.undone("c")
			})
		}
	})
}

// undone checks that an action was undone after it was done, or has no effect.
func (b *bench) undone(letter string) {
	b.t.Helper()
	last := ""
	for _, e := range b.history() {
		if e.Letter == letter {
			last = e.What
		}
	}
	if last == "do" {
		b.t.Errorf("%s was done, and not undone: %+v", letter, b.history())
	}
}
