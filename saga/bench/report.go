package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// report is what a suite has measured, as files.
type report struct{ *Suite }

// Write writes report.md, figures.json and the plots into a folder.
func (r report) Write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	figures, err := r.figures()
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(folder, "figures.json"), figures, 0o644),
		os.WriteFile(filepath.Join(folder, "report.md"), []byte(r.text()), 0o644),
		r.plots(folder),
	)
}

// keys are what was measured, in the order of the report.
func (r report) keys() []Key {
	order := map[string]int{}
	for _, e := range r.experiments() {
		order[e.Name+e.Database] = len(order)
	}
	for _, e := range r.sharing() {
		order[e.Name+e.Database] = len(order)
	}
	for _, e := range r.posting() {
		order[e.Name+e.Database] = len(order)
	}
	for _, e := range r.consuming() {
		order[e.Name+e.Database] = len(order)
	}
	return slices.SortedFunc(maps.Keys(r.runs), func(a, b Key) int {
		return cmp.Or(cmp.Compare(order[a.Experiment+a.Database], order[b.Experiment+b.Database]),
			cmp.Compare(a.Callers, b.Callers), cmp.Compare(rank(a.Contender), rank(b.Contender)), cmp.Compare(a.Contender, b.Contender))
	})
}

func rank(contender string) int {
	return slices.Index([]string{"raw", "empty", "none", "alone", "plain", "tccsaga"}, contender) & 0xf // the others come last
}

// results are figures.json.
type results struct {
	Go         string
	CPUs       int
	Rounds     int
	Length     time.Duration
	Finished   int
	Left       int
	Idle       int
	Measured   []measured
	Recovered  []float64
	Placed     []float64
	PeakMemory []float64
	Drained    []float64
	Normal     []float64 // the pace without an outage
	Backlog    int
	Failing    int
	Profiles   []Profile
	Questions  []Question
	Refreshing []Refreshing
	Ratios     []Ratio
}

type measured struct {
	Key
	Runs []Figures `json:"runs"`
}

func (r report) figures() ([]byte, error) {
	found := results{runtime.Version(), runtime.NumCPU(), r.Rounds, r.Length, r.Finished, r.Left, r.Idle, nil, r.recovered, r.placed, r.peakMemory, r.drained, r.undisturbed, r.Backlog, r.Failing, r.profile, r.questions, r.refreshing, r.Ratios()}
	for _, k := range r.keys() {
		found.Measured = append(found.Measured, measured{k, r.runs[k]})
	}
	return json.MarshalIndent(found, "", " ")
}

// Read takes over what was measured before.
func (r report) Read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var found results
	if err := json.Unmarshal(text, &found); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	r.Rounds, r.Length, r.Finished, r.Left, r.Idle = found.Rounds, found.Length, found.Finished, found.Left, found.Idle
	r.drained, r.undisturbed, r.Backlog = found.Drained, found.Normal, found.Backlog
	r.recovered, r.placed, r.peakMemory = found.Recovered, found.Placed, found.PeakMemory
	r.Failing, r.profile, r.questions, r.refreshing = found.Failing, found.Profiles, found.Questions, found.Refreshing
	r.runs = make(map[Key][]Figures)
	for _, m := range found.Measured {
		r.runs[m.Key] = m.Runs
	}
	return nil
}

const contenders = `
All contenders lock stock of 1 of 1,000 articles, or always the same (hot), and write a
message; all of it is durable.

- raw: the statements by hand, in four local transactions, coordinated by nobody; on SQLite,
  the callers take turns
- raw, shared: the same statements, one by one, for orders that come at the same time, in one
  local transaction: the limit of branches without a bulk interface
- alone: tccsaga, but no two callers share a commit
- plain: tccsaga, with branches that have no bulk interface
- tccsaga: as the README shows it, with the ready-made branches; where they publish for
  real it is called jetstream; publish by hand: raw, with a publish that the broker has
  acknowledged before the last local transaction
- dtm: a DTM server, through its own client, with its own barrier
- services: two branches that a user wrote, each in a service with a database of its own,
  over signed HTTP, and the log in a third database; services bulk: the same with branches
  that have a bulk interface; dtm services: a DTM server with the same two services
- services, cancelled; dtm services, cancelled: the same with orders that are cancelled by
  the second Try
- other database, two other databases: plain, with both branches in this process, in a
  database that is not that of the log, or in two
- open, open plain: tccsaga and plain as open transactions: Begin, two Trys and Confirm
- 1 process, 2 processes, 4 processes: tccsaga with that many engines, each in a process of its
  own, on one database, with 64 callers in all
- saga: two actions in two services, each with a database of its own; dtm saga: DTM's
  pattern saga
- local: an order of the caller's own and a message for the broker, in one local
  transaction; a run ends when the broker has acknowledged every message. outbox: by hand,
  with a relay that publishes up to 100 messages with one commit; river: InsertTx, and
  100 workers that publish; publishin: PublishIn; tccsaga: ExecuteIn
- half-message: the same with a local transaction in a database that is not the
  coordinator's; dtm msg: DTM's pattern msg
- empty, full: tccsaga with a log that is empty, or holds millions of finished transactions
- by hand; by hand, 64 a commit: a loop that handles a backlog of messages, each with an
  inbox row and one INSERT in a local transaction; 1 worker, 16 workers, batches of 64:
  the consumer of tccsaga; former: what it did before; watermill, river: their SQL
  subscriber and their workers with the same INSERT; consume-far: with a database that is
  2 ms away
- xa by hand: two XA transactions in two databases, and a row with the decision; unlogged:
  without that row, so that nobody can end what is left by a process that dies; xa: the
  same work with package xa
- waiting, none: tccsaga beside open reservations that wait, or beside as many decided ones
`

func (r report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What the benchmark measured\n\nRounds: %d of %s, of which the medians count. Measured on %d processors that servers, clients and contenders share.\nOnly figures of one run compare.\n\n", r.Rounds, r.Length, runtime.NumCPU())
	fmt.Fprintf(&b, "| case | ratio | target | |\n|---|---:|---:|---|\n")
	for _, r := range r.Ratios() {
		sign, verdict := "at least ", "missed"
		if r.AtMost {
			sign = "at most "
		}
		if r.Reached() {
			verdict = "reached"
		}
		if r.Target == 0 {
			sign, verdict = "", ""
		}
		fmt.Fprintf(&b, "| %s | %.2f | %s%s | %s |\n", r.Case, r.Value, sign, r.goal(), verdict)
	}
	b.WriteString(r.limitsText() + contenders)
	last := ""
	for _, k := range r.keys() {
		if title := k.Experiment + " on " + k.Database; title != last {
			last = title
			fmt.Fprintf(&b, "\n## %s\n\n", title)
			if k.Experiment == "spread" {
				fmt.Fprintf(&b, "![throughput against callers](%s-throughput.svg) ![p99 against callers](%[1]s-p99.svg)\n\n", k.Database)
			}
			if r.median(k).LagP99 > 0 {
				fmt.Fprint(&b, "The latency is of the local transaction.\n\n")
			}
			fmt.Fprint(&b, "| contender | callers | per second | p50 | p99 | commits | statements | server CPU | client CPU | allocations |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
		}
		f := r.median(k)
		fmt.Fprintf(&b, "| %s | %d | %.0f | %s | %s | %s | %s | %s | %s | %s |\n", k.Contender, k.Callers, f.PerSecond,
			took(f.P50, 10*time.Microsecond), took(f.P99, 10*time.Microsecond), known("%.2f", f.Commits), known("%.2f", f.Statements), took(f.ServerCPU, time.Microsecond), took(f.ClientCPU, time.Microsecond), known("%.0f", f.Allocs))
	}
	b.WriteString("\nCommits and statements are the database server's own counts, per transaction. The\nserver's CPU time is of all that it does meanwhile. The client's CPU time and allocations are of the process that places\nthe orders.\n")
	for _, k := range r.keys() {
		if f := r.median(k); f.LagP99 > 0 {
			fmt.Fprintf(&b, "\nIn %s on %s, with %d callers, %s has published a message %s (p50), %s (p99) after the commit.\n",
				k.Experiment, k.Database, k.Callers, k.Contender, took(f.LagP50, 10*time.Microsecond), took(f.LagP99, 10*time.Microsecond))
		}
	}
	for _, k := range r.keys() {
		if f := r.median(k); f.Failed > 0 {
			fmt.Fprintf(&b, "\nOf %s with %d callers, %.2f%% of the orders failed; they are not counted.\n", k.Contender, k.Callers, 100*f.Failed)
		}
	}
	if len(r.recovered) > 0 {
		fmt.Fprintf(&b, "\n## recovery on mysql\n\n%d transactions, decided and left by a process that died, were finished at %.0f per\nsecond, while %.0f new ones per second were placed, with a heap of at most %.0f MiB.\n",
			r.Left, middle(r.recovered, same), middle(r.placed, same), slices.Max(r.peakMemory))
	}
	if len(r.drained) > 0 {
		fmt.Fprintf(&b, "\n## outage of the broker on mysql\n\n%d orders that were decided while the broker was down were confirmed at %.0f per second\nafterwards; without an outage 64 callers place %.0f per second.\n",
			r.Backlog, middle(r.drained, same), middle(r.undisturbed, same))
	}
	b.WriteString(r.profileText() + r.consoleText())
	return b.String()
}

// known leaves out what was not counted.
func known(format string, n float64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf(format, n)
}

// took leaves out what was not measured.
func took(d, unit time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(unit).String()
}

// plots draws throughput and p99 against the callers.
func (r report) plots(folder string) error {
	var errs []error
	for _, database := range []string{"mysql", "postgres", "sqlite"} {
		errs = append(errs,
			r.plot(filepath.Join(folder, database+"-throughput.svg"), database, "transactions per second", func(f Figures) float64 { return f.PerSecond }),
			r.plot(filepath.Join(folder, database+"-p99.svg"), database, "p99, milliseconds", func(f Figures) float64 { return float64(f.P99) / 1e6 }))
	}
	return errors.Join(errs...)
}

func (r report) plot(file, database, what string, of func(Figures) float64) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = database, "callers", what
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.ConstantTicks{{Value: 1, Label: "1"}, {Value: 16, Label: "16"}, {Value: 64, Label: "64"}, {Value: 256, Label: "256"}}
	p.Y.Min, p.Legend.Top, p.Legend.Left = 0, true, true
	var lines []any
	for _, contender := range []string{"raw", "alone", "plain", "tccsaga", "dtm"} {
		var points plotter.XYs
		for _, k := range r.keys() {
			if k.Database == database && k.Contender == contender && (k.Experiment == "spread" || k.Experiment == "dtm") {
				points = append(points, plotter.XY{X: float64(k.Callers), Y: of(r.median(k))})
			}
		}
		if len(points) > 1 {
			lines = append(lines, contender, points)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	if err := plotutil.AddLinePoints(p, lines...); err != nil {
		return err
	}
	p.X.Max = 330 // room for the last label
	return p.Save(6*vg.Inch, 4*vg.Inch, file)
}
