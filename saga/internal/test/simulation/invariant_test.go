package simulation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tccsaga/tccsaga/saga"
)

// broken says which promises a run has broken.
func (w *world) broken() (all []string) {
	complain := func(format string, arguments ...any) { all = append(all, fmt.Sprintf(format, arguments...)) }
	w.checkHistory(complain)
	type record struct{ gid, state string }
	var records []record
	w.query(w.log, "SELECT gid, state FROM saga_transactions ORDER BY gid", func(scan func(...any)) {
		var r record
		scan(&r.gid, &r.state)
		records = append(records, r)
	})
	known := map[string]bool{}
	for _, r := range records {
		known[r.gid] = true
		if r.state != "confirmed" && r.state != "cancelled" {
			complain("%s has not come to an end: %s", r.gid, r.state)
			continue
		}
		w.checkBranches(r.gid, r.state, complain)
	}
	for gid, answers := range w.told {
		for _, a := range answers {
			state := "none"
			if i := slices.IndexFunc(records, func(r record) bool { return r.gid == gid }); i >= 0 {
				state = records[i].state
			}
			if a.confirmed && state != "confirmed" || a.cancelled && state != "cancelled" {
				complain("%s is %s, and a caller was told: confirmed %t, cancelled %t, %v", gid, state, a.confirmed, a.cancelled, a.err)
			}
		}
	}
	for gid := range w.plans {
		if !known[gid] && len(w.effects(gid)) > 0 {
			complain("%s is not in the log, and has effects %v", gid, w.effects(gid))
		}
	}
	slices.Sort(all)
	return all
}

// checkHistory looks at every state that was ever committed.
func (w *world) checkHistory(complain func(string, ...any)) {
	legal := []string{" trying", " confirming", " cancelled", " confirmed", "trying confirming", "trying cancelling", "confirming confirmed", "cancelling cancelled"}
	decisions := map[string]int{}
	w.query(w.log, "SELECT gid, old, state, old_epoch, epoch, COALESCE(late, 0) FROM history ORDER BY number", func(scan func(...any)) {
		var gid, old, state string
		var oldEpoch, epoch int
		var late bool
		scan(&gid, &old, &state, &oldEpoch, &epoch, &late)
		if late && old == "trying" && state == "confirming" {
			complain("%s was confirmed after its deadline", gid)
		}
		if old != state && !slices.Contains(legal, old+" "+state) {
			complain("%s went from %s to %s", gid, old, state)
		}
		if epoch < oldEpoch {
			complain("the epoch of %s fell from %d to %d", gid, oldEpoch, epoch)
		}
		if old == "" {
			// A member of a batch that is refused was withdrawn, and is written
			// anew in the same local transaction.
			decisions[gid] = 0
		}
		if (old == "" || old == "trying") && state != "trying" && old != state {
			decisions[gid]++
		}
	})
	for gid, n := range decisions {
		if n != 1 {
			complain("%s was decided %d times", gid, n)
		}
	}
}

// effects are what the branches of a transaction have done, in order, by branch.
func (w *world) effects(gid string) map[string][]string {
	all := map[string][]string{}
	for _, d := range []*database{w.log, w.other} {
		w.query(d, "SELECT branch, op FROM effects WHERE gid = '"+gid+"' ORDER BY number", func(scan func(...any)) {
			var branch, op string
			scan(&branch, &op)
			all[branch] = append(all[branch], op)
		})
	}
	return all
}

func (w *world) checkBranches(gid, state string, complain func(string, ...any)) {
	effects, bars := w.effects(gid), map[string]string{}
	for _, d := range []*database{w.log, w.other} {
		w.query(d, "SELECT branch_id, state FROM saga_barrier WHERE gid = '"+gid+"'", func(scan func(...any)) {
			var branch, state string
			scan(&branch, &state)
			bars[branch] = state
		})
	}
	for i, step := range w.plans[gid] {
		id := saga.BranchID(i + 1)
		did, bar := strings.Join(effects[id], " "), bars[id]
		var served []string
		for _, op := range w.service.done[gid+"/"+id] {
			served = append(served, string(op))
		}
		serves := strings.Join(served, " ")
		where := fmt.Sprintf("%s of %s, %s, which is %s: barrier %q, effects %q, service %q", id, gid, step.Kind, state, bar, did, serves)
		inLog := false
		w.query(w.log, "SELECT 1 FROM saga_branches WHERE gid = '"+gid+"' AND branch_id = '"+id+"'", func(scan func(...any)) { inLog = true })
		switch {
		case !inLog: // an open transaction that it never joined
			if bar != "" || did != "" || serves != "" {
				complain("never named: %s", where)
			}
		case state == "confirmed":
			good := bar == "confirmed"
			switch step.Kind {
			case "out":
				good = good && did == "" && serves == "try confirm"
			case "send":
				good = good && did == "try confirm" && serves == "confirm"
			default:
				good = good && did == "try confirm" && serves == ""
			}
			if !good {
				complain("confirmed, but not: %s", where)
			}
		default:
			good := bar == "cancelled" || bar == "suspended" || bar == ""
			switch step.Kind {
			case "out":
				// Its Try may have been cut off before it arrived.
				good = good && did == "" && (serves == "" || serves == "cancel" && bar == "cancelled" || serves == "try cancel" && bar == "cancelled")
			default:
				good = good && serves == "" && (did == "" && bar != "cancelled" || did == "try cancel" && bar == "cancelled")
			}
			if !good {
				complain("cancelled, but not: %s", where)
			}
		}
	}
}

func (w *world) query(d *database, query string, each func(scan func(...any))) {
	rows, err := d.direct.Query(query)
	if err != nil {
		panic(err)
	}
	defer rows.Close()
	for rows.Next() {
		each(func(into ...any) {
			if err := rows.Scan(into...); err != nil {
				panic(err)
			}
		})
	}
}

// unfinished counts the transactions that have not come to an end.
func (w *world) unfinished() (n int) {
	w.query(w.log, "SELECT COUNT(*) FROM saga_transactions WHERE finished_at IS NULL", func(scan func(...any)) { scan(&n) })
	return n
}
