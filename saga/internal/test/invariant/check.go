package invariant

import (
	"cmp"
	"fmt"
	"slices"
)

// Rule is one invariant over records of type T.
type Rule[T any] struct {
	Name     string
	Sentence string // what must hold
	Check    func(records T, report Report)
}

// Report notes one place where a rule is broken. The gid is empty if it does not
// belong to one transaction.
type Report func(gid, format string, arguments ...any)

// Violation is one place where a rule is broken.
type Violation struct {
	Rule string
	GID  string // empty if it does not belong to one transaction
	Text string
}

func (v Violation) String() string {
	if v.GID == "" {
		return fmt.Sprintf("%s [rule %q]", v.Text, v.Rule)
	}
	return fmt.Sprintf("%s: %s [rule %q]", v.GID, v.Text, v.Rule)
}

// Check applies the rules and returns what they found, in the order of the gids
// and of the rules.
func Check[T any](records T, rules []Rule[T]) (found []Violation) {
	for _, rule := range rules {
		var broken []Violation
		rule.Check(records, func(gid, format string, arguments ...any) {
			broken = append(broken, Violation{Rule: rule.Name, GID: gid, Text: fmt.Sprintf(format, arguments...)})
		})
		slices.SortFunc(broken, func(a, b Violation) int { return cmp.Compare(a.Text, b.Text) })
		found = append(found, broken...)
	}
	Sort(found)
	return found
}

// Sort orders violations by gid, and leaves those of one gid as they are.
func Sort(violations []Violation) {
	slices.SortStableFunc(violations, func(a, b Violation) int { return cmp.Compare(a.GID, b.GID) })
}
