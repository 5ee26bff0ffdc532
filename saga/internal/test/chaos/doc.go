// Package chaos runs real processes and servers, and injects faults between and in
// all of them, drawn from a seed. Afterwards it checks in the tables that every rule
// was kept.
//
// # What runs
//
//	clients ──HTTP──► workers ──proxies──► MariaDB (database of the engine, database of a service)
//	gateway ◄──HTTP──────┘ │ └─proxies──► NATS JetStream
//	                       └───proxies──► host ──proxy──► MariaDB (database of the host)
//
// The clients, the gateway and the checker run in the process of the test, which has
// no faults. A client submits orders, and its history keeps what it was told. The
// gateway is a payment service without a database of ours. The host is a service without an
// engine: its branches are called in signed batches over HTTP, plain ones and bulk ones. A worker is a program
// that uses the library, in folder worker; each has proxies of its own. The nemesis
// kills and pauses workers and the host, kills the servers, cuts and delays connections, and
// loses requests and answers. The clock of each worker and of the host is wrong: its package time is built with
// an overlay, see clock.go.
//
// # What the seed fixes
//
// The orders, the faults, their order and their workers, and the clocks. It does not
// fix which transaction meets which fault: that depends on the machine. So a
// repeated seed narrows a failure down, and does not replay it.
//
// # How to run and repeat
//
//	make chaos FOR=10m
//	make chaos FOR=40s SEED=7
//
// The second test, TestHostIsKilled, injects one fault only: it kills the host 20 times while
// batches of calls are under way, every second time at a COMMIT, and checks all rules after
// each. It takes about a minute.
//
// The test ends with a report: how often each fault came, what became of the
// transactions, and the rules that are broken. For each of the first transactions
// that break a rule, it has the history of the client, the faults meanwhile, the
// rows of all tables, and the log lines of the workers.
//
// # How to extend it
//
//   - A fault: add a constant and its text to type fault, and a row to faults, in
//     fault.go; the row says how often it comes in a round. Write what it does as a
//     method of injection in injection.go. It calls note when the fault comes, and
//     i.ongoing.Go if it lasts; nemesis.heal in nemesis.go ends what is left.
//   - A kind of branch: add its kind and its fields to Order in api.go, draw them in
//     client.draw in client.go, write the branch in worker, register it in open in
//     worker/service.go, or in openHost in worker/host.go, add it to branches in
//     worker/service.go, and say where it has its effects in
//     shapes in records.go.
//   - A rule: for rules that both test worlds have, see package invariant. A rule
//     about messages, quantities or the gateway stands in rules.go, with a row in
//     rules_test.go that breaks it. What it looks at is read in records.go.
package chaos
