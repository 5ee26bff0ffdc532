package txlog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// Window is the most transactions that a search looks at.
const Window = 10_000

// finder searches the log for people.
type finder struct{ *store }

// Place is a place in the order of a search. The zero value is its begin.
type Place struct {
	Micros int64 // when the transaction began, in microseconds since 1970; 0 in the order of the gids
	GID    string
}

// Search narrows a Find. All conditions must hold.
type Search struct {
	States        []string // any of these; none is all
	Pattern       string
	Prefix        string // of the gid
	Unfinished    bool
	Attention     bool
	Paused        bool
	Kind          string // of a branch
	Owner         string
	Label, Value  string // of a label; an empty Label is any
	Text          string // in an error, a reason or the attention
	CreatedAfter  time.Time
	CreatedBefore time.Time
	OldestFirst   bool
	After         Place
	Limit         int
}

// Found is the result of a Find.
type Found struct {
	Records []Record
	Next    Place // where the search continues; zero at its end
}

// Find searches the log. It looks at no more than Window transactions, which it reads along an
// index, in the order of the result.
func (l finder) Find(ctx context.Context, s Search) (Found, error) {
	along := l.index(s)
	end, err := l.window(ctx, along, s)
	if err != nil {
		return Found{}, err
	}
	query, arguments := l.pageQuery(along, s, end)
	found := Found{Next: end}
	if found.Records, err = reader(l).records(ctx, l.db, query, arguments...); err != nil {
		return Found{}, err
	}
	if len(found.Records) > s.Limit {
		found.Records = found.Records[:s.Limit]
		last := found.Records[s.Limit-1]
		found.Next = Place{GID: last.GID}
		if along.time != "" {
			found.Next.Micros = last.CreatedAt.UnixMicro()
		}
	}
	return found, nil
}

// Count counts the transactions of a search up to most. It returns true if there are more, or
// if it has looked at Window transactions, and there may be more.
func (l finder) Count(ctx context.Context, s Search, most int) (n int, more bool, err error) {
	along := l.index(s)
	end, err := l.window(ctx, along, s)
	if err != nil {
		return 0, false, err
	}
	query, arguments := l.countQuery(along, s, end, most)
	counts, err := scan(ctx, l.db, query, arguments, func(row scanner) (n int, err error) {
		err = row.Scan(&n)
		return n, err
	})
	if err != nil || len(counts) == 0 {
		return 0, false, err
	}
	n = counts[0]
	return min(n, most), n > most || end != Place{}, nil
}

// countQuery returns the statement that counts to one more than most, up to the end of the window.
func (l finder) countQuery(a along, s Search, end Place, most int) (query string, arguments []any) {
	where, arguments := l.conditions(a, s, end)
	return l.sql.dialect.SQL(fmt.Sprintf("SELECT COUNT(*) FROM (SELECT 1 AS one FROM saga_transactions%s%s LIMIT %d) AS counted", a.joined, where, most+1)), arguments
}

// along is an index along which a search reads.
type along struct {
	table     string // the table that has the index
	joined    string // joins that table, if it is not saga_transactions
	first     string // the first column of the order, which a condition makes constant; may be empty
	time, gid string // the columns of the order; time is empty in the order of the gids
	where     []string
	arguments []any
}

// index chooses the index: the one that leaves the fewest transactions to look at.
func (l finder) index(s Search) along {
	switch a := (along{table: "saga_transactions", time: "saga_transactions.created_at", gid: "saga_transactions.gid"}); {
	case s.Value != "":
		a.table, a.joined = "saga_labels", " JOIN saga_labels ON saga_labels.gid = saga_transactions.gid"
		a.time, a.gid = "saga_labels.created_at", "saga_labels.gid"
		a.add("saga_labels.value = ?", s.Value)
		return a
	case s.Prefix != "":
		a.time = ""
		a.add("saga_transactions.gid >= ?", s.Prefix)
		l.addEnd(&a, s.Prefix)
		return a
	case s.Unfinished:
		if l.sql.dialect == dialect.Postgres {
			a.first = "finished_at"
		}
		a.add("finished_at IS NULL")
		return a
	default:
		return a
	}
}

// addEnd adds the end of the range of the gids with a prefix. In PostgreSQL, this range exists
// only if the database compares text by its bytes.
func (l finder) addEnd(a *along, prefix string) {
	end := prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
	if l.sql.dialect == dialect.Postgres {
		a.add("(saga_transactions.gid < ? OR NOT ('a-z' < 'a0' AND 'B' < 'a'))", end)
		return
	}
	a.add("saga_transactions.gid < ?", end)
}

func (a *along) add(condition string, arguments ...any) {
	a.where = append(a.where, condition)
	a.arguments = append(a.arguments, arguments...)
}

func (a *along) order(ascending bool) string {
	direction := " DESC"
	if ascending {
		direction = ""
	}
	columns := ""
	if a.first != "" { // PostgreSQL uses the index only then, and MariaDB only without it
		columns = a.first + direction + ", "
	}
	if a.time != "" {
		columns += a.time + direction + ", "
	}
	return columns + a.gid + direction
}

// addRange adds the conditions for the places behind after, up to end. A zero place is
// no limit.
func (a *along) addRange(ascending bool, after, end Place) {
	behind, before := "<", ">"
	if ascending {
		behind, before = ">", "<"
	}
	add := func(p Place, sign, equal string) {
		switch {
		case p == Place{}:
		case a.time == "":
			a.add(a.gid+" "+sign+equal+" ?", p.GID)
		default:
			// The first condition uses the index.
			a.add(a.time+" "+sign+"= {at ?} AND ("+a.time+" "+sign+" {at ?} OR "+a.gid+" "+sign+equal+" ?)", p.Micros, p.Micros, p.GID)
		}
	}
	add(after, behind, "")
	add(end, before, "=")
}

// pageQuery returns the statement that reads a page, up to the end of the window.
func (l finder) pageQuery(a along, s Search, end Place) (query string, arguments []any) {
	where, arguments := l.conditions(a, s, end)
	return l.sql.dialect.SQL(selectRecords + a.joined + where + " ORDER BY " + a.order(s.OldestFirst) + fmt.Sprintf(" LIMIT %d", s.Limit+1)), arguments
}

// windowQuery returns the statement that reads the end of the window.
func (l finder) windowQuery(a along, s Search) (query string, arguments []any) {
	a.addTimes(s)
	a.addRange(s.OldestFirst, s.After, Place{})
	columns := "0, " + a.gid
	if a.time != "" {
		columns = "{micros created_at}, gid"
	}
	query = "SELECT " + columns + " FROM " + a.table + whereAll(a.where) + " ORDER BY " + a.order(s.OldestFirst) + fmt.Sprintf(" LIMIT 1 OFFSET %d", Window-1)
	return l.sql.dialect.SQL(query), a.arguments
}

// window returns the end of the window of a search; zero if the search has no condition
// beside those of the index, or if the window reaches the end of the index.
func (l finder) window(ctx context.Context, a along, s Search) (Place, error) {
	if where, _ := l.filters(s); len(where) == 0 {
		return Place{}, nil
	}
	query, arguments := l.windowQuery(a, s)
	ends, err := scan(ctx, l.db, query, arguments, func(row scanner) (p Place, err error) {
		err = row.Scan(&p.Micros, &p.GID)
		return p, err
	})
	if err != nil || len(ends) == 0 {
		return Place{}, err
	}
	return ends[0], nil
}

// addTimes adds the limits of the begin. They narrow the index.
func (a *along) addTimes(s Search) {
	column := a.time
	if column == "" {
		return
	}
	if !s.CreatedAfter.IsZero() {
		a.add(column+" > {at ?}", s.CreatedAfter.UnixMicro())
	}
	if !s.CreatedBefore.IsZero() {
		a.add(column+" < {at ?}", s.CreatedBefore.UnixMicro())
	}
}

// conditions returns the WHERE clause of a search.
func (l finder) conditions(a along, s Search, end Place) (where string, arguments []any) {
	a.addTimes(s)
	a.addRange(s.OldestFirst, s.After, end)
	more, values := l.filters(s)
	return whereAll(append(a.where, more...)), append(a.arguments, values...)
}

// filters returns the conditions of a search that no index has.
func (l finder) filters(s Search) (where []string, arguments []any) {
	add := func(condition string, values ...any) {
		where = append(where, condition)
		arguments = append(arguments, values...)
	}
	if len(s.States) > 0 {
		states := make([]any, len(s.States))
		for i, state := range s.States {
			states[i] = state
		}
		add("state IN "+in(len(states)), states...)
	}
	if s.Pattern != "" {
		add("pattern = ?", s.Pattern)
	}
	if s.Prefix != "" {
		condition, values := "SUBSTR(saga_transactions.gid, 1, ?) = ?", []any{len(s.Prefix), s.Prefix}
		if s.Value != "" || l.sql.dialect == dialect.Postgres {
			add(condition, values...)
		}
		if s.Value == "" { // the index has no times
			l.addCreated(add, s)
		}
	}
	if s.Unfinished && (s.Value != "" || s.Prefix != "") {
		add("finished_at IS NULL")
	}
	if s.Attention {
		add("finished_at IS NULL AND attention <> ''")
	}
	if s.Paused {
		add("finished_at IS NULL AND paused_at IS NOT NULL")
	}
	if s.Owner != "" {
		add("owner = ?", s.Owner)
	}
	if s.Kind != "" {
		add(anyRow("saga_branches", "saga_branches.kind = ?"), s.Kind)
	}
	switch {
	case s.Label != "":
		add("saga_labels.name = ?", s.Label)
	case s.Value != "": // a transaction with several labels of this value is found once
		add("NOT EXISTS (SELECT 1 FROM saga_labels AS first WHERE first.gid = saga_labels.gid AND first.value = saga_labels.value AND first.name < saga_labels.name)")
	}
	if s.Text != "" {
		like := "%" + likeEscape.Replace(strings.ToLower(s.Text)) + "%"
		add("(LOWER(reason) LIKE ? ESCAPE '!' OR LOWER(attention) LIKE ? ESCAPE '!' OR failures > 0 AND "+
			anyRow("saga_attempts", "LOWER(saga_attempts.error) LIKE ? ESCAPE '!'")+")", like, like, like)
	}
	return where, arguments
}

// anyRow returns the condition that a table has a row of the transaction with which a condition
// holds. It is not EXISTS: PostgreSQL would read all of the table first, instead of some rows
// of each transaction.
func anyRow(table, condition string) string {
	return fmt.Sprintf("(SELECT COUNT(*) FROM %s WHERE %[1]s.gid = saga_transactions.gid AND %s) > 0", table, condition)
}

func (l finder) addCreated(add func(string, ...any), s Search) {
	if !s.CreatedAfter.IsZero() {
		add("saga_transactions.created_at > {at ?}", s.CreatedAfter.UnixMicro())
	}
	if !s.CreatedBefore.IsZero() {
		add("saga_transactions.created_at < {at ?}", s.CreatedBefore.UnixMicro())
	}
}

var likeEscape = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

func whereAll(conditions []string) string {
	if len(conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(conditions, " AND ")
}
