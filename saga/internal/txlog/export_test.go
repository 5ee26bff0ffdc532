package txlog

// CandidatesQuery is the statement that looks for due transactions. Its parameters
// are a time in microseconds since 1970, an instance, and a limit.
func (l *Log) CandidatesQuery() string { return l.sql.candidates }
