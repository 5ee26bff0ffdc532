package explain

import (
	"fmt"
	"strings"
)

// Statement is a statement that a person can run by hand.
type Statement struct {
	Title string `json:"title"` // what it reads, and in which database
	SQL   string `json:"sql"`   // with a final semicolon
}

// SQL returns the statements that read a transaction by hand, in a database with the dialect
// "mysql", also for MariaDB, "postgres" or "sqlite". They read only rows of this gid, by primary
// keys and indexes, and lock nothing. The gid is quoted, so any text is safe.
func SQL(dialect, gid string) []Statement {
	quoted := quote(dialect, gid)
	of := func(table, order string) string {
		text := "SELECT * FROM " + table + " WHERE gid = " + quoted
		if order != "" {
			text += " ORDER BY " + order
		}
		return text + ";"
	}
	return []Statement{
		{"the transaction", of("saga_transactions", "")},
		{"its labels", of("saga_labels", "name")},
		{"its branches", of("saga_branches", "branch_id")},
		{"failed calls", of("saga_attempts", "failed_at")},
		{"results of its Trys", of("saga_results", "branch_id")},
		{"acts of operators", of("saga_acts", "number")},
		{"the instance that drives it", "SELECT i.* FROM saga_instances i JOIN saga_transactions t ON t.owner = i.instance WHERE t.gid = " + quoted + ";"},
		{"the clock that counts", "SELECT " + clock(dialect) + ";"},
		{"the barrier rows, in the database of each branch", of("saga_barrier", "branch_id")},
		{"its messages, in the database of the outbox", of("saga_outbox", "branch_id")},
	}
}

// clock returns the expression of the database's clock in UTC, as the tables have times.
func clock(dialect string) string {
	switch dialect {
	case "mysql":
		return "UTC_TIMESTAMP(6)"
	case "postgres":
		return "clock_timestamp()"
	default:
		return "strftime('%Y-%m-%d %H:%M:%f', 'now')"
	}
}

// quote returns a text as a literal. In a literal of MySQL, a backslash escapes.
func quote(dialect, text string) string {
	text = strings.ReplaceAll(text, "'", "''")
	if dialect == "mysql" {
		text = strings.ReplaceAll(text, `\`, `\\`)
	}
	return fmt.Sprintf("'%s'", text)
}
