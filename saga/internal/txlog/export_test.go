package txlog

// ListQuery is the statement of List.
func (l *Log) ListQuery(f Filter) (query string, arguments []any) { return l.listQuery(f) }
