package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

func actCommand(s *session) *cobra.Command {
	return group("act", "Acts of operators: the audit log, and acts on many transactions", actList(s), bulkCommand(s))
}

func actList(s *session) *cobra.Command {
	var q saga.ActionQuery
	var limit int
	c := &cobra.Command{Use: "list", Short: "List the acts of operators, the newest first: who did what, when and why", Args: noArgs}
	f := c.Flags()
	f.StringVar(&q.GID, "gid", "", "only those on this `transaction`")
	f.StringVar(&q.Kind, "kind", "", "only those on this `kind` of branch")
	f.StringVar(&q.Who, "by", "", "only those of this `person`")
	f.StringVar(&q.Name, "act", "", "only this `act`: retry, pause, resume, confirm, cancel or resolve")
	f.StringVar(&q.BulkID, "bulk", "", "only those that are part of this bulk action, by its `id`")
	f.IntVar(&limit, "limit", 50, "the `most` to list; 0 is no limit")
	f.StringVar(&q.After, "after", "", "continue after the `place` that an earlier list has named")
	c.RunE = s.run(func(ctx context.Context, _ []string) error {
		if limit < 0 {
			return usage("--limit is negative")
		}
		return list[saga.ActionRecord]{name: "actions", limit: limit, after: q.After, empty: "no act matches",
			header: []string{"when", "who", "act", "on", "why"},
			row: func(_ term.Screen, a saga.ActionRecord) []string {
				on := a.GID
				if a.Kind != "" {
					on = "kind " + a.Kind
				}
				name := a.Name
				if a.BranchID != "" {
					name += fmt.Sprintf(" %s=%s", a.BranchID, a.Believed)
				}
				return []string{s.times().At(a.At), term.Clean(a.Who), name, term.Clean(on), term.Clean(a.Why)}
			},
			page: func(ctx context.Context, after string, limit int) ([]saga.ActionRecord, string, error) {
				q.After, q.Limit = after, limit
				page, err := s.ops.Actions(ctx, q)
				return page.Actions, page.Next, err
			}}.show(ctx, s)
	})
	return c
}
