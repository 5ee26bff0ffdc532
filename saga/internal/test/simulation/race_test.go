//go:build race

package simulation

// slower is how much slower the race detector makes SQLite, which is Go here. With
// it, few seeds are run; many are run without it.
const slower = 100
