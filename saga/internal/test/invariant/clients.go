package invariant

func checkAskedFor(r *Records, report Report) {
	for gid := range r.Transactions {
		if r.Clients[gid] == nil {
			report(gid, "it is in the log, but no client asked for it")
		}
	}
}

func checkAnswers(r *Records, report Report) {
	for gid, c := range r.Clients {
		for _, told := range []struct {
			outcome State
			times   int
		}{{Confirmed, c.ToldConfirmed}, {Cancelled, c.ToldCancelled}} {
			t := r.Transactions[gid]
			switch {
			case told.times == 0:
			case t == nil:
				report(gid, "a client was told that it is %s, but it is not in the log", told.outcome)
			case t.Outcome() != told.outcome:
				report(gid, "a client was told that it is %s, but it is %s", told.outcome, t.State)
			}
		}
	}
}

func checkOneAnswer(r *Records, report Report) {
	for gid, c := range r.Clients {
		if c.ToldConfirmed > 0 && c.ToldCancelled > 0 {
			report(gid, "its clients were told %d times that it is confirmed, and %d times that it is cancelled", c.ToldConfirmed, c.ToldCancelled)
		}
	}
}

// checkComplete compares a confirmed transaction with what its client asked for.
func checkComplete(r *Records, report Report) {
	for gid, c := range r.Clients {
		if t := r.Transactions[gid]; t == nil || t.Outcome() != Confirmed {
			continue
		}
		for i, asked := range c.Asked {
			switch b := r.Branches[Key{gid, asked.ID}]; {
			case b != nil && b.Logged && b.Kind != asked.Kind:
				report(gid, "branch %s: the log has the kind %s, but its client asked for %s", asked.ID, b.Kind, asked.Kind)
			case (b == nil || !b.Logged) && !c.Partial:
				report(gid, "it is confirmed, but the log does not name branch %s (%s), number %d of %d", asked.ID, asked.Kind, i+1, len(c.Asked))
			}
		}
	}
}

func checkRefused(r *Records, report Report) {
	for gid, c := range r.Clients {
		if t := r.Transactions[gid]; t == nil || t.Outcome() != Confirmed {
			continue
		}
		for _, asked := range c.Asked {
			if b := r.Branches[Key{gid, asked.ID}]; asked.Refused && b != nil && b.Logged {
				report(gid, "it is confirmed, but the Try of branch %s (%s) is always refused", asked.ID, asked.Kind)
			}
		}
	}
}

func checkAbandoned(r *Records, report Report) {
	for gid, c := range r.Clients {
		if t := r.Transactions[gid]; c.Abandoned && t != nil && t.Outcome() == Confirmed {
			report(gid, "no client decided it, but it is %s", t.State)
		}
	}
}
