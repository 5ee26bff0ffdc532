package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/render"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

func outboxCommand(s *session) *cobra.Command {
	return group("outbox", "Messages that wait to be published: list, stats", outboxList(s), outboxStats(s))
}

func outboxList(s *session) *cobra.Command {
	var f message.OutboxFilter
	var state string
	var limit int
	states := []string{string(message.OutboxUndecided), string(message.OutboxDelayed), string(message.OutboxDue), string(message.OutboxFailing)}
	c := &cobra.Command{Use: "list", Short: "List messages that wait to be published", Args: noArgs,
		Long: `List messages that wait to be published: first those of unfinished transactions, the oldest transaction
first; then the others, by stream and due time.`}
	c.Flags().StringVar(&state, "state", "", "only in this `state`: "+alternatives(states)+"; due ones may be failing, too")
	c.Flags().StringVar(&f.Stream, "stream", "", "only those for this `stream`")
	c.Flags().IntVar(&limit, "limit", 50, "the `most` to list; 0 is no limit")
	c.Flags().StringVar(&f.After, "after", "", "continue after the `place` that an earlier list has named")
	complete(c, "state", states...)
	c.RunE = s.run(func(ctx context.Context, _ []string) error {
		if limit < 0 {
			return usage("--limit is negative")
		}
		if state != "" {
			if err := oneOf("--state", state, states...); err != nil {
				return err
			}
		}
		f.State = message.OutboxState(state)
		outbox, err := message.NewOutbox(outboxDB(s))
		if err != nil {
			return err
		}
		return list[message.OutboxMessage]{name: "messages", limit: limit, after: f.After, empty: "no message waits",
			header: []string{"state", "stream", "subject", "due", "failures", "next", "gid", "bytes", "error"},
			row: func(w term.Screen, m message.OutboxMessage) []string {
				style := term.Plain
				if m.Failures > 0 {
					style = term.Bad
				}
				shown := string(m.State)
				if m.Paused {
					shown += ", paused"
				}
				return []string{w.Paint(style, shown), term.Clean(m.Stream), term.Clean(m.Subject), s.times().Distance(m.DueAt), itoa(m.Failures),
					s.times().Distance(m.NextAt), orDash(term.Clean(m.GID)), fmt.Sprint(m.Bytes), w.Paint(style, term.Clean(m.Error))}
			},
			page: func(ctx context.Context, after string, limit int) ([]message.OutboxMessage, string, error) {
				f.After, f.Limit = after, limit
				page, err := outbox.List(ctx, f)
				return page.Messages, page.Next, err
			}}.show(ctx, s)
	})
	return c
}

func outboxStats(s *session) *cobra.Command {
	c := &cobra.Command{Use: "stats", Short: "Count the messages that wait to be published, and show how late they are", Args: noArgs}
	c.RunE = s.run(func(ctx context.Context, _ []string) error {
		stats, err := countOutbox(ctx, s)
		if err != nil {
			return err
		}
		return s.write(stats, func(w term.Screen) {
			row := func(name string, c message.OutboxCounts) []string {
				return []string{name, countOf(c.Waiting), countOf(c.Due), countOf(c.Failing), lag(c)}
			}
			rows := [][]string{row("all", stats.OutboxCounts)}
			for _, stream := range stats.Streams {
				rows = append(rows, row(term.Clean(stream.Stream), stream.OutboxCounts))
			}
			w.Table([]string{"stream", "waiting", "due", "failing", "oldest due"}, rows, false)
			if stats.More {
				s.warn("there are more streams, which are not counted")
			}
		})
	})
	return c
}

func lag(c message.OutboxCounts) string {
	if c.Oldest.IsZero() {
		return "-"
	}
	return render.Duration(max(c.Lag, time.Microsecond)) + " ago"
}

// countOutbox counts the messages that wait.
func countOutbox(ctx context.Context, s *session) (stats message.OutboxStats, err error) {
	outbox, err := message.NewOutbox(outboxDB(s))
	if err != nil {
		return stats, err
	}
	return outbox.Stats(ctx)
}
