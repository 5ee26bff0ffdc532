package main

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"
)

// limitsText says, for targets that are missed, what the measurements show as the limit.
func (r report) limitsText() string {
	var b strings.Builder
	for _, ratio := range r.Ratios() {
		if text := r.limitOf(ratio.Case); text != "" && !ratio.Reached() && ratio.Target != 0 {
			fmt.Fprintf(&b, "- %s is %.2f: %s\n", ratio.Case, ratio.Value, text)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n## What limits the missed ones\n\n" + b.String()
}

func (r report) limitOf(name string) string {
	database := "mysql"
	if strings.HasPrefix(name, "postgres-") {
		database = "postgres"
	}
	at := func(experiment, contender string, callers int) Figures {
		return r.median(Key{experiment, database, contender, callers})
	}
	work := func(f Figures) string {
		statements := ""
		if f.Statements > 0 { // only MariaDB counts them
			statements = fmt.Sprintf("%.1f statements, ", f.Statements)
		}
		return fmt.Sprintf("%.2f commits, %s%s of the server and %s of the client", f.Commits, statements, f.ServerCPU.Round(time.Microsecond), f.ClientCPU.Round(time.Microsecond))
	}
	versus := func(experiment, contender, base string) string {
		return fmt.Sprintf("an order costs %s; with %s, it costs %s.", work(at(experiment, contender, 64)), base, work(at(experiment, base, 64)))
	}
	switch name {
	case "64-callers-plain/raw":
		raw, shared, plain := r.medianProfile("raw"), r.medianProfile("raw, shared"), r.medianProfile("plain")
		if raw.PerSecond == 0 {
			return ""
		}
		var branches time.Duration
		for part, cost := range plain.Client {
			if strings.HasSuffix(part, forBranches) {
				branches += cost
			}
		}
		return fmt.Sprintf("branches without a bulk interface make %.1f statements per order, one by one. The same statements by hand, with shared commits and without a log and a barrier, reach %.2f of raw. "+
			"Plain has %.2f of it: an order costs %s of the server, and %s of the client, %s of that for the statements of the branches; raw, shared costs %s and %s.",
			shared.Statements, shared.PerSecond/raw.PerSecond, plain.PerSecond/raw.PerSecond, plain.Server.Round(time.Microsecond), plain.client().Round(time.Microsecond), branches.Round(time.Microsecond),
			shared.Server.Round(time.Microsecond), shared.client().Round(time.Microsecond))
	case "2-processes/1-process", "4-processes/1-process":
		n := map[byte]int{'2': 2, '4': 4}[name[0]]
		one, all := at("processes", numberOf(1), 64), at("processes", numberOf(n), 64)
		text := fmt.Sprintf("each process shares commits only among its own %d callers, so an order costs %s, instead of %s with one process.", 64/n, work(all), work(one))
		if few := at("spread", "tccsaga", 16); n == 4 && few.PerSecond > 0 {
			text += fmt.Sprintf(" One process with 16 callers, alone on the machine, places %.0f per second, %.2f of what one with 64 does.", few.PerSecond, few.PerSecond/one.PerSecond)
		}
		return text
	case "64-callers/raw", "postgres-64-callers/raw":
		return versus("spread", "tccsaga", "raw")
	case "64-callers/dtm":
		return "an order costs " + work(at("spread", "tccsaga", 64)) + "." + atTarget(30, at("dtm", "dtm", 64))
	case "64-callers-hot/raw":
		return versus("hot", "tccsaga", "raw")
	case "xa-64-callers/by-hand":
		return versus("xa", "xa", "xa by hand")
	case "saga-64-callers/dtm":
		return versus("saga", "saga", "dtm saga") + atTarget(8, at("saga", "dtm saga", 64))
	case "half-message-64-callers/dtm":
		return versus("half-message", "half", "dtm msg") + atTarget(8, at("half-message", "dtm msg", 64))
	case "local-64-callers/outbox":
		return versus("local", "publishin", "outbox")
	case "open-64-callers/raw":
		return versus("open", "open", "raw")
	case "other-database-64-callers-plain/raw":
		return versus("other-database", "other database", "raw")
	case "publish/by-hand":
		return versus("publish", "jetstream", "publish by hand") + " Without the publish, " + versus("publish", "tccsaga", "publish by hand")
	case "services-64-callers/dtm":
		return versus("services", "services", "dtm services") + atTarget(8, at("services", "dtm services", 64))
	case "services-64-callers/raw":
		return versus("services", "services", "raw") + atTarget(1, at("services", "raw", 64))
	case "services-1-caller-p50/dtm":
		one, dtm := at("services", "services", 1), at("services", "dtm services", 1)
		return fmt.Sprintf("one caller shares nothing, and waits for one thing after the other. An order makes %.0f commits and %.0f statements, and takes %s; with dtm services, it makes %.0f and %.0f, and takes %s.",
			one.Commits, one.Statements, one.P50.Round(10*time.Microsecond), dtm.Commits, dtm.Statements, dtm.P50.Round(10*time.Microsecond))
	case "services-16-callers/dtm":
		return "an order costs " + work(at("services", "services", 16)) + "; with dtm services, it costs " + work(at("services", "dtm services", 16)) + ", and the time of the DTM server. The fewer callers there are, the fewer share a commit or a request."
	case "services-bulk-64-callers/dtm":
		return versus("services", "services bulk", "dtm services") + atTarget(18, at("services", "dtm services", 64)) + r.partsText("services bulk")
	case "services-hot-64-callers-bulk/dtm":
		return versus("services-hot", "services bulk", "dtm services") + atTarget(18, at("services-hot", "dtm services", 64))
	case "services-cancelled-64-callers/dtm":
		return versus("services-cancelled", "services, cancelled", "dtm services, cancelled") + atTarget(8, at("services-cancelled", "dtm services, cancelled", 64))
	}
	return ""
}

// atTarget says how much time of the processors an order may cost, if the target is to be reached
// without any idle time.
func atTarget(target float64, base Figures) string {
	if base.PerSecond == 0 {
		return ""
	}
	n := runtime.NumCPU()
	return fmt.Sprintf(" At the target, all %d processors together have %s for an order.", n, time.Duration(float64(n)*float64(time.Second)/target/base.PerSecond).Round(time.Microsecond))
}

// partsText says where the time of the processors goes.
func (r report) partsText(contender string) string {
	p := r.medianProfile(contender)
	if p.PerSecond == 0 {
		return ""
	}
	var parts []string
	for _, part := range slices.SortedFunc(maps.Keys(p.Client), func(a, b string) int { return cmp.Compare(p.Client[b], p.Client[a]) }) {
		parts = append(parts, fmt.Sprintf("%s %s", part, p.Client[part].Round(time.Microsecond)))
	}
	return fmt.Sprintf(" The profile of %s shows %s of the server; and of the client: %s.", contender, p.Server.Round(time.Microsecond), strings.Join(parts, ", "))
}
