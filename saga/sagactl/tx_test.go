package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// gids returns the gids of a list in JSON, sorted.
func (s shell) gids(arguments ...string) string {
	s.t.Helper()
	page := read[saga.Page](s, append([]string{"tx", "list"}, arguments...)...)
	var gids []string
	for _, t := range page.Transactions {
		gids = append(gids, t.GID)
	}
	slices.Sort(gids) // some begin in the same millisecond
	return strings.Join(gids, " ")
}

// A list leaves out what is finished, unless it is asked for, and takes each condition.
func TestList(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for conditions, want := range map[string]string{
			"--prefix=o":                           "odd-1 open-1",
			"--prefix=o --all":                     "odd-1 ok-1 open-1",
			"--state=confirmed,cancelled --oldest": "ok-1 short-1",
			"--state=trying":                       "open-1",
			"--attention --oldest":                 "odd-1 stuck-1 stuck-2",
			"--all --text=MISSING":                 "short-1",
			"--text=refused --oldest":              "stuck-1 stuck-2",
			"--paused":                             "",
			"--kind=pay --text=hold":               "odd-1",
			"--all --since=1h --before=30m":        "",
			"--since=1h --state=trying":            "open-1",
			"--all --label=order=1001":             "ok-1",
			"--all --value=1002":                   "short-1",
			"--limit=1 --oldest --attention":       "stuck-1",
		} {
			if got := w.gids(strings.Fields(conditions)...); got != want {
				t.Errorf("%s: got %q, want %q", conditions, got, want)
			}
		}
		has(t, w.run("tx", "list", "--prefix", "nobody").err, "no unfinished transaction matches", "--all")
		out := w.ok("tx", "list")
		has(t, out, "GID", "stuck-1", "confirming", "attention: attempts: branch 02, pay", "open-1")
		if strings.Contains(out, "\x1b") || strings.Contains(out, "ok-1") {
			t.Errorf("colours, or a finished transaction:\n%s", out)
		}
	})
}

// A list continues where an earlier one has ended, and each form has the same transactions.
func TestPagesAndForms(t *testing.T) {
	w := newWorld(t, "sqlite")
	first := read[saga.Page](w.shell, "tx", "list", "--all", "--limit", "4")
	if len(first.Transactions) != 4 || first.Next == "" {
		t.Fatalf("%+v", first)
	}
	rest := read[saga.Page](w.shell, "tx", "list", "--all", "--limit", "0", "--after", first.Next)
	if len(rest.Transactions) != 2 || rest.Next != "" {
		t.Fatalf("%+v", rest)
	}
	has(t, w.run("tx", "list", "--all", "--limit", "4").err, "--after "+first.Next)
	lines := strings.Split(strings.TrimSpace(w.ok("tx", "list", "--all", "-o", "jsonl")), "\n")
	if len(lines) != 6 {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		var s saga.Summary
		if err := json.Unmarshal([]byte(line), &s); err != nil || s.GID == "" {
			t.Errorf("%v: %s", err, line)
		}
	}
	if table := strings.Split(strings.TrimSpace(w.ok("tx", "list", "--all")), "\n"); len(table) != 7 {
		t.Errorf("%d lines", len(table))
	}
	has(t, w.fails(ctl.CodeUsage, "tx", "list", "--after", "nonsense"), "nonsense")
}

// tx show says where a transaction stands and why, and what can be done.
func TestShow(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		has(t, w.ok("tx", "show", "stuck-1"), "stuck-1  CONFIRMING",
			"waits for branch 02, pay, whose Confirm has failed once, the last time with: dial tcp 10.0.0.7:443: connection refused",
			"attention", "order=1003", "alive", "Try ran at", "confirmed at", "the next attempt is due at",
			"decided to confirm, by its caller", "the Confirm of branch 02, pay, failed (attempt 1",
			"tx retry stuck-1 --why", "refused: it is confirming already",
			"SELECT * FROM saga_transactions WHERE gid = 'stuck-1';")
		has(t, w.ok("tx", "show", "short-1"), "CANCELLED", "100 are missing", "funds.short")
		has(t, w.ok("tx", "show", "open-1"), "waits for the Confirm or Cancel of its caller", "deadline", "tx cancel open-1")
		has(t, w.ok("tx", "show", "odd-1"), "a conflict, which no retry can end", "tx resolve odd-1 --branch 02")
		if out := w.ok("tx", "show", "ok-1", "--no-sql"); strings.Contains(out, "SELECT") || strings.Contains(out, "Acts") || strings.Contains(out, "payload") {
			t.Error(out)
		}
		has(t, w.ok("tx", "show", "ok-1", "--payloads"), `02 payload: "ok-1"`)
		found := read[saga.Transaction](w.shell, "tx", "show", "stuck-1")
		if found.GID != "stuck-1" || len(found.Branches) != 2 || found.Branches[0].Barrier == nil {
			t.Errorf("%+v", found)
		}
		has(t, w.fails(ctl.CodeNotFound, "tx", "show", "nobody"), "no such transaction")
		has(t, w.fails(ctl.CodeUsage, "tx", "show", "no body"), "gid")
		has(t, w.fails(ctl.CodeUsage, "tx", "show"), "needs the gid")
		has(t, w.fails(ctl.CodeUsage, "tx", "show", "ok-1", "ok-2"), "ok-2")
	})
}

// A screen has colours and a width only if a person wants them.
func TestColoursAndWidth(t *testing.T) {
	w := newWorld(t, "sqlite")
	has(t, w.ok("tx", "show", "stuck-1", "--color", "always"), "\x1b[33mCONFIRMING\x1b[0m")
	for _, out := range []string{w.ok("tx", "show", "stuck-1"), w.with("NO_COLOR=1").ok("tx", "list")} {
		if strings.Contains(out, "\x1b") {
			t.Errorf("colours:\n%s", out)
		}
	}
	for _, command := range [][]string{{"tx", "list"}, {"tx", "show", "stuck-1", "--no-sql"}} {
		for line := range strings.Lines(w.with("COLUMNS=80").ok(command...)) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
				t.Errorf("%v: a line of %d characters: %s", command, n, line)
			}
		}
	}
}

// A text that somebody else has written cannot act on the terminal.
func TestTextsOfOthersDoNotReachTheTerminal(t *testing.T) {
	w := newWorld(t, "sqlite")
	sagatest.Must(t, w.db.Exec("UPDATE saga_transactions SET attention = ? WHERE gid = 'stuck-1'", "a\x1b[2Jb\u202ec\r").Error)
	for _, command := range [][]string{{"tx", "list"}, {"tx", "show", "stuck-1"}} {
		out := w.ok(command...)
		has(t, out, `a\x1b[2Jb\u202ec`)
		if strings.ContainsAny(out, "\x1b\u202e\r") {
			t.Errorf("%q", out)
		}
	}
}

// tx wait ends with the transaction, and says how it ended.
func TestWait(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		has(t, w.ok("tx", "wait", "ok-1"), "ok-1 is confirmed")
		has(t, w.fails(ctl.CodeCancelled, "tx", "wait", "short-1"), "short-1 is cancelled", "100 are missing")
		has(t, w.fails(ctl.CodeTimeout, "tx", "wait", "stuck-1", "--timeout", "200ms"), "not finished after 200ms", "waits for branch 02, pay")
		has(t, w.fails(ctl.CodeNotFound, "tx", "wait", "nobody", "--timeout", "1m"), "no such transaction")
		w.open.Store(true)
		waiting := w.command("tx", "wait", "stuck-1", "-o", "json")
		var out bytes.Buffer
		waiting.Stdout = &out
		sagatest.Must(t, waiting.Start())
		w.ok("tx", "retry", "stuck-1", "--why", "the bank is open")
		if err := waiting.Wait(); err != nil {
			t.Fatal(err)
		}
		has(t, out.String(), `"state": "confirmed"`)
	})
}

// tx watch writes what happens until the end, and Ctrl-C ends it without an error.
func TestWatch(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		watching := w.command("tx", "watch", "stuck-1", "--interval", "100ms")
		out := start(t, watching)
		out.waitFor(t, "failed (attempt 1")
		w.open.Store(true)
		w.ok("tx", "retry", "stuck-1", "--why", "the bank is open")
		if err := watching.Wait(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		has(t, out.String(), "begun with 2 branches", "operator ann@desk: retry, because: the bank is open", "finished: confirmed")
		if n := strings.Count(out.String(), "begun with"); n != 1 {
			t.Errorf("the begin is there %d times:\n%s", n, out)
		}

		interrupted := w.command("tx", "watch", "odd-1", "-o", "jsonl")
		out = start(t, interrupted)
		out.waitFor(t, `"gid":"odd-1"`)
		sagatest.Must(t, interrupted.Process.Signal(os.Interrupt))
		if err := interrupted.Wait(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		has(t, w.fails(ctl.CodeNotFound, "tx", "watch", "nobody"), "no such transaction")
		has(t, w.fails(ctl.CodeUsage, "tx", "watch", "ok-1", "--interval", "1ms"), "at least 100ms")
	})
}

// tx export writes whole transactions: by gids, from the standard input, and by conditions.
func TestExport(t *testing.T) {
	w := newWorld(t, "sqlite")
	count := func(out string) int { return strings.Count(out, "\n") }
	if n := count(w.ok("tx", "export")); n != 4 { // unfinished ones
		t.Errorf("%d transactions", n)
	}
	if n := count(w.ok("tx", "export", "--attention", "--limit", "2")); n != 2 {
		t.Errorf("%d transactions", n)
	}
	if n := count(w.ok("tx", "export", "ok-1", "short-1")); n != 2 {
		t.Errorf("%d transactions", n)
	}
	if n := count(w.feed("ok-1\n\nodd-1\n", "tx", "export", "-").out); n != 2 {
		t.Errorf("%d transactions", n)
	}
	if found := read[saga.Transaction](w.shell, "tx", "export", "ok-1"); found.GID != "ok-1" || len(found.Branches) != 2 {
		t.Errorf("%+v", found)
	}
	if found := read[[]saga.Transaction](w.shell, "tx", "export", "ok-1", "odd-1"); len(found) != 2 {
		t.Errorf("%+v", found)
	}
	w.fails(ctl.CodeNotFound, "tx", "export", "ok-1", "nobody")
}

// A reader that goes away ends the command without a word.
func TestReaderGoesAway(t *testing.T) {
	w := newWorld(t, "sqlite")
	sagatest.Must(t, w.db.Exec(`INSERT INTO saga_transactions (gid, pattern, state, digest, decided_by, owner, created_at, deadline_at, decided_at, finished_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
		SELECT 'many-' || i, 'tcc', 'confirmed', '', 'caller', '', '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000' FROM n`).Error)
	for _, form := range []string{"table", "jsonl"} {
		c := w.command("tx", "list", "--all", "--limit", "0", "-o", form)
		var errs bytes.Buffer
		c.Stderr = &errs
		pipe, err := c.StdoutPipe()
		sagatest.Must(t, err)
		sagatest.Must(t, c.Start())
		if _, err := pipe.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		pipe.Close()
		c.Wait()
		status := c.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() || status.Signal() != syscall.SIGPIPE || errs.Len() > 0 {
			t.Errorf("%s: %v: %s", form, c.ProcessState, errs.String())
		}
	}
	if n := strings.Count(w.ok("tx", "list", "--all", "--limit", "0"), "\n"); n != 20007 {
		t.Errorf("%d lines", n)
	}
}
