package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/monitor"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/render"
)

// limits are the thresholds of a measurement; 0 is none.
type limits[T int | time.Duration] struct{ warning, critical T }

// thresholds are those of check.
type thresholds struct {
	attention, paused, dead    limits[int]
	undecided, unfinished, lag limits[time.Duration]
	instances                  int
	output                     string
}

func checkCommand(s *session) *cobra.Command {
	var t thresholds
	c := &cobra.Command{Use: "check", Short: "Check the log for a monitoring system: attention, what is old, pauses, instances, messages", Args: noArgs,
		Long: `Check the log for a monitoring system. The exit code is 0 for ok, 1 for a warning, 2 for critical, and
3 for unknown, which is a mistake in the call. A database that cannot be reached is critical.

Each threshold is the value from which on the level counts; 0 switches it off.`,
		Example: `  sagactl check --attention-critical 1
  sagactl check -o prometheus > /var/lib/node_exporter/tccsaga.prom`}
	f := c.Flags()
	f.StringVarP(&t.output, "output", "o", "nagios", "`form` of the output: nagios, json or prometheus")
	count := func(l *limits[int], name, what string, warning, critical int) {
		f.IntVar(&l.warning, name+"-warning", warning, "`number` of "+what)
		f.IntVar(&l.critical, name+"-critical", critical, "`number` of "+what)
	}
	age := func(l *limits[time.Duration], name, what string, warning, critical time.Duration) {
		f.DurationVar(&l.warning, name+"-warning", warning, "`age` of "+what)
		f.DurationVar(&l.critical, name+"-critical", critical, "`age` of "+what)
	}
	count(&t.attention, "attention", "transactions that need an operator", 1, 10)
	age(&t.undecided, "undecided", "the oldest undecided transaction, since its begin", 10*time.Minute, time.Hour)
	age(&t.unfinished, "unfinished", "the oldest decided transaction that is not finished, since its decision", 10*time.Minute, time.Hour)
	count(&t.paused, "paused-kinds", "kinds of branches that are paused", 1, 0)
	count(&t.dead, "dead-instances", "instances that ended without a goodbye in the last hour", 1, 0)
	age(&t.lag, "outbox", "the oldest message that waits to be published, since it was due", time.Minute, 10*time.Minute)
	f.IntVar(&t.instances, "instances-least", 1, "least `number` of running instances; fewer is critical")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &codeError{int(monitor.Unknown), fmt.Errorf("%w: see %s --help", err, c.CommandPath())}
	})
	c.Args = func(c *cobra.Command, args []string) error { return unknown(noArgs(c, args)) }
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := s.begin(); err != nil {
			return unknown(err)
		}
		if err := oneOf("--output", t.output, "nagios", "json", "prometheus"); err != nil {
			return unknown(err)
		}
		ctx, cancel := c.Context(), func() {}
		if s.flags.timeout > 0 {
			ctx, cancel = context.WithTimeout(ctx, s.flags.timeout)
		}
		defer cancel()
		defer s.close()
		report, err := measure(ctx, s, t)
		if err != nil {
			if ExitCode(err) == CodeUsage {
				return unknown(err)
			}
			report = monitor.Failed(monitor.Critical, s.explain(ctx, err).Error())
		}
		switch t.output {
		case "json":
			err = encode(s.config.Out, report, "  ")
		case "prometheus":
			report.Prometheus(s.config.Out)
			err = nil
		default:
			report.Nagios(s.config.Out)
			err = nil
		}
		if err != nil {
			return unknown(err)
		}
		if report.Level != monitor.OK {
			return &codeError{code: int(report.Level)}
		}
		return nil
	}
	return c
}

// unknown returns an error with the exit code of unknown.
func unknown(err error) error {
	if err == nil {
		return nil
	}
	return &codeError{int(monitor.Unknown), err}
}

// measure measures.
func measure(ctx context.Context, s *session, t thresholds) (r monitor.Report, err error) {
	if err = s.openLog(ctx); err != nil {
		return r, err
	}
	o, err := s.ops.Overview(ctx)
	if err != nil {
		return r, err
	}
	outbox, err := countOutbox(ctx, s)
	if err != nil {
		return r, err
	}
	paused, alive, dead := 0, 0, 0
	for _, k := range o.Kinds {
		if !k.PausedAt.IsZero() {
			paused++
		}
	}
	for _, i := range o.Instances {
		if i.Alive {
			alive++
		} else {
			dead++
		}
	}
	return monitor.NewReport(
		number("attention", "Transactions that need an operator.", o.Attention.N, t.attention,
			countText(o.Attention, "transaction needs", "transactions need")+" an operator"),
		age("oldest_undecided", "Age of the oldest undecided transaction, since its begin.", sinceBegin(o), t.undecided,
			oldest("undecided", o.OldestUndecided, sinceBegin(o))),
		age("oldest_unfinished", "Age of the oldest decided transaction that is not finished, since its decision.", sinceDecision(o), t.unfinished,
			oldest("decided and not finished", o.OldestUnfinished, sinceDecision(o))),
		number("paused_kinds", "Kinds of branches that an operator has paused.", paused, t.paused, plural(paused, "kind of branches is", "kinds of branches are")+" paused"),
		number("dead_instances", "Instances that ended without a goodbye in the last hour.", dead, t.dead,
			plural(dead, "instance", "instances")+" ended without a goodbye in the last hour"),
		monitor.Check{Name: "instances", Help: "Running instances.", Value: float64(alive), Critical: float64(t.instances), Least: true,
			Text: plural(alive, "instance runs", "instances run")}.Judge(),
		age("outbox_lag", "Age of the oldest message that waits to be published, since it was due.", outbox.Lag, t.lag,
			messages(outbox.Waiting, outbox.Lag)),
	), nil
}

func number(name, help string, value int, l limits[int], text string) monitor.Check {
	return monitor.Check{Name: name, Help: help, Value: float64(value), Warning: float64(l.warning), Critical: float64(l.critical), Text: text}.Judge()
}

func age(name, help string, value time.Duration, l limits[time.Duration], text string) monitor.Check {
	return monitor.Check{Name: name, Help: help, Value: max(0, value).Seconds(), Unit: "s", Warning: l.warning.Seconds(), Critical: l.critical.Seconds(), Text: text}.Judge()
}

func sinceBegin(o *saga.Overview) time.Duration {
	if o.OldestUndecided == nil {
		return 0
	}
	return o.Now.Sub(o.OldestUndecided.CreatedAt)
}

func sinceDecision(o *saga.Overview) time.Duration {
	if o.OldestUnfinished == nil {
		return 0
	}
	return o.Now.Sub(o.OldestUnfinished.DecidedAt)
}

func oldest(what string, t *saga.Summary, age time.Duration) string {
	if t == nil {
		return "no transaction is " + what
	}
	return fmt.Sprintf("%s is %s for %s", t.GID, what, render.Duration(max(0, age)))
}

func plural(n int, one, many string) string { return countText(saga.Count{N: n}, one, many) }

func messages(waiting saga.Count, lag time.Duration) string {
	text := countText(waiting, "message waits", "messages wait") + " to be published"
	if waiting.N > 0 {
		text += fmt.Sprintf(", the oldest for %s", render.Duration(lag))
	}
	return text
}

// countText returns a bounded count with its noun.
func countText(c saga.Count, one, many string) string {
	noun := many
	if c.N == 1 && !c.More {
		noun = one
	}
	if c.More {
		return fmt.Sprintf("%d or more %s", c.N, noun)
	}
	return fmt.Sprintf("%d %s", c.N, noun)
}
