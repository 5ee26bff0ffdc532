// Package saga makes a set of steps in several services, databases and brokers
// happen all together or not at all. It is the orchestrator: it keeps a durable
// log of transactions, decides each of them once, and then calls its branches
// until they have done what was decided, across crashes. Patterns, such as
// package tcc, are written on its contract, [Engine].
//
//	orch, err := embedded.Open(ctx, db, embedded.Config{}) // the user's own *gorm.DB
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
// Branches may live in other services. The orchestrator calls them through a
// [Remote], and a [Participant] has them there, with the barrier in the service's
// own database; package remote connects the two over HTTP.
//
// # How commits are shared
//
// A durable commit is what costs. A branch whose database is the orchestrator's
// own is resident: it needs no commit of its own.
//
//	plan                  commits on the way to confirmed
//	resident only         1: begin, every barrier row, every Try, the decision,
//	                      every Confirm that acts on nothing else
//	                      2: if a Confirm acts outside first: it, and the end
//	with others           1: begin, naming every branch, and the resident Trys
//	                      before the first Try elsewhere
//	                      each other branch: its barrier row and Try
//	                      +1 for each run of resident Trys in between
//	                      2: the resident Trys after the last Try elsewhere,
//	                      the decision
//	                      each other branch: its barrier row and Confirm,
//	                      in parallel with 3: every resident Confirm
//	                      4: the end
//	a branch without a    Try: its mark in the barrier; and the mark's end
//	database: in the      Confirm, Cancel: its mark; and its barrier row
//	engine's database
//
// The Trys come in the order of the plan: a Try is called when those before it have
// succeeded. If one of the resident Trys of the first commit is rejected, all is
// rolled back, no branch elsewhere has been called, and nothing has to be cancelled; the
// transaction is recorded as cancelled, so that its gid gives the same answer next time.
// So put first what is resident and may say no, such as stock and coupons, and last what
// costs to give back, such as a card. If a resident Confirm fails, it is left out, and
// the others are committed without it.
//
// Plans share a commit if all their branches are resident and of the same kinds. This is
// group commit (D. J. DeWitt et al., Implementation Techniques for Main Memory Database
// Systems, 1984). Arrivals during a commit form the next batch, of at most
// [Config.MaxBatch]; eight suffice to write it in parallel. A plan that arrives alone
// does not wait, and no caller is answered before the commit. A branch with Together is
// called once per batch, other branches once per transaction. The Outside parts of
// Confirms share calls in the same way, by OutsideTogether.
//
// The failure of one member concerns no other: it is decided again alone, and the
// others are written again. A batch waits for a lock at most one second, and for its
// branches half a second and 3 ms per call. After that, each member is decided alone,
// and the kinds of branches that were slow share no commit for 5 seconds, or longer if
// they are slow again. If a batch takes more than 20 ms, the next one does not wait for
// it. Plans with more than 8 branches or 16 KiB of input share no commit.
//
// # What it costs
//
// Statements besides BEGIN and COMMIT, as TestTraffic counts them, for plans of
// two resident branches of one statement per call:
//
//	plan, and callers at once            statements each     commits each
//	two that act in the database, 1      3 + 4               1
//	the same, 10                         0.3 + 4             0.1
//	the same with Together, n            (3 + 4) / n         1 / n
//	one of them acts outside first, 1    (3 + 3) + (2 + 1)   2
//
// The first number is the log's and the barrier's: one row per transaction, two
// per branch, many rows per statement. By hand, without any of it, the same
// work is 4 statements and 4 commits. With several callers, lock waits
// are bounded to a second: by one more statement on PostgreSQL; on MySQL by
// connections of the pool, a handful at most, that are set up for that once, and
// closed a second after their last use.
//
// What each idea gains, as throughput on MariaDB at 64 callers in relation to the
// same statements by hand, which nobody coordinates, measured by saga/bench:
//
//	by hand, four local transactions                   1.0
//	a transaction by itself, MaxBatch 1                0.5   with the log, the barrier and all promises
//	the same, but commits are shared                   1.2   branches as anybody writes them
//	the same, with Together                            3.6   one statement for the calls of many
//	the same, all on one row                           6.6   one lock instead of a queue for it
//	the same, with a real publish on JetStream         1.7   a second commit; by hand nothing is published
//	a DTM server, with its barrier                     0.1
//
// The cost does not grow with the log, in which due_at is the only secondary
// index and NULL in what is finished: with 5 million finished transactions the
// throughput is 0.97 of that of an empty log. It grows with the branches by their
// own rows: 1, 2, 4 and 8 branches reach 1.5, 1, 0.63 and 0.38 of the throughput of two.
// And it falls with the callers, because they share: 1, 16, 64 and 256 callers
// reach 1.1, 2.2, 3.6 and 5.3 times what they do by hand.
//
// On MySQL, open the database with interpolateParams=true: a statement with
// parameters is then one round trip, not two. Shared commits send statements of
// ever different lengths, for which preparing does not pay.
//
// # When a COMMIT is not answered
//
// A connection that is lost during COMMIT leaves the outcome open, and even
// reading the row back may come too early: the server may still be at it. So
// the row is written again, or read with a lock; both wait for an unanswered
// commit. If even that cannot be had, the call returns an [*UnknownError], and
// never a cancel that may have been a confirm.
//
// # What can be lost
//
// Each row is a point where a process, a database, a broker or a reply is lost.
// What the caller sees is for a caller that is still there; one whose process
// died asks again with the same gid, from anywhere.
//
//	lost                          the caller sees        what happens next                     shown by
//	----------------------------  ---------------------  ------------------------------------  ------------------------------------------
//	process, before begin is      -                      nothing was written; asking again     simulation.TestEachCallInTurn
//	durable                                              begins it
//	database, before begin        ErrUnknown, or waits   nothing was written; asking again     tcc.TestUnansweredCommits
//	                              for the lease          begins it                             chaos.TestChaos
//	process, after begin          -                      cancelled by another instance within  tcc.TestUndecidedOfADeadInstanceIsCancelledAtOnce
//	                                                     the lease                             simulation.TestSeeds
//	process, in a Try             -                      rolled back or committed; Cancel      simulation.TestEachCallInTurn
//	                                                     finds out through the barrier         order.TestManyOrdersWithKills
//	process, in an outside Try    -                      Cancel is called whenever it may      tcc.TestExternalTryIsCancelledWheneverItMayHaveHadAnEffect
//	                                                     have had an effect, when its time is  tcc.TestProcessKilledInATry
//	                                                     over, and once more
//	an outside Try, until after   ErrCancelled           Cancel waits for it while it is under tcc.TestCancelWaitsForTheEndOfATry
//	the decision to cancel                               way, and is called once more if it    tcc.TestTryThatReturnsAfterItsCancel
//	                                                     returns, or may arrive, later         tcc.TestRequestThatArrivesAfterItsCancel
//	reply, after a Try's commit   what was decided       the Try is repeated and the barrier   tcc.TestUnansweredCommits
//	                                                     turns it away
//	process, after the Trys and   -                      cancelled: nobody has decided         simulation.TestEachCallInTurn
//	before the decision
//	process, after the decision   -                      another instance confirms             tcc.TestAnotherInstanceResumesWhatWasDecided
//	                                                                                           order.TestDeathAfterTheDecision
//	reply, of the decision's      what was decided       the row is written again, or read     tcc.TestUnansweredCommits
//	COMMIT                                               with a lock, until it is certain      simulation.TestSeeds
//	database, during COMMIT       ErrUnknown             asking again finds what the database  chaos.TestChaos
//	                                                     has kept
//	process, in a Confirm or      -                      rolled back or committed; called      simulation.TestEachCallInTurn
//	Cancel                                               again, and the barrier turns it away
//	                                                     if it was done
//	service or database, in a     Confirming             retried with backoff; the other       tcc.TestConfirmIsRetriedAndHoldsUpNoOther
//	Confirm                                              branches go on                        tcc.TestServiceThatIsDown
//	broker, in a Confirm          Confirming             published when it is back             message.TestBrokerDownAtConfirm
//	reply, of a publish           Confirming             published again with the same id;     message.TestRepeatedPublishIsHandledOnce
//	                                                     the inbox handles it once             chaos.TestChaos
//	process, between publish and  -                      published again with the same id      message.TestRepeatedPublishIsDroppedByTheBroker
//	mark                                                                                       chaos.TestChaos
//	process, between a handler    -                      delivered again; the inbox knows it   message.TestBrokerDownAtAck
//	and its acknowledgement                                                                    order.TestManyOrdersWithKills
//	every process, until the      -                      cancelled when one is back            order.TestDeadlineWhileDown
//	deadline                                                                                   tcc.TestConfirmAfterTheDeadlineWithNobodyThere
//	caller, before the decision   ErrUnknown or a        cancelled                             tcc.TestCallerGoesAway
//	                              cancel
//	caller, after it              Confirming             goes on without it                    tcc.TestCallerGoesAway
//	process, during recovery      -                      claimed again under the next epoch    simulation.TestSeeds
//	                                                                                           chaos.TestChaos
//	a Try, until after its        ErrCancelled           refused by the barrier (hanging)      tcc.TestUndecidedOfADeadInstanceIsCancelledAtOnce
//	Cancel                                                                                     barrier.TestTryAgainstCancelInFlight
//	reply, of a call in another   what was decided       a Try is sent again, or the           remote.TestLostReplies
//	service                                              transaction cancelled; a Confirm or   services.TestKilledUnderLoad
//	                                                     Cancel is repeated; the barrier there
//	                                                     knows
//	a Try in another service,     ErrCancelled           refused by the barrier there          remote.TestCancelOvertakesTry
//	until after its Cancel
//	two instances believe that    what was decided       one decision wins; the stale one      tcc.TestAnotherInstanceResumesWhatWasDecided
//	they own it: a process that                          writes nothing; the barrier turns     txlog.TestStaleDriverWritesNothing
//	was paused past its lease                            its calls away                        chaos.TestChaos
//	a caller and the deadline,    what was decided       one compare-and-set wins              txlog.TestOneDecision
//	or an operator, at once                                                                    tcc.TestDecideWhileExecuting
//	process, during cleaning      -                      other databases go first, the log's   tcc.TestCleaningBrokenOff
//	                                                     rows last, so that it is repeated
//	the clocks of the processes   -                      nothing: the database's clock counts  chaos.TestChaos
//	                                                                                           simulation.TestSeeds
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
//
// # Attention, operators and limits
//
// A transaction is raised to attention when a branch has failed often, when it
// is decided for long and not finished, or at a conflict, which no retry mends;
// see [Config.OnAttention]. Operators can retry at once, pause a transaction or
// a kind of branch, and decide what is stuck; each act is recorded in the commit
// that does it, and refused if it would break a promise. Repeated calls of a
// kind of branch are limited, and held back while all of them fail; see [Limits].
//
// A conflict has no other way out than [Orchestrator.Resolve]: an operator says what has
// become of one branch, and the transaction goes on without calling it.
//
// # Calls of branches without a database
//
// The barrier cannot turn away a call that a gateway makes in a system without one. So
// the barrier row of such a branch says of a Try, before it is made, that it is under
// way, by whom, since when, and until when: its context ends within [Config.CallTimeout],
// at the transaction's deadline, or when its caller goes away, and a second later it
// counts as over.
//
//	when the decision to cancel is made     Cancel is called
//	the Try has succeeded, or failed        once
//	clearly
//	the Try is under way                    when it has returned, at once; if its process
//	                                        has died, when its time is over, and once more
//	                                        after another CallTimeout
//	the Try was given up: its context has   at once, and once more after another
//	ended, or its connection has broken     CallTimeout, for a request that arrives late
//	the Try ignores the end of its context  when its time is over, and once more when it
//	                                        returns
//
// A Try that was under way at the decision is told so: its error matches [ErrCancelled].
// A Try fails clearly with a [Rejection], and with any error but that of a context or
// of a connection: return those as they are, or wrapped with %w.
//
// It remains to the idempotency key of the gateway, which is [Call.Key], to refuse a
// reservation whose request arrives later than one CallTimeout after its time was over;
// and one that comes from a Try that returned to nobody, because its process was stopped
// in between and then killed. A gateway that is told of a Cancel for a key it does not
// know, and keeps that, is safe in any order.
//
// # Processes that know fewer kinds
//
// An instance drives only transactions of which it knows all kinds of branches. It leaves
// the others where they are, and looks at them seldom. So a rolling upgrade, a cron job
// or an admin process holds up nobody. A process that only decides, by Confirm, Cancel
// or Decide, needs the database of the log, and Open, and Run for as long as it works, or
// a [Config.Lease] long without; it needs no branch. It hands what it has decided over to
// the instances that know the kinds, which look for it every [Config.Poll]: its outcome is
// Confirming or Cancelling. Its deadlines and its Retry, Pause and Resolve work as well;
// Lookup shows no barrier rows there. If no instance knows a kind, the transaction is
// raised to attention when it has been due for [Config.AttentionAge], and goes on when one
// starts that does.
//
// # Cleaning
//
// A finished transaction goes after [Config.Retention], counted from its end and
// from its deadline: until then a Try that is late may still come, and has to
// find its barrier row. What is in other databases is removed first; as long as
// the log's rows are there, they name it. Cleaning walks along the primary key,
// instances take turns, and it needs no index. A branch whose Clean fails, panics, or does
// not return within [Config.CallTimeout] keeps the transactions with its kind, and the
// others go.
package saga
