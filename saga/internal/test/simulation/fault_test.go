package simulation

// fault is what happens to a call.
type fault int

// The faults. Each has a text in String, and conn.perform and world.work do what
// it says.
const (
	none       fault = iota
	failBefore       // an error, and no effect
	failAfter        // the effect, and an error: a lost reply
	dieBefore        // the process is killed before the call
	dieAfter         // the process is killed right after the call
	rolledBack       // a deadlock on MySQL: all of the local transaction is gone, and what follows commits by itself
	slow             // the call takes seconds
	pause            // the whole process stands still for longer than its lease
	numOfFaults

	// Those of requests to the host; see network.RoundTrip.
	cut     fault = iota - 1 // the answer breaks off
	twice                    // the request or the answer is there twice
	changed                  // one call, or the answer to one, is changed on the way
	late                     // the request arrives when nobody waits for its answer
	endOfFaults
)

// ofRequests are the faults of requests to the host. A request cannot be rolled back.
var ofRequests = []fault{failBefore, failAfter, dieBefore, dieAfter, slow, pause, cut, cut, twice, twice, changed, changed, late}

func (f fault) String() string {
	return [...]string{"", "FAILS BEFORE", "FAILS AFTER", "DIES BEFORE", "DIES AFTER", "ROLLED BACK", "SLOW", "PAUSED", "CUT", "TWICE", "CHANGED", "LATE"}[f]
}

// plan decides about the n-th call of a run.
type plan func(n int, c *call) fault

// nemesis makes calls fail with some probability, which the seed chooses, until
// the callers are done.
func nemesis(w *world) plan {
	every := 5 + w.gate.random.IntN(60)
	return func(_ int, c *call) fault {
		if w.isEnding() || w.gate.random.IntN(every) != 0 && (!c.travels || w.gate.random.IntN(5) != 0) {
			return none
		}
		if c.travels {
			return ofRequests[w.gate.random.IntN(len(ofRequests))]
		}
		f := fault(1 + w.gate.random.IntN(int(numOfFaults)-1))
		if f == dieBefore || f == dieAfter || f == pause {
			if w.gate.random.IntN(3) != 0 { // fewer of these
				return failAfter
			}
		}
		return f
	}
}

// only makes the n-th call fail, and no other; of a fault of requests, the n-th request.
func only(nth int, f fault) func(w *world) plan {
	return func(w *world) plan {
		requests := 0
		return func(n int, c *call) fault {
			if f >= numOfFaults {
				if !c.travels {
					return none
				}
				requests++
				n = requests
			}
			if n == nth && !w.isEnding() {
				return f
			}
			return none
		}
	}
}
