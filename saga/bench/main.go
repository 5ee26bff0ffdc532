// Bench measures tccsaga beside the same work by hand, and beside a DTM server,
// on real servers, and writes what came of it as a table, as plots and as raw
// figures. "make bench" and "make bench-short" start the servers for it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	var s Suite
	flag.DurationVar(&s.Length, "for", 3*time.Second, "length of a run")
	flag.IntVar(&s.Rounds, "rounds", 3, "rounds, in each of which every contender runs once")
	flag.IntVar(&s.Finished, "finished", 5_000_000, "finished transactions in a log that is not empty")
	flag.IntVar(&s.Left, "left", 100_000, "unfinished transactions left to recovery")
	flag.IntVar(&s.Idle, "idle", 10_000, "open reservations that wait for their deadline")
	flag.IntVar(&s.Backlog, "backlog", 10_000, "messages that wait for the broker at the end of an outage")
	flag.StringVar(&s.Only, "only", "", "only the experiment with this name")
	flag.BoolVar(&s.Short, "short", false, "only what the targets need, briefly, and nothing but a line per target")
	from := flag.String("from", "", "measure nothing, and write what this figures.json holds")
	out := flag.String("out", "", "folder for report.md, figures.json and the plots; none if empty")
	flag.Parse()
	if s.Short {
		s.Length, s.Rounds, s.Finished, s.Left, s.Idle, s.Backlog = 500*time.Millisecond, 1, 200_000, 10_000, 2_000, 10_000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx, &s, *from, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, s *Suite, from, out string) error {
	measure := func() error { return s.Run(ctx) }
	if from != "" {
		measure = func() error { return report{s}.Read(from) }
	}
	if err := measure(); err != nil {
		return err
	}
	for _, r := range s.Ratios() {
		fmt.Printf("ratio %s %.2f %.2f\n", r.Case, r.Value, r.Target)
	}
	if out == "" {
		return nil
	}
	return report{s}.Write(out)
}
