// Package tcctest runs a branch through every dangerous order of calls, and
// says in plain words which one it does not stand.
//
//	func TestCredit(t *testing.T) {
//		tcctest.Exercise(t, db, Credit{}, tcctest.Case[HoldCredit]{
//			Payload:  HoldCredit{Account: "alice", Cents: 30},
//			Reset:    func(ctx context.Context, db *gorm.DB) error { ... },        // 100 cents free
//			State:    func(ctx context.Context, db *gorm.DB) (any, error) { ... }, // free, held and spent
//			Capacity: 3,                                                           // three times 30 cents
//		})
//	}
//
// The calls go the way that the orchestrator makes them: barrier first, in a
// local transaction, in the branch's own database, in which the schema of
// package sql has to be installed. After each order the State has to be what a
// correct branch leaves:
//
//	order                             what it stands for                          must leave
//	--------------------------------  ------------------------------------------  ----------------------
//	Try, Cancel                       somebody else's Try was rejected            the state before
//	Try, Try                          the reply was lost                          the state after Try
//	Try, Confirm, Confirm             the reply was lost                          the state after Confirm
//	Try, Cancel, Cancel               the reply was lost                          the state before
//	Cancel                            Try never arrived: an empty rollback        the state before
//	Cancel, Try                       Try came late, and is refused: hanging      the state before
//	Cancel, Try, Cancel               and the Cancel is repeated                  the state before
//	Try, Cancel, Try                  a repeated Try came late                    the state before
//	crash in Try, Confirm or Cancel   the process dies before the commit, and     as without the crash
//	                                  the call is repeated
//	deadlock in each                  the local transaction is run again          as without it
//	lost connection in each           a statement fails, each in turn             an error, and as before
//	two of the same call at once      two processes believe that it is theirs     as one
//	Try and Cancel at once            the deadline comes during Try               the state before
//	many Trys at once, then Cancels   more want it than there is                  at most Capacity succeed
//
// A branch that implements [tcc.Bulk] has to do at once what it does one by one:
// TryAll, DeliverAll and ConfirmAll of several transactions must leave the same
// state, and TryAll of more than Capacity must reject those beyond it and no others.
//
// For a branch without a database, [ExerciseExternal], those that are about
// local transactions fall away, and others come: Try was marked and never
// arrived, so that Cancel has nothing to give back; and the reply of Confirm or
// Cancel is lost, so that it is called again with the same key.
package tcctest
