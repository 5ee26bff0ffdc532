package message

// Window is how many messages the process of a consumer may have.
func (c *Consumer) Window() int { return c.sizes.window() }

// PreparedQuery returns the statement that finds messages of unfinished transactions, behind the
// one that began at a time, in microseconds since 1970.
func (o *Outbox) PreparedQuery(begin int64) (query string, arguments []any) {
	window, arguments := unfinished(o.db, outboxPlace{Micros: begin, GID: "g"}, nil)
	return "SELECT o.gid" + preparedOf(o.db, window), arguments
}
