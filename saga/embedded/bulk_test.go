package embedded_test

import (
	"errors"
	"fmt"
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

// Each act of a bulk action is that of the method for one transaction: it is recorded for each
// transaction, and nothing happens before a person starts it.
func TestBulkActs(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		fixed := make(chan struct{})
		config := embedded.Config{Lease: time.Hour, MinBackoff: time.Hour, MaxBackoff: time.Hour} // nothing is retried by itself
		engine := opened(t, db, config, stuck{fixed}.branch(), rejecting("plain"))
		o, ctx := engine.Operations(), t.Context()
		executeMany(t, engine, "order", 3)
		openMany(t, db, "confirm", 3)
		openMany(t, db, "cancel", 3)
		openMany(t, db, "bystander", 1)
		frozen := map[string]saga.BulkAction{
			"pause": freeze(t, o, "pause", "order", 3), "resume": freeze(t, o, "resume", "order", 3), "retry": freeze(t, o, "retry", "order", 3),
			"confirm": freeze(t, o, "confirm", "confirm", 3), "cancel": freeze(t, o, "cancel", "cancel", 3),
		}
		if acts, err := o.Actions(ctx, saga.ActionQuery{}); err != nil || len(acts.Actions) != 0 {
			t.Errorf("a list that nobody has started has acted: %+v, %v", acts, err)
		}
		for _, act := range []string{"pause", "resume", "retry", "confirm", "cancel"} {
			var reported []int
			bulk, err := o.RunBulk(ctx, frozen[act].ID, func(b saga.BulkAction) { reported = append(reported, b.Done) })
			if err != nil || bulk.Done != 3 || bulk.FinishedAt.IsZero() || reported[0] != 0 || reported[len(reported)-1] != 3 {
				t.Errorf("%s: %+v, %v, reported %v", act, bulk, err, reported)
			}
			hasRun(t, db, o, bulk.ID, 3, 0, 0)
			acts, err := o.Actions(ctx, saga.ActionQuery{BulkID: bulk.ID})
			if err != nil || len(acts.Actions) != 3 || acts.Actions[0].Name != act || acts.Actions[0].Operator != operator || acts.Actions[0].BulkID != bulk.ID {
				t.Errorf("%s: the acts are %+v, %v", act, acts, err)
			}
			for n := 1; act == "pause" && n <= 3; n++ {
				if found, err := o.Lookup(ctx, fmt.Sprintf("order-%05d", n)); err != nil || found.PausedAt.IsZero() {
					t.Errorf("%+v is not paused, %v", found, err)
				}
			}
			// Again it does nothing.
			if again := run(t, o, bulk.ID); again.FinishedAt != bulk.FinishedAt || again.Done != 3 {
				t.Errorf("%s again: %+v", act, again)
			}
			hasRun(t, db, o, bulk.ID, 3, 0, 0)
		}
		for n := 1; n <= 3; n++ {
			if state := ends(t, engine, fmt.Sprintf("confirm-%05d", n)); state != saga.Confirmed {
				t.Errorf("it is %s", state)
			}
			cancelled := fmt.Sprintf("cancel-%05d", n)
			if state := ends(t, engine, cancelled); state != saga.Cancelled {
				t.Errorf("it is %s", state)
			}
			if found, err := o.Lookup(ctx, cancelled); err != nil || found.DecidedBy != "operator" || found.Reason != "cancelled by alice: a test" {
				t.Errorf("%+v, %v", found, err)
			}
		}
		close(fixed)
		run(t, o, freeze(t, o, "retry", "order", 3).ID)
		for n := 1; n <= 3; n++ {
			if state := ends(t, engine, fmt.Sprintf("order-%05d", n)); state != saga.Confirmed {
				t.Errorf("it is %s", state)
			}
		}
		if found, err := o.Lookup(ctx, "bystander-00001"); err != nil || found.State != saga.Trying || len(found.Acts) != 0 {
			t.Errorf("a transaction outside of the lists: %+v, %v", found, err)
		}
	})
}

// A list is refused if it could not be run, and then nothing is written.
func TestBulkRefusals(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine := opened(t, db, still, rejecting("plain"))
		o, ctx := engine.Operations(), t.Context()
		_, err := engine.Execute(ctx, planOf("finished", "plain"))
		sagatest.Must(t, err)
		freeze := func(act string, q saga.Query, by saga.Operator) error {
			_, err := o.FreezeBulk(ctx, act, q, by)
			return err
		}
		for name, c := range map[string]struct {
			err, is error
			says    string
		}{
			"an unknown act":  {freeze("delete", saga.Query{}, operator), saga.ErrInvalid, "one of retry, pause, resume, confirm, cancel"},
			"a resolve":       {freeze("resolve", saga.Query{}, operator), saga.ErrInvalid, "must be one of"},
			"no act":          {freeze("", saga.Query{}, operator), saga.ErrInvalid, "must be one of"},
			"nobody":          {freeze("pause", saga.Query{}, saga.Operator{Why: "x"}), saga.ErrInvalid, "Who is empty"},
			"no reason":       {freeze("pause", saga.Query{}, saga.Operator{Who: "x"}), saga.ErrInvalid, "Why is empty"},
			"a limit":         {freeze("pause", saga.Query{Limit: 5}, operator), saga.ErrInvalid, "Limit must be empty"},
			"a second page":   {freeze("pause", saga.Query{After: "1.a"}, operator), saga.ErrInvalid, "After and Limit"},
			"a wrong query":   {freeze("pause", saga.Query{States: []saga.State{"lost"}}, operator), saga.ErrInvalid, "unknown state"},
			"nothing":         {freeze("pause", saga.Query{}, operator), saga.ErrRefused, "no unfinished transaction"},
			"finished ones":   {freeze("pause", saga.Query{States: []saga.State{saga.Confirmed}}, operator), saga.ErrRefused, "no unfinished transaction"},
			"a wrong id":      {second(o.RunBulk(ctx, "x", nil)), saga.ErrInvalid, "is not the id"},
			"no id":           {second(o.Bulk(ctx, "")), saga.ErrInvalid, "is not the id"},
			"an unknown id":   {second(o.RunBulk(ctx, "a0a0a0a0-1111-4222-8333-444444444444", nil)), saga.ErrNotFound, "no bulk action"},
			"no such bulk":    {second(o.Bulk(ctx, "a0a0a0a0-1111-4222-8333-444444444444")), saga.ErrNotFound, "no bulk action"},
			"no such targets": {second(o.BulkTargets(ctx, "a0a0a0a0-1111-4222-8333-444444444444", 0, 0)), saga.ErrNotFound, "no bulk action"},
		} {
			if !errors.Is(c.err, c.is) || !strings.Contains(fmt.Sprint(c.err), c.says) {
				t.Errorf("%s: %v, want %q", name, c.err, c.says)
			}
		}
		if page, _, err := o.Bulks(ctx, "", 0); err != nil || len(page) != 0 {
			t.Errorf("there are lists: %+v, %v", page, err)
		}
		if _, _, err := o.Bulks(ctx, "x", 0); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("a wrong page: %v", err)
		}
	})
}

// A query without conditions selects all that is unfinished, and never a finished transaction.
// The pages of bulk actions begin with the newest.
func TestBulkOfAll(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine := opened(t, db, still, rejecting("plain"))
		o, ctx := engine.Operations(), t.Context()
		_, err := engine.Execute(ctx, planOf("finished", "plain"))
		sagatest.Must(t, err)
		openMany(t, db, "open", 2500) // more than two pages of the search
		var ids []string
		for range 5 {
			all, err := o.FreezeBulk(ctx, "pause", saga.Query{}, operator)
			sagatest.Must(t, err)
			if all.Total != 2500 || !all.Query.Unfinished {
				t.Errorf("%+v", all)
			}
			ids = append(ids, all.ID)
		}
		var different int
		sagatest.Must(t, db.Raw("SELECT COUNT(DISTINCT gid) FROM saga_bulk_targets WHERE bulk_id = ? AND gid <> 'finished'", ids[0]).Scan(&different).Error)
		if different != 2500 {
			t.Errorf("the list has %d different transactions", different)
		}
		var seen []string
		for next := ""; ; {
			page, after, err := o.Bulks(ctx, next, 2)
			sagatest.Must(t, err)
			for _, b := range page {
				seen = append(seen, b.ID)
			}
			if next = after; next == "" {
				break
			}
		}
		if len(seen) != 5 {
			t.Errorf("the pages have %q, want %q", seen, ids)
		}
		for _, id := range ids {
			if !strings.Contains(strings.Join(seen, " "), id) {
				t.Errorf("%s is missing in %q", id, seen)
			}
		}
	})
}

// More transactions than a list may have are an error that says what to do.
func TestBulkOfTooMany(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	o := sagatest.Open(t, db, still).Operations()
	openMany(t, db, "open", 100_000)
	frozen, err := o.FreezeBulk(t.Context(), "cancel", saga.Query{}, operator)
	if err != nil || frozen.Total != 100_000 {
		t.Fatalf("%+v, %v", frozen, err)
	}
	openMany(t, db, "more", 1)
	if _, err := o.FreezeBulk(t.Context(), "cancel", saga.Query{}, operator); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "narrow") {
		t.Errorf("100,001 transactions: %v", err)
	}
	var rows int
	sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_bulk_acts").Scan(&rows).Error)
	if rows != 1 {
		t.Errorf("%d lists, want that of the first one", rows)
	}
}

// Transactions that are decided, finished, paused or removed after the list was made are refused,
// and so is a new transaction with the gid of a removed one. The others are acted on.
func TestBulkTargetsThatHaveChanged(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine := opened(t, db, still, rejecting("plain"))
		o, ctx := engine.Operations(), t.Context()
		openMany(t, db, "open", 6)
		cancel, pause := freeze(t, o, "cancel", "open", 6), freeze(t, o, "pause", "open", 6)
		confirm := freeze(t, o, "confirm", "open", 6)
		_, err := engine.Confirm(ctx, "open-00001", saga.Options{})
		sagatest.Must(t, err)
		_, err = engine.Cancel(ctx, "open-00002", "changed my mind")
		sagatest.Must(t, err)
		sqltest.Exec(t, db, "DELETE FROM saga_transactions WHERE gid IN ('open-00003', 'open-00004')")
		sagatest.Must(t, engine.Begin(ctx, saga.Opening{GID: "open-00004"}))
		sagatest.Must(t, o.Pause(ctx, "open-00005", operator))
		// A branch that is not tried: it cannot be confirmed.
		sqltest.Exec(t, db, "INSERT INTO saga_branches (gid, branch_id, kind, payload) VALUES ('open-00006', '01', 'plain', '{}')")

		run(t, o, pause.ID)
		hasRun(t, db, o, pause.ID, 1, 5, 0)
		if all := results(t, o, pause.ID); !matches(all, "open-00001 refused*confirmed already", "open-00002 refused*cancelled already", "open-00003 refused*no such transaction",
			"open-00004 refused*begun later with the same gid", "open-00005 refused*paused already", "open-00006 done") {
			t.Errorf("pause: %q", all)
		}
		run(t, o, confirm.ID)
		if all := results(t, o, confirm.ID); !matches(all, "open-00001 refused*confirmed already", "open-00002 refused*cancelled", "open-00003 refused*no such transaction",
			"open-00004 refused*begun later with the same gid", "open-00005 done", "open-00006 refused*has not been tried") {
			t.Errorf("confirm: %q", all)
		}
		run(t, o, cancel.ID)
		if all := results(t, o, cancel.ID); !matches(all, "open-00001 refused*confirmed", "open-00002 refused*cancelled already", "open-00003 refused*no such transaction",
			"open-00004 refused*begun later with the same gid", "open-00005 refused*confirm", "open-00006 done") {
			t.Errorf("cancel: %q", all)
		}
		hasRun(t, db, o, cancel.ID, 1, 5, 0)
		if found, err := o.Lookup(ctx, "open-00004"); err != nil || found.State != saga.Trying || len(found.Acts) != 0 {
			t.Errorf("the new transaction with the old gid: %+v, %v", found, err)
		}
	})
}

// RunBulk does not wait for the branches of the transactions that it decides.
func TestBulkDoesNotDrive(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		gate := make(chan struct{})
		engine := opened(t, db, embedded.Config{Lease: time.Hour, MaxWorkers: 2}, spec{Kind: "slow", Remote: remote(func(call saga.Call) error {
			if call.Op == barrier.Cancel {
				<-gate
			}
			return nil
		})})
		ctx := t.Context()
		for i := range 20 {
			gid := fmt.Sprintf("open-%05d", i+1)
			sagatest.Must(t, engine.Begin(ctx, saga.Opening{GID: gid}))
			sagatest.Must(t, engine.Try(ctx, gid, "01", saga.Step{Kind: "slow"}))
		}
		run(t, engine.Operations(), freeze(t, engine.Operations(), "cancel", "open", 20).ID)
		close(gate)
		for i := range 20 {
			if state := ends(t, engine, fmt.Sprintf("open-%05d", i+1)); state != saga.Cancelled {
				t.Errorf("it is %s", state)
			}
		}
	})
}

// An act that fails on one transaction is noted, and the others are acted on: a branch that
// decides does not answer, or its kind is not known.
func TestBulkActsThatFail(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		e := &asked{answers: []error{errors.New("it is down")}}
		engine := sagatest.Open(t, db, still)
		e.register(t, engine)
		sagatest.Must(t, engine.Record(t.Context(), recorded("recorded", time.Hour)))
		openMany(t, db, "open", 2)
		o := engine.Operations()
		passive, err := embedded.OpenOperations(t.Context(), db, embedded.OperationsConfig{})
		sagatest.Must(t, err)
		t.Cleanup(passive.Close)
		first, err := o.FreezeBulk(t.Context(), "cancel", saga.Query{OldestFirst: true}, operator)
		sagatest.Must(t, err)
		second := freeze(t, o, "cancel", "recorded", 1)
		run(t, o, first.ID)
		if all := results(t, o, first.ID); !matches(all, "open-00001 done", "open-00002 done", "recorded failed*it is down") {
			t.Errorf("a branch that does not answer: %q", all)
		}
		hasRun(t, db, o, first.ID, 2, 0, 1)
		run(t, passive, second.ID)
		if all := results(t, o, second.ID); !matches(all, "recorded failed*not registered in this process") {
			t.Errorf("a kind that is not known: %q", all)
		}
		if asked := len(e.heard()); asked != 1 {
			t.Errorf("the branch was asked %d times", asked)
		}
	})
}
