// Package invariant checks what a run of transactions has left behind. It knows
// neither the engine nor a database: a test world reads its tables, asks its
// clients, and hands both over as plain values, see [Records]. [Check] then
// applies each rule of [Rules] and returns every [Violation] in words.
//
// Two test worlds use it: chaos and simulation. Each of them may add rules of
// its own about things that only it has, such as a broker; they have the same
// type and go through the same Check.
//
// To add a rule, write a function in log.go, clients.go or branches.go, add it
// to Rules in rules.go, and add a row to TestRules that breaks it: the test
// fails if a rule has no row.
package invariant
