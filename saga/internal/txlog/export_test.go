package txlog

import "fmt"

// ListQuery is the statement of List.
func (l *Log) ListQuery(f Filter) (query string, arguments []any) { return l.reader.listQuery(f) }

// CandidatesQuery is the statement that looks for due transactions. Its parameters
// are a time in microseconds since 1970, twice, a gid, an instance, and a limit.
func (l *Log) CandidatesQuery() string { return l.claimer.sql.candidates }

// Statement is a statement with its arguments.
type Statement struct {
	SQL       string
	Arguments []any
}

// FindQueries are the statements of Find: the end of the window, and the page up to end.
func (l *Log) FindQueries(s Search, end Place) []Statement {
	a := l.finder.index(s)
	window, windowArguments := l.finder.windowQuery(a, s)
	page, pageArguments := l.finder.pageQuery(a, s, end)
	return []Statement{{window, windowArguments}, {page, pageArguments}}
}

// ActsQuery is the statement of FindActs for one transaction or one kind.
func (l *Log) ActsQuery(s ActSearch) Statement {
	query, arguments := l.overviewer.actsOfOneQuery(s)
	return Statement{l.overviewer.sql.dialect.SQL(query), arguments}
}

// CountQuery is the statement of Count, up to the end of a window.
func (l *Log) CountQuery(s Search, end Place) Statement {
	query, arguments := l.finder.countQuery(l.finder.index(s), s, end, 1000)
	return Statement{query, arguments}
}

// UnfinishedQuery is the statement of Unfinished.
func (l *Log) UnfinishedQuery() Statement {
	return Statement{SQL: l.overviewer.sql.overview.unfinished}
}

// Inserts returns the statements that insert transactions without a trace, by state, of all
// databases.
func Inserts() map[string]func(int) string {
	all := map[string]func(int) string{}
	for d, q := range statements {
		for state, statement := range q.insert {
			all[fmt.Sprint(d, " ", state)] = statement
		}
	}
	return all
}
