// Package tcc runs transactions with the pattern Try, Confirm, Cancel. Each branch
// first reserves (Try). If every Try succeeds, all branches use their reservations
// (Confirm). If one fails, all give them back (Cancel).
//
// A branch has a payload, which is a struct of your own, and a type with three methods:
//
//	type HoldCredit struct {
//		Account string
//		Cents   int64
//	}
//
//	func (HoldCredit) Branch() string { return "credit.hold" }
//
//	type Credit struct{}
//
//	func (Credit) Try(ctx context.Context, tx *gorm.DB, in HoldCredit) error     { ... }
//	func (Credit) Confirm(ctx context.Context, tx *gorm.DB, in HoldCredit) error { ... }
//	func (Credit) Cancel(ctx context.Context, tx *gorm.DB, in HoldCredit) error  { ... }
//
//	err := tcc.Register(engine, Credit{})
//
// For each call, the framework opens a local transaction, writes the barrier row in
// it, and calls the method only if the method has to run. So the methods need not
// handle repeated calls, a Cancel without a Try, or a Try that comes after its Cancel.
//
// # Kinds of branches
//
//	works in                         implements           Cancel is called
//	the engine's own database        Branch               after a Try that was committed
//	another database                 Branch, Located      after a Try that was committed
//	a database, and sends something  Branch, Deliverer    after a Try that was committed
//	  on Confirm
//	no database                      External             whenever Try may have had an effect
//
// # Plans and open transactions
//
// [Execute] takes a plan: all payloads at once. It tries them and decides. With
// [Begin], branches are added one by one, and the decision comes later: from this
// process, or from another one that calls [Join]. At its deadline, an undecided
// transaction is cancelled.
//
// # Decided and finished
//
// Execute and Confirm return no error if the transaction is decided to be confirmed.
// The decision is final. Each Confirm is then called until it succeeds. Until then the
// state is confirming, and some Confirms have not written their data yet.
// [saga.Outcome.Finished] tells a confirmed transaction from a confirming one. [Execute]
// lists the cases that a caller has to handle.
//
// # Rejections
//
// A Try rejects for a business reason with [Reject], or with [RejectCode] and a code
// for programs. Any other error of a Try cancels the transaction, too. Deadlocks, lost
// connections and other transient faults of the database are tried again first.
// Confirm and Cancel cannot reject: it must always be possible to use a reservation,
// and to give it back. They are called again until they return no error.
//
// # Plain SQL, sqlx and sqlc
//
// [SQLTx] returns the local transaction of a branch as a *sql.Tx:
//
//	plain, err := tcc.SQLTx(tx)                     // plain SQL: plain.ExecContext(ctx, ...)
//	x := &sqlx.Tx{Tx: plain, Mapper: mapper}        // sqlx
//	queries := db.New(plain)                        // code that sqlc has generated
//
// Sometimes the tx of a branch has no *sql.Tx inside, because the framework or package
// tcctest has put a type of its own there. Then each statement goes through a
// database/sql driver in this process. This adds 1 to 4 microseconds to a statement and
// 6 to 9 to a call of SQLTx. For comparison, a round trip to MariaDB or PostgreSQL on
// the same machine takes 20 microseconds.
//
// # Versions of a payload
//
// A payload may stay in the log for a while: in an open transaction until its deadline,
// and in a decided one until its last Confirm or Cancel succeeds. By then, the code may
// be newer than the code that began the transaction, or older during a rolling upgrade.
// A stored payload has to fit its type exactly; see [Payload]. If it does not fit, the
// call fails: the transaction is retried, and needs attention after repeated failures.
//
//	change of the payload type     effect on stored payloads               what to do
//	a new field                    it is the zero value; older code        nothing, if zero is right and no older
//	                               refuses payloads with the field         code runs; otherwise a new kind
//	a field removed or renamed     refused                                 a new kind
//	another type of a field        refused, unless the JSON fits exactly   a new kind
//	another meaning of a field     taken with the new meaning              a new kind
//	another kind                   not called: the kind is unknown         Alias
//
// So each version of a payload has its own kind. The branch of the newer version is
// also registered for the older kind, and converts the older payloads:
//
//	type HoldCreditV2 struct {
//		Account string
//		Amount  Money
//	}
//
//	func (HoldCreditV2) Branch() string { return "credit.hold.v2" }
//
//	err := tcc.Register(engine, Credit{}, tcc.Upgrade("credit.hold",
//		func(old HoldCredit) (HoldCreditV2, error) {
//			return HoldCreditV2{old.Account, Money{old.Cents, "EUR"}}, nil
//		}))
//
// An instance claims a transaction only if all of its kinds are registered. So older
// and newer instances can run at the same time. Upgrade in three steps:
//
//  1. Deploy code that registers both kinds and still begins transactions with the
//     older payload: HoldCredit above. Every instance can finish every transaction. A
//     request that is repeated on another instance is the same transaction.
//  2. When no older code runs, begin transactions with the newer payload.
//  3. When no transaction of the older kind is left in the log, remove Upgrade.
//     Finished transactions stay in the log for the retention. Only an instance with
//     their kinds registered removes them.
//
// If you do the first two steps at once, transactions of the newer kind wait for a newer
// instance, and you cannot go back to the older code while one of them is open. If an
// older instance has begun a request, and a newer one repeats it with the newer payload
// under the same gid, the call fails with [saga.ErrMismatch]. [Join] and Lookup find the
// transaction.
//
// To rename a kind, take the same steps with [Alias]. First, the payload's method Branch
// returns the older name, and the alias is the newer one. Then swap the two. If the
// branch lives in another service, register both kinds in that service first, with Alias
// or Upgrade, and then with the engine.
//
// Each kind has its own limits, circuit breaker and pauses. To pause a branch, an
// operator pauses all its kinds.
//
// If older instances can do without a new field, register the older branch with
// [AllowUnknownFields] before you deploy the newer version.
package tcc
