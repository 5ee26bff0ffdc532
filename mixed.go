package chaos

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tccsaga/tccsaga/saga/internal/test/invariant"
)

// readWork reads the rows of the workers' own work.
func (r *records) readWork(ctx context.Context, engine, service *sql.DB) error {
	read := func(db *sql.DB, table string) error {
		return each(ctx, db, "SELECT gid FROM "+table, func(rows *sql.Rows) error {
			var gid string
			err := rows.Scan(&gid)
			r.worked[gid]++
			return err
		})
	}
	return errors.Join(read(engine, "works"), read(engine, "placed"), read(service, "works"))
}

// readRemains reads what must not outlive its transaction, or its message.
func (r *records) readRemains(ctx context.Context, engine, service *sql.DB) error {
	strings := func(db *sql.DB, query string, add func(text string)) error {
		return each(ctx, db, query, func(rows *sql.Rows) error {
			var text string
			err := rows.Scan(&text)
			add(text)
			return err
		})
	}
	var errs []error
	for name, db := range map[string]*sql.DB{engineDB: engine, serviceDB: service} {
		for _, table := range []string{"saga_results", "saga_inputs", "saga_attempts"} {
			errs = append(errs, strings(db, "SELECT DISTINCT gid FROM "+table, func(gid string) {
				r.remains[name+"."+table] = append(r.remains[name+"."+table], gid)
			}))
		}
	}
	return errors.Join(errors.Join(errs...),
		strings(engine, "SELECT message_id FROM saga_outbox_delayed", func(id string) { r.unpublished = append(r.unpublished, id) }),
		each(ctx, engine, "XA RECOVER", func(rows *sql.Rows) error {
			var format, global, branch int64
			var xid string
			err := rows.Scan(&format, &global, &branch, &xid)
			r.prepared = append(r.prepared, xid)
			return err
		}))
}

// readNested adds the clients of the nested transactions, which are branches of their parents.
// The row of a nested transaction is the barrier row of that branch.
func (r *records) readNested() {
	for gid, parent := range r.parents {
		b := r.Branch(parent)
		if t := r.Transactions[gid]; t != nil {
			t.Parent = parent
			b.Rows = append(b.Rows, t.Outcome())
		}
		number, _ := strconv.Atoi(parent.ID)
		if h := r.histories[parent.GID]; h != nil && number >= 1 && number <= len(h.order.all()) {
			r.Clients[gid] = &invariant.Client{Asked: asked(h.order.all()[number-1].Inner)}
		}
	}
}

func checkDirect(r *records, report invariant.Report) {
	gids := maps.Clone(r.worked)
	for gid, h := range r.histories {
		if h.order.Way == Published {
			gids[gid] += 0
		}
	}
	for branch := range r.published {
		if gid, _, _ := strings.Cut(branch, "/"); branch == DirectKey(gid) {
			gids[gid] += 0
		}
	}
	for gid := range gids {
		h := r.histories[gid]
		if published := r.published[DirectKey(gid)]; h == nil || h.order.Way != Published {
			if published > 0 {
				report(gid, "a message of PublishIn is %d times in the stream, but no client asked for it", published)
			}
		} else if published > 0 != (r.worked[gid] > 0) {
			report(gid, "the message of PublishIn is %d times in the stream, but its local transaction has left %d rows", published, r.worked[gid])
		}
	}
	for _, id := range r.unpublished {
		report("", "the message %s of PublishIn is still in the outbox", id)
	}
}

// done says how often the work of an order is to be done: at least, and at most.
func (r *records) done(gid string) (least, most int) {
	h := r.histories[gid]
	switch {
	case h == nil || h.order.Work == NoWork && !h.order.inLocal() || h.order.refused():
		return 0, 0
	case h.order.Way == Published && h.counts[Confirmed] == 0:
		return 0, 1
	case h.order.Way == Published || r.confirmed(gid):
		return 1, 1
	}
	return 0, 0
}

func checkWork(r *records, report invariant.Report) {
	gids := maps.Clone(r.worked)
	for gid := range r.histories {
		gids[gid] += 0
	}
	for gid, n := range gids {
		if least, most := r.done(gid); n < least || n > most {
			report(gid, "the work of the worker is done %d times, expected %d", n, most)
		}
	}
}

func checkRolledBack(r *records, report invariant.Report) {
	for gid, h := range r.histories {
		switch {
		case h.counts[RolledBack] > 0 && !h.order.refused():
			report(gid, "the worker has rolled it back, but nothing refuses it")
		case h.order.inLocal() && h.order.refused() && r.Transactions[gid] != nil:
			report(gid, "it is always rolled back, but the log has it: it is %s", r.Transactions[gid].State)
		}
	}
}

// checkOrder compares the effects in each database with the stages of the plan.
func checkOrder(r *records, report invariant.Report) {
	type place struct {
		at       int
		key      invariant.Key
		backward bool
	}
	for _, name := range slices.Sorted(maps.Keys(r.sequences)) {
		places := map[string][]place{}
		for at, e := range r.sequences[name] {
			b := r.Branch(e.key)
			backward := e.operation == invariant.Cancel && b.Role == invariant.Action
			if r.stages[e.key] > 0 && (backward || e.operation == invariant.Try || e.operation == invariant.Apply) {
				places[e.key.GID] = append(places[e.key.GID], place{at, e.key, backward})
			}
		}
		for gid, all := range places {
			for i, earlier := range all {
				for _, later := range all[i+1:] {
					first, second := r.stages[earlier.key], r.stages[later.key]
					switch {
					case earlier.backward != later.backward:
					case !earlier.backward && first > second:
						report(gid, "branch %s has effect before branch %s, which comes first in the plan", earlier.key.ID, later.key.ID)
					case earlier.backward && first < second:
						report(gid, "branch %s is compensated before branch %s, which comes after it in the plan", earlier.key.ID, later.key.ID)
					}
				}
			}
		}
	}
}

func checkPrepared(r *records, report invariant.Report) {
	for _, xid := range r.prepared {
		gid, _, _ := strings.Cut(xid[strings.LastIndexByte(xid, ':')+1:], "/")
		report(gid, "the prepared transaction %s is left", xid)
	}
}

func checkRemains(r *records, report invariant.Report) {
	for table, gids := range r.remains {
		for _, gid := range gids {
			if r.Transactions[gid] == nil {
				report(gid, "%s has rows, but the log does not have the transaction", table)
			}
		}
	}
}
