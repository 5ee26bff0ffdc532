package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// against measures the library of this checkout and that of another one. Both run this
// benchmark, as processes of their own, one case after the other and in turns, so that what
// else happens on the machine meets both. It writes a line per case.
func (s *Suite) against(ctx context.Context, other string) error {
	folder, err := os.MkdirTemp("", "tccsaga-bench-against")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	ours, theirs := filepath.Join(folder, "ours"), filepath.Join(folder, "theirs")
	if err := errors.Join(build(ctx, ours), buildWith(ctx, theirs, folder, other)); err != nil {
		return err
	}
	type pair struct{ ours, theirs Figures }
	pairs := map[Key][]pair{}
	var keys []Key
	for round := range s.Rounds {
		for _, k := range s.cases() {
			measure := func(binary string) (Figures, error) {
				f, err := s.measureIn(ctx, binary, folder, k)
				if err != nil {
					return f, fmt.Errorf("%s on %s, %s, %d callers, %s: %w", k.Experiment, k.Database, k.Contender, k.Callers, filepath.Base(binary), err)
				}
				return f, nil
			}
			var p pair
			var oursErr, theirsErr error
			if round%2 == 0 {
				p.theirs, theirsErr = measure(theirs)
				p.ours, oursErr = measure(ours)
			} else {
				p.ours, oursErr = measure(ours)
				p.theirs, theirsErr = measure(theirs)
			}
			if err := errors.Join(oursErr, theirsErr); err != nil {
				return err
			}
			if pairs[k] == nil {
				keys = append(keys, k)
			}
			pairs[k] = append(pairs[k], p)
			fmt.Fprintf(os.Stderr, "round %d: %s on %s, %s, %d callers: %.0f/s, the other %.0f/s\n", round+1, k.Experiment, k.Database, k.Contender, k.Callers, p.ours.PerSecond, p.theirs.PerSecond)
		}
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "experiment\tdatabase\tcontender\tcallers\tper second\tthe other\tratio\tof the rounds\tserver CPU\tthe other\tratio\tof the rounds\tp50\tthe other\tp99\tthe other")
	for _, k := range keys {
		var ratios, costs []float64
		both := findings{runs: map[Key][]Figures{}}
		their := k
		their.Experiment += " of the other"
		for _, p := range pairs[k] {
			ratios = append(ratios, p.ours.PerSecond/p.theirs.PerSecond)
			costs = append(costs, float64(p.ours.ServerCPU)/float64(p.theirs.ServerCPU))
			both.runs[k], both.runs[their] = append(both.runs[k], p.ours), append(both.runs[their], p.theirs)
		}
		a, b := both.median(k), both.median(their)
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%.0f\t%.0f\t%.3f\t%.2f to %.2f\t%s\t%s\t%.3f\t%.2f to %.2f\t%s\t%s\t%s\t%s\n", k.Experiment, k.Database, k.Contender, k.Callers, a.PerSecond, b.PerSecond,
			middle(ratios, same), slices.Min(ratios), slices.Max(ratios), took(a.ServerCPU, time.Microsecond), took(b.ServerCPU, time.Microsecond), middle(costs, same), slices.Min(costs), slices.Max(costs), took(a.P50, 10*time.Microsecond), took(b.P50, 10*time.Microsecond), took(a.P99, 10*time.Microsecond), took(b.P99, 10*time.Microsecond))
	}
	return table.Flush()
}

// cases are those that the flags select.
func (s *Suite) cases() (all []Key) {
	add := func(experiment, database string, contenders []string, callers []int) {
		for _, n := range callers {
			for _, contender := range contenders {
				if s.wanted(experiment, database) && s.wantedCase(contender, n) {
					all = append(all, Key{experiment, database, contender, n})
				}
			}
		}
	}
	for _, e := range s.experiments() {
		add(e.Name, e.Database, e.Contenders, e.Callers)
	}
	for _, e := range s.sharing() {
		for _, n := range e.Processes {
			add(e.Name, e.Database, []string{numberOf(n)}, []int{e.Callers})
		}
	}
	for _, e := range s.posting() {
		add(e.Name, e.Database, e.Contenders, e.Callers)
	}
	return all
}

// measureIn measures one case once in a process.
func (s *Suite) measureIn(ctx context.Context, binary, folder string, k Key) (Figures, error) {
	out := filepath.Join(folder, "out")
	if err := os.RemoveAll(out); err != nil {
		return Figures{}, err
	}
	cmd := exec.CommandContext(ctx, binary, "-only", k.Experiment, "-database", k.Database, "-contenders", k.Contender, "-callers", fmt.Sprint(k.Callers),
		"-rounds", "1", "-for", s.Length.String(), "-finished", fmt.Sprint(s.Finished), "-idle", fmt.Sprint(s.Idle), "-out", out)
	if text, err := cmd.CombinedOutput(); err != nil {
		return Figures{}, fmt.Errorf("%w: %s", err, text)
	}
	text, err := os.ReadFile(filepath.Join(out, "figures.json"))
	if err != nil {
		return Figures{}, err
	}
	var found results
	if err := json.Unmarshal(text, &found); err != nil {
		return Figures{}, err
	}
	for _, m := range found.Measured {
		if m.Key == k && len(m.Runs) == 1 {
			return m.Runs[0], nil
		}
	}
	return Figures{}, errors.New("it was not measured")
}

func build(ctx context.Context, binary string, arguments ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", binary}, arguments...), ".")...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the benchmark: %w: %s", err, text)
	}
	return nil
}

// buildWith builds this benchmark with the library of another checkout. The experiment with the
// console is left out: an older library may not have what it shows.
func buildWith(ctx context.Context, binary, folder, other string) error {
	root, err := filepath.Abs(other)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "saga", "schema", "schema.go")); err != nil {
		return fmt.Errorf("-against wants the root folder of a checkout: %w", err)
	}
	module, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		return err
	}
	const replace = "replace github.com/tccsaga/tccsaga => ../.."
	if !strings.Contains(string(module), replace) {
		return fmt.Errorf("go.mod has no line %q", replace)
	}
	file := filepath.Join(folder, "other.mod")
	if err := errors.Join(os.WriteFile(file, []byte(strings.Replace(string(module), "=> ../..", "=> "+root, 1)), 0o644),
		os.WriteFile(filepath.Join(folder, "other.sum"), sums, 0o644)); err != nil {
		return err
	}
	return build(ctx, binary, "-modfile", file, "-mod", "mod", "-tags", "without_console")
}
