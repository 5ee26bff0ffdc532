// Package barrierrows has the operations on barrier rows that only an engine or a
// participant needs: calls of many transactions in one statement, marks of calls that
// are under way, and cleaning. Package barrier has the operations of a single call.
//
// An error says what failed, without the name of a package: the caller adds it.
package barrierrows

import (
	"cmp"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// callerName returns the name of a caller in its rows.
func callerName(caller string) string { return cmp.Or(caller, barrier.NoCaller) }

// anys returns texts as the arguments of a statement.
func anys(texts []string) []any {
	all := make([]any, len(texts))
	for i, text := range texts {
		all[i] = text
	}
	return all
}
