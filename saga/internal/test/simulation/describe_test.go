package simulation

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
)

// callerKey is where a context has the name of its caller. Two callers of one
// process may send the same statement at the same moment, and the name lets the
// seed decide which goes first.
type callerKey struct{}

// describe is a statement in words, for the trace.
func describe(ctx context.Context, query string, arguments []driver.NamedValue) string {
	query = strings.Join(strings.Fields(query), " ")
	if len(query) > 90 {
		query = query[:90] + "..."
	}
	values := make([]string, len(arguments))
	for i, a := range arguments {
		values[i] = fmt.Sprint(a.Value)
		// Package net/http does not always say in the same words that a host has died.
		if before, _, cut := strings.Cut(values[i], "no answer: "); cut {
			values[i] = before + "no answer"
		}
		if len(values[i]) > 40 {
			values[i] = values[i][:40]
		}
	}
	text := query + " [" + strings.Join(values, " ") + "]"
	if name, ok := ctx.Value(callerKey{}).(string); ok {
		return name + ": " + text
	}
	return text
}
