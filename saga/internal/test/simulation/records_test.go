package simulation

import (
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/test/invariant"
)

// violations says which invariants the run has broken.
func (w *world) violations() (lines []string) {
	for _, v := range invariant.Check(w.records(), invariant.Rules) {
		lines = append(lines, v.String())
	}
	return append(append(lines, w.brokenLocals()...), w.broken...)
}

// brokenLocals compares the rows of local transactions with the outcomes of the transactions
// that were executed in them.
func (w *world) brokenLocals() (lines []string) {
	confirmed, own := map[string]bool{}, map[string]bool{}
	read := func(into map[string]bool, query string) {
		w.log.query(query, func(rows *sql.Rows) error {
			var gid string
			err := rows.Scan(&gid)
			into[gid] = true
			return err
		})
	}
	read(own, "SELECT gid FROM own")
	read(confirmed, "SELECT gid FROM saga_transactions WHERE state = 'confirmed'")
	for gid, asked := range w.asked {
		if asked.local && confirmed[gid] != own[gid] {
			lines = append(lines, fmt.Sprintf("%s: it is confirmed: %t, and its local transaction has left a row: %t", gid, confirmed[gid], own[gid]))
		}
	}
	return lines
}

// records are the contents of both databases, what the service has done, and what
// the callers asked for and were told.
func (w *world) records() *invariant.Records {
	r := invariant.NewRecords()
	w.readTransactions(r)
	w.readTransitions(r)
	w.readBranches(r)
	w.readService(r)
	w.readCallers(r)
	return r
}

func (w *world) readTransactions(r *invariant.Records) {
	w.log.query(`SELECT gid, state, digest <> '', decided_by = 'caller', created_at, COALESCE(decided_at, ''), COALESCE(finished_at, ''), deadline_at,
		(SELECT COUNT(*) FROM saga_attempts a WHERE a.gid = t.gid AND code = 'conflict'),
		EXISTS (SELECT 1 FROM saga_branches b WHERE b.gid = t.gid AND role = 'decides') FROM saga_transactions t`, func(rows *sql.Rows) error {
		var gid, created, decided, finished, deadline string
		t := &invariant.Transaction{}
		err := rows.Scan(&gid, &t.State, &t.Planned, &t.DecidedByCaller, &created, &decided, &finished, &deadline, &t.Conflicts, &t.ByBranch)
		t.Created, t.Decided, t.Finished, t.Deadline = parseTime(created), parseTime(decided), parseTime(finished), parseTime(deadline)
		r.Transactions[gid] = t
		return err
	})
}

// parseTime reads a time of the schema, without the counter behind it; the empty one is zero.
func parseTime(text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	const layout = "2006-01-02 15:04:05.000"
	t, err := time.Parse(layout, text[:len(layout)])
	if err != nil {
		panic(err)
	}
	return t
}

func (w *world) readTransitions(r *invariant.Records) {
	w.log.query("SELECT gid, old_state, state, old_epoch, epoch FROM transitions ORDER BY number", func(rows *sql.Rows) error {
		var t invariant.Transition
		err := rows.Scan(&t.GID, &t.From, &t.To, &t.FromEpoch, &t.ToEpoch)
		r.Transitions = append(r.Transitions, t)
		return err
	})
}

func (w *world) readBranches(r *invariant.Records) {
	read := func(d *database, text string, add func(b *invariant.Branch, value string)) {
		d.query(text, func(rows *sql.Rows) error {
			var key invariant.Key
			var value string
			err := rows.Scan(&key.GID, &key.ID, &value)
			add(r.Branch(key), value)
			return err
		})
	}
	read(w.log, "SELECT gid, branch_id, kind FROM saga_branches", func(b *invariant.Branch, kind string) {
		b.Logged, b.Kind, b.Shape = true, kind, shapes[kind]
	})
	read(w.log, "SELECT gid, branch_id, role FROM saga_branches", func(b *invariant.Branch, role string) {
		b.Role = invariant.Role(role)
	})
	for _, d := range []*database{w.log, w.other} {
		read(d, "SELECT gid, branch_id, state FROM saga_barrier", func(b *invariant.Branch, state string) {
			b.Rows = append(b.Rows, invariant.State(state))
		})
		read(d, "SELECT gid, branch, op FROM effects ORDER BY number", func(b *invariant.Branch, op string) {
			b.Database = append(b.Database, op)
		})
	}
}

func (w *world) readService(r *invariant.Records) {
	for key, operations := range w.service.done {
		gid, id, _ := strings.Cut(key, "/")
		for _, op := range operations {
			b := r.Branch(invariant.Key{GID: gid, ID: id})
			b.Service = append(b.Service, string(op))
		}
	}
}

func (w *world) readCallers(r *invariant.Records) {
	for gid, asked := range w.asked {
		client := &invariant.Client{Partial: asked.partial, Abandoned: asked.abandoned}
		for i, step := range asked.steps {
			client.Asked = append(client.Asked, invariant.Asked{ID: saga.BranchID(i + 1), Kind: step.Kind, Refused: step.Input.(input).Refuse})
		}
		for _, a := range asked.answers {
			if a.confirmed {
				client.ToldConfirmed++
			}
			if a.cancelled {
				client.ToldCancelled++
			}
		}
		r.Clients[gid] = client
	}
}

// unfinished counts the transactions that have not ended.
func (w *world) unfinished() (n int) {
	w.log.query("SELECT COUNT(*) FROM saga_transactions WHERE finished_at IS NULL", func(rows *sql.Rows) error { return rows.Scan(&n) })
	return n
}
