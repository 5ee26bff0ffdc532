package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

func bulkCommand(s *session) *cobra.Command {
	var f filter
	var o operator
	var resume string
	c := &cobra.Command{Use: "bulk ACT", Short: "Act on many transactions: retry, pause, resume, confirm or cancel",
		Long: `Act on the transactions that the conditions select: retry, pause, resume, confirm or cancel.

The list of transactions is made first, and stays as it is. A person confirms their number. Then each
is acted on, in a local transaction of its own that also records the act. Ctrl-C ends it in between,
and --resume continues it, in any process.`,
		Example: `  sagactl act bulk retry --attention --text "connection refused" --why "the bank is back" --dry-run
  sagactl act bulk retry --attention --text "connection refused" --why "the bank is back"
  sagactl act bulk --resume ID`,
		Args: someArgs("one act", 0, 1)}
	f.addFlags(c)
	o.addFlags(s, c)
	c.Flags().StringVar(&resume, "resume", "", "continue the bulk action with this `id`")
	c.ValidArgs = []string{"retry", "pause", "resume", "confirm", "cancel"}
	c.RunE = s.runLong(func(ctx context.Context, args []string) error {
		if resume != "" {
			if len(args) > 0 {
				return usage("--resume continues a bulk action as it is: leave out %q", args[0])
			}
			return resumeBulk(ctx, s, resume, &o)
		}
		if len(args) == 0 {
			return usage("%s needs an act, or --resume: see --help", c.CommandPath())
		}
		if err := oneOf("the act", args[0], c.ValidArgs...); err != nil {
			return err
		}
		return startBulk(ctx, s, args[0], &f, &o)
	})
	c.AddCommand(bulkList(s), bulkShow(s))
	return c
}

func startBulk(ctx context.Context, s *session, name string, f *filter, o *operator) error {
	by, err := o.by(s)
	if err != nil {
		return err
	}
	q, err := f.query(s)
	if err != nil {
		return err
	}
	if o.dryRun {
		return countBulk(ctx, s, name, q)
	}
	if !o.yes && !term.IsTerminal(s.config.In) {
		return usage("this needs a confirmation: look at the number with --dry-run, and then add --yes, because nobody can be asked")
	}
	b, err := s.ops.FreezeBulk(ctx, name, q, by)
	if err != nil {
		return err
	}
	if err := o.confirm(s, fmt.Sprintf("%s %s? The list is made; its id is %s.", name, counted(b.Total), b.ID)); err != nil {
		return err
	}
	return runBulk(ctx, s, b.ID)
}

// countBulk says how many transactions a bulk action would have, with some of them.
func countBulk(ctx context.Context, s *session, name string, q saga.Query) error {
	if !q.Unfinished && len(q.States) == 0 {
		q.Unfinished = true // as in a list for an act
	}
	n, err := s.ops.Count(ctx, q)
	if err != nil {
		return err
	}
	q.Limit = 5
	page, err := s.ops.Find(ctx, q)
	if err != nil {
		return err
	}
	var gids []string
	for _, t := range page.Transactions {
		gids = append(gids, t.GID)
	}
	return s.write(struct {
		Act    string     `json:"act"`
		Count  saga.Count `json:"count"`
		First  []string   `json:"first"`
		Query  saga.Query `json:"query"`
		DryRun bool       `json:"dry_run"`
	}{name, n, gids, q, true}, func(w term.Screen) {
		more := ""
		if n.More {
			more = " or more"
		}
		fmt.Fprintf(w, "%s: would be done on %s%s\n", name, counted(n.N), more)
		for _, gid := range gids {
			fmt.Fprintln(w, "  "+term.Clean(gid))
		}
		if n.N > len(gids) {
			fmt.Fprintln(w, "  ...")
		}
	})
}

func counted(n int) string {
	if n == 1 {
		return "1 transaction"
	}
	return fmt.Sprintf("%d transactions", n)
}

// resumeBulk continues a bulk action after its number was shown.
func resumeBulk(ctx context.Context, s *session, id string, o *operator) error {
	b, err := s.ops.Bulk(ctx, id)
	if err != nil {
		return err
	}
	left := b.Total - b.Done - b.Refused - b.Failed
	if !b.FinishedAt.IsZero() || o.dryRun {
		return writeBulk(s, b)
	}
	if err := o.confirm(s, fmt.Sprintf("%s the other %s of %s, because of %q?", b.Name, counted(left), b.ID, b.Why)); err != nil {
		return err
	}
	return runBulk(ctx, s, id)
}

func runBulk(ctx context.Context, s *session, id string) error {
	on := term.Open(s.config.Err, s.flags.color, s.config.Getenv).Terminal
	last := time.Now()
	b, err := s.ops.RunBulk(ctx, id, func(b saga.BulkAction) {
		// On a terminal one line is written again and again; otherwise a line now and then.
		if wait := time.Since(last); on && wait > 100*time.Millisecond || wait > 10*time.Second {
			last = time.Now()
			text := progress(b)
			if on {
				fmt.Fprintf(s.config.Err, "\r\x1b[K%s", text)
			} else {
				s.warn("%s", text)
			}
		}
	})
	if on {
		fmt.Fprint(s.config.Err, "\r\x1b[K")
	}
	if err != nil {
		s.warn("it is not at its end: continue it with %s act bulk --resume %s", s.config.Name, id)
		return err
	}
	if err := writeBulk(s, b); err != nil {
		return err
	}
	if b.Failed > 0 {
		return fmt.Errorf("the act failed on %s: see %s act bulk show %s", counted(b.Failed), s.config.Name, id)
	}
	return nil
}

func progress(b saga.BulkAction) string {
	return fmt.Sprintf("%s: %d of %d, %d done, %d refused, %d failed", b.Name, b.Done+b.Refused+b.Failed, b.Total, b.Done, b.Refused, b.Failed)
}

func writeBulk(s *session, b saga.BulkAction) error {
	return s.write(b, func(w term.Screen) {
		fmt.Fprintf(w, "%s  %s\n", w.Paint(term.Title, term.Clean(b.ID)), bulkState(b))
		fmt.Fprintln(w, "  "+progress(b))
		fmt.Fprintf(w, "  by %s, because: %s\n", term.Clean(b.Who), term.Clean(b.Why))
		fmt.Fprintf(w, "  list made %s\n", s.times().At(b.CreatedAt))
		if !b.StartedAt.IsZero() {
			fmt.Fprintf(w, "  begun     %s\n", s.times().At(b.StartedAt))
		}
		if !b.FinishedAt.IsZero() {
			fmt.Fprintf(w, "  finished  %s\n", s.times().At(b.FinishedAt))
		}
	})
}

func bulkState(b saga.BulkAction) string {
	switch {
	case !b.FinishedAt.IsZero():
		return "finished"
	case !b.StartedAt.IsZero():
		return "not at its end"
	default:
		return "not begun"
	}
}

func bulkList(s *session) *cobra.Command {
	var limit int
	var after string
	c := &cobra.Command{Use: "list", Short: "List bulk actions, the newest first", Args: noArgs}
	c.Flags().IntVar(&limit, "limit", 20, "the `most` to list; 0 is no limit")
	c.Flags().StringVar(&after, "after", "", "continue after the `place` that an earlier list has named")
	c.RunE = s.run(func(ctx context.Context, _ []string) error {
		return list[saga.BulkAction]{name: "bulk_actions", limit: limit, after: after, empty: "there is no bulk action",
			header: []string{"id", "act", "state", "made", "total", "done", "refused", "failed", "who", "why"},
			row: func(_ term.Screen, b saga.BulkAction) []string {
				return []string{b.ID, b.Name, bulkState(b), s.times().Distance(b.CreatedAt), itoa(b.Total), itoa(b.Done), itoa(b.Refused), itoa(b.Failed), term.Clean(b.Who), term.Clean(b.Why)}
			},
			page: s.ops.Bulks}.show(ctx, s)
	})
	return c
}

func bulkShow(s *session) *cobra.Command {
	var limit int
	var failed bool
	c := &cobra.Command{Use: "show ID", Short: "Show a bulk action and its transactions", Args: someArgs("the id of a bulk action", 1, 1),
		Long: "Show a bulk action and its transactions. With -o jsonl, each transaction of its list is a line."}
	c.Flags().IntVar(&limit, "limit", 50, "the `most` transactions to list; 0 is no limit")
	c.Flags().BoolVar(&failed, "not-done", false, "only the transactions on which the act was refused or failed, or is not done yet")
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		b, err := s.ops.Bulk(ctx, args[0])
		if err != nil {
			return err
		}
		if s.flags.output == "table" {
			if err := writeBulk(s, b); err != nil {
				return err
			}
			fmt.Fprintln(s.config.Out)
		}
		number := 0
		return list[saga.BulkTarget]{name: "targets", limit: limit, header: []string{"number", "gid", "result", "at", "error"}, empty: "its list has no such transaction",
			row: func(_ term.Screen, t saga.BulkTarget) []string {
				return []string{itoa(t.Number), term.Clean(t.GID), orDash(t.Result), s.times().At(t.At), term.Clean(strings.TrimSpace(t.Error))}
			},
			page: func(ctx context.Context, _ string, limit int) (targets []saga.BulkTarget, next string, err error) {
				page, err := s.ops.BulkTargets(ctx, b.ID, number, limit)
				if err != nil || len(page) == 0 {
					return nil, "", err
				}
				number = page[len(page)-1].Number
				for _, t := range page {
					if !failed || t.Result != "done" {
						targets = append(targets, t)
					}
				}
				if len(page) < limit {
					return targets, "", nil
				}
				return targets, itoa(number), nil
			}}.show(ctx, s)
	})
	return c
}
