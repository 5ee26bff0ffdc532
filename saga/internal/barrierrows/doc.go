// Package barrierrows holds the operations on barrier rows that only an engine needs:
// the calls of many transactions in one statement, marks of calls that are under way, and
// cleaning. Package barrier has what one call of a branch needs.
package barrierrows

import (
	"cmp"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// callerName is how a caller stands in its rows.
func callerName(caller string) string { return cmp.Or(caller, barrier.NoCaller) }
