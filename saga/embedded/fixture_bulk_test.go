package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// openMany begins n open transactions without branches: "PREFIX-00001" and so on.
func openMany(t *testing.T, db *gorm.DB, prefix string, n int) {
	t.Helper()
	for first := 1; first <= n; first += 1000 {
		var rows []string
		for i := first; i < min(first+1000, n+1); i++ {
			rows = append(rows, fmt.Sprintf("('%s-%05d', 'test', 'trying', '', '', '', '', '', '', '', 1, 0, %s, '2100-01-01 00:00:00', '2100-01-01 00:00:00')", prefix, i, ago(db, time.Minute)))
		}
		sqltest.Exec(t, db, "INSERT INTO saga_transactions (gid, pattern, state, digest, reason, reason_code, reason_branch, decided_by, attention, owner, epoch, failures, created_at, deadline_at, due_at) VALUES "+strings.Join(rows, ", "))
	}
}

// stuck is a branch in another service whose Confirms and Cancels fail until it is fixed.
type stuck struct{ fixed chan struct{} }

func (s stuck) branch() spec {
	return spec{Kind: "stuck", Remote: remote(func(call saga.Call) error {
		if call.Op == barrier.Try {
			return nil
		}
		select {
		case <-s.fixed:
			return nil
		default:
			return errors.New("it is down")
		}
	})}
}

// executeMany executes n transactions with the branch stuck, which stay confirming.
func executeMany(t *testing.T, engine *embedded.Engine, prefix string, n int) {
	t.Helper()
	for i := range n {
		outcome, err := engine.Execute(t.Context(), planOf(fmt.Sprintf("%s-%05d", prefix, i+1), "stuck"))
		if err != nil || outcome.State != saga.Confirming {
			t.Fatalf("%+v, %v", outcome, err)
		}
	}
}

// freeze makes the list of the transactions with a prefix, and checks its length.
func freeze(t *testing.T, o *embedded.Operations, act, prefix string, n int) saga.BulkAction {
	t.Helper()
	frozen, err := o.FreezeBulk(t.Context(), act, saga.Query{Prefix: prefix, OldestFirst: true}, operator)
	sagatest.Must(t, err)
	if frozen.Total != n || frozen.Name != act || frozen.Operator != operator || frozen.Query.Prefix != prefix || !frozen.StartedAt.IsZero() || frozen.CreatedAt.IsZero() {
		t.Fatalf("the list: %+v, want %d transactions", frozen, n)
	}
	return frozen
}

// hasRun checks the counts of a bulk action at its end, and that each target that is done has
// exactly one recorded act, and that the others have none.
func hasRun(t *testing.T, db *gorm.DB, o *embedded.Operations, id string, done, refused, failed int) {
	t.Helper()
	bulk, err := o.Bulk(t.Context(), id)
	sagatest.Must(t, err)
	if bulk.Done != done || bulk.Refused != refused || bulk.Failed != failed || bulk.FinishedAt.IsZero() || bulk.StartedAt.IsZero() || bulk.Total != done+refused+failed {
		t.Errorf("%+v, want %d done, %d refused, %d failed", bulk, done, refused, failed)
	}
	var wrong []string
	sagatest.Must(t, db.Raw(`SELECT gid FROM saga_bulk_targets WHERE bulk_id = ? AND (acted_at IS NULL OR (SELECT COUNT(*) FROM saga_acts
		WHERE saga_acts.gid = saga_bulk_targets.gid AND saga_acts.bulk_id = saga_bulk_targets.bulk_id) <> CASE result WHEN 'done' THEN 1 ELSE 0 END)`, id).Scan(&wrong).Error)
	if len(wrong) > 0 {
		t.Errorf("acted on not exactly once: %d, such as %q", len(wrong), wrong[:min(3, len(wrong))])
	}
}

// results returns what was done to each target, as "gid result error".
func results(t *testing.T, o *embedded.Operations, id string) (all []string) {
	t.Helper()
	for after := 0; ; {
		targets, err := o.BulkTargets(t.Context(), id, after, 2)
		sagatest.Must(t, err)
		if len(targets) == 0 {
			return all
		}
		for _, target := range targets {
			if after++; target.Number != after || target.At.IsZero() != (target.Result == "") {
				t.Errorf("%+v is at place %d", target, after)
			}
			all = append(all, strings.TrimSpace(target.GID+" "+target.Result+" "+target.Error))
		}
	}
}

// run runs a bulk action to its end.
func run(t *testing.T, o *embedded.Operations, id string) saga.BulkAction {
	t.Helper()
	bulk, err := o.RunBulk(t.Context(), id, nil)
	sagatest.Must(t, err)
	return bulk
}

func matches(all []string, patterns ...string) bool {
	return slices.EqualFunc(all, patterns, func(got, want string) bool {
		begin, end, _ := strings.Cut(want, "*")
		return strings.HasPrefix(got, begin) && strings.Contains(got, end)
	})
}
