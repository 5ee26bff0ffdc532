package barrier_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Every call that differs from the row in its caller, its kind or its input is a
// conflict, whatever the row's state, and changes nothing but the count.
func TestMismatchCells(t *testing.T) {
	ours := barrier.Request{Caller: "log-1", Kind: "stock", Input: []byte("1")}
	each(t, func(t *testing.T, db *gorm.DB) {
		for name, c := range map[string]struct {
			change func(*barrier.Request)
			says   string
		}{
			"another caller": {func(r *barrier.Request) { r.Caller = "log-2" }, "the row is of log-1, the call is of log-2"},
			"no caller":      {func(r *barrier.Request) { r.Caller = "" }, "the row is of log-1, the call is of one without a name"},
			"another kind":   {func(r *barrier.Request) { r.Kind = "message" }, "the branch is of the kind stock, the call is of message"},
			"no kind":        {func(r *barrier.Request) { r.Kind = "" }, "the branch is of the kind stock"},
			"another input":  {func(r *barrier.Request) { r.Input = []byte("6") }, "another payload"},
			"no input":       {func(r *barrier.Request) { r.Input = nil }, "another payload"},
		} {
			for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel, barrier.Ask} {
				for _, state := range []barrier.State{barrier.StateTried, barrier.StateConfirmed, barrier.StateCancelled, barrier.StateSuspended} {
					request := ours
					request.Key = barrier.Key{GID: strings.ReplaceAll(fmt.Sprintf("%s-%s-%s", name, op, state), " ", "-"), BranchID: "01"}
					request.Op = op
					if err := db.Exec("INSERT INTO saga_barrier (gid, branch_id, state, turned_away, caller, kind, input) VALUES (?, '01', ?, 0, ?, ?, ?)",
						request.GID, string(state), ours.Caller, ours.Kind, barrier.Digest(ours.Input)).Error; err != nil {
						t.Fatal(err)
					}
					c.change(&request)
					verdict, err := barrier.Do(t.Context(), db, request, func(*gorm.DB) error { return errors.New("it has run") })
					if verdict != barrier.Conflict || !errors.Is(err, barrier.ErrConflict) || !strings.Contains(err.Error(), c.says) {
						t.Errorf("%s, %s after %s: %q, %v", name, op, state, verdict, err)
					}
					if got, away := read(t, db, request.Key); got != string(state) || away != 1 {
						t.Errorf("%s, %s after %s: %s, turned away %d", name, op, state, got, away)
					}
				}
			}
		}
	})
}
