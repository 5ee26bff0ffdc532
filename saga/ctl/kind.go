package ctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

func kindCommand(s *session) *cobra.Command {
	return group("kind", "Kinds of branches: list, pause, resume", kindList(s),
		kindAct(s, "pause", "Call no branch of a kind, in any instance, until it is resumed",
			"New transactions with the kind are refused, and Confirms and Cancels wait. Instances read it within\ntheir poll interval."),
		kindAct(s, "resume", "Undo pause", "The waiting branches are called within the longest backoff of their engine."))
}

func kindList(s *session) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the kinds that are paused, or that this program knows", Args: noArgs}
	c.RunE = s.run(func(ctx context.Context, _ []string) error {
		return list[saga.KindView]{name: "kinds", header: []string{"kind", "paused", "place", "last act"}, empty: "no kind is paused",
			row: func(w term.Screen, k saga.KindView) []string {
				paused, act := "-", "-"
				if !k.PausedAt.IsZero() {
					paused = w.Paint(term.Wait, s.times().At(k.PausedAt))
				}
				if n := len(k.Acts); n > 0 {
					a := k.Acts[n-1]
					act = fmt.Sprintf("%s by %s, %s: %s", a.Name, a.Who, s.times().Distance(a.At), a.Why)
				}
				return []string{term.Clean(k.Kind), paused, orDash(k.Place), term.Clean(act)}
			},
			page: func(ctx context.Context, _ string, _ int) ([]saga.KindView, string, error) {
				kinds, err := s.ops.Kinds(ctx)
				return kinds, "", err
			}}.show(ctx, s)
	})
	return c
}

func kindAct(s *session, name, short, long string) *cobra.Command {
	var o operator
	c := &cobra.Command{Use: name + " KIND", Short: short, Long: short + ". " + long, Args: someArgs("a kind of branch", 1, 1)}
	o.addFlags(s, c)
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		by, err := o.by(s)
		if err != nil {
			return err
		}
		kind := args[0]
		if err = saga.ValidateKind(kind); err != nil {
			return usage("%w", err)
		}
		result := actResult{Kind: kind, Act: name, Result: "done", DryRun: o.dryRun}
		switch {
		case o.dryRun:
			result.Result = "would be done"
			err = kindRefusal(ctx, s, name, kind)
		case name == "pause":
			if err = o.confirm(s, fmt.Sprintf("pause %s? New transactions with it are refused.", kind)); err != nil {
				return err
			}
			err = s.ops.PauseKind(ctx, kind, by)
		default:
			err = s.ops.ResumeKind(ctx, kind, by)
		}
		result.fail(err)
		return cmp.Or(report(s, result), err)
	})
	return c
}

// kindRefusal returns why an act on a kind would be refused.
func kindRefusal(ctx context.Context, s *session, act, kind string) error {
	kinds, err := s.ops.Kinds(ctx)
	if err != nil || act == "pause" {
		return err
	}
	if !slices.ContainsFunc(kinds, func(k saga.KindView) bool { return k.Kind == kind && !k.PausedAt.IsZero() }) {
		return fmt.Errorf("resume %s: it is not paused: %w", kind, saga.ErrRefused)
	}
	return nil
}

func instanceCommand(s *session) *cobra.Command {
	l := &cobra.Command{Use: "list", Short: "List the running engines, and those that ended without a goodbye in the last hour", Args: noArgs}
	l.RunE = s.run(func(ctx context.Context, _ []string) error {
		return list[saga.Instance]{name: "instances", header: []string{"instance", "lease", "host", "pid", "started", "lease until"}, empty: "no engine runs",
			row: func(w term.Screen, i saga.Instance) []string {
				lease := w.Paint(term.Bad, "ended")
				if i.Alive {
					lease = w.Paint(term.Good, "alive")
				}
				return []string{term.Clean(i.ID), lease, term.Clean(i.Host), itoa(i.PID), s.times().At(i.StartedAt), s.times().At(i.LeaseUntil)}
			},
			page: func(ctx context.Context, _ string, _ int) ([]saga.Instance, string, error) {
				instances, err := s.ops.Instances(ctx)
				return instances, "", err
			}}.show(ctx, s)
	})
	return group("instance", "Instances: the running engines and their leases", l)
}
