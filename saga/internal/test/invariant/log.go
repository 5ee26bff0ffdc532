package invariant

import "slices"

func checkEnd(r *Records, report Report) {
	for gid, t := range r.Transactions {
		if !t.State.final() {
			report(gid, "it is still %s", t.State)
		}
	}
}

// legal holds the steps of the protocol. A decision may be committed together
// with the beginning, and the end together with both.
var legal = [][2]State{
	{"", Trying}, {"", Confirming}, {"", Confirmed}, {"", Cancelled},
	{Trying, Confirming}, {Trying, Cancelling}, {Trying, Cancelled}, {Confirming, Confirmed}, {Cancelling, Cancelled},
}

func checkSteps(r *Records, report Report) {
	for _, s := range r.Transitions {
		if s.From != s.To && !slices.Contains(legal, [2]State{s.From, s.To}) {
			report(s.GID, "it went from %q to %q", s.From, s.To)
		}
	}
}

func checkOneDecision(r *Records, report Report) {
	decisions := map[string]int{}
	for _, s := range r.Transitions {
		if s.From == "" {
			// A member of a batch that is refused is written a second time, in the
			// local transaction that has rolled back its first row.
			decisions[s.GID] = 0
		}
		if undecided(s.From) && !undecided(s.To) {
			decisions[s.GID]++
		}
	}
	for gid, n := range decisions {
		if n != 1 {
			report(gid, "it was decided %d times", n)
		}
	}
}

func undecided(s State) bool { return s == "" || s == Trying }

func checkEpoch(r *Records, report Report) {
	for _, s := range r.Transitions {
		if s.ToEpoch < s.FromEpoch {
			report(s.GID, "its epoch fell from %d to %d", s.FromEpoch, s.ToEpoch)
		}
	}
}

func checkDeadline(r *Records, report Report) {
	for gid, t := range r.Transactions {
		if t.State == Confirmed && t.Decided.After(t.Deadline) && !t.ByBranch {
			report(gid, "it was decided to be confirmed %s after its deadline", t.Decided.Sub(t.Deadline))
		}
	}
}

func checkTimes(r *Records, report Report) {
	for gid, t := range r.Transactions {
		if t.State.final() && (t.Decided.Before(t.Created) || t.Finished.Before(t.Decided)) {
			const layout = "15:04:05.000000"
			report(gid, "its times are out of order: created %s, decided %s, finished %s",
				t.Created.Format(layout), t.Decided.Format(layout), t.Finished.Format(layout))
		}
	}
}

func checkConflict(r *Records, report Report) {
	for gid, t := range r.Transactions {
		if t.Conflicts > 0 {
			report(gid, "%d of its calls contradicted what a branch had done", t.Conflicts)
		}
	}
}
