package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// A bulk action acts on each transaction that its conditions select, and records it.
func TestBulk(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		call := []string{"act", "bulk", "retry", "--text", "refused", "--why", "the bank is open"}
		has(t, w.ok(append(call, "--dry-run")...), "retry: would be done on 2 transactions", "stuck-1", "stuck-2")
		has(t, w.fails(ctl.CodeUsage, call...), "--dry-run", "--yes")
		if all := read[struct {
			Bulk []saga.BulkAction `json:"bulk_actions"`
		}](w.shell, "act", "bulk", "list").Bulk; len(all) != 0 {
			t.Errorf("%+v", all)
		}
		w.open.Store(true)
		done := read[saga.BulkAction](w.shell, append(call, "--yes")...)
		if done.Total != 2 || done.Done != 2 || done.FinishedAt.IsZero() || done.Who != "ann@desk" {
			t.Errorf("%+v", done)
		}
		sagatest.Reach(t, w.engine, "stuck-1", saga.Confirmed)
		sagatest.Reach(t, w.engine, "stuck-2", saga.Confirmed)
		if acts := read[saga.ActionPage](w.shell, "act", "list", "--bulk", done.ID).Actions; len(acts) != 2 || acts[0].BulkID != done.ID {
			t.Errorf("%+v", acts)
		}
		has(t, w.ok("act", "bulk", "list"), done.ID, "finished", "the bank is open")
		has(t, w.ok("act", "bulk", "show", done.ID), "2 of 2", "stuck-1", "stuck-2", "done")
		if out := w.ok("act", "bulk", "show", done.ID, "-o", "jsonl"); strings.Count(out, "\n") != 2 {
			t.Error(out)
		}
		has(t, w.run("act", "bulk", "show", done.ID, "--not-done").err, "no such transaction")
		has(t, w.ok("act", "bulk", "--resume", done.ID), "finished") // nothing is left
		for _, c := range []struct {
			code int
			call string
			says string
		}{
			{ctl.CodeRefused, "retry --text=refused --why=x --yes", "no unfinished transaction matches"},
			{ctl.CodeUsage, "retry --why=x --yes --state=frob", "it must be trying"},
			{ctl.CodeUsage, "retry --yes", "--why is missing"},
			{ctl.CodeUsage, "frob --why=x --yes", "the act is"},
			{ctl.CodeUsage, "", "needs an act"},
			{ctl.CodeUsage, "retry --resume=x", "leave out"},
			{ctl.CodeUsage, "--resume=x", "not the id"},
			{ctl.CodeNotFound, "show 00000000-0000-4000-8000-000000000000", "no bulk action"},
		} {
			has(t, w.fails(c.code, append([]string{"act", "bulk"}, strings.Fields(c.call)...)...), c.says)
		}
	})
}

// Ctrl-C ends a bulk action between two transactions, and another process continues it.
func TestBulkIsContinued(t *testing.T) {
	w := newWorld(t, "sqlite")
	const many = 3000
	sagatest.Must(t, w.db.Exec(fmt.Sprintf(`INSERT INTO saga_transactions (gid, pattern, state, digest, decided_by, owner, created_at, deadline_at, due_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT 'many-' || i, 'tcc', 'trying', '', '', '', '2026-01-01 00:00:00.000', '2099-01-01 00:00:00.000', '2099-01-01 00:00:00.000' FROM n`, many)).Error)
	running := w.command("act", "bulk", "pause", "--prefix", "many-", "--why", "test", "--yes")
	out := start(t, running)
	var id string
	sagatest.Eventually(t, "some are done", func() bool {
		all := read[struct {
			Bulk []saga.BulkAction `json:"bulk_actions"`
		}](w.shell, "act", "bulk", "list").Bulk
		if len(all) == 1 {
			id = all[0].ID
		}
		return len(all) == 1 && all[0].Done > 0
	})
	sagatest.Must(t, running.Process.Signal(os.Interrupt))
	running.Wait()
	if code := running.ProcessState.ExitCode(); code != ctl.CodeInterrupted {
		t.Fatalf("exit code %d: %s", code, out)
	}
	has(t, out.String(), "act bulk --resume "+id)
	has(t, w.ok("act", "bulk", "list"), "not at its end")
	has(t, w.fails(ctl.CodeUsage, "act", "bulk", "--resume", id), "add --yes")
	b := read[saga.BulkAction](w.shell, "act", "bulk", "--resume", id, "--yes")
	if b.Total != many || b.Done != many || b.FinishedAt.IsZero() {
		t.Errorf("%+v", b)
	}
	var acts int
	sagatest.Must(t, w.db.Raw("SELECT COUNT(*) FROM saga_acts WHERE bulk_id = ?", id).Scan(&acts).Error)
	if acts != many {
		t.Errorf("%d acts are recorded", acts)
	}
}
