// Package tcc runs transactions by the pattern Try, Confirm, Cancel: each branch
// first reserves (Try); when all have, all use their reservations (Confirm);
// and when one could not, all give them back (Cancel).
//
// A branch is a payload, a struct of the user's own, and a type with the three
// methods for it:
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
// The framework opens the local transaction, asks the barrier in it, and calls
// the method only when it has to run. So the methods need not handle repeated
// calls, a Cancel without a Try, or a Try that comes after its Cancel.
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
// [Execute] takes a plan, all payloads at once, and decides by itself. With
// [Begin], branches are added one by one, and the decision comes later: from
// this process, from another one that calls [Join], or from the deadline,
// which cancels.
//
// # Decided and finished
//
// Execute and Confirm return no error when the transaction is decided to be
// confirmed. The decision is final, and every Confirm is then called until it
// succeeds; until then the state is confirming, and what Confirm writes is not there
// yet. [saga.Outcome.Finished] tells a confirmed transaction from a confirming one:
// see [Execute] for the cases that a caller has to tell apart.
//
// # Business no
//
// A Try says no by returning [Reject], or [RejectCode] with a code for programs. Any
// other error of a Try cancels as well; but deadlocks, lost connections and other
// passing faults of the database are tried again first. Confirm and Cancel have no
// way to say no: what Try has reserved must be possible to use, and to give back.
// Their errors are retried until there is none.
//
// # Plain SQL, sqlx and sqlc
//
// [SQLTx] returns the local transaction of a branch as a *sql.Tx:
//
//	plain, err := tcc.SQLTx(tx)                     // plain SQL: plain.ExecContext(ctx, ...)
//	x := &sqlx.Tx{Tx: plain, Mapper: mapper}        // sqlx
//	queries := db.New(plain)                        // code that sqlc has generated
//
// Where gorm itself is not on a *sql.Tx, because of the framework or of package
// tcctest, each statement goes through a database/sql driver in this process. It adds
// 1 to 4 microseconds to a statement and 6 to 9 to a call of SQLTx, beside 20 for a
// round trip to MariaDB or PostgreSQL on the same machine.
//
// # Versions of a payload
//
// A payload may stay in the log for a while: an open transaction until its deadline,
// and one that is decided until its last Confirm or Cancel succeeds. The code that
// runs then may be newer, or in a rolling upgrade older, than the code that began it.
// A stored payload that does not fit its type exactly is refused, as described at
// [Payload]: the transaction waits, is retried, and raises attention.
//
//	change of the payload type     what happens to stored payloads         what to do
//	a new field                    it is the zero value; older code        nothing, if zero is right and no older
//	                               refuses payloads with the field         code runs; otherwise a new kind
//	a field removed or renamed     refused                                 a new kind
//	another type of a field        refused, unless the JSON fits exactly   a new kind
//	another meaning of a field     taken with the new meaning              a new kind
//	another kind                   not called: the kind is unknown         Alias
//
// So a version of a payload is a kind of its own. The branch of the newer version is
// registered with the kind of the older one as well, and converts its payloads:
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
// An instance claims only transactions of which it knows every kind, so
// that older and newer instances can run side by side. Upgrade in three steps:
//
//  1. Deploy code that knows both kinds and still begins transactions with the older
//     payload: HoldCredit above. Every instance can finish every transaction, and a
//     request that is repeated on another instance is the same transaction.
//  2. When no older code runs, begin transactions with the newer payload.
//  3. When no transaction of the older kind is left in the log, remove Upgrade.
//     After their end, transactions stay there for the retention, and are cleaned
//     only by an instance that knows their kinds.
//
// With the first two steps in one, transactions of the newer kind wait for a newer
// instance, and the older code cannot be brought back while one of them is open. A
// request that an older instance has begun and a newer one repeats, with the newer
// payload under the same gid, fails with [saga.ErrMismatch]; [Join] and Lookup find
// the transaction.
//
// To rename a kind, take the same steps with [Alias]: first the payload's method
// Branch returns the older name and the alias is the newer one, then the other way
// round. A branch in another service is registered for both kinds there, with Alias
// or Upgrade, before the engine is.
//
// Each kind has limits, a circuit breaker and pauses of its own: an operator who
// pauses a branch pauses all its kinds.
//
// Instances of an older version that can do without a new field may be given
// [AllowUnknownFields] before the newer version is deployed.
package tcc
