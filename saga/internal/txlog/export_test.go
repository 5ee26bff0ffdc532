package txlog

// ListQuery is the statement of List.
func (l *Log) ListQuery(f Filter) (query string, arguments []any) { return l.reader.listQuery(f) }

// CandidatesQuery is the statement that looks for due transactions. Its parameters
// are a time in microseconds since 1970, twice, a gid, an instance, and a limit.
func (l *Log) CandidatesQuery() string { return l.claimer.sql.candidates }
