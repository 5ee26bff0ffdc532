// Package simulation holds tests that run the real orchestrator in a simulated
// world: several processes, which are killed, paused and started again; two
// databases, which are real SQLite files behind a driver that fails on purpose;
// a service without a database; and callers. The clock is simulated too (see
// testing/synctest), and the database's clock is another one.
//
// Every call of a process to a database or a branch waits at a gate. When all
// goroutines wait, the scheduler picks one call with a seeded generator, decides
// what happens to it, and lets it go: so a seed decides everything, and a seed
// that failed fails again. With -sim.seed=N one seed is repeated, and with -v
// its trace is printed.
package simulation
