package follow_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func begun(t *testing.T, db *gorm.DB) *parts.Kit {
	t.Helper()
	kit := parts.New(t, db)
	kit.Local("a", &parts.Script{})
	kit.Insert(kit.Start(kit.Prepare("g", "a")))
	return kit
}

// Await reads until the state is the wanted one.
func TestAwait(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		kit := begun(t, db)
		reader := follow.New(db, kit.Log, time.Millisecond)
		var seen []saga.State
		record, err := reader.Await(t.Context(), "g", func(state saga.State) bool {
			if seen = append(seen, state); len(seen) == 1 {
				return false
			}
			if !state.Decided() { // the first look has come, and the next one finds a decision
				decide(t, kit, txlog.Decision{State: txlog.Cancelling, Reason: "no", Code: "short", BranchID: "01"})
			}
			return state.Decided()
		})
		if err != nil || len(seen) != 3 || seen[1] != saga.Trying || seen[2] != saga.Cancelling {
			t.Errorf("seen %v, %v", seen, err)
		}
		if got, want := follow.Outcome(record), (saga.Outcome{GID: "g", State: saga.Cancelling, Reason: "no", Code: "short", BranchID: "01"}); got != want {
			t.Errorf("the outcome is %+v", got)
		}
	})
}

func decide(t *testing.T, kit *parts.Kit, d txlog.Decision) {
	t.Helper()
	d.GID, d.Epoch, d.By, d.Due = "g", 1, txlog.ByCaller, time.Minute
	kit.In(func(tx *gorm.DB) error { return kit.Log.Decide(t.Context(), tx, d) })
}

func TestAwaitDecisionOfADecidedTransaction(t *testing.T) {
	t.Parallel()
	kit := begun(t, sqltest.Open(t, "sqlite"))
	decide(t, kit, txlog.Decision{State: txlog.Confirming})
	record, err := kit.Reader.AwaitDecision(t.Context(), "g")
	if err != nil || record.State != txlog.Confirming {
		t.Errorf("%+v, %v", record, err)
	}
}

// Await ends with its context, says how the transaction stands, and why it ended.
func TestAwaitEnds(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		kit := begun(t, db)
		ctx, cancel := context.WithCancel(t.Context())
		record, err := kit.Reader.Await(ctx, "g", func(saga.State) bool { cancel(); return false })
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "still trying") || record.GID != "g" {
			t.Errorf("%+v, %v", record, err)
		}
	})
}

func TestAwaitNothing(t *testing.T) {
	t.Parallel()
	kit := begun(t, sqltest.Open(t, "sqlite"))
	if _, err := kit.Reader.AwaitDecision(t.Context(), "unknown"); !errors.Is(err, txlog.ErrNotFound) {
		t.Error(err)
	}
	if _, err := kit.Reader.Locked(t.Context(), "unknown"); !errors.Is(err, txlog.ErrNotFound) {
		t.Error(err)
	}
}
