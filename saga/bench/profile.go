package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// Profile says where the processor's time of one contender goes.
type Profile struct {
	Contender  string                   `json:"contender"`
	PerSecond  float64                  `json:"per_second"`
	Statements float64                  `json:"statements_per_order"`
	Server     time.Duration            `json:"server_cpu_per_order_ns"` // of the database server
	Client     map[string]time.Duration `json:"client_cpu_per_order_ns"` // of this process, by part
	Busy       float64                  `json:"busy"`                    // the share of the processors' time that both took
}

var profiled = []string{"raw", "raw, shared", "plain", "tccsaga", "services", "services bulk"}

// profiles measures each contender once, with 64 callers on MariaDB.
func (s *Suite) profiles(ctx context.Context) error {
	if s.Only != "profile" && (s.Only != "" || s.Short) {
		return nil
	}
	for _, contender := range profiled {
		db, err := openDatabase(ctx, "mysql")
		if err != nil {
			return err
		}
		c, err := s.contender(ctx, contender, db)
		if err != nil {
			return err
		}
		p, err := profileOf(ctx, c, db, s.Length)
		if err != nil {
			return fmt.Errorf("profile of %s: %w", contender, err)
		}
		if err := c.Close(); err != nil {
			return err
		}
		s.profile = append(s.profile, p)
		if !s.Short {
			fmt.Fprintf(os.Stderr, "profile   mysql     %-12s %7.0f/s, %s of the server, %s of the client, %.0f%% busy\n", contender, p.PerSecond, p.Server.Round(time.Microsecond), p.client().Round(time.Microsecond), 100*p.Busy)
		}
	}
	return nil
}

func (p Profile) client() (sum time.Duration) {
	for part := range maps.Values(p.Client) {
		sum += part
	}
	return sum
}

func profileOf(ctx context.Context, c Contender, db *Database, length time.Duration) (Profile, error) {
	const callers = 64
	if _, _, err := load(ctx, c, callers, length/4, spread); err != nil {
		return Profile{}, err
	}
	counters, err := db.counters()
	if err != nil {
		return Profile{}, err
	}
	client, began := clientCPU(), time.Now()
	var samples bytes.Buffer
	if err := pprof.StartCPUProfile(&samples); err != nil {
		return Profile{}, err
	}
	took, _, err := load(ctx, c, callers, length, spread)
	pprof.StopCPUProfile()
	if err != nil {
		return Profile{}, err
	}
	elapsed := time.Since(began)
	client = clientCPU() - client
	after, err := db.counters()
	if err != nil {
		return Profile{}, err
	}
	parts, err := partsOf(samples.Bytes())
	if err != nil {
		return Profile{}, err
	}
	n := time.Duration(len(took))
	p := Profile{Contender: c.Name(), PerSecond: float64(n) / elapsed.Seconds(), Statements: float64(after.Statements-counters.Statements) / float64(n),
		Server: (after.CPU - counters.CPU) / n, Client: map[string]time.Duration{}, Busy: (after.CPU - counters.CPU + client).Seconds() / elapsed.Seconds() / float64(runtime.NumCPU())}
	for part, share := range parts {
		p.Client[part] = time.Duration(share * float64(client/n))
	}
	return p, nil
}

// process returns the id of the server's process, which is on this machine.
func (d *Database) process() (int, error) {
	var file string
	ask := "SELECT @@pid_file"
	if d.dialect == "postgres" {
		ask = "SELECT current_setting('data_directory') || '/postmaster.pid'"
	}
	if err := d.Raw(ask).Scan(&file).Error; err != nil {
		return 0, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("the server has to run on this machine: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(strings.TrimSpace(first))
}

// cpuOf returns how much time of the processors a process and its children have had.
func cpuOf(pid int) (sum time.Duration, err error) {
	sum, err = cpuOfOne(pid)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	for _, child := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(child); err == nil {
			more, _ := cpuOfOne(pid) // it may have ended meanwhile
			sum += more
		}
	}
	return sum, err
}

func cpuOfOne(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks int64
	for _, field := range strings.Fields(rest)[11:15] { // in user code and in the kernel, and that of children that have ended
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // Linux counts in hundredths of a second
}

// clientParts are the parts of this process. A sample belongs to the first part with a function
// on its stack, from the innermost function outwards.
var clientParts = []struct {
	name     string
	prefixes []string
}{
	{"memory and garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.mallocgc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart", "runtime.growslice"}},
	{"network, in the kernel", []string{"syscall.", "internal/runtime/syscall.", "internal/poll."}},
	{"scheduler of Go", []string{"runtime.mcall", "runtime.schedule", "runtime.findRunnable", "runtime.park_m", "runtime.goexit0", "runtime.ready", "runtime.mstart", "runtime.netpoll", "runtime.sysmon"}},
	{"driver of the database", []string{"github.com/go-sql-driver/", "database/sql.", "database/sql/"}},
	{"HTTP, JSON and signatures", []string{"net/http.", "net/textproto.", "encoding/json.", "crypto/"}},
	{"GORM", []string{"gorm.io/"}},
	{"tccsaga", []string{"github.com/tccsaga/"}},
	{"the benchmark", []string{"main."}},
}

// forBranches is the end of the name of a part that works for a branch.
const forBranches = ", for branches"

// partsOf returns the share of each part in the samples.
func partsOf(samples []byte) (map[string]float64, error) {
	parsed, err := profile.ParseData(samples)
	if err != nil {
		return nil, err
	}
	parts, sum := map[string]float64{}, 0.0
	for _, sample := range parsed.Sample {
		v := float64(sample.Value[len(sample.Value)-1])
		parts[partOf(sample)] += v
		sum += v
	}
	for part := range parts {
		parts[part] /= max(sum, 1)
	}
	return parts, nil
}

func partOf(sample *profile.Sample) string {
	part, inBranch := "", false
	for _, location := range sample.Location {
		for _, line := range location.Line {
			name := line.Function.Name
			inBranch = inBranch || strings.HasPrefix(name, "main.") && !strings.Contains(name, ".Place") && !strings.HasPrefix(name, "main.load")
			if part != "" {
				continue
			}
			for _, p := range clientParts {
				if slices.ContainsFunc(p.prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
					part = p.name
				}
			}
		}
	}
	if inBranch && !slices.Contains([]string{"scheduler of Go", "tccsaga", "the benchmark", ""}, part) {
		part += forBranches
	}
	return cmp.Or(part, "other")
}

// profileText is the section of the report.
func (r report) profileText() string {
	if len(r.profile) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Where the processor's time goes, 64 callers on mysql\n\nTime of the processors per order; \"busy\" is the share of all processors that server and client took together. \"raw, shared\" is\nthe limit of branches that are called one by one: their statements, for all orders that come at the same time, in\none local transaction, without a log and a barrier.\n\n| |")
	median := map[string]Profile{}
	rows := map[string]bool{}
	for _, contender := range profiled {
		p := r.medianProfile(contender)
		median[contender] = p
		for part := range p.Client {
			rows[part] = true
		}
		fmt.Fprintf(&b, " %s |", contender)
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(profiled)) + "\n")
	row := func(name string, of func(Profile) string) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, contender := range profiled {
			fmt.Fprintf(&b, " %s |", of(median[contender]))
		}
		b.WriteString("\n")
	}
	row("orders per second", func(p Profile) string { return fmt.Sprintf("%.0f", p.PerSecond) })
	row("statements per order", func(p Profile) string { return fmt.Sprintf("%.2f", p.Statements) })
	row("busy", func(p Profile) string { return fmt.Sprintf("%.0f%%", 100*p.Busy) })
	share := func(part, all time.Duration) string {
		return fmt.Sprintf("%s (%.0f%%)", part.Round(time.Microsecond), 100*float64(part)/float64(max(all, 1)))
	}
	row("database server", func(p Profile) string { return share(p.Server, p.Server+p.client()) })
	for _, part := range slices.Sorted(maps.Keys(rows)) {
		row("client: "+part, func(p Profile) string { return share(p.Client[part], p.Server+p.client()) })
	}
	return b.String()
}

// medianProfile is the run with the median pace.
func (r report) medianProfile(contender string) Profile {
	var all []Profile
	for _, p := range r.profile {
		if p.Contender == contender {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Profile) int { return cmp.Compare(a.PerSecond, b.PerSecond) })
	if len(all) == 0 {
		return Profile{}
	}
	return all[len(all)/2]
}
