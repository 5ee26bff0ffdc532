// Package participant is for a service without an engine of its own. A [Participant] has
// branches that an engine in another process calls, and keeps their barrier rows. Package
// remote serves a participant over HTTP.
//
// # In doubt
//
// A branch is in doubt from its Try until its Confirm or Cancel. The engine makes that call,
// and repeats it until it succeeds. With [Config.Outcomes], the participant does not only
// wait. It asks the engine how the transaction was decided, and makes the call that is due
// by itself. So a reservation ends even if the calls of the engine cannot reach the service,
// as long as the service reaches the engine:
//
//	p, err := participant.New(ctx, db, participant.Config{Outcomes: []participant.Outcomes{engine}})
//	go p.Run(ctx)
//
// The row of a branch in the table saga_inputs has its payload and the time of the next
// question. It is written in the local transaction of the Try, and removed in that of the
// Confirm or Cancel. So it is there if and only if the branch is in doubt. Branches that were
// tried before the participant was configured to ask have no row, and wait for the engine.
// Without Outcomes, nothing is written.
//
// Several processes of a service may run on one database. A process moves the time of the
// next question forward before it asks, and another one takes other branches. All times are
// by the database's clock. The pause between two questions about a branch is AskAfter at
// first. Later it is half of the time for which the branch has been in doubt, at most an
// hour; a random part is taken off.
//
//	answer                          what the participant does
//	confirming, confirmed           makes the Confirm
//	cancelling, cancelled           makes the Cancel
//	trying                          waits
//	saga.ErrNotFound: the log does  makes the Cancel (presumed abort)
//	not have the transaction
//	saga.ErrOtherLog                asks the next engine; if there is none, waits, and
//	                                returns an error
//	saga.ErrOngoing: an operator    waits for the call of the engine
//	has paused the transaction, its
//	Cancels have an order, or its
//	calls get results of Trys
//	none, or any other error        waits, and asks this engine no more in this pass
//
// The call takes the same way as a call of the engine, with the same caller, kind and
// payload. So the barrier makes it safe that both call at once, in any order: one of them
// runs, and the other is a duplicate.
//
// The engine does not learn that the participant has ended a branch. It calls until it reaches
// the service, and its call is then a duplicate. So the age of Clean has to be longer than the
// time for which the engine may not reach the service: after Clean, a Confirm is a conflict.
//
// A branch that has no caller, as in a call of a DTM server, is never asked for. Nobody can
// say which log would know it.
//
// # Why presumed abort is right
//
// The caller of a branch is the id of the log that named it. Only an engine with this log
// may answer that the transaction is unknown. Three more things make the answer certain.
//
// The log names a branch durably before a call of it goes to another service; see "Recorded
// before it can have an effect" in package saga. So a transaction whose Try has arrived is
// not one that the log only gets later.
//
// A transaction is removed from the log only after it is finished and the retention is over.
// It is finished when each Confirm or Cancel has succeeded. So a branch that is still in
// doubt does not belong to a finished transaction. If a recorded Try arrives after the
// removal, it belongs to nobody, and Cancel is right.
//
// The answer is read with a lock, in the database that takes writes, and not in a replica
// that may lag behind.
//
// Two things break this. Both are acts of people.
//
// The database of the engine, or of a participant, is restored from a backup, or a replica
// takes over that had not received every commit. Then the log may lack transactions that it
// had confirmed, or a branch may be in doubt again that was confirmed. So take care that
// nobody asks before a person has compared the two: do not mount the handler of the outcomes,
// or do not call Run, until the rows in saga_inputs that are older than the restore are
// ended by hand. A copy of the log, for example for a test, keeps the log id: do not let
// hosts ask it.
//
// A gid is used again after the retention, for the same plan, in the moment between the
// answer for the earlier transaction and its Cancel. Then the Try of the new transaction
// counts as a duplicate, and its Confirm is a conflict, which the engine raises to attention.
//
// # What can be lost
//
//	lost                            what happens next                 shown by
//	------------------------------  --------------------------------  ------------------------------------------
//	the calls of the engine, after  the participant asks, and ends    remote.TestOutcomeEndsAReservation
//	the decision                    the branch
//	the transaction is undecided    the participant waits             remote.TestOutcomeEndsAReservation
//	the engine is down              the participant waits, and asks   remote.TestOutcomeOfAnEngineThatIsDown
//	                                again
//	the transaction is not in the   presumed abort                    remote.TestOutcomeOfAnUnknownTransaction
//	log
//	another log answers             the participant waits             remote.TestOutcomeInAnotherLog
//	a replica of the log is behind  the answer is from the primary    embedded.TestOutcomeIsNotOfAReplica
//	the engine and the participant  one call runs                     remote.TestOutcomeAndCallAtOnce
//	call at once
//	two processes ask at once       each takes other branches         remote.TestOutcomesOfTwoProcesses
//	process, between the question   another process asks again        remote.TestOutcomeOfAProcessThatIsKilled
//	and the answer
//	process, in the call that is    the call is rolled back, and      remote.TestOutcomeOfAProcessThatIsKilled
//	due                             made again
//	an answer, or an old answer     it does not count                 remote.TestOutcomeAnswersThatDoNotCount
//	that somebody sends again
//	a Try of an external branch is  the participant waits             remote.TestOutcomeOfAnExternalBranch
//	under way, or may arrive late
package participant
