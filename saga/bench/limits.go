package main

import (
	"fmt"
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
	at := func(experiment, contender string, callers int) Figures {
		return r.median(Key{experiment, "mysql", contender, callers})
	}
	work := func(f Figures) string {
		return fmt.Sprintf("%.2f commits, %.1f statements, %s of the server and %s of the client", f.Commits, f.Statements, f.ServerCPU.Round(time.Microsecond), f.ClientCPU.Round(time.Microsecond))
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
	case "open-64-callers/raw":
		return versus("open", "open", "raw")
	case "other-database-64-callers-plain/raw":
		return versus("other-database", "other database", "raw")
	case "publish/by-hand":
		return versus("publish", "jetstream", "publish by hand") + " Without the publish, " + versus("publish", "tccsaga", "publish by hand")
	case "services-64-callers/dtm", "services-64-callers/raw":
		return versus("services", "services", "raw")
	case "services-cancelled-64-callers/dtm":
		return versus("services-cancelled", "services, cancelled", "dtm services, cancelled")
	}
	return ""
}
