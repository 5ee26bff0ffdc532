// Package tcctest runs a branch through every dangerous order of calls, and says
// in one sentence what is wrong, after which calls, and what to do.
//
//	func TestCredit(t *testing.T) {
//		tcctest.Exercise(t, db, Credit{}, tcctest.Case[HoldCredit]{
//			Payload:   HoldCredit{Account: "alice", Cents: 30},
//			Reset:     func(ctx context.Context, db *gorm.DB) error { ... },        // 100 cents free
//			State:     func(ctx context.Context, db *gorm.DB) (any, error) { ... }, // free, held and spent
//			Tried:     Account{Free: 70, Held: 30},
//			Confirmed: Account{Free: 70, Spent: 30},
//			Capacity:  3, // three times 30 cents
//		})
//	}
//
// The calls go the way that the orchestrator makes them: barrier first, in a
// local transaction, in the branch's own database, in which the schema of
// package sql has to be installed. After each order the State has to be what a
// correct branch leaves. Give the states after Try and Confirm: without them the
// first run is taken as right, and a wrong column or amount is not found. The
// state after Cancel is that before Try, unless [Case.Cancelled] gives another.
//
//	order                              it stands for                               must leave
//	---------------------------------  ------------------------------------------  ----------------------
//	Try; Try, Confirm; Try, Cancel     nothing goes wrong                          Tried; Confirmed; Cancelled
//	Try, Try                           the reply was lost                          the state after Try
//	Try, Confirm, Confirm              the reply was lost                          the state after Confirm
//	Try, Cancel, Cancel                the reply was lost                          the state after Cancel
//	Cancel                             Try never arrived: an empty rollback        the state before
//	Cancel, Try, Cancel                Try came late, and is refused: hanging      the state before
//	Try, Cancel, Try                   a repeated Try came late                    the state after Cancel
//	crash in Try, Confirm or Cancel    the process dies before the commit, and     as without the crash
//	                                   the call is repeated
//	deadlock in each                   the local transaction is run again          as without it
//	a statement fails, each in turn    the connection is lost; or the database     an error, and as before
//	                                   has rolled all back and goes on
//	an UPDATE changes no row, each     the row is gone, or a condition does not    an error, and as before;
//	in turn                            hold                                        or as with the row
//	the context ends in a statement,   a deadline, or a shutdown                   an error, and as before
//	each in turn
//	nothing but tx                     the network or another connection, such     -
//	                                   as one of a replica, is used meanwhile
//	three of the same call at once,    two are sold from what one has read         as one after the other
//	the first held at each statement
//	two of the same call at once       two processes believe that it is theirs     as one
//	Try and Cancel at once             the deadline comes during Try               the state before, or after Cancel
//	many Trys at once, then Cancels    more want it than there is                  at most Capacity succeed
//
// A branch that implements [tcc.Bulk] has to do at once what it does one by one:
// TryAll, DeliverAll and ConfirmAll of several transactions must leave the same
// state, and TryAll of more than Capacity must reject those beyond it and no
// others. Their statements go wrong in turn, too.
//
// For a branch without a database, [ExerciseExternal], those that are about
// local transactions fall away, and others come, as for a Deliver:
//
//	order                              it stands for                               must leave
//	---------------------------------  ------------------------------------------  ----------------------
//	Try marked and never sent, Cancel  there is nothing to give back               the state before
//	the reply of Confirm or Cancel     it is called again with the same key        as without the loss
//	is lost
//	the other side fails in a call     Case.Break                                  an error; then as without it
//	an HTTP request fails, each in     Case.HTTP: it does not arrive, is answered  an error; then as without it
//	turn                               with 503, its reply is lost, or it hangs
//
// # The tx of a branch
//
// The tx that a branch gets in an exercise is on a connection of this package, a
// [gorm.ConnPool] and [gorm.Tx] with which faults are brought on. A branch that
// asserts another type of tx.Statement.ConnPool panics, and the exercise says so.
// Commit and Rollback are refused.
//
// # Limits
//
// The context of each call ends after [Case.Limit]. A call that does not return
// soon after that is given up, its local transaction is rolled back, and the
// exercise ends: its goroutine is left behind.
//
// What a branch does elsewhere during a local transaction is seen for sure where
// it hands on the ctx of the call, or one made from it, to database/sql, gorm,
// net/http, net or gRPC. Without it, the stacks of the call and of the goroutines
// that it starts are looked at again and again: a round trip to a server is seen,
// and a read of a few microseconds, such as of another SQLite file, may be missed.
// What other goroutines do, those of other tests included, does not count; nor
// does what a goroutine does that the branch started before the call.
//
// A stale write is found on MySQL and PostgreSQL only. SQLite lets one transaction
// write at a time, from its beginning. Statements that the branch has prepared by
// itself are counted when they are prepared, and an UPDATE with RETURNING is not
// tried with no row.
//
// An exercise logs what it could not show, and which field of [Case] it needs for
// that; go test -v prints it.
package tcctest
