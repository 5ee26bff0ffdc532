package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// Suite is all that is measured.
type Suite struct {
	Length              time.Duration
	Rounds              int
	Finished, Failing   int
	Left, Idle, Backlog int
	Only, Database      string   // all if empty
	Contenders          []string // all if empty
	Callers             []int    // all if empty
	Short               bool
	findings
}

// Key names what was measured.
type Key struct {
	Experiment string `json:"experiment"`
	Database   string `json:"database"`
	Contender  string `json:"contender"`
	Callers    int    `json:"callers"`
}

// Experiment is a comparison of contenders that do the same work.
type Experiment struct {
	Name       string
	Database   string
	Contenders []string
	Callers    []int
	SKU        func(n int64) string
}

func (s *Suite) experiments() []Experiment {
	all, some := []int{1, 16, 64, 256}, []int{64}
	others, dtm := all, all
	hand := []string{"raw", "alone", "plain", "tccsaga"}
	if s.Short {
		all, others, dtm = []int{1, 16, 64}, some, some
		hand = []string{"raw", "plain", "tccsaga"}
	}
	return []Experiment{
		{"spread", "mysql", hand, all, spread},
		{"dtm", "mysql", []string{"dtm"}, dtm, spread},
		// Two actions in two services, each with its own database.
		{"saga", "mysql", []string{"dtm saga", "saga"}, some, spread},
		// Two branches in two services, each with its own database.
		{"services", "mysql", []string{"dtm services", "raw", "services", "services bulk"}, []int{1, 16, 64}, spread},
		// The same, cancelled by the second Try.
		{"services-cancelled", "mysql", []string{"dtm services, cancelled", "services, cancelled"}, some, spread},
		{"services-hot", "mysql", []string{"dtm services", "services bulk"}, some, hot},
		{"hot", "mysql", hand, some, hot},
		{"other-database", "mysql", []string{"raw", "other database", "two other databases"}, some, spread},
		{"open", "mysql", []string{"raw", "open plain", "open"}, some, spread},
		{"branches", "mysql", []string{"1 branch", "2 branches", "4 branches", "8 branches"}, some, spread},
		{"publish", "mysql", []string{"tccsaga", "jetstream", "publish by hand"}, some, spread},
		{"full-log", "mysql", []string{"empty", "full"}, some, spread},
		{"idle", "mysql", []string{"none", "waiting"}, some, spread},
		{"xa", "mysql", []string{"xa by hand", "xa by hand, unlogged", "xa"}, some, spread},
		{"spread", "postgres", hand, others, spread},
		{"spread", "sqlite", hand, others, spread},
	}
}

// Run measures everything, round by round, so that what else happens on the
// machine meets every contender.
func (s *Suite) Run(ctx context.Context) error {
	s.runs = make(map[Key][]Figures)
	for _, e := range s.experiments() {
		if !s.wanted(e.Name, e.Database) || s.Short && e.Name == "branches" {
			continue
		}
		for range s.Rounds {
			for _, callers := range e.Callers {
				for _, contender := range e.Contenders {
					if !s.wantedCase(contender, callers) {
						continue
					}
					if err := s.measure(ctx, e, contender, callers); err != nil {
						return fmt.Errorf("%s on %s, %s, %d callers: %w", e.Name, e.Database, contender, callers, err)
					}
				}
			}
		}
	}
	for _, part := range []struct {
		name    string // empty if the part chooses itself
		measure func(context.Context) error
	}{{"", s.processes}, {"drain", s.drain}, {"", s.postings}, {"", s.consume}, {"recovery", s.recovery}, {"", s.profiles}} {
		if part.name != "" && !s.wanted(part.name, "mysql") {
			continue
		}
		for range s.Rounds {
			if err := part.measure(ctx); err != nil {
				return fmt.Errorf("%s: %w", cmp.Or(part.name, "measuring"), err)
			}
		}
	}
	if consoleExperiment != nil && (s.Only == "" || s.Only == "console") {
		if err := consoleExperiment(s, ctx); err != nil {
			return fmt.Errorf("console: %w", err)
		}
	}
	return nil
}

// drain measures an outage of the broker once.
func (s *Suite) drain(ctx context.Context) error {
	drained, normal, err := outage{s.Backlog}.drain(ctx, "mysql")
	if err != nil {
		return err
	}
	s.drained, s.undisturbed = append(s.drained, drained), append(s.undisturbed, normal)
	if !s.Short {
		fmt.Fprintf(os.Stderr, "drain     mysql     %7.0f/s after an outage, %.0f/s otherwise\n", drained, normal)
	}
	return nil
}

func (s *Suite) measure(ctx context.Context, e Experiment, contender string, callers int) error {
	db, err := openDatabase(ctx, e.Database)
	if err != nil {
		return err
	}
	c, err := s.contender(ctx, contender, db)
	if err != nil {
		return err
	}
	f, err := run(ctx, c, db.counters, callers, s.Length, e.SKU)
	if err := c.Close(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	s.add(Key{e.Name, e.Database, contender, callers}, f)
	return nil
}

// wanted says whether an experiment is to be run.
func (s *Suite) wanted(experiment, database string) bool {
	return (s.Only == "" || s.Only == experiment) && (s.Database == "" || s.Database == database)
}

// wantedCase says whether a case of it is to be run.
func (s *Suite) wantedCase(contender string, callers int) bool {
	return (len(s.Contenders) == 0 || slices.Contains(s.Contenders, contender)) && (len(s.Callers) == 0 || slices.Contains(s.Callers, callers))
}

func (s *Suite) add(k Key, f Figures) {
	s.runs[k] = append(s.runs[k], f)
	if !s.Short {
		fmt.Fprintf(os.Stderr, "%-9s %-9s %-9s %4d callers %7.0f/s  p50 %8s  p99 %8s\n", k.Experiment, k.Database, k.Contender, k.Callers,
			f.PerSecond, f.P50.Round(10*time.Microsecond), f.P99.Round(10*time.Microsecond))
	}
}

func (s *Suite) contender(ctx context.Context, name string, db *Database) (Contender, error) {
	switch name {
	case "raw":
		return Raw{db}, nil
	case "raw, shared":
		return newRawShared(db), nil
	case "publish by hand":
		return newHandPublish(ctx, db)
	case "other database", "two other databases":
		return newElsewhere(ctx, name, db)
	case "open", "open plain":
		return newOpened(ctx, name, db)
	case "services, cancelled":
		return newServicesRefused(ctx, name, db)
	case "dtm services, cancelled":
		return newDTMRefused(ctx, db)
	case "dtm":
		return newDTM(ctx, db)
	case "dtm saga":
		return newDTMSaga(ctx, db)
	case "saga":
		return newSagas(ctx, db)
	case "services", "services bulk":
		return newServices(ctx, name, db)
	case "dtm services":
		return newDTMServices(ctx, db)
	case "xa":
		return newXA(ctx, db)
	case "xa by hand", "xa by hand, unlogged":
		return newXAByHand(ctx, name, db)
	case "full":
		if err := fillLog(db, s.Finished); err != nil {
			return nil, err
		}
		return newEmbedded(ctx, "tccsaga", db)
	case "waiting", "none":
		e, err := newEmbedded(ctx, "tccsaga", db)
		if err != nil {
			return nil, err
		}
		// Both leave the database as much to tidy up.
		return e, e.reserve(ctx, s.Idle, name == "none")
	case "empty":
		return newEmbedded(ctx, "tccsaga", db)
	default:
		return newEmbedded(ctx, name, db)
	}
}

func middle[T any, N float64 | time.Duration](all []T, of func(T) N) N {
	values := make([]N, len(all))
	for i, v := range all {
		values[i] = of(v)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
