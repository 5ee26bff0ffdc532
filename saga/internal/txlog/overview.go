package txlog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// overviewer reads summaries of the log. Each read is bounded.
type overviewer struct{ *store }

// maxInstances bounds the list of instances.
const maxInstances = 1000

// activitySample is the most finished transactions that are read of one part of time.
const activitySample = 300

type overviewQueries struct {
	unfinished, now, instances, kinds, activity string
}

func overviewStatements(d dialect.Dialect) overviewQueries {
	return overviewQueries{
		unfinished: d.SQL(fmt.Sprintf(`SELECT state, attention, paused, n, {micros began} FROM (
			SELECT state, attention <> '' AS attention, paused_at IS NOT NULL AS paused, COUNT(*) AS n, MIN(created_at) AS began FROM (
				SELECT state, attention, paused_at, created_at FROM saga_transactions WHERE finished_at IS NULL ORDER BY %s LIMIT %d
			) AS oldest GROUP BY 1, 2, 3) AS grouped`, oldestUnfinished(d), Window+1)),
		now: d.SQL(`SELECT {micros now}`),
		instances: d.SQL(fmt.Sprintf(`SELECT instance, host, pid, {micros started_at}, {micros lease_until}, lease_until > {now}
			FROM saga_instances ORDER BY started_at, instance LIMIT %d`, maxInstances)),
		kinds: d.SQL(`SELECT kind, {micros paused_at} FROM saga_kinds ORDER BY kind`),
		activity: d.SQL(fmt.Sprintf(`SELECT {micros finished_at}, {micros created_at}, state, failures FROM saga_transactions
			WHERE finished_at >= {at ?} AND finished_at < {at ?} ORDER BY finished_at, created_at LIMIT %d`, activitySample)),
	}
}

// oldestUnfinished is an order that is that of an index, if finished_at is NULL in all rows.
func oldestUnfinished(d dialect.Dialect) string {
	if d == dialect.Postgres {
		return "finished_at, created_at, gid"
	}
	return "created_at, gid"
}

// Group is the number of unfinished transactions that are alike.
type Group struct {
	State             string
	Attention, Paused bool
	N                 int
	Oldest            time.Time // when the oldest one began
}

// Unfinished groups the oldest unfinished transactions, at most Window and one more.
func (l overviewer) Unfinished(ctx context.Context) ([]Group, error) {
	return scan(ctx, l.db, l.sql.overview.unfinished, nil, func(row scanner) (g Group, err error) {
		var oldest int64
		err = row.Scan(&g.State, &g.Attention, &g.Paused, &g.N, &oldest)
		g.Oldest = dialect.Time(oldest)
		return g, err
	})
}

// Now returns the time of the database's clock.
func (l overviewer) Now(ctx context.Context) (time.Time, error) {
	now, err := scan(ctx, l.db, l.sql.overview.now, nil, func(row scanner) (micros int64, err error) {
		err = row.Scan(&micros)
		return micros, err
	})
	if err != nil || len(now) == 0 {
		return time.Time{}, err
	}
	return dialect.Time(now[0]), nil
}

// Lease is an instance and its lease.
type Lease struct {
	Instance
	Started, Until time.Time
	Held           bool // Until is not past
}

// Instances reads the instances, in the order of their starts.
func (l overviewer) Instances(ctx context.Context) ([]Lease, error) {
	return scan(ctx, l.db, l.sql.overview.instances, nil, func(row scanner) (i Lease, err error) {
		var started, until int64
		err = row.Scan(&i.ID, &i.Host, &i.PID, &started, &until, &i.Held)
		i.Started, i.Until = dialect.Time(started), dialect.Time(until)
		return i, err
	})
}

// KindPause is a paused kind of branch.
type KindPause struct {
	Kind string
	At   time.Time
}

// KindPauses reads the paused kinds of branches, in order.
func (l overviewer) KindPauses(ctx context.Context) ([]KindPause, error) {
	return scan(ctx, l.db, l.sql.overview.kinds, nil, func(row scanner) (k KindPause, err error) {
		var at int64
		err = row.Scan(&k.Kind, &at)
		k.At = dialect.Time(at)
		return k, err
	})
}

// Ended is a finished transaction.
type Ended struct {
	Finished, Created time.Time
	State             string
	Failures          int
}

// Sample reads the first transactions that finished in a part of time. It returns true if there
// may be more of them.
func (l overviewer) Sample(ctx context.Context, from, until time.Time) (sample []Ended, more bool, err error) {
	sample, err = scan(ctx, l.db, l.sql.overview.activity, []any{from.UnixMicro(), until.UnixMicro()}, func(row scanner) (e Ended, err error) {
		var finished, created int64
		err = row.Scan(&finished, &created, &e.State, &e.Failures)
		e.Finished, e.Created = dialect.Time(finished), dialect.Time(created)
		return e, err
	})
	return sample, len(sample) == activitySample, err
}

// ActPlace is a place in the audit log. The zero value is its begin, at the newest act.
type ActPlace struct {
	Micros    int64 // the time of the act, in microseconds since 1970
	GID, Kind string
	Number    int
}

// ActSearch selects acts. All conditions must hold; empty ones select all.
type ActSearch struct {
	GID, Kind, Who, Name, BulkID string
	After                        ActPlace
	Limit                        int
}

// FindActs reads acts, the newest first. It looks at no more than Window acts, unless the
// search names a transaction or a kind. Next is where the search continues, and zero at its end.
func (l overviewer) FindActs(ctx context.Context, s ActSearch) (acts []Act, next ActPlace, err error) {
	if s.GID != "" || s.Kind != "" {
		query, arguments := l.actsOfOneQuery(s)
		acts, err = l.acts(ctx, query, arguments)
		acts, next = s.page(acts, ActPlace{})
		return acts, next, err
	}
	order := " ORDER BY acted_at DESC, gid DESC, kind DESC, number DESC"
	where, arguments := actsBehind(s.After, "<", "")
	end := ActPlace{}
	if filters, values := s.filters(); len(filters) > 0 {
		query := "SELECT {micros acted_at}, gid, kind, number FROM saga_acts" + whereAll(where) + order + fmt.Sprintf(" LIMIT 1 OFFSET %d", Window-1)
		var ends []ActPlace
		ends, err = scan(ctx, l.db, l.sql.dialect.SQL(query), arguments, func(row scanner) (p ActPlace, err error) {
			err = row.Scan(&p.Micros, &p.GID, &p.Kind, &p.Number)
			return p, err
		})
		if err != nil {
			return nil, next, err
		}
		if len(ends) > 0 {
			end = ends[0]
			until, limits := actsBehind(end, ">", "=")
			where, arguments = append(where, until...), append(arguments, limits...)
		}
		where, arguments = append(where, filters...), append(arguments, values...)
	}
	acts, err = l.acts(ctx, selectActs+whereAll(where)+order+fmt.Sprintf(" LIMIT %d", s.Limit+1), arguments)
	acts, next = s.page(acts, end)
	return acts, next, err
}

const selectActs = "SELECT gid, kind, act, who, why, branch_id, believed, bulk_id, number, {micros acted_at} FROM saga_acts"

// actsOfOneQuery returns the statement that reads the acts on one transaction or one kind, whose
// numbers are in the order of their times. It reads along the primary key.
func (l overviewer) actsOfOneQuery(s ActSearch) (query string, arguments []any) {
	where, arguments := []string{"gid = ?", "kind = ?"}, []any{s.GID, s.Kind}
	if s.After != (ActPlace{}) {
		where, arguments = append(where, "number < ?"), append(arguments, s.After.Number)
	}
	filters, values := s.filters()
	return selectActs + whereAll(append(where, filters...)) + fmt.Sprintf(" ORDER BY gid DESC, kind DESC, number DESC LIMIT %d", s.Limit+1), append(arguments, values...)
}

func (l overviewer) acts(ctx context.Context, query string, arguments []any) ([]Act, error) {
	return scan(ctx, l.db, l.sql.dialect.SQL(query), arguments, func(row scanner) (a Act, err error) {
		var at int64
		err = row.Scan(&a.GID, &a.Kind, &a.Name, &a.Who, &a.Why, &a.BranchID, &a.Believed, &a.BulkID, &a.Number, &at)
		a.At = dialect.Time(at)
		return a, err
	})
}

// page cuts what was read to the limit, and returns where the search continues: behind the
// last act, or at end if all of them were read.
func (s ActSearch) page(acts []Act, end ActPlace) ([]Act, ActPlace) {
	if len(acts) <= s.Limit {
		return acts, end
	}
	acts = acts[:s.Limit]
	last := acts[s.Limit-1]
	return acts, ActPlace{Micros: last.At.UnixMicro(), GID: last.GID, Kind: last.Kind, Number: last.Number}
}

// filters returns the conditions that no index has.
func (s ActSearch) filters() (where []string, arguments []any) {
	for _, f := range []struct{ column, value string }{{"who", s.Who}, {"act", s.Name}, {"bulk_id", s.BulkID}} {
		if f.value != "" {
			where = append(where, f.column+" = ?")
			arguments = append(arguments, f.value)
		}
	}
	return where, arguments
}

// actsBehind returns the condition for the acts on one side of a place, and at the place
// itself if equal is "=".
func actsBehind(p ActPlace, sign, equal string) (where []string, arguments []any) {
	if (p == ActPlace{}) {
		return nil, nil
	}
	condition := strings.NewReplacer("<", sign, "=?", sign+equal+" ?").Replace(
		`(acted_at < {at ?} OR acted_at = {at ?} AND (gid < ? OR gid = ? AND (kind < ? OR kind = ? AND number =?)))`)
	return []string{"acted_at " + sign + "= {at ?}", condition},
		[]any{p.Micros, p.Micros, p.Micros, p.GID, p.GID, p.Kind, p.Kind, p.Number}
}
