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
// the method only when it has to run. So the methods need not think of repeated
// calls, of a Cancel without a Try, or of a Try that comes after its Cancel.
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
// this process, from another one that calls [Resume], or from the deadline,
// which cancels.
//
// # Business no
//
// A Try says no by returning [Reject]. Any other error of a Try cancels as well;
// but deadlocks, lost connections and other passing faults of the database are
// tried again first. Confirm and Cancel have no way to say no: what Try has
// reserved must be possible to use, and to give back. Their errors are retried
// until there is none.
package tcc
