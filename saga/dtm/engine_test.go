package dtm_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestExecute(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	ctx := t.Context()
	for range 2 { // the second time it does nothing new
		outcome, err := tcc.Execute(ctx, b.engine, "yes", phones(2), ring{1})
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.holds(0, 2, 1, 1, 0)
	}
	found, err := b.engine.Lookup(ctx, "yes")
	sagatest.Must(t, err)
	if found.State != saga.Confirmed || len(found.Branches) != 2 || found.Branches[0].Kind != "stock.lock" || found.Branches[1].Kind != "bell.ring" ||
		string(found.Branches[1].Payload) != `{"Times":1}` || found.FinishedAt.IsZero() || found.Pattern != "tcc" {
		t.Errorf("%+v", found)
	}
	if _, err := tcc.Execute(ctx, b.engine, "yes", phones(3), ring{1}); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("another plan: %v", err)
	}
	if err := b.engine.Begin(ctx, saga.Opening{GID: "yes", Pattern: "tcc"}); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("opening it: %v", err)
	}

	var rejection *saga.Rejection
	outcome, err := tcc.Execute(ctx, b.engine, "no", ring{1}, phones(99))
	if !errors.Is(err, saga.ErrCancelled) || !errors.As(err, &rejection) || outcome.State != saga.Cancelled || !strings.Contains(outcome.Reason, "phone") {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.holds(0, 2, 2, 1, 1)
	again, err := tcc.Execute(ctx, b.engine, "no", ring{1}, phones(99))
	if !errors.Is(err, saga.ErrCancelled) || again != outcome {
		t.Errorf("%+v, %v; want the same again", again, err)
	}
	b.holds(0, 2, 2, 1, 1)

	outcome, err = tcc.ExecuteWith(ctx, b.engine, "soon", saga.Options{ReturnDecided: true}, phones(1))
	if err != nil || outcome.State != saga.Confirming {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.reaches("soon", saga.Confirmed)
	b.holds(0, 3, 2, 1, 1)
}

func TestOpenTransactions(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	ctx := t.Context()
	begin := func(gid string) *tcc.Transaction {
		tx, err := tcc.Begin(ctx, b.engine, gid)
		sagatest.Must(t, err)
		return tx
	}
	for range 2 { // a request that is repeated runs again
		tx := begin("a")
		sagatest.Must(t, tx.Try(ctx, phones(2)))
		sagatest.Must(t, tx.Try(ctx, ring{1}))
		b.holds(2, 0, 1, 0, 0)
	}
	other, err := tcc.Join(ctx, b.engine, "a")
	sagatest.Must(t, err)
	sagatest.Must(t, other.Try(ctx, phones(1)))
	if _, err := b.engine.Confirm(ctx, "a", saga.Options{}); err != nil {
		t.Error(err)
	}
	outcome, err := other.Confirm(ctx)
	if err != nil || outcome.State != saga.Confirmed {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.holds(0, 3, 1, 1, 0)
	if err := other.Try(ctx, ring{1}); !errors.Is(err, saga.ErrNotOpen) {
		t.Errorf("after the decision: %v", err)
	}
	if outcome, err := other.Cancel(ctx, ""); !errors.Is(err, saga.ErrConfirmed) || outcome.State != saga.Confirmed {
		t.Errorf("%+v, %v", outcome, err)
	}

	tx := begin("b")
	sagatest.Must(t, tx.Try(ctx, phones(2)))
	if err := begin("b").Try(ctx, phones(3)); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("another payload: %v", err)
	}
	for range 2 {
		outcome, err := tx.Cancel(ctx, "changed "+long(2000))
		if err != nil || outcome.State != saga.Cancelled || !strings.HasPrefix(outcome.Reason, "changed x") {
			t.Errorf("%+v, %v", outcome, err)
		}
	}
	if _, err := tx.Confirm(ctx); !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("confirming what is cancelled: %v", err)
	}
	b.holds(0, 3, 1, 1, 0)

	// Nobody decides: the server does, at the deadline.
	tx, err = tcc.BeginWith(ctx, b.engine, "c", saga.Options{Timeout: time.Second})
	sagatest.Must(t, err)
	if err := tx.Try(ctx, phones(4)); err != nil && !errors.Is(err, saga.ErrNotOpen) {
		t.Error(err)
	}
	b.reaches("c", saga.Cancelled)
	if _, err := tx.Confirm(ctx); !errors.Is(err, saga.ErrCancelled) && !strings.Contains(err.Error(), "a Try has failed") {
		t.Errorf("after the deadline: %v", err)
	}
	b.holds(0, 3, 1, 1, 0)

	for what, err := range map[string]error{
		"confirm": second(b.engine.Confirm(ctx, "nobody", saga.Options{})),
		"cancel":  second(b.engine.Cancel(ctx, "nobody", "")),
		"lookup":  second(b.engine.Lookup(ctx, "nobody")),
		"resume":  second(tcc.Join(ctx, b.engine, "nobody")),
		"try":     b.engine.Try(ctx, "nobody", "01", saga.Step{Kind: "bell.ring", Input: ring{1}}),
	} {
		if !errors.Is(err, saga.ErrNotFound) {
			t.Errorf("%s of a gid that nobody knows: %v", what, err)
		}
	}
	if _, err := b.engine.Lookup(ctx, "nobody"); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("asking has made one: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestLimits(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	ctx := t.Context()
	execute := func(gid string, options saga.Options, payloads ...tcc.Payload) error {
		return second(tcc.ExecuteWith(ctx, b.engine, gid, options, payloads...))
	}
	many := make([]tcc.Payload, 100)
	for i := range many {
		many[i] = ring{1}
	}
	for name, c := range map[string]struct {
		err  error
		says string
	}{
		"half a second":     {execute("a", saga.Options{Timeout: 1500 * time.Millisecond}, ring{1}), "whole seconds"},
		"negative":          {execute("a", saga.Options{Timeout: -time.Second}, ring{1}), "whole seconds"},
		"labels":            {execute("a", saga.Options{Labels: map[string]string{"order": "1"}}, ring{1}), "Labels"},
		"labels of Begin":   {b.engine.Begin(ctx, saga.Opening{GID: "a", Pattern: "tcc", Labels: map[string]string{"order": "1"}}), "Labels"},
		"labels of Confirm": {second(b.engine.Confirm(ctx, "a", saga.Options{Labels: map[string]string{"order": "1"}})), "Labels"},
		"100 branches":      {execute("a", saga.Options{}, many...), "100 branches"},
		"no branches":       {execute("a", saga.Options{}), "0 branches"},
		"64 KB":             {execute("a", saga.Options{}, stock.Lock{Items: []stock.Item{{SKU: long(1 << 16), Quantity: 1}}}), "65535"},
		"semicolon":         {execute("a;b", saga.Options{}, ring{1}), "semicolon"},
		"space":             {execute("a b", saga.Options{}, ring{1}), "printable ASCII"},
		"no gid":            {execute("", saga.Options{}, ring{1}), "empty"},
		"unknown kind":      {execute("a", saga.Options{}, unknown{}), "not registered"},
		"open, half":        {b.engine.Begin(ctx, saga.Opening{GID: "a", Pattern: "tcc", Timeout: 1}), "whole seconds"},
		"another pattern":   {b.engine.Begin(ctx, saga.Opening{GID: "a", Pattern: "saga"}), "only tcc"},
		"branch id":         {b.engine.Try(ctx, "a", "one", saga.Step{Kind: "bell.ring", Input: ring{1}}), "two digits"},
		"kind twice":        {tcc.Register(b.engine, &bell{}), "already"},
		"external, no host": {hostless(t, b).Register(saga.NewLocal("x", func(any) ([]byte, error) { return nil, nil }, saga.Local{})), "Config.Host"},
		"signed service":    {tcc.RegisterRemote[unknown](b.engine, signed(t)), "cannot sign"},
		"other remote":      {tcc.RegisterRemote[unknown](b.engine, nowhere{}), "where"},
	} {
		if !errors.Is(c.err, saga.ErrInvalid) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, c.err, c.says)
		}
	}
	if _, err := b.engine.Lookup(ctx, "a"); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("something was written: %v", err)
	}
	b.holds(0, 0, 0, 0, 0)
	// What is just allowed works.
	gid, most := long(128), make([]tcc.Payload, 99)
	for i := range most {
		most[i] = ring{1}
	}
	if err := execute(gid, saga.Options{Timeout: 20 * time.Second}, most...); err != nil {
		t.Error(err)
	}
	b.holds(0, 0, 99, 99, 0)
}

// A decision that comes after the deadline is to cancel, also if the server has not
// looked at its clock yet.
func TestConfirmAfterTheDeadline(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	tx, err := tcc.BeginWith(t.Context(), b.engine, "late", saga.Options{Timeout: 2 * time.Second})
	sagatest.Must(t, err)
	sagatest.Must(t, tx.Try(t.Context(), phones(1)))
	found, err := b.engine.Lookup(t.Context(), "late")
	sagatest.Must(t, err)
	b.server.Kill()
	sagatest.Eventually(t, "the deadline passes", func() bool { return time.Now().After(found.DeadlineAt) })
	b.server.Restart()
	if outcome, err := tx.Confirm(t.Context()); !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.reaches("late", saga.Cancelled)
	b.holds(0, 0, 0, 0, 0)
}

// Many callers with the same gid, and many with their own.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			if outcome, err := tcc.Execute(t.Context(), b.engine, "same", phones(1), ring{1}); err != nil {
				t.Errorf("same: %+v, %v", outcome, err)
			}
		})
		callers.Go(func() {
			if outcome, err := tcc.Execute(t.Context(), b.engine, fmt.Sprintf("own-%d", i), phones(1), ring{1}); err != nil {
				t.Errorf("own: %+v, %v", outcome, err)
			}
		})
	}
	callers.Wait()
	b.reaches("same", saga.Confirmed)
	for i := range 8 {
		b.reaches(fmt.Sprintf("own-%d", i), saga.Confirmed)
	}
	b.holds(0, 9, 9, 9, 0)
}
