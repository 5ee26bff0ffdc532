package tcc_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Every misuse is an error that says what is wrong, and none a panic.
func TestMisuse(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	ctx := t.Context()
	var none context.Context
	only := func(_ any, err error) error { return err }
	tx, err := tcc.Begin(ctx, b.orch, sagatest.GID())
	sagatest.Must(t, err)
	var noTx *tcc.Transaction
	for name, test := range map[string]struct {
		err  error
		says string
	}{
		"Execute, no engine":     {only(tcc.Execute(ctx, nil, "g", hold{1, 1})), "tcc: execute g: the engine is nil"},
		"Execute, nil engine":    {only(tcc.Execute(ctx, (*embedded.Engine)(nil), "g", hold{1, 1})), "the engine is nil"},
		"Execute, no context":    {only(tcc.Execute(none, b.orch, "g", hold{1, 1})), "the context is nil"},
		"Execute, nothing":       {only(tcc.Execute(ctx, b.orch, "g")), "0 branches"},
		"Execute, nil payload":   {only(tcc.Execute(ctx, b.orch, "g", hold{1, 1}, nil)), "payload 2: the payload is nil"},
		"Execute, nil pointer":   {only(tcc.Execute(ctx, b.orch, "g", (*hold)(nil))), "payload 1: the payload is nil"},
		"Execute, a pointer":     {only(tcc.Execute(ctx, b.orch, "g", &hold{1, 1})), "is a *tcc_test.hold, but the branch takes a tcc_test.hold"},
		"Begin, no engine":       {only(tcc.Begin(ctx, nil, "g")), "tcc: begin g: the engine is nil"},
		"Begin, no context":      {only(tcc.Begin(none, b.orch, "g")), "the context is nil"},
		"Resume, no engine":      {only(tcc.Join(ctx, nil, "g")), "tcc: join g: the engine is nil"},
		"Resume, no context":     {only(tcc.Join(none, b.orch, "g")), "the context is nil"},
		"Try, no context":        {tx.Try(none, hold{1, 1}), "tcc: try " + tx.GID() + ": the context is nil"},
		"Confirm, no context":    {only(tx.Confirm(none)), "the context is nil"},
		"Cancel, no context":     {only(tx.Cancel(none, "")), "the context is nil"},
		"Try, no transaction":    {noTx.Try(ctx, hold{1, 1}), "tcc: try: the Transaction is empty"},
		"Confirm, zero value":    {only(new(tcc.Transaction).Confirm(ctx)), "tcc: confirm: the Transaction is empty"},
		"Cancel, no transaction": {only(noTx.Cancel(ctx, "")), "tcc: cancel: the Transaction is empty"},
		"Register, no engine":    {tcc.Register(nil, nothing[fine]{}), "the engine is nil"},
		"External, no engine":    {tcc.RegisterExternal[holdOut](nil, &gateway{}), "the engine is nil"},
		"Remote, no engine":      {tcc.RegisterRemote[hold](nil, remote{}), "the engine is nil"},
		"Remote, no service":     {tcc.RegisterRemote[hold](b.orch, nil), "service is nil"},
	} {
		if !errors.Is(test.err, saga.ErrInvalid) || !strings.Contains(test.err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, test.err, test.says)
		}
	}
	// None of these has spoiled the transaction.
	sagatest.Must(t, tx.Try(ctx, hold{1, 1}))
	outcome, err := tx.Confirm(ctx)
	if err != nil || !outcome.Finished() {
		t.Errorf("%+v, %v", outcome, err)
	}
}

// A transaction that is used after its decision says which decision that was.
func TestUseAfterTheDecision(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	ctx := t.Context()

	confirmed := b.begin(sagatest.GID(), saga.Options{})
	_, err := confirmed.Confirm(ctx)
	sagatest.Must(t, err)
	_, err = b.orch.States(ctx, confirmed.GID()) // waits until the end is written
	sagatest.Must(t, err)
	if err := confirmed.Try(ctx, hold{1, 1}); !errors.Is(err, saga.ErrNotOpen) || !strings.Contains(err.Error(), "confirmed") {
		t.Errorf("Try after Confirm: %v", err)
	}
	if _, err := confirmed.Cancel(ctx, "too late"); !errors.Is(err, saga.ErrConfirmed) {
		t.Errorf("Cancel after Confirm: %v", err)
	}

	cancelled := b.begin(sagatest.GID(), saga.Options{})
	if err := cancelled.Try(ctx, hold{2, 1000}); !errors.Is(err, errShort) {
		t.Fatal(err)
	}
	outcome, err := cancelled.Cancel(ctx, "short")
	if err != nil || !outcome.Finished() {
		t.Fatalf("%+v, %v", outcome, err)
	}
	if _, err := cancelled.Confirm(ctx); !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("Confirm after Cancel: %v", err)
	}
	if err := cancelled.Try(ctx, hold{2, 1}); !errors.Is(err, saga.ErrNotOpen) || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("Try after Cancel: %v", err)
	}
}
