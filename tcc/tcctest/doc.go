// Package tcctest runs a branch through every dangerous order of calls. It reports each
// problem in one sentence: after which calls, what is wrong, and what to do.
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
// The calls are made as the engine makes them: in a local transaction in the branch's
// database, after the barrier row. Install the schema there with package schema. After each
// order, the State has to be the one that a correct branch leaves. Give the states after Try
// and Confirm: without them, the first run is taken as right, and a wrong column or amount is
// not found. The state after Cancel has to be the state before Try, unless [Case.Cancelled]
// gives another one.
//
//	order                              what happens                                must leave
//	---------------------------------  ------------------------------------------  ----------------------
//	Try; Try, Confirm; Try, Cancel     nothing goes wrong                          Tried; Confirmed; Cancelled
//	Try, Try                           the reply was lost                          the state after Try
//	Try, Confirm, Confirm              the reply was lost                          the state after Confirm
//	Try, Cancel, Cancel                the reply was lost                          the state after Cancel
//	Cancel                             Try never arrived: an empty rollback        the state before
//	Cancel, Try, Cancel                Try came late and is refused: hanging       the state before
//	Try, Cancel, Try                   a repeated Try came late                    the state after Cancel
//	crash in Try, Confirm or Cancel    the process dies before the commit, and     as without the crash
//	                                   the call is repeated
//	deadlock in each                   the local transaction is run again          as without it
//	a statement fails, each in turn    the connection is lost; or the database     an error, and as before
//	                                   has rolled everything back and goes on
//	an UPDATE changes no row, each     the row is gone, or a condition does not    an error, and as before;
//	in turn                            hold                                        or as with the row
//	the context ends in a statement,   a deadline, or a shutdown                   an error, and as before
//	each in turn
//	nothing but tx                     the branch uses the network or another      -
//	                                   connection, such as one of a replica
//	three of the same call at once,    a value that was read is stale when it      as one after the other
//	the first held at each statement   is written
//	two of the same call at once       two processes drive the transaction         as one
//	Try and Cancel at once             the deadline comes during Try               the state before, or after Cancel
//	many Trys at once, then Cancels    more is wanted than there is                at most Capacity succeed
//
// For a branch that implements [tcc.Bulk], TryAll, DeliverAll and ConfirmAll of several
// transactions must leave the same state as single calls. If TryAll gets more items than
// Capacity, it must reject the items beyond Capacity, and no others. Each of their statements
// goes wrong in turn, too.
//
// For a branch without a database, [ExerciseExternal] leaves out the orders for local
// transactions. It adds these orders, which are also made for a Deliver:
//
//	order                              what happens                                must leave
//	---------------------------------  ------------------------------------------  ----------------------
//	Try marked and never sent, Cancel  there is nothing to give back               the state before
//	the reply of Confirm or Cancel     it is called again with the same key        as without the loss
//	is lost
//	the other side fails in a call     Case.Break                                  an error; then as without it
//	an HTTP request fails, each in     Case.HTTP: it does not arrive, is answered  an error; then as without it
//	turn                               with 503, its reply is lost, or it hangs
//
// [ExerciseAction] and [ExerciseExternalAction] make the same orders for an action of a saga: Do in
// place of Try, Compensate in place of Cancel, and none with Confirm.
//
// # The tx of a branch
//
// The tx that a branch gets in an exercise is on a connection of this package: a
// [gorm.ConnPool] and [gorm.Tx] that causes faults. If a branch asserts another type of
// tx.Statement.ConnPool, it panics, and the exercise reports this. Commit and Rollback are
// refused.
//
// # Limits
//
// The context of each call ends after [Case.Limit]. If a call does not return soon after
// that, it is given up, its local transaction is rolled back, and the exercise ends. The
// goroutine of the call stays.
//
// During a local transaction, a branch must use nothing but its tx. The exercise always
// detects another connection or the network if the branch passes the ctx of the call, or a
// context made from it, to database/sql, gorm, net/http, net or gRPC. Without the ctx, the
// exercise samples the stacks of the call and of the goroutines that it starts. It detects a
// round trip to a server. It may miss a read of a few microseconds, such as from another
// SQLite file. It ignores other goroutines: those of other tests, and those that the branch
// started before the call.
//
// A stale write is found on MySQL and PostgreSQL only: SQLite allows only one writing
// transaction at a time. If the branch prepares statements itself, a statement is counted when
// it is prepared. The order with an UPDATE that changes no row leaves out UPDATE with
// RETURNING.
//
// An exercise logs the properties that it could not show, and the field of [Case] that it
// needs for them. Run go test -v to see this.
package tcctest
