package txn_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/limit"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func TestPrepare(t *testing.T) {
	t.Parallel()
	kit := parts.New(t, sqltest.Open(t, "sqlite"))
	kit.Local("a", &script)
	b := kit.Remote("b", &script)
	got, err := kit.Builder.Prepare(saga.Plan{GID: "g", Pattern: "tcc", Steps: []saga.Step{{Kind: "a", Input: 1}, {Kind: "b", Input: "x"}}})
	ok(t, err)
	if got.GID != "g" || got.Caller != kit.LogID || got.Epoch != 1 || len(got.Steps) != 2 || !got.Known() {
		t.Errorf("the transaction is %+v", got)
	}
	if s := got.Steps[1]; s.ID != "02" || s.Kind != "b" || string(s.Payload) != `"x"` || s.Branch != b {
		t.Errorf("the second step is %+v", s)
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	kit := parts.New(t, sqltest.Open(t, "sqlite"))
	kit.Local("a", &script)
	kit.Builder.MaxPayload, kit.Builder.MaxBytes = 6, 12 // with two quotes each
	full := saga.Step{Kind: "a", Input: "1234"}
	plan := func(gid, pattern string, steps ...saga.Step) saga.Plan {
		return saga.Plan{GID: gid, Pattern: pattern, Steps: steps}
	}
	for _, good := range []saga.Plan{
		plan("g", strings.Repeat("p", 16), full, full),
		plan("g", "", slices.Repeat([]saga.Step{{Kind: "a", Input: 1}}, 12)...),
	} {
		if _, err := kit.Builder.Prepare(good); err != nil {
			t.Error(err)
		}
	}
	kit.Builder.MaxBytes = 1000
	if _, err := kit.Builder.Prepare(plan("g", "", slices.Repeat([]saga.Step{full}, saga.MaxBranches)...)); err != nil {
		t.Error(err)
	}
	tooMany := plan("g", "", slices.Repeat([]saga.Step{full}, saga.MaxBranches+1)...)
	if _, err := kit.Builder.Prepare(tooMany); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "100 branches") {
		t.Errorf("too many branches: %v", err)
	}
	kit.Builder.MaxBytes = 12
	for _, c := range []struct {
		name, want string
		plan       saga.Plan
	}{
		{"no gid", "the gid is empty", plan("", "", full)},
		{"a long gid", "has 129 characters", plan(strings.Repeat("g", 129), "", full)},
		{"a long pattern", "has 17 characters", plan("g", strings.Repeat("p", 17), full)},
		{"no branch", "has 0 branches", plan("g", "")},
		{"an unknown kind", "branch 02: unknown kind", plan("g", "", full, saga.Step{Kind: "z"})},
		{"an input that is no JSON", "branch 01, a: json", plan("g", "", saga.Step{Kind: "a", Input: func() {}})},
		{"a large input", "has 7 bytes as JSON, Config.MaxPayload allows 6", plan("g", "", saga.Step{Kind: "a", Input: "12345"})},
		{"large inputs", "have 13 bytes, Config.MaxBytes allows 12", plan("g", "", full, full, saga.Step{Kind: "a", Input: 1})},
	} {
		got, err := kit.Builder.Prepare(c.plan)
		if got != nil || !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
		if strings.Count(err.Error(), "invalid") != 1 {
			t.Errorf("%s: it is said more than once: %v", c.name, err)
		}
	}
}

func TestStepRefusesABranchID(t *testing.T) {
	t.Parallel()
	kit := parts.New(t, sqltest.Open(t, "sqlite"))
	kit.Local("a", &script)
	for _, id := range []string{"", "a/b", "a b", "\n", strings.Repeat("i", 33)} {
		if s, err := kit.Builder.Step("g", id, saga.Step{Kind: "a"}); s != nil || !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("%q: %v, %v", id, s, err)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	kit := parts.New(t, sqltest.Open(t, "sqlite"))
	a := kit.Local("a", &script)
	got := kit.Builder.Load(txlog.Claimed{
		Record: txlog.Record{GID: "g", State: "confirming", Digest: "d", Epoch: 7, Attention: "why", SinceDecision: time.Hour},
		Branches: []txlog.Branch{
			{ID: "01", Kind: "a", Payload: "1", DoneAt: time.Now()}, {ID: "02", Kind: "a", Payload: "2"}, {ID: "03", Kind: "elsewhere", Payload: "3"}},
		Attempts: []txlog.Attempt{
			{BranchID: "02", Operation: "confirm", Number: 1, Wait: -time.Second}, {BranchID: "02", Operation: "confirm", Number: 2, Wait: time.Minute},
			{BranchID: "03", Operation: "try", Number: 1, Wait: time.Hour}, {BranchID: "unknown", Operation: "confirm", Number: 9}},
	})
	if got.GID != "g" || got.State != saga.Confirming || got.Epoch != 7 || got.Attention != "why" || !got.Planned || got.Fresh || got.Caller != kit.LogID || got.Known() {
		t.Errorf("the transaction is %+v", got)
	}
	if age := time.Since(got.Decided); age < time.Hour || age > 2*time.Hour {
		t.Errorf("it was decided %s ago", age)
	}
	for i, want := range []txn.Step{{ID: "01", Branch: a, Done: true}, {ID: "02", Branch: a, Failed: 2, Wait: time.Minute}, {ID: "03"}} {
		if s := got.Steps[i]; s.ID != want.ID || s.Branch != want.Branch || s.Done != want.Done || s.Failed != want.Failed || s.Wait != want.Wait {
			t.Errorf("step %s is %+v", want.ID, s)
		}
	}
	if open := kit.Builder.Load(txlog.Claimed{}); open.Planned {
		t.Error("a transaction without a digest has a plan")
	}
}

// A transaction that was postponed is called at once when the circuit has closed.
func TestLoadAReleasedTransaction(t *testing.T) {
	t.Parallel()
	kit := parts.New(t, sqltest.Open(t, "sqlite"))
	released := make(chan []string, 1)
	breaker := limit.NewBreaker("a", limit.Limits{Rate: 1, Failures: 1, Cooldown: time.Hour}, kit.Logger, limit.Hooks{Release: func(gids []string) { released <- gids }})
	b, err := txn.NewBranch(localBranch("a", saga.Local{}), breaker)
	ok(t, err)
	ok(t, kit.Registry.Add(t.Context(), b))
	breaker.Failure("g")
	breaker.Postpone("g")
	breaker.Success()
	<-released
	claimed := txlog.Claimed{Record: txlog.Record{GID: "g", State: txlog.Confirming}, Branches: []txlog.Branch{{ID: "01", Kind: "a"}},
		Attempts: []txlog.Attempt{{BranchID: "01", Operation: "confirm", Number: 1, Wait: time.Minute}}}
	for _, want := range []time.Duration{0, time.Minute} { // it is released once
		if s := kit.Builder.Load(claimed).Steps[0]; s.Wait != want || s.Failed != 1 {
			t.Errorf("it waits %s, want %s", s.Wait, want)
		}
	}
}

func TestTheNextCall(t *testing.T) {
	t.Parallel()
	transaction := txn.Txn{GID: "g", Caller: "log"}
	got := transaction.Call(&txn.Step{ID: "01", Kind: "a", Payload: []byte("1"), Failed: 2}, barrier.Cancel)
	if got.Attempt != 3 || got.Op != barrier.Cancel || got.Caller != "log" || got.Key().String() != "g/01" || got.Kind != "a" || string(got.Payload) != "1" {
		t.Errorf("the call is %+v", got)
	}
}

// Plans that differ anywhere have different digests: also where the same characters
// belong to other parts.
func TestDigest(t *testing.T) {
	t.Parallel()
	type plan struct {
		pattern string
		steps   []string // kind, payload, kind, payload
	}
	seen := map[string]plan{}
	for _, p := range []plan{
		{"", nil}, {"a", nil}, {"", []string{"", ""}}, {"", []string{"a", ""}}, {"", []string{"", "a"}}, {"a", []string{"", ""}},
		{"p", []string{"ab", "c"}}, {"p", []string{"a", "bc"}}, {"pa", []string{"b", "c"}}, {"p", []string{"a", "b", "c", ""}},
		{"p", []string{"a", "b", "c", "d"}}, {"p", []string{"c", "d", "a", "b"}}, {"p", []string{"a", "b1:c1:d"}}, {"p", []string{"a1:b", "1:c"}},
		{"1:p", []string{"a", "b"}}, {"p1:a", []string{"b", "1"}}, {"p", []string{"a", "b", "a", "b"}}, {"p", []string{"a", "b"}},
		{"p", []string{"a:b", "c"}}, {"p", []string{"a", "b:c"}}, // the same with a colon after each part
		{"p", []string{"0", "aaaaaaaa10bbbbbbbbbb"}}, {"p", []string{"20aaaaaaaa", "bbbbbbbbbb"}}, // the same without a colon after a length
		{"p", []string{"a", strings.Repeat("1", 11)}}, {"p", []string{"a1", "1:" + strings.Repeat("1", 9)}},
	} {
		var transaction txn.Txn
		for i := 0; i < len(p.steps); i += 2 {
			transaction.Steps = append(transaction.Steps, &txn.Step{Kind: p.steps[i], Payload: []byte(p.steps[i+1])})
		}
		digest := transaction.Digest(p.pattern)
		if other, there := seen[digest]; there {
			t.Errorf("%q and %q have the same digest", p, other)
		}
		if digest != transaction.Digest(p.pattern) || len(digest) != 64 {
			t.Errorf("the digest of %q is %s", p, digest)
		}
		seen[digest] = p
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	inner := errors.New("the disk is full")
	longest := strings.Repeat("g", barrier.MaxGID) + "/" + strings.Repeat("b", barrier.MaxBranchID)
	for subject, want := range map[string]string{
		"order-1":     "saga: execute order-1: the disk is full",
		"order-1/01":  "saga: execute order-1/01: the disk is full",
		longest:       "saga: execute " + longest + ": the disk is full",
		longest + "b": "saga: execute: the disk is full",
		"":            "saga: execute: the disk is full",
		"a\nb":        "saga: execute: the disk is full",
		"a\x00b":      "saga: execute: the disk is full",
		"a\x7fb":      "saga: execute: the disk is full",
		"größe":       "saga: execute: the disk is full",
	} {
		got := txn.Wrap("execute", subject, inner)
		if got.Error() != want || !errors.Is(got, inner) {
			t.Errorf("%q: %v", subject, got)
		}
	}
	if err := txn.Wrap("execute", "g", nil); err != nil {
		t.Errorf("without an error: %v", err)
	}
	for _, outcome := range []error{&saga.CancelledError{GID: "g", State: saga.Cancelled, Reason: "no"}, &saga.UnknownError{GID: "g", Cause: inner}} {
		if got := txn.Wrap("execute", "g", outcome); got != outcome {
			t.Errorf("%v became %v", outcome, got)
		}
	}
	twice := fmt.Errorf("reading: %w", &saga.UnknownError{GID: "h", Cause: inner}) // another transaction's
	if got := txn.Wrap("execute", "g", twice).Error(); !strings.HasPrefix(got, "saga: execute g: reading: saga: the outcome of h") {
		t.Error(got)
	}
}

// The reason for the end of a context is named once.
func TestCauseOf(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	inner := errors.New("the statement was cut off")
	if err := txn.CauseOf(ctx, inner); err != inner {
		t.Errorf("of a context that goes on: %v", err)
	}
	cancel(txn.ErrDeadline)
	err := txn.CauseOf(ctx, inner)
	if !errors.Is(err, inner) || !errors.Is(err, txn.ErrDeadline) {
		t.Error(err)
	}
	if again := txn.CauseOf(ctx, err); again != err {
		t.Errorf("named twice: %v", again)
	}
	text := errors.New("Try: " + txn.ErrDeadline.Error()) // as the text of another process
	if again := txn.CauseOf(ctx, text); again != text {
		t.Errorf("named twice: %v", again)
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	inner := errors.New("too long")
	if err := txn.Invalid("the gid: %w", inner); !errors.Is(err, saga.ErrInvalid) || !errors.Is(err, inner) || err.Error() != "invalid: the gid: too long" {
		t.Error(err)
	}
}
