package action_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// places are the combinations of places of three steps.
var places = []string{"here here here", "away away away", "out out out", "far far far", "here away here", "away here away", "out here far", "far out away"}

// The steps are done one after the other, and each one knows the results of those before it.
func TestSequential(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		for i, place := range places {
			at := strings.Fields(place)
			letters := [3]string{fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i)}
			s := action.NewSaga(place[:1] + fmt.Sprint(i))
			for n, letter := range letters {
				s.Step(payload(letter, at[n]))
			}
			before := len(b.history())
			b.execute(s, saga.Confirmed)
			if got, want := calls(b.history()[before:]), fmt.Sprintf("do a%d, do b%d, do c%d", i, i, i); got != want {
				t.Errorf("%s: the effects are %s, want %s", place, got, want)
			}
			b.knew("do "+letters[0], "")
			b.knew("do "+letters[2], fmt.Sprintf("01=a%d1 02=b%d1", i, i))
		}
	})
}

// If a step rejects, the steps before it are compensated in reverse order, each with its result.
func TestCompensation(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		for i, place := range places {
			at := strings.Fields(place)
			letters := [3]string{fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i)}
			s := action.NewSaga(place[:1] + fmt.Sprint(i))
			for n, letter := range letters {
				s.Step(payload(letter, at[n]))
			}
			b.journal.fail("do "+letters[2], action.RejectCode("none", errNo))
			before := len(b.history())
			_, err := s.Execute(t.Context(), b.engine)
			var rejection *saga.Rejection
			if !errors.Is(err, saga.ErrCancelled) || !errors.As(err, &rejection) || rejection.Code != "none" {
				t.Fatalf("%s: %v", place, err)
			}
			b.reaches(s.GID(), saga.Cancelled)
			got := calls(b.history()[before:])
			want := fmt.Sprintf("do a%d, do b%d, undo b%d, undo a%d", i, i, i, i)
			switch {
			case place == "here here here": // nothing was committed
				want = ""
			case at[2] == "out": // Compensate of an external action is called whenever Do may have had an effect
				want = strings.Replace(want, "undo b", fmt.Sprintf("undo c%d, undo b", i), 1)
			}
			if got != want {
				t.Errorf("%s: the effects are %s, want %s", place, got, want)
			}
			if want != "" {
				b.knew("undo "+letters[0], fmt.Sprintf("01=a%d1 02=b%d1 done=a%d1", i, i, i))
			}
		}
	})
}

// calls returns entries as text.
func calls(entries []entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, e.What+" "+e.Letter)
	}
	return strings.Join(all, ", ")
}

// The actions of a group are done at the same time, and the next step waits for all of them.
func TestParallel(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		var entered []<-chan struct{}
		var gates []chan struct{}
		for _, letter := range []string{"b", "c", "d"} {
			in, gate := b.journal.hold("do " + letter)
			entered, gates = append(entered, in), append(gates, gate)
		}
		s := action.NewSaga("g").Step(here{"a"}).Parallel(away{"b"}, out{"c"}, far{"d"}, here{"e"}).Step(here{"f"})
		ended := make(chan error, 1)
		go func() {
			_, err := s.Execute(t.Context(), b.engine)
			ended <- err
		}()
		for _, in := range entered { // all have begun before one ends
			await(t, in)
		}
		for _, gate := range gates {
			close(gate)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		b.did("do a, (do b, do c, do d, do e), do f")
		b.knew("do b", "01=a1 05=e1")
		b.knew("do f", "01=a1 02=b1 03=c1 04=d1 05=e1")
	})
}

// If an action of a group fails, the others are awaited, and the group is compensated before the
// steps before it.
func TestParallelCompensation(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.journal.fail("do d", action.Reject(errNo))
		s := action.NewSaga("g").Step(away{"a"}).Step(here{"b"}).Parallel(away{"c"}, far{"d"}, out{"e"}, here{"f"})
		b.execute(s, saga.Cancelled)
		b.did("do a, do b, (do c, do e), (undo c, undo e), undo b, undo a")
	})
}

func await(t *testing.T, signal <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-signal:
	case <-ctx.Done():
		t.Fatal("it never came")
	}
}

// tcc.Execute takes actions, too: one after the other.
func TestWithPackageTCC(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		if _, err := tcc.Execute(t.Context(), b.engine, "g", away{"a"}, here{"b"}); err != nil {
			t.Fatal(err)
		}
		b.did("do a, do b")
		b.journal.fail("do d", action.Reject(errNo))
		if _, err := tcc.Execute(t.Context(), b.engine, "h", away{"c"}, far{"d"}); !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		b.reaches("h", saga.Cancelled)
		b.did("do a, do b, do c, undo c")
	})
}
