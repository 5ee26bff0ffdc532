// Package simulation runs the real engine in a simulated world, in its tests.
//
// # What runs
//
// Three processes, each with an engine, are killed, paused and started again. They
// share two databases, which are real SQLite files behind a driver that fails on
// purpose, and a service without a database. In some runs a fourth process hosts
// branches, which the engines call through package remote. The requests between them
// are lost, delayed, changed and sent twice, and answers break off. Callers execute
// plans, and begin, try, confirm and cancel transactions. The clock is simulated (see testing/synctest),
// and each database has another one. When the callers are done, faults stop, and
// all transactions have to end. Then package invariant checks what is in the
// tables, what the service has done, and what the callers were told.
//
// # What the seed fixes
//
// Everything. Each call of a process to a database or a branch waits at a gate. When
// all goroutines wait, the scheduler picks one call with the seeded generator, draws
// its fault, and lets it go. So the same seed gives the same trace, and a seed that
// failed fails again. Bursts are the exception: the seed does not decide which of
// their transactions share a commit.
//
// What goroutines do between two calls has no order. So nothing may depend on it:
//
//   - The goroutines of a dead process run on until they notice it. Their calls do not
//     reach the gate. Callers and supervisors go on at the moment of the death.
//   - Callers call a process one by one, and pass the gate first. Only one at a time
//     waits in the engine for the lease; see process.admits. Callers of bursts do not
//     pass the gate.
//   - The calls of one request, and the lines of its answer, are in any order. The trace
//     has them sorted, and a fault of the lines waits for all of them and sorts them.
//   - Random pauses of the engine depend on the moment, and not on the draws before.
//
// # How to run and replay
//
//	make simulate SEEDS=2000
//	go test ./saga/internal/test/simulation -run TestSeeds -v -sim.seed=7
//
// The second command repeats one seed and prints its trace: one line for each call,
// with its simulated time, its process, its database, and its fault in capitals.
// TestEachCallInTurn lets each call of one run fail, in each way.
//
// # How to extend it
//
//   - A fault: add a constant and its text to type fault in fault_test.go. Do what
//     it says in gate.release in gate_test.go, if it changes when a call is made; in
//     conn.perform in conn_test.go, for a call to a database; in world.pass in
//     branch_test.go, for a call of a branch; and in network.RoundTrip in
//     network_test.go, for a request to the host. All tests draw it from then on; for
//     a request, if it is in ofRequests.
//   - A kind of branch: add it to kinds and shapes, and register it in
//     world.branches, in branch_test.go. world.steps in workload_test.go draws it. One of
//     the host is in process.startHost, in host_test.go, and in farKinds.
//   - A rule: see package invariant. What the rules look at is read in
//     world.records in records_test.go.
//   - What callers do: caller.execute and caller.open in caller_test.go, and who
//     calls when in workload_test.go.
//
// A change of any of these changes what a seed means.
package simulation
