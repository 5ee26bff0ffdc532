//go:build race

package simulation

// The race detector makes SQLite, which is Go here, so slow that a few seeds
// have to do; the many run without it.
const slower = 100
