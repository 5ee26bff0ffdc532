package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/render"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

func statsCommand(s *session) *cobra.Command {
	var step time.Duration
	var parts int
	c := &cobra.Command{Use: "stats", Short: "Show what is unfinished, what needs a person, and what has finished lately", Args: noArgs,
		Long: `Show what is unfinished, what needs a person, and what has finished lately. Rates and times are
estimates from samples of at most a thousand transactions per line.`}
	c.Flags().DurationVar(&step, "step", time.Minute, "`time` of one line of what has finished")
	c.Flags().IntVar(&parts, "lines", 10, "`number` of these lines; 0 leaves them out")
	c.RunE = s.run(func(ctx context.Context, _ []string) error {
		switch {
		case step < time.Second:
			return usage("--step is %s, it must be at least 1s", step)
		case parts < 0 || parts > 100:
			return usage("--lines is %d, it must be between 0 and 100", parts)
		}
		o, err := s.ops.Overview(ctx)
		if err != nil {
			return err
		}
		activity := []saga.Activity{}
		if parts > 0 {
			if activity, err = s.ops.Activity(ctx, o.Now, step, parts); err != nil {
				return err
			}
		}
		return s.write(struct {
			Overview *saga.Overview  `json:"overview"`
			Activity []saga.Activity `json:"activity"`
		}{o, activity}, func(w term.Screen) { showStats(s, w, o, activity) })
	})
	return c
}

func showStats(s *session, w term.Screen, o *saga.Overview, activity []saga.Activity) {
	at := render.Times{Now: o.Now, Local: s.flags.local}
	line := func(name, value string, style term.Style) {
		fmt.Fprintf(w, "  %-18s %s\n", name, w.Paint(style, value))
	}
	if0 := func(c saga.Count, style term.Style) term.Style {
		if c.N == 0 && !c.More {
			return term.Plain
		}
		return style
	}
	fmt.Fprintln(w, w.Paint(term.Title, "Now")+"  "+at.Stamp(o.Now)+", by the database's clock")
	line("need an operator", countOf(o.Attention), if0(o.Attention, term.Bad))
	line("paused", countOf(o.Paused), if0(o.Paused, term.Wait))
	line("trying", countOf(o.Trying), term.Plain)
	line("confirming", countOf(o.Confirming), term.Plain)
	line("cancelling", countOf(o.Cancelling), term.Plain)
	if t := o.OldestUndecided; t != nil {
		line("oldest undecided", term.Clean(t.GID)+", begun "+at.Distance(t.CreatedAt), term.Plain)
	}
	if t := o.OldestUnfinished; t != nil {
		line("oldest unfinished", term.Clean(t.GID)+", decided "+at.Distance(t.DecidedAt), term.Plain)
	}
	for _, k := range o.Kinds {
		if !k.PausedAt.IsZero() {
			line("paused kind", term.Clean(k.Kind)+", "+at.Distance(k.PausedAt), term.Wait)
		}
	}
	alive := 0
	for _, i := range o.Instances {
		if i.Alive {
			alive++
		}
	}
	style := term.Plain
	if alive < len(o.Instances) || alive == 0 {
		style = term.Bad
	}
	line("instances", fmt.Sprintf("%d alive, %d ended without a goodbye", alive, len(o.Instances)-alive), style)
	if len(activity) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", w.Paint(term.Title, "Finished"))
	top := 0.0
	for _, a := range activity {
		top = max(top, a.Rate)
	}
	var rows [][]string
	for _, a := range activity {
		rows = append(rows, []string{"  " + at.Short(a.From), fmt.Sprintf("%.1f/s", a.Rate), percent(a, a.Cancelled), percent(a, a.Failed),
			duration(a, a.P50), duration(a, a.P99), bar(a.Rate, top)})
	}
	w.Table([]string{"  from", "rate", "cancelled", "failed", "p50", "p99", ""}, rows, false)
}

func percent(a saga.Activity, share float64) string {
	if a.Rate == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*share)
}

func duration(a saga.Activity, d time.Duration) string {
	if a.Rate == 0 {
		return "-"
	}
	return render.Duration(d)
}

// bar is a rate beside the highest one.
func bar(rate, top float64) string {
	if top == 0 {
		return ""
	}
	return strings.Repeat("#", int(20*rate/top+0.5))
}

// countOf returns a bounded count.
func countOf(c saga.Count) string {
	if c.More {
		return fmt.Sprintf("%d or more", c.N)
	}
	return itoa(c.N)
}
