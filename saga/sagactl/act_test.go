package main

import (
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// acted is what an act writes as JSON.
type acted struct {
	GID, Kind, Act, Result, Error string
	State                         saga.State
	DryRun                        bool `json:"dry_run"`
}

func (s shell) acts() []saga.ActionRecord {
	s.t.Helper()
	return read[saga.ActionPage](s, "act", "list").Actions
}

// Each act is done by a running engine or in the log, and recorded with who and why.
func TestActs(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		has(t, w.ok("tx", "pause", "stuck-1", "--why", "the bank is closed"), "pause of stuck-1: done; it is confirming")
		if got := w.gids("--paused"); got != "stuck-1" {
			t.Errorf("paused: %q", got)
		}
		has(t, w.ok("tx", "show", "stuck-1"), "An operator has paused it", "pause, because: the bank is closed")
		w.open.Store(true)
		w.ok("tx", "resume", "stuck-1", "--why", "it is open", "--who", "bob")
		if r := read[[]acted](w.shell, "tx", "retry", "stuck-1", "stuck-2", "--why", "it is open"); len(r) != 2 || r[0].Result != "done" || r[1].GID != "stuck-2" {
			t.Errorf("%+v", r)
		}
		sagatest.Reach(t, w.engine, "stuck-1", saga.Confirmed)
		sagatest.Reach(t, w.engine, "stuck-2", saga.Confirmed)
		w.ok("tx", "cancel", "open-1", "--why", "the customer is gone", "--yes")
		sagatest.Reach(t, w.engine, "open-1", saga.Cancelled)
		w.ok("tx", "resolve", "odd-1", "--branch", "02", "--believed", "confirmed", "--why", "paid by hand", "--yes")
		sagatest.Reach(t, w.engine, "odd-1", saga.Confirmed)

		var got []string
		for _, a := range w.acts() {
			got = append(got, strings.Join([]string{a.Who, a.Name, a.GID, a.Why}, " "))
		}
		want := `ann@desk resolve odd-1 paid by hand
ann@desk cancel open-1 the customer is gone
ann@desk retry stuck-2 it is open
ann@desk retry stuck-1 it is open
bob resume stuck-1 it is open
ann@desk pause stuck-1 the bank is closed`
		if strings.Join(got, "\n") != want {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
		}
		has(t, w.ok("act", "list", "--act", "resolve"), "resolve 02=confirmed", "odd-1", "paid by hand")
		has(t, w.run("act", "list", "--gid", "nobody").err, "no act matches")
	})
}

// An act that is refused says why, and has its exit code; nothing is recorded.
func TestRefusedActs(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for _, c := range []struct {
			code int
			call string
			says string
		}{
			{ctl.CodeRefused, "tx retry ok-1 --why=x", "it is confirmed already"},
			{ctl.CodeRefused, "tx retry open-1 --why=x", "undecided"},
			{ctl.CodeRefused, "tx resume stuck-1 --why=x", "it is not paused"},
			{ctl.CodeRefused, "tx confirm stuck-1 --why=x --yes", "confirm"},
			{ctl.CodeRefused, "tx cancel ok-1 --why=x --yes", "confirmed"},
			{ctl.CodeRefused, "tx resolve stuck-1 --branch=02 --believed=confirmed --why=x --yes", "conflict"},
			{ctl.CodeRefused, "kind resume pay --why=x", "it is not paused"},
			{ctl.CodeNotFound, "tx retry nobody --why=x", "no such transaction"},
			{ctl.CodeUsage, "tx retry stuck-1", "--why is missing"},
			{ctl.CodeUsage, "tx retry stuck-1 --why=", "--why is missing"},
			{ctl.CodeUsage, "tx retry --why=x", "needs the gid"},
			{ctl.CodeUsage, "tx cancel open-1 --why=x", "add --yes"},
			{ctl.CodeUsage, "tx resolve odd-1 --believed=confirmed --why=x --yes", "--branch is missing"},
			{ctl.CodeUsage, "tx resolve odd-1 --branch=02 --believed=maybe --why=x --yes", "confirmed or cancelled"},
			{ctl.CodeUsage, "kind pause pay --why=x", "add --yes"},
			{ctl.CodeUsage, "kind pause p/y --why=x --yes", "kind"},
			{ctl.CodeUsage, "tx retry stuck-1 --why=x --who=" + strings.Repeat("a", 200), "128 are allowed"},
		} {
			has(t, w.fails(c.code, strings.Fields(c.call)...), c.says)
		}
		if acts := w.acts(); len(acts) != 0 {
			t.Errorf("recorded: %+v", acts)
		}
		r := w.run("tx", "retry", "ok-1", "--why", "x", "-o", "json")
		has(t, r.out, `"result": "refused"`, `"state": "confirmed"`)
	})
}

// With several gids, each is acted on, and the first one that fails has the exit code.
func TestActOnSeveral(t *testing.T) {
	w := newWorld(t, "sqlite")
	out := w.fails(ctl.CodeRefused, "tx", "retry", "stuck-1", "ok-1", "nobody", "stuck-2", "--why", "x")
	has(t, out, "retry of stuck-1: done", "retry of stuck-2: done", "confirmed already", "no such transaction")
	if acts := w.acts(); len(acts) != 2 {
		t.Errorf("%+v", acts)
	}
}

// A dry run changes nothing, and foretells the refusal.
func TestDryRun(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		if r := read[acted](w.shell, "tx", "retry", "stuck-1", "--dry-run"); r.Result != "would be done" || !r.DryRun || r.State != saga.Confirming {
			t.Errorf("%+v", r)
		}
		has(t, w.ok("tx", "cancel", "open-1", "--dry-run"), "would be done")
		has(t, w.ok("tx", "resolve", "odd-1", "--branch", "02", "--believed", "cancelled", "--dry-run"), "would be done")
		has(t, w.ok("kind", "pause", "pay", "--dry-run"), "would be done")
		has(t, w.fails(ctl.CodeRefused, "tx", "retry", "open-1", "--dry-run"), "undecided")
		has(t, w.fails(ctl.CodeRefused, "tx", "resume", "stuck-1", "--dry-run"), "it is not paused")
		has(t, w.fails(ctl.CodeRefused, "tx", "resolve", "stuck-1", "--branch", "02", "--believed", "confirmed", "--dry-run"), "did not fail with a conflict")
		has(t, w.fails(ctl.CodeRefused, "kind", "resume", "pay", "--dry-run"), "it is not paused")
		has(t, w.fails(ctl.CodeNotFound, "tx", "retry", "nobody", "--dry-run"), "no such transaction")
		if acts := w.acts(); len(acts) != 0 {
			t.Errorf("recorded: %+v", acts)
		}
	})
}

// Who acts is the flag, the environment, the profile, or the user of the system.
func TestWho(t *testing.T) {
	w := newWorld(t, "sqlite")
	w.ok("tx", "pause", "stuck-1", "--why", "x", "--who", "flag")
	w.ok("tx", "resume", "stuck-1", "--why", "x")
	w.with("SAGACTL_WHO=").ok("tx", "pause", "stuck-1", "--why", "x")
	acts := w.acts()
	if acts[2].Who != "flag" || acts[1].Who != "ann@desk" || !strings.Contains(acts[0].Who, "@") || acts[0].Who == "ann@desk" {
		t.Errorf("%+v", acts)
	}
}

// A kind is paused and resumed, and the list shows who did it.
func TestKinds(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		has(t, w.run("kind", "list").err, "no kind is paused")
		w.ok("kind", "pause", "pay", "--why", "the bank is closed", "--yes")
		has(t, w.ok("kind", "list"), "pay", "pause by ann@desk", "the bank is closed")
		has(t, w.ok("tx", "show", "stuck-1"), "an operator has paused the kind pay")
		w.ok("kind", "resume", "pay", "--why", "it is open")
		kinds := read[struct{ Kinds []saga.KindView }](w.shell, "kind", "list").Kinds
		for _, k := range kinds {
			if !k.PausedAt.IsZero() {
				t.Errorf("%+v", k)
			}
		}
		if n := len(read[saga.ActionPage](w.shell, "act", "list", "--kind", "pay").Actions); n != 2 {
			t.Errorf("%d acts", n)
		}
	})
}
