package otelsaga_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// recorder is an observer that keeps the events, as text.
type recorder struct {
	mu      sync.Mutex
	events  map[string][]string // by "gid", "gid/branch", or empty for those of no transaction
	sizes   map[string]int      // members of batches
	largest map[string]int      // members of the largest batch
}

func newRecorder() *recorder {
	return &recorder{events: map[string][]string{}, sizes: map[string]int{}, largest: map[string]int{}}
}

func (r *recorder) Observe(ctx context.Context, e saga.Event) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	of, text := describe(e)
	if b, is := e.(saga.BatchCommitted); is {
		r.sizes[b.Batch] += b.Size
		r.largest[b.Batch] = max(r.largest[b.Batch], b.Size)
		return ctx
	}
	r.events[of] = append(r.events[of], text)
	return ctx
}

// describe returns what an event is about, and its text.
func describe(e saga.Event) (of, text string) {
	switch e := e.(type) {
	case saga.OperationStarted:
		return e.GID, e.Name + " starts"
	case saga.OperationEnded:
		return e.GID, e.Name + " ends"
	case saga.Decided:
		return e.GID, strings.TrimSpace(fmt.Sprintf("decided %s by %s %s", e.State, e.By, e.Code))
	case saga.Finished:
		return e.GID, "finished " + string(e.State)
	case saga.AttentionRaised:
		return e.GID, "attention " + e.Why[:strings.Index(e.Why, ":")]
	case saga.CallStarted:
		return e.GID + "/" + e.BranchID, fmt.Sprintf("%s %d", e.Operation, e.Attempt)
	case saga.CallEnded:
		return e.GID + "/" + e.BranchID, fmt.Sprintf("%s %d: %s, %s", e.Operation, e.Attempt, e.Result, e.Verdict)
	default:
		return "", fmt.Sprintf("%T", e)[len("saga."):]
	}
}

// of returns the events of a transaction or of one of its branches.
func (r *recorder) of(name string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events[name])
}

// size returns how many members the batches of a name have had.
func (r *recorder) size(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sizes[name]
}

// most returns how many members the largest batch of a name has had.
func (r *recorder) most(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.largest[name]
}

// has reports whether an event of no transaction came.
func (r *recorder) has(event string) bool { return slices.Contains(r.of(""), event) }

// check waits until as many events came as are wanted, and compares them.
//
// A caller may be told of the end before or after it is written, so the end of the transaction
// has no place among the others.
func (r *recorder) check(t *testing.T, of string, want ...string) {
	t.Helper()
	sagatest.Eventually(t, fmt.Sprintf("%d events of %s", len(want), of), func() bool { return len(r.of(of)) >= len(want) })
	got := finishedLast(r.of(of))
	if want = finishedLast(want); !slices.Equal(got, want) {
		t.Errorf("events of %s:\n  %s\nwant:\n  %s", of, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func finishedLast(events []string) []string {
	end := func(e string) bool { return strings.HasPrefix(e, "finished ") }
	others := slices.DeleteFunc(slices.Clone(events), end)
	return append(others, slices.DeleteFunc(slices.Clone(events), func(e string) bool { return !end(e) })...)
}
