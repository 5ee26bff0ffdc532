package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"
)

// sharing is a comparison of numbers of engines, each in a process of its own, on one database.
type sharing struct {
	Name, Database string
	Processes      []int
	Callers        int // in all processes together
}

func (s *Suite) sharing() []sharing {
	return []sharing{{"processes", "mysql", []int{1, 2, 4}, 64}}
}

// processes measures each number once.
func (s *Suite) processes(ctx context.Context) error {
	for _, e := range s.sharing() {
		if !s.wanted(e.Name, e.Database) {
			continue
		}
		for _, n := range e.Processes {
			k := Key{e.Name, e.Database, numberOf(n), e.Callers}
			if !s.wantedCase(k.Contender, k.Callers) {
				continue
			}
			f, err := together(ctx, e.Database, n, e.Callers, s.Length)
			if err != nil {
				return fmt.Errorf("%d processes on %s: %w", n, e.Database, err)
			}
			s.add(k, f)
		}
	}
	return nil
}

func numberOf(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

// member is the task of one of several processes on a database.
type member struct {
	Dialect, Database string
	Callers           int
	Length            time.Duration
	Number            int
}

// did is what a member has done.
type did struct {
	Took   []time.Duration
	CPU    time.Duration
	Allocs uint64
}

// run is the whole life of such a process. It waits for a line of its standard input before
// it fills its caches, and for another one before it is measured.
func (m member) run(ctx context.Context) error {
	db := &Database{dialect: m.Dialect, name: m.Database, drop: func() {}}
	if err := db.connect(); err != nil {
		return err
	}
	e, err := newEmbedded(ctx, "tccsaga", db)
	if err != nil {
		return err
	}
	orders.Store(int64(m.Number) * 1_000_000_000)
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	var done did
	for _, length := range []time.Duration{m.Length / 4, m.Length} {
		if err := out.Encode(done); err != nil {
			return err
		}
		if _, err := in.ReadString('\n'); err != nil {
			return fmt.Errorf("the parent is gone: %w", err)
		}
		cpu, allocs := clientCPU(), allocations()
		took, _, err := load(ctx, e, m.Callers, length, spread)
		if err != nil {
			return err
		}
		done = did{took, clientCPU() - cpu, allocations() - allocs}
	}
	return errors.Join(out.Encode(done), e.Close())
}

// together starts members, and measures what they do at the same time.
func together(ctx context.Context, dialect string, processes, callers int, length time.Duration) (f Figures, err error) {
	db, err := openDatabase(ctx, dialect)
	if err != nil {
		return f, err
	}
	defer db.close()
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	type child struct {
		*exec.Cmd
		in  io.WriteCloser
		out *json.Decoder
	}
	var children []child
	defer func() {
		for _, c := range children {
			c.in.Close() // a member that waits ends
			err = errors.Join(err, c.Wait())
		}
	}()
	for i := range processes {
		task, err := json.Marshal(member{dialect, db.name, callers / processes, length, i + 1})
		if err != nil {
			return f, err
		}
		cmd := exec.CommandContext(ctx, self, "-member", string(task))
		cmd.Stderr = os.Stderr
		in, inErr := cmd.StdinPipe()
		out, outErr := cmd.StdoutPipe()
		if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
			return f, err
		}
		children = append(children, child{cmd, in, json.NewDecoder(out)})
	}
	var all did
	var before Counters
	var elapsed time.Duration
	for step := range 3 { // ready, warm, measured
		began := time.Now()
		for _, c := range children {
			if step > 0 {
				if _, err := fmt.Fprintln(c.in); err != nil {
					return f, err
				}
			}
		}
		all = did{}
		for i, c := range children {
			var done did
			if err := c.out.Decode(&done); err != nil {
				return f, fmt.Errorf("process %d: %w", i+1, err)
			}
			all.Took, all.CPU, all.Allocs = append(all.Took, done.Took...), all.CPU+done.CPU, all.Allocs+done.Allocs
		}
		elapsed = time.Since(began)
		if step == 1 {
			if before, err = db.counters(); err != nil {
				return f, err
			}
		}
	}
	after, err := db.counters()
	if err != nil {
		return f, err
	}
	n := len(all.Took)
	if n == 0 {
		return f, errors.New("no order was placed")
	}
	slices.Sort(all.Took)
	return Figures{
		PerSecond: float64(n) / elapsed.Seconds(), P50: all.Took[n/2], P99: all.Took[n*99/100],
		Commits: float64(after.Commits-before.Commits) / float64(n), Statements: float64(after.Statements-before.Statements) / float64(n),
		ServerCPU: (after.CPU - before.CPU) / time.Duration(n), ClientCPU: all.CPU / time.Duration(n), Allocs: float64(all.Allocs) / float64(n),
	}, nil
}
