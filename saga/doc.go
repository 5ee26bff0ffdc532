// Package saga makes a set of steps in several services, databases and brokers happen all
// together or not at all. It is the contract between the patterns, such as package tcc, and
// an engine that runs transactions. An [Engine] keeps a durable log of transactions, decides
// each of them once, and then calls its branches until they have done what was decided,
// across crashes. Package [github.com/tccsaga/tccsaga/saga/embedded] has the engine for the
// user's own process and database:
//
//	engine, err := embedded.Open(ctx, db, embedded.Config{}) // the user's own *gorm.DB
//	err = tcc.Register(engine, branch)                       // for each kind of branch
//	go engine.Run(ctx)                                       // lease, deadlines, retries, recovery
//	outcome, err := tcc.Execute(ctx, engine, gid, payloads...)
//
// This page describes the protocol. The page of package embedded describes commits, batches,
// costs, operators and cleaning.
//
// # What it promises
//
// One decision. A transaction leaves the state trying by one compare-and-set on its row, or
// it is inserted as decided with its first commit. The caller, the deadline, another instance
// and an operator all use this one way, and exactly one of them wins. No branch can join
// afterwards: joining locks the row that is decided.
//
// Presumed abort. A transaction that nobody has decided is cancelled: at its deadline, or, if
// [Engine.Execute] has bound it to a process, as soon as that process is gone (C. Mohan,
// B. Lindsay, R. Obermarck, Transaction Management in the R* Distributed Database Management
// System, 1986).
//
// Recorded before it can have an effect. The log names a branch durably before a call of it
// goes to another service or database. A branch in the engine's own database is named in the
// same commit as its effect.
//
// Never forgotten. Confirm and Cancel are called until they succeed. All branches are called
// in parallel, each with its own backoff, which is random and has a cap. So one bad branch
// does not delay the others.
//
// One driver. An instance is a running engine. It drives the transactions that it has
// started, under a lease that it renews once per process. When it dies, other instances claim
// its transactions in batches. Each claim raises the epoch of the transaction, and every write
// of a driver names the epoch under which it drives. Two instances may still drive the same
// transaction for a while, if a process was paused until its lease had ended. The barrier and
// the one decision keep that safe.
//
// # The protocol, step by step
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
// 1. Begin. The log gets a row for the transaction: its gid, the state trying, the deadline,
// the instance that owns it if it is a plan, and epoch 1. A plan is begun with a row for each
// branch: its kind and its input. In an open transaction, each Try adds such a row first.
//
// 2. Try. The branches are called in the order of the plan, each when those before it have
// succeeded. A call writes the barrier row of the branch first, in the same local transaction
// as its work; see package barrier. The barrier turns away a call that is repeated or late.
//
// 3. Decide. If all Trys have succeeded, the state becomes confirming; otherwise cancelling.
// A Confirm or Cancel is called when the decision is durable, or in the same commit.
//
// 4. Confirm or Cancel. Every branch is called, in parallel, until its call has succeeded. A
// failed call is due again after its backoff.
//
// 5. End. When all branches are done, the state becomes confirmed or cancelled. A caller may be
// told so before it is written, because no other end is possible from here on. The row stays
// for the retention, and the same gid returns the same outcome during that time.
//
// These steps share commits. If all branches are in the engine's own database, one commit can
// hold all of them.
//
// # Where a transaction is decided
//
//	transaction                     decided by                       how
//	a plan, all branches in the     Execute                          inserted as confirming or confirmed, with
//	engine's own database                                            all Trys in the same commit; inserted as
//	                                                                 cancelled if a Try failed
//	a plan with a branch in         Execute, after the last Try or   compare-and-set, together with the last
//	another database or service     the first failed one             Trys in the engine's own database
//	a plan given to ExecuteIn       the caller's COMMIT              inserted as confirming or confirmed, with
//	                                                                 all Trys, in the caller's own transaction
//	an open transaction             Confirm or Cancel, or an         compare-and-set; to confirm only if every
//	                                operator                         branch is tried, and before the deadline
//	a nested transaction            Confirm or Cancel of its         compare-and-set; to confirm only if it is
//	                                parent, or an operator           prepared; it has no deadline after that
//	a plan with a step that         the COMMIT of that step's Try    compare-and-set, as the branch says; the
//	Decides                                                          deadline does not count
//	any other that is undecided     recovery: at the deadline, or    compare-and-set, to cancel
//	                                when the process of Execute is
//	                                gone
//
// With LocalWork, the caller's own statements are in the same commit as the decision to confirm.
// With LocalWorkIn, their commit in another database is the decision.
//
// An operator, or Cancel, may also cancel an undecided plan. If a Try of a plan's first commit
// fails, everything is rolled back, no other branch was called, and the transaction is inserted
// as cancelled.
//
// # When a COMMIT is not answered
//
// If a connection is lost during COMMIT, the outcome of the COMMIT is open. A plain read of
// the row may come too early, because the server may still be working on the COMMIT. So the
// row is written again, or read with a lock: both wait for the unanswered COMMIT. If that is
// not possible either, the call returns an [*UnknownError]. It never reports a cancel that may
// have been a confirm.
//
// # A branch that decides
//
// The caller's own work may be in another database than the log, or in another service. Then
// no commit can hold both the work and the decision. So the work is the Try of the last step
// before the decision, and its COMMIT is the decision: the transaction is confirmed if and only
// if that Try is committed. Mark the step with Decides in [Step]. For a function of the caller,
// use [NewDatabase] and LocalWorkIn in [Options].
//
// 1. The log gets the plan, and all other steps are tried. If one fails, the transaction is
// cancelled, and the branch that decides is not called.
//
// 2. The Try that decides is called. Its work and its barrier row are in one local
// transaction.
//
// 3. If the Try succeeds, the log gets the decision to confirm, also after the deadline. After
// an error, the branch is asked.
//
// A question is a call with the operation Ask. It writes the suspended barrier row first. If
// there is a row already, that row says what has happened:
//
//	row before             answer          row after   the transaction is
//	tried, confirmed       committed       same        confirmed
//	none                   not committed   suspended   cancelled; a late Try is refused
//	suspended, cancelled   not committed   same        cancelled
//	of another call        none            same        undecided, and needs attention
//
// If the Try is in flight, the question waits for its end. If the question is not answered,
// the transaction stays undecided. Recovery asks again with backoff, for ever, and never
// guesses. The failed questions are in the log, as attempts of the operation ask. They raise the
// transaction to attention after the same number and time as other failed calls, and the
// limits of the kind hold for them.
//
// Nobody decides such a transaction without the answer: not at the deadline, not when its
// process is gone, and not by hand. [Engine.Cancel] and an operator's cancel ask first. Only
// the process of Execute cancels without a question, if it has not called the Try, or if the
// Try has found a barrier row of another call. An instance that does not know the kind of the
// branch leaves the transaction to one that does. The log refuses every other decision.
//
// After the decision to confirm, the Confirm of the branch only writes the barrier row. After a
// decision to cancel, the branch is not called.
//
// With TryAttempts, a Try that decides and fails is called again, also by another instance. The
// branch is asked before the transaction is cancelled.
//
// # What can be lost
//
// Each row is a point at which a process, a database, a broker or a reply is lost. The second
// column is for a caller that still waits. If the caller's process died, the caller can ask
// again with the same gid, from any process.
//
//	lost                          the caller sees        what happens next                     shown by
//	----------------------------  ---------------------  ------------------------------------  ------------------------------------------
//	process, before begin is      -                      nothing was written; asking again     simulation.TestEachCallInTurn
//	durable                                              begins it
//	database, before begin        ErrUnknown, or waits   nothing was written; asking again     tcc.TestUnansweredCommits
//	                              for the lease          begins it                             chaos.TestChaos
//	process, after begin          -                      another instance cancels it within    tcc.TestUndecidedOfADeadInstanceIsCancelledAtOnce
//	                                                     the lease                             simulation.TestSeeds
//	process, in a Try             -                      the Try is rolled back or committed;  simulation.TestEachCallInTurn
//	                                                     Cancel reads which in the barrier     order.TestManyOrdersWithKills
//	process, in an external Try   -                      Cancel is called if the Try may have  tcc.TestExternalTryIsCancelledWheneverItMayHaveHadAnEffect
//	                                                     had an effect: when its time is       tcc.TestProcessKilledInATry
//	                                                     over, and once more later
//	an external Try, until after  ErrCancelled           Cancel waits while the Try is under   tcc.TestCancelWaitsForTheEndOfATry
//	the decision to cancel                               way, and is called once more if the   tcc.TestTryThatReturnsAfterItsCancel
//	                                                     Try returns, or may arrive, later     tcc.TestRequestThatArrivesAfterItsCancel
//	reply, after a Try's commit   the outcome            the Try is repeated, and the barrier  tcc.TestUnansweredCommits
//	                                                     turns it away
//	process, after the Trys and   -                      it is cancelled, because nobody has   simulation.TestEachCallInTurn
//	before the decision                                  decided
//	process, after the decision   -                      another instance confirms it          tcc.TestAnotherInstanceResumesWhatWasDecided
//	                                                                                           order.TestDeathAfterTheDecision
//	reply, of the decision's      the outcome            the row is written again, or read     tcc.TestUnansweredCommits
//	COMMIT                                               with a lock, until the decision is    simulation.TestSeeds
//	                                                     certain
//	reply, of the COMMIT of       the outcome            the row tells whether it was decided;  tcc.TestUnansweredCommitsWithLocalWork
//	LocalWork                                            the work is done once, or not at all
//	process, before the COMMIT    -                      another instance asks the branch,     tcc.TestTryThatDecidesAfterItsQuestion
//	of a branch that decides                             and cancels; a late COMMIT is refused tcc.TestProcessKilledWhileABranchDecides
//	process, after the COMMIT of  -                      another instance asks the branch,     tcc.TestProcessGoneAfterTheCommitThatDecides
//	a branch that decides                                and confirms, also after the deadline tcc.TestDeadlineAfterTheCommitThatDecides
//	reply, of the COMMIT of a     the outcome            the branch is asked; the answer is    tcc.TestUnansweredCommitsOfTheBranchThatDecides
//	branch that decides                                  the decision
//	database or service that      ErrUnknown             it stays undecided, and the branch    tcc.TestDatabaseThatDecidesIsDown
//	decides, for any time                                is asked until it answers             remote.TestServiceThatDecides
//	database, during COMMIT       ErrUnknown             asking again returns what the         chaos.TestChaos
//	                                                     database has kept
//	process, in a Confirm or      -                      the call is rolled back or            simulation.TestEachCallInTurn
//	Cancel                                               committed; it is repeated, and the
//	                                                     barrier turns it away if it was done
//	service or database, in a     Confirming             the Confirm is repeated with          tcc.TestConfirmIsRetriedAndHoldsUpNoOther
//	Confirm                                              backoff; the other branches do not    tcc.TestServiceThatIsDown
//	                                                     wait
//	broker, in a Confirm          Confirming             the message is published when the     message.TestBrokerDownAtConfirm
//	                                                     broker is back
//	reply, of a publish           Confirming             the message is published again with   message.TestRepeatedPublishIsHandledOnce
//	                                                     the same id; the inbox handles it     chaos.TestChaos
//	                                                     once
//	process, between publish and  -                      the message is published again with   message.TestRepeatedPublishIsDroppedByTheBroker
//	mark                                                 the same id                           chaos.TestChaos
//	process, between a handler    -                      the message is delivered again; the   message.TestBrokerDownAtAck
//	and its acknowledgement                              inbox turns it away                   order.TestManyOrdersWithKills
//	every process, until the      -                      it is cancelled when one is back      order.TestDeadlineWhileDown
//	deadline                                                                                   tcc.TestConfirmAfterTheDeadlineWithNobodyThere
//	caller, before the decision   ErrUnknown or          it is cancelled                       tcc.TestCallerGoesAway
//	                              ErrCancelled
//	caller, after the decision    Confirming             the Confirms continue without the     tcc.TestCallerGoesAway
//	                                                     caller
//	process, during recovery      -                      it is claimed again under the next    simulation.TestSeeds
//	                                                     epoch                                 chaos.TestChaos
//	a Try, until after its        ErrCancelled           the barrier refuses the Try           tcc.TestUndecidedOfADeadInstanceIsCancelledAtOnce
//	Cancel                                               (hanging)                             barrier.TestTryAgainstCancelInFlight
//	reply, of a call in another   the outcome            a Try is sent again, or the           remote.TestLostReplies
//	service                                              transaction is cancelled; a Confirm   services.TestKilledUnderLoad
//	                                                     or Cancel is repeated; the barrier
//	                                                     there turns away repeated calls
//	every call to a service,      Confirming             the service asks for the outcome, if  remote.TestOutcomeEndsAReservation
//	after the decision                                   it is configured to, and ends its     services.TestServicesAskForTheOutcome
//	                                                     branch
//	a Try in another service,     ErrCancelled           the barrier there refuses the Try     remote.TestCancelOvertakesTry
//	until after its Cancel
//	the lease, of a process that  the outcome            one decision wins; the stale          tcc.TestAnotherInstanceResumesWhatWasDecided
//	is paused and later                                  instance writes nothing to the log;   txlog.TestStaleDriverWritesNothing
//	continues: two instances                             the barrier turns its calls away      chaos.TestChaos
//	drive
//	nothing: a caller and the     the outcome            one compare-and-set wins              txlog.TestOneDecision
//	deadline, or an operator,                                                                  tcc.TestDecideWhileExecuting
//	decide at once
//	process, during cleaning      -                      cleaning is repeated: the rows in     tcc.TestCleaningBrokenOff
//	                                                     other databases are removed first,
//	                                                     and the log's rows last
//	the clocks of the processes   -                      nothing: only the database's clock    chaos.TestChaos
//	                                                     counts                                simulation.TestSeeds
//
// # Time
//
// Deadlines, leases and due times use the database's clock. A process uses its own clock only
// to time its polls. So the clocks of two processes need not agree.
//
// The due time of a transaction is when an instance has to work on it next. In flight, it is
// one lease from now; after a failed call, the time of the next attempt; in an open
// transaction, the deadline. In a finished transaction it is NULL. The only secondary index on
// the log is on the due time, so finished and waiting transactions cost nothing.
//
// # External branches
//
// An external branch, made with [NewExternal], acts on a system without a barrier, such as a
// payment gateway. The barrier cannot turn away a call that arrives there late. So the engine
// marks a Try in the barrier row before it calls it: as under way, with the instance that
// calls, since when, and until when. The context of the Try ends within the engine's
// CallTimeout, at the transaction's deadline, or when its caller goes away. A second later its
// time is over.
//
//	when the decision to cancel is made     Cancel is called
//	the Try has succeeded, or has failed    once
//	clearly
//	the Try is under way                    when it has returned, at once; if its process
//	                                        has died, when its time is over, and once more
//	                                        after another CallTimeout
//	the Try was given up: its context has   at once, and once more after another
//	ended, or its connection has broken     CallTimeout, for a request that arrives late
//	the Try ignores the end of its context  when its time is over, and once more when it
//	                                        returns
//
// If a transaction is cancelled while its Try is under way, the error of the Try matches
// [ErrCancelled]. A Try fails clearly with a [Rejection], and with any error other than that
// of a context or of a connection. Return those errors as they are, or wrapped with %w.
//
// Two late requests remain, and only the gateway can refuse them, by its idempotency key,
// which is [Call.Key]. One is a request that arrives more than one CallTimeout after the time
// of its Try was over. The other is from a Try that returned to nobody, because its process
// was paused in between and then killed. A gateway is safe in any order
// of requests if it also records a Cancel whose key it does not know.
//
// # Branches in other services
//
// A branch, made with [NewRemote], may live in another service. The engine calls it through a
// [Remote]. Package participant runs it there, with the barrier in the service's own database,
// and package remote connects the two over HTTP. If the calls of the engine do not reach the
// service, the service can ask for the outcome; see "In doubt" in package participant.
//
// A branch may also be a transaction of another engine, or of the same one: a nested
// transaction, which is confirmed only with its parent. See package nested.
package saga
