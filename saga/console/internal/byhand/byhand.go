// Package byhand has the SQL with which a person looks at a transaction without the console.
package byhand

import (
	"strings"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Statements returns the statements that show a transaction, for the database of a dialect:
// mysql, postgres or sqlite. It returns none if the gid is not valid.
func Statements(dialect, gid string) []string {
	if barrier.ValidateGID(gid) != nil {
		return nil
	}
	literal := quote(dialect, gid)
	var statements []string
	for _, table := range []struct{ name, order string }{
		{"saga_transactions", ""},
		{"saga_labels", "name"},
		{"saga_branches", "branch_id"},
		{"saga_results", "branch_id"},
		{"saga_attempts", "failed_at"},
		{"saga_acts", "number"},
		{"saga_barrier", "branch_id"},
	} {
		s := "SELECT * FROM " + table.name + " WHERE gid = " + literal
		if table.order != "" {
			s += " ORDER BY " + table.order
		}
		statements = append(statements, s+";")
	}
	return statements
}

// quote writes a gid as a literal. A gid has printable ASCII characters only.
func quote(dialect, gid string) string {
	text := "'" + strings.ReplaceAll(gid, "'", "''") + "'"
	if !strings.Contains(gid, `\`) {
		return text
	}
	switch dialect {
	case "mysql":
		// A backslash escapes, unless the SQL mode says otherwise. In hexadecimal it is the
		// same in each mode.
		const digits = "0123456789ABCDEF"
		hex := make([]byte, 0, 2*len(gid))
		for i := range len(gid) {
			hex = append(hex, digits[gid[i]>>4], digits[gid[i]&15])
		}
		return "CAST(X'" + string(hex) + "' AS CHAR CHARACTER SET ascii)"
	case "postgres":
		// The same with every value of standard_conforming_strings.
		return "E" + strings.ReplaceAll(text, `\`, `\\`)
	}
	return text // SQLite has no escapes
}
