package ctl

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/render"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
	"github.com/tccsaga/tccsaga/saga/explain"
)

func itoa(n int) string { return strconv.Itoa(n) }

func txShow(s *session) *cobra.Command {
	var payloads, hide bool
	c := &cobra.Command{Use: "show GID", Short: "Show all that is known of a transaction: where it stands and why, its branches, timeline and acts", Args: someArgs("the gid of a transaction", 1, 1)}
	c.Flags().BoolVar(&payloads, "payloads", false, "show payloads and results, which may be private; JSON always has them")
	c.Flags().BoolVar(&hide, "no-sql", false, "leave out the SQL that reads the same by hand")
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		t, err := lookup(ctx, s, args[0])
		if err != nil {
			return err
		}
		return s.write(t, func(w term.Screen) {
			p := pageOf(ctx, s, t)
			p.Payloads = payloads
			if !hide {
				p.SQL = explain.SQL(s.db.Name(), t.GID)
			}
			render.Transaction(w, p)
		})
	})
	return c
}

// lookup reads a transaction. The program may not know its kinds of branches; their barrier rows are
// then read in the database of the log, where a row of this log and kind is that of the branch.
func lookup(ctx context.Context, s *session, gid string) (*saga.Transaction, error) {
	t, err := s.ops.Lookup(ctx, gid)
	if err != nil || !slices.ContainsFunc(t.Branches, unread) {
		return t, err
	}
	rows, err := barrier.Look(ctx, s.db, gid)
	if err != nil {
		return nil, err
	}
	for i := range t.Branches {
		b := &t.Branches[i]
		for _, r := range rows {
			if unread(*b) && r.BranchID == b.ID && r.Kind == b.Kind && r.Caller == s.ops.LogID() {
				b.Barrier, b.BarrierError = &r, ""
				if u := r.UnderWay; u != nil && b.UnderWay == nil {
					b.UnderWay = &saga.CallUnderWay{Op: u.Op, By: u.By, Since: u.Since, Until: u.Until}
				}
			}
		}
		if unread(*b) && strings.Contains(b.BarrierError, saga.ErrUnknownKind.Error()) {
			b.BarrierError = "the database of the log has none, and this program does not know the kind"
		}
	}
	return t, nil
}

func unread(b saga.BranchView) bool { return b.Barrier == nil && b.BarrierError != "" }

// pageOf returns what is shown of a transaction. What cannot be read is left out.
func pageOf(ctx context.Context, s *session, t *saga.Transaction) render.Page {
	p := render.Page{Transaction: t, Times: s.times(), Command: s.config.Name,
		Refusal: func(act, branchID string) string { return s.ops.Refusal(t, act, branchID) }}
	if t.State.Finished() {
		return p
	}
	p.Instances, _ = s.ops.Instances(ctx)
	kinds, _ := s.ops.Kinds(ctx)
	for _, k := range kinds {
		if !k.PausedAt.IsZero() {
			p.Paused = append(p.Paused, k.Kind)
		}
	}
	return p
}

func txWatch(s *session) *cobra.Command {
	var interval time.Duration
	c := &cobra.Command{Use: "watch GID", Short: "Show a transaction again and again until it is finished", Args: someArgs("the gid of a transaction", 1, 1),
		Long: `Show a transaction again and again until it is finished, or until Ctrl-C. On a terminal it shows the
page of "tx show". Otherwise it writes each new event of the timeline on a line, or, with -o jsonl,
the transaction each time that it has changed. While the database cannot be reached, it goes on trying.`}
	c.Flags().DurationVar(&interval, "interval", time.Second, "`time` between two looks, at least 100ms")
	c.RunE = s.runLong(func(ctx context.Context, args []string) error {
		if interval < 100*time.Millisecond {
			return usage("--interval is %s, it must be at least 100ms", interval)
		}
		v := &viewing{s: s, gid: args[0], seen: map[string]bool{}}
		for {
			finished, err := v.look(ctx)
			if ctx.Err() != nil {
				return nil // Ctrl-C is the way to end it
			}
			if finished || err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(interval):
			}
		}
	})
	return c
}

// viewing is a watch of one transaction.
type viewing struct {
	s    *session
	gid  string
	seen map[string]bool // events and states that are written
	lost bool
}

// look reads the transaction once, and shows what is new.
func (v *viewing) look(ctx context.Context) (finished bool, err error) {
	s := v.s
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	t, err := lookup(limited, s, v.gid)
	if err == nil {
		err = s.readClock(limited)
	}
	switch {
	case errors.Is(err, saga.ErrNotFound), errors.Is(err, saga.ErrInvalid):
		return false, err
	case err != nil:
		if !v.lost && ctx.Err() == nil {
			s.warn("the database does not answer, trying again: %v", err)
		}
		v.lost = true
		return false, nil
	case v.lost:
		s.warn("the database answers again")
		v.lost = false
	}
	w := s.screen()
	switch {
	case s.flags.output != "table":
		state := fmt.Sprint(t.State, t.Epoch, t.Failures, t.Attention, t.PausedAt, t.PreparedAt, len(t.Branches), len(t.Acts), t.DueAt)
		if !v.seen[state] {
			v.seen[state] = true
			err = s.write(t, nil)
		}
	case w.Terminal:
		var page strings.Builder
		screen := w
		screen.Writer = &page
		render.Transaction(screen, pageOf(limited, s, t))
		fmt.Fprint(w, "\x1b[H\x1b[2J"+page.String())
	default:
		for _, e := range explain.Timeline(t) {
			key := fmt.Sprint(e.Kind, e.At.UnixMicro(), e.BranchID, e.Operation, e.Number)
			if !e.IsPlanned() && !v.seen[key] {
				v.seen[key] = true
				render.Event(w, s.times(), e)
			}
		}
	}
	return t.State.Finished(), err
}

func txWait(s *session) *cobra.Command {
	var limit time.Duration
	c := &cobra.Command{Use: "wait GID", Short: "Wait until a transaction is finished", Args: someArgs("the gid of a transaction", 1, 1),
		Long: `Wait until a transaction is finished. The exit code is 0 if it is confirmed, 8 if it is cancelled,
and 6 if it is not finished after --timeout.`}
	c.Flags().DurationVar(&limit, "timeout", 0, "`limit` of the wait; 0 is none")
	c.RunE = s.runLong(func(ctx context.Context, args []string) error {
		if limit < 0 {
			return usage("--timeout is negative")
		}
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		outcome, err := s.ops.Wait(ctx, args[0])
		if !outcome.Finished() && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t, lookErr := lookup(context.WithoutCancel(ctx), s, args[0])
			if lookErr != nil {
				return lookErr
			}
			return &codeError{CodeTimeout, fmt.Errorf("it is not finished after %s. %s", limit, explain.Diagnose(t).Text(s.times().At))}
		}
		if !outcome.Finished() {
			return cmp.Or(err, ctx.Err(), errors.New("the wait ended before the transaction did"))
		}
		if err := s.write(outcome, func(w term.Screen) {
			fmt.Fprintf(w, "%s is %s%s\n", term.Clean(outcome.GID), w.Paint(render.StateStyle(outcome.State), string(outcome.State)), term.Clean(because(outcome.Reason)))
		}); err != nil {
			return err
		}
		if outcome.State == saga.Cancelled {
			return &codeError{code: CodeCancelled}
		}
		return nil
	})
	return c
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func txExport(s *session) *cobra.Command {
	var f filter
	var limit int
	c := &cobra.Command{Use: "export [GID...]", Short: "Write transactions with all that is known of them as JSON, one per line",
		Long: `Write transactions with all that is known of them as JSON, one per line: those with the given gids;
with "-", those whose gids are in the lines of the standard input; without a gid, those that the
conditions select. With -o json, one transaction is an object and several are an array.`,
		Example: `  sagactl tx export order-1001 -o json
  sagactl tx export --attention > attention.jsonl
  sagactl tx list --all --since 1h -o jsonl | jq -r .gid | sagactl tx export -`}
	f.addFlags(c)
	c.Flags().IntVar(&limit, "limit", 1000, "the `most` to export by conditions; 0 is no limit")
	c.RunE = s.runLong(func(ctx context.Context, args []string) error {
		var all []*saga.Transaction
		export := func(gid string) error {
			t, err := lookup(ctx, s, gid)
			if err != nil {
				return err
			}
			if s.flags.output == "json" {
				all = append(all, t)
				return nil
			}
			return encode(s.config.Out, t, "")
		}
		if err := eachGID(ctx, s, args, &f, limit, export); err != nil {
			return err
		}
		switch {
		case s.flags.output != "json":
			return nil
		case len(args) == 1 && len(all) == 1 && args[0] != "-":
			return encode(s.config.Out, all[0], "  ")
		case all == nil:
			all = []*saga.Transaction{}
		}
		return encode(s.config.Out, all, "  ")
	})
	return c
}

// eachGID calls do for each gid: of the arguments, of the standard input, or of a search. A
// transaction that a search has found may be removed before it is read.
func eachGID(ctx context.Context, s *session, args []string, f *filter, limit int, do func(gid string) error) error {
	if len(args) == 1 && args[0] == "-" {
		lines := bufio.NewScanner(s.config.In)
		for lines.Scan() {
			if gid := strings.TrimSpace(lines.Text()); gid != "" {
				if err := do(gid); err != nil {
					return err
				}
			}
		}
		return lines.Err()
	}
	for _, gid := range args {
		if err := do(gid); err != nil {
			return err
		}
	}
	if len(args) > 0 {
		return nil
	}
	q, err := f.query(s)
	if err != nil {
		return err
	}
	for done := 0; limit == 0 || done < limit; {
		q.Limit = pageSize
		if limit > 0 {
			q.Limit = min(pageSize, limit-done)
		}
		page, err := s.ops.Find(ctx, q)
		if err != nil {
			return err
		}
		for _, t := range page.Transactions {
			if err := do(t.GID); err != nil && !errors.Is(err, saga.ErrNotFound) {
				return err
			}
		}
		done += len(page.Transactions)
		if q.After = page.Next; q.After == "" {
			return nil
		}
	}
	s.warn("there may be more than %d: use --limit", limit)
	return nil
}
