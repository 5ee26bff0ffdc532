package ctl

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/render"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

func txCommand(s *session) *cobra.Command {
	c := group("tx", "Transactions: list, show, watch, wait, export, and acts on one of them",
		txList(s), txShow(s), txWatch(s), txWait(s), txExport(s))
	c.Aliases = []string{"transaction"}
	c.AddCommand(actCommands(s)...)
	return c
}

func txList(s *session) *cobra.Command {
	var f filter
	var after string
	var limit int
	c := &cobra.Command{Use: "list", Short: "List transactions, the newest first, without those that are finished", Args: noArgs,
		Long: `List transactions, the newest first. Finished ones are left out, unless --all or --state asks for
them. All conditions have to hold.

A search is bounded: the database looks at 10,000 transactions at a time. The command continues until
it has found --limit transactions, or has searched the log, or its --timeout has passed.`,
		Example: `  sagactl tx list --attention
  sagactl tx list --all --label order=1001
  sagactl tx list --text "connection refused" --since 24h
  sagactl tx list --state cancelled --since 1h -o jsonl | jq .reason`}
	f.addFlags(c)
	c.Flags().IntVar(&limit, "limit", 50, "the `most` to list; 0 is no limit")
	c.Flags().StringVar(&after, "after", "", "continue after the `place` that an earlier list has named")
	c.RunE = s.run(func(ctx context.Context, _ []string) error {
		if limit < 0 {
			return usage("--limit is negative")
		}
		q, err := f.query(s)
		if err != nil {
			return err
		}
		empty := "no transaction matches"
		if q.Unfinished && !q.Attention && !q.Paused {
			empty = "no unfinished transaction matches; for finished ones, add --all"
		}
		return list[saga.Summary]{name: "transactions", limit: limit, after: after, empty: empty,
			header: []string{"gid", "state", "begun", "age", "failures", "next", "labels", "note"},
			row:    func(w term.Screen, t saga.Summary) []string { return summaryRow(w, s.times(), t) },
			page: func(ctx context.Context, after string, limit int) ([]saga.Summary, string, error) {
				q.After, q.Limit = after, limit
				page, err := s.ops.Find(ctx, q)
				return page.Transactions, page.Next, err
			}}.show(ctx, s)
	})
	return c
}

// summaryRow is a line about a transaction.
func summaryRow(w term.Screen, at render.Times, t saga.Summary) []string {
	next, failures := "-", "-"
	if !t.State.Finished() {
		next = at.Distance(t.DueAt)
	}
	if t.Failures > 0 {
		failures = itoa(t.Failures)
	}
	note, style := note(t)
	return []string{term.Clean(t.GID), w.Paint(render.StateStyle(t.State), string(t.State)), at.Short(t.CreatedAt), at.Age(t.CreatedAt),
		failures, next, orDash(term.Clean(render.Labels(t.Labels))), w.Paint(style, term.Clean(note))}
}

// note is what a person has to know first.
func note(t saga.Summary) (string, term.Style) {
	var parts []string
	style := term.Plain
	if !t.PausedAt.IsZero() && !t.State.Finished() {
		parts, style = append(parts, "paused"), term.Wait
	}
	if t.Attention != "" && !t.State.Finished() {
		parts, style = append(parts, "attention: "+t.Attention), term.Bad
	}
	if t.Reason != "" {
		parts = append(parts, t.Reason)
	}
	if !t.PreparedAt.IsZero() && t.State == saga.Trying {
		parts = append(parts, "prepared, decided by "+t.Parent)
	}
	return strings.Join(parts, "; "), style
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
