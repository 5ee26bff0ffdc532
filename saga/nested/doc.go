// Package nested makes a transaction a branch of another one, in the same service or across
// services. The inner transaction, the child, is confirmed only if the outer one, its parent,
// is confirmed:
//
//	err = nested.Register(engine, nested.Branch[Stay]{
//		Child: engine, // has the nested transactions
//		Plan: func(ctx context.Context, in Stay) ([]tcc.Payload, error) {
//			return []tcc.Payload{Room{in.Nights}, Meal{in.Nights}}, nil
//		},
//	})
//	outcome, err := tcc.Execute(ctx, engine, "trip-1", Stay{Nights: 2}, Flight{Seat: "12A"})
//
// So a service offers one branch to others, and keeps to itself of which branches it consists,
// and in which databases they are. A branch of a child may be nested, too.
//
// If the parent is in another service, register the branch with a
// [github.com/tccsaga/tccsaga/saga/remote.Host], and let the Child be the engine of this
// service. The service of the parent registers the kind with tcc.RegisterRemote, as for any
// other branch, and need not know that the branch is nested.
//
// # The protocol
//
// The child is an open transaction of its engine. Its gid is the one of [GID]. Its row in the
// log names the branch of the parent that it is, in the column parent. This row is the
// barrier of that branch:
//
//	call of the parent   child before              child after
//	Try                  none                      begun; its branches are tried; prepared
//	Try                  trying                    as above: each step that was done is not done again
//	Try                  prepared, confirmed       same
//	Try                  cancelled                 same; the Try fails
//	Confirm              prepared                  confirming, then confirmed
//	Confirm              confirming, confirmed     same
//	Confirm              none, trying, cancelled   same; a conflict
//	Cancel               none                      cancelled, without branches: a late Try fails
//	Cancel               trying, prepared          cancelling, then cancelled
//	Cancel               cancelling, cancelled     same
//	Cancel               confirmed                 same; a conflict
//	any                  of another parent         same; a conflict
//
// Prepare is one compare-and-set: it has an effect only while the child is undecided, before
// its deadline, and if all its branches are tried. Before that, nothing depends on the child,
// and its abort is presumed: its engine cancels it at its deadline. After that, the parent may
// be decided to be confirmed. So a prepared child has no deadline, takes no branch, and waits
// for its parent, as a participant of a two-phase commit does. Its reservations are held that
// long. A child that waits for longer than the AttentionAge of its engine needs attention.
//
// The parent's Confirm returns when the decision to confirm the child is durable. Then the
// engine of the child confirms the branches of the child, and retries as for any transaction.
// So a parent can be confirmed while branches of its child are still being confirmed. Lookup
// of the child shows them; [saga.BranchView.Child] has its gid.
//
// # Time
//
// The Try of the branch contains all Trys of the child. The CallTimeout of the parent's engine
// bounds it, and across services also the CallTimeout of the host. Trys at several levels add
// up. The deadline of the parent ends the Try, and then the parent cancels the child.
//
// The engine of the child forgets it after its Retention, counted from its end. A Confirm that
// is repeated later is a conflict. So the Retention has to be longer than the engine of the
// parent can be down.
//
// # Operators
//
// Confirm and Cancel of an engine refuse a child, because only the parent decides it. An
// operator can decide it with the method Decide of package embedded, and is recorded. Warning:
// the parent may decide otherwise, or has done so. Then one half of the transaction is
// confirmed and the other half is cancelled; the parent gets a conflict and needs attention.
// Look at the parent first. Decide a child by hand only if its parent is lost for good.
//
// # Plans
//
// A Plan that leads to a branch of its own kind nests for ever: each level is another
// transaction. The Trys end with the deadline of the first parent, and all levels are
// cancelled. Package nested does not look for such circles.
//
// # What can be lost
//
//	lost                          the parent             what happens next                     shown by
//	----------------------------  ---------------------  ------------------------------------  ------------------------------------------
//	process of the parent, child  is cancelled           recovery cancels it, and its Cancel   nested.TestTheProcessOfTheParentIsKilled
//	prepared                                             the child
//	process of the child, before  is cancelled           its Cancel is repeated until the      nested.TestTheProcessOfTheChildIsKilledBeforePrepare
//	prepare                                              service runs again
//	process of the child, after   is confirmed           its Confirm is repeated until the     nested.TestTheProcessOfTheChildIsKilledAfterPrepare
//	prepare                                              service runs again
//	process of the child, during  is confirmed           another process of the service        nested.TestTheProcessOfTheChildIsKilledDuringConfirm
//	the Confirms of its branches                         confirms the branches
//	answer to a Try               repeats the Try, or    the child is begun once               nested.TestTheAnswerOfATryIsLost
//	                              is cancelled
//	Cancel comes before the Try   is cancelled           the Try fails: the child is recorded  nested.TestCallsInEachOrder,
//	                                                     as cancelled                          nested.TestTrysAndACancelAtTheSameTime
//	caller of the parent, during  is cancelled           the Try goes on, and its results are  nested.TestALateTryAcrossServices
//	the Try                                              given back
//	answer to a Confirm or        repeats the call       the decision is made once             nested.TestTheAnswerOfADecisionIsLost
//	Cancel
//	database of the child,        stays confirming       its Confirm is repeated until the     nested.TestTheDatabaseOfTheChildIsDownDuringConfirm
//	during Confirm                                       database works
//	answer to a COMMIT in the     repeats its call, or   the child ends as the parent does     nested.TestUnansweredCommits
//	child's engine                is cancelled
//	time: the deadline of the     is cancelled           its Cancel cancels the child          nested.TestDeadlineOfTheParentDuringTheTry
//	parent, during the Try
//	time: the deadline of the     has no effect on it    the child waits for the parent        nested.TestAPreparedTransactionHasNoDeadline
//	child, after prepare
//	rejection in the child        is cancelled, with     its Cancel cancels the child          nested.TestARejectedChildCancelsItsParent
//	                              the reason and the
//	                              code
//	an operator cancels the       is confirming, with a  an operator resolves the branch of    nested.TestAnOperatorContradictsTheParent
//	child                         conflict: attention    the parent
//	the parent, for good          -                      the child needs attention             nested.TestAPreparedTransactionIsReported
//	the gid of the child is in    is cancelled; its      an operator resolves the branch of    nested.TestCallsInEachOrder
//	use                           Cancel is a conflict   the parent
package nested
