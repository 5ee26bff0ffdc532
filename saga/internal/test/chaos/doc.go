// Package chaos is a run against the dangers that the rest of the tests only
// stage one by one: several worker processes, a MariaDB server and a NATS
// server, all started by the run, and faults between and in all of them, drawn
// from a seed. Afterwards the books are balanced from the tables.
//
//	callers ──HTTP──► workers ──proxies──► MariaDB (the log, stock; and a second database)
//	(this process)       │     └─proxies──► NATS JetStream
//	gateway ◄──HTTP──────┘
//
// What runs in this process survives: the callers, who note what they were
// told; the gateway, a service without a database of its own that keeps
// idempotency keys; and the books. Everything else is killed, paused, cut off
// and slowed down, and the clocks of the workers are wrong.
//
// The seed fixes which faults come and what is ordered; when a fault meets
// which transaction is up to the machine, so a seed narrows a failure down and
// does not replay it.
package chaos
