// Package saga makes a set of steps in several services, databases and brokers
// happen all together or not at all. It is the orchestrator: it keeps a durable
// log of transactions, decides each of them once, and then calls its branches
// until they have done what was decided, across crashes. Patterns, such as
// package tcc, are written on its contract, [Engine].
//
//	orch, err := saga.Open(ctx, db, saga.Config{}) // the user's own *gorm.DB
//	err = tcc.Register(orch, branch)               // for each kind of branch
//	go orch.Run(ctx)                               // leases, deadlines, retries, recovery
//	outcome, err := tcc.Execute(ctx, orch, gid, payloads...)
//
// # States
//
//	           all Trys            all Confirms
//	        +----------> confirming ----------> confirmed
//	trying -+
//	        +----------> cancelling ----------> cancelled
//	           a Try failed,       all Cancels
//	           the deadline,
//	           the caller,
//	           its process is gone
//
// # Promises
//
// One decision. Leaving trying is one compare-and-set on the transaction's row,
// or its insert if it is decided with its first commit. The caller, the
// deadline, another instance and an operator all go through it, and exactly one
// wins. No branch can join afterwards: joining locks the row that is decided.
//
// Presumed abort. A transaction that nobody has decided is cancelled: at its
// deadline, or, if it was bound to a process by [Engine.Execute], as soon as
// that process is gone (C. Mohan, B. Lindsay, R. Obermarck, Transaction
// Management in the R* Distributed Database Management System, 1986).
//
// Recorded before it can have an effect. A branch call leaves for another
// service or database only after the log names the branch durably. A branch in
// the orchestrator's own database is named in the same commit as its effect.
//
// Never forgotten. Confirm and Cancel are called until they succeed, each
// branch with its own capped full-jitter backoff, all branches in parallel, so
// that one bad branch holds up no other.
//
// Owned, not shared. An instance drives what it has started, under a lease that
// it renews once per process. When it dies, others claim its transactions in
// batches; each claim raises the epoch of a transaction, and every write of a
// driver names the epoch under which it drives. Should two drive at once all
// the same, a process that was paused past its lease, say, the barrier and the
// one decision keep that safe.
//
// # How commits are shared
//
// A durable commit is what costs. A branch whose database is the orchestrator's
// own is resident: it needs no commit of its own.
//
//	plan                  commits on the way to confirmed
//	resident only         1: begin, every barrier row, every Try, the decision
//	                      2: every Confirm, the end
//	with others           1: begin, naming every branch
//	                      each other branch: its barrier row and Try
//	                      2: every resident Try, the decision
//	                      each other branch: its barrier row and Confirm,
//	                      in parallel with every resident Confirm
//	                      3: the end
//
// If a resident Try is rejected when there are only such, all is rolled back
// and nothing has to be cancelled; the transaction is recorded as cancelled, so
// that its gid gives the same answer next time. If a resident Confirm fails, it
// is left out, and the others are committed without it.
//
// # When a COMMIT is not answered
//
// A connection that is lost during COMMIT leaves the outcome open, and even
// reading the row back may come too early: the server may still be at it. So
// the row is written again, or read with a lock; both wait for an unanswered
// commit. If even that cannot be had, the call returns an [*UnknownError], and
// never a cancel that may have been a confirm.
//
// # Time
//
// Deadlines, leases and due times are the database's clock. A process's own
// clock only paces its polling. Nothing depends on the clocks of two processes
// agreeing.
//
// The due time of a transaction is when somebody has to look at it next: while
// it is driven, one lease from now; after a failed call, the next attempt; while
// it is open, its deadline; and NULL when it is finished. It is the only
// secondary index on the log, so that finished and waiting transactions cost
// nothing.
package saga
