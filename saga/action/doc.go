// Package action runs sagas: transactions of actions that do their work for good, and are
// compensated if a later one fails.
//
// An action has an input, which is a struct of your own, a result, and a type with two methods:
//
//	type BookHotel struct{ Guest, City string }
//
//	func (BookHotel) Branch() string { return "hotel.book" }
//
//	type Booked struct{ Number int64 }
//
//	type Hotel struct{}
//
//	func (Hotel) Do(ctx context.Context, tx *gorm.DB, in BookHotel) (Booked, error)                { ... }
//	func (Hotel) Compensate(ctx context.Context, tx *gorm.DB, in BookHotel, done Booked) error { ... }
//
//	err := action.Register(engine, Hotel{})
//
//	outcome, err := action.NewSaga("trip-1").
//		Step(BookHotel{...}).
//		Parallel(BookFlight{...}, BookCar{...}).
//		AfterDecision(SendTickets{...}).
//		Execute(ctx, engine)
//
// For each call, the framework opens a local transaction, writes the barrier row in it, and calls
// the method only if it has to run. So the methods need not handle repeated calls, a compensation
// without an action, or an action that comes after its compensation. An [External] action has
// no local transaction, and an idempotency key instead.
//
// # The protocol
//
//	          all steps done          all AfterDecision steps done
//	        +----------------> confirming ----------------> confirmed
//	trying -+
//	        +----------------> cancelling ----------------> cancelled
//	          a step failed           all steps compensated
//
// A saga is a transaction of package saga, and has its log, its states and its guarantees. The
// operation of Do is Try, and that of Compensate is Cancel.
//
// 1. Do. The steps are done in order. A group of [Saga.Parallel] is done at the same time, and the
// next step waits for the whole group. A call gets the results of all steps that have ended
// before it; see [ResultOf]. The log has a result before another step gets it.
//
// 2. Decide. If all steps have succeeded, the saga is decided to be confirmed. This is the point
// of no return: from now on, nothing is compensated. Otherwise it is decided to be cancelled.
//
// 3. Compensate, after a decision to cancel. The steps are compensated in the reverse order, and a
// group at the same time. The compensation of an earlier step waits until those of all later
// steps have succeeded. A failed compensation is called again, with a growing pause. A step
// whose outcome is not known is compensated like the others: the barrier reads whether its Do
// was committed, and refuses a Do that arrives later. A step that was not begun, or was rolled
// back, is not compensated.
//
// 4. AfterDecision, after a decision to confirm. The steps are done in their order, each again
// until it succeeds. The operation of their Do is Apply.
//
// If all steps before the decision are in the engine's own database, all of them and the decision
// are one commit. Then a step that fails leaves nothing to compensate.
//
// # Backward and forward recovery
//
// Without options, a saga has backward recovery: the first failure of a step cancels it, and so
// does the end of the process. With TryAttempts in [saga.Options], it has forward recovery: a
// step that fails is done again, and another instance continues if the process ends.
//
//	                        backward recovery        forward recovery
//	a step rejects          cancelled                cancelled
//	a step fails            cancelled                done again; cancelled after TryAttempts
//	the process ends        cancelled                another instance continues
//	the caller goes away    cancelled                continues; the caller gets ErrUnknown
//	the deadline comes      cancelled                cancelled, also if TryAttempts is Unlimited
//	an operator cancels     cancelled                cancelled
//	an operator pauses the  refused at Execute       waits, until the deadline
//	kind, or the saga
//
// An action of a saga with forward recovery has to be repeatable only if it is External: the
// barrier turns away a repeated Do in a database. LocalWork is not possible with forward
// recovery: another instance does not have it.
//
// # What can be lost
//
//	lost                          what happens next                          shown by
//	----------------------------  -----------------------------------------  ------------------------------------
//	process, in Do                cancelled: Do is compensated if it may     TestDeathInAnAction
//	                              have had an effect, and the steps before   TestProcessKilledInAnAction
//	                              it in reverse order
//	process, in Do, with forward  another instance does it again, and goes   TestForwardDeath
//	recovery                      on                                         TestProcessKilledInAnAction
//	answer, of a Do in another    the same as if Do had failed; Compensate   TestLostAnswerOfAnAction
//	service or database           gets the result, which is stored with the  TestForwardAfterALostAnswer
//	                              work
//	answer, of a COMMIT           the row tells what was committed           TestUnansweredCommits
//	Do does not return in time    it is compensated, an External one once    TestActionThatTimesOut
//	                              more later
//	service or database, in       Compensate is called again; earlier steps  TestCompensationThatFails
//	Compensate                    wait for it                                TestCompensationOfAGroupThatFails
//	process, between two          another instance continues with the next   TestDeathBetweenCompensations
//	compensations                 one
//	service or database, after    the step is done again; later steps wait   TestAfterDecision
//	the decision                  for it                                     TestGroupAfterDecision
//	process, after the decision   another instance continues; the barrier    TestDeathAfterTheDecision
//	                              turns a repeated step away
//	answer, after the decision    the repeated step returns the first        TestLostAnswerAfterTheDecision
//	                              result; an External one is done again      TestExternalAfterDecisionIsRepeated
//	                              with the same key
//	caller, with forward          the saga continues; asking again with the  TestForwardWithoutCaller
//	recovery                      same gid returns the outcome
//	instance that stops           another one continues, and no attempt is   TestForwardStop
//	                              used up
//
// # No isolation
//
// A saga has no isolation. The effect of Do is committed, so others see it before the saga is
// decided, and may use it: a room that is booked and given back a second later was full in
// between, and a credit that is compensated may have been spent. So
//
//   - write Compensate so that it is right after changes by others: give back, and do not restore
//     an old value;
//   - mark data that may still be compensated, for example with a state such as "pending", and let a
//     step AfterDecision set the final state;
//   - put the steps first that fail most often, and the steps last that are hard to compensate;
//   - use a TCC branch where others must not see the work before the decision.
//
// TCC branches and actions can be in one saga: the TCC branches reserve, and are confirmed or
// cancelled after the decision. Their Confirms and Cancels wait for no other step.
//
//	                        action                            TCC branch, package tcc
//	before the decision     Do does the work for good         Try reserves
//	after a confirm         nothing is left to do             Confirm uses the reservation
//	after a cancel          Compensate undoes the work        Cancel gives the reservation back
//	order of the undoing    reverse, one after the other      any, at the same time
//	others see before the   the work, as if it were final     a reservation
//	decision
//	a result for later      yes                               no
//	steps
//	needs in the data       nothing                           a place for reservations
//	use it                  if the work can be undone, and    if others must not see it, or it
//	                        others may see it meanwhile       is hard to undo
//
// # Mixed with open transactions
//
// An open transaction of [tcc.Begin] has only TCC branches. Actions and AfterDecision steps need
// a plan.
package action
