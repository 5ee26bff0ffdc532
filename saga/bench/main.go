// Bench measures tccsaga beside the same work by hand, and beside a DTM server,
// on real servers, and writes what came of it as a table, as plots and as raw
// figures. "make bench" and "make bench-short" start the servers for it.
//
// One machine is never the same twice, so only figures of one run compare. With -against, the
// benchmark compares two versions of the library: it builds itself with the library of this
// checkout and with that of another one, and runs each case with both, in turns. It writes how
// many orders per second both place, how much time of the processors the database server takes
// for an order, and the ratio of both, as the median of all rounds with the extremes. The time
// of the processors changes little when something else runs on the machine.
//
//	git clone . /tmp/before && git -C /tmp/before checkout COMMIT
//	.ci/servers sh -c 'cd saga/bench && go run . -against /tmp/before -only spread -database mysql -contenders "plain; tccsaga" -callers 1,64 -rounds 5'
//
// The flags -only, -database, -contenders and -callers select what is measured, with and
// without -against.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

func main() {
	var s Suite
	flag.DurationVar(&s.Length, "for", 3*time.Second, "length of a run")
	flag.IntVar(&s.Rounds, "rounds", 3, "rounds, in each of which every contender runs once")
	flag.IntVar(&s.Finished, "finished", 5_000_000, "finished transactions in a log that is not empty")
	flag.IntVar(&s.Failing, "failing", 100_000, "failing transactions in the log that the console shows")
	flag.IntVar(&s.Left, "left", 100_000, "unfinished transactions left to recovery")
	flag.IntVar(&s.Idle, "idle", 10_000, "open reservations that wait for their deadline")
	flag.IntVar(&s.Backlog, "backlog", 10_000, "messages that wait for the broker at the end of an outage")
	flag.StringVar(&s.Only, "only", "", "only the experiment with this name")
	flag.StringVar(&s.Database, "database", "", "only on this database: mysql, postgres or sqlite")
	flag.Func("contenders", "only these contenders, separated by semicolons: \"raw; plain\"", func(text string) error {
		for name := range strings.SplitSeq(text, ";") {
			s.Contenders = append(s.Contenders, strings.TrimSpace(name))
		}
		return nil
	})
	flag.Func("callers", "only these numbers of callers, separated by commas", func(text string) error {
		for number := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(number))
			if err != nil {
				return err
			}
			s.Callers = append(s.Callers, n)
		}
		return nil
	})
	flag.BoolVar(&s.Short, "short", false, "only what the targets need, briefly, and nothing but a line per target")
	from := flag.String("from", "", "measure nothing, and write what this figures.json holds")
	out := flag.String("out", "", "folder for report.md, figures.json and the plots; none if empty")
	against := flag.String("against", "", "compare the library of this checkout with that of the checkout in this folder")
	task := flag.String("member", "", "be one of several processes; for the benchmark itself")
	flag.Parse()
	if s.Short {
		s.Length, s.Rounds, s.Finished, s.Failing, s.Left, s.Idle, s.Backlog = 500*time.Millisecond, 1, 200_000, 10_000, 10_000, 2_000, 10_000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := func() error {
		switch {
		case *task != "":
			var m member
			if err := json.Unmarshal([]byte(*task), &m); err != nil {
				return err
			}
			return m.run(ctx)
		case *against != "":
			return s.against(ctx, *against)
		}
		return bench(ctx, &s, *from, *out)
	}()
	if err != nil {
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
		fmt.Println("ratio", r.Case, fmt.Sprintf("%.2f", r.Value), r.goal())
	}
	if out == "" {
		return nil
	}
	return report{s}.Write(out)
}
