package action

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Action is a kind of action that works in a database. P is its input and R its result.
//
// The framework calls each method in a local transaction, after the barrier row is written.
// So Do takes effect at most once for a step of a saga, and so does Compensate. Compensate is
// called only after a Do that was committed. A method does all its work with tx, and neither
// commits nor rolls back. It may be called again if the local transaction has to run again, so
// it does not call other systems: use [External] for them. For plain SQL, sqlx and sqlc, use
// [tcc.SQLTx].
//
// An Action may also implement [tcc.Located], [tcc.Named] and [tcc.Cleaner].
//
// Several goroutines call the methods at the same time, for different sagas.
type Action[P tcc.Payload, R any] interface {
	// Do does the work for good, and returns its result. The result is stored in the same
	// local transaction. If the work is not possible for a business reason, Do returns
	// [Reject] or [RejectCode]. Any other error makes the saga fail, too, unless the saga has
	// forward recovery; see [Saga.ExecuteWith]. A step that is AfterDecision cannot
	// reject: its Do is called again until it returns no error.
	Do(ctx context.Context, tx *gorm.DB, in P) (R, error)

	// Compensate undoes the work. Done is the result of Do. Others may have read or changed
	// the data since then; see the package documentation. Compensate cannot reject: it is
	// called again until it returns no error.
	Compensate(ctx context.Context, tx *gorm.DB, in P, done R) error
}

// External is a kind of action without a database, such as a call of another company's API.
//
// The framework writes a barrier row before it calls Do, so Compensate is called whenever Do
// may have had an effect. Both may be called more than once: give [IdempotencyKey] to the
// other system. An External action may also implement [tcc.Located], for its barrier rows, and
// [tcc.Named] and [tcc.Cleaner].
//
// A call has to return when its context ends. If a Do timed out, or lost its connection, its
// request may still arrive. Then Compensate is called at once, and again after the CallTimeout
// of the engine; see "External branches" in package saga.
type External[P tcc.Payload, R any] interface {
	// Do does the work for good, and returns its result. It is called again with the same
	// idempotency key if the saga has forward recovery, or if the step is AfterDecision. Return
	// errors of the context and of the network unchanged, or wrapped with %w.
	Do(ctx context.Context, in P) (R, error)

	// Compensate undoes the work, if there is any. Done is the result of Do. It is nil if
	// the outcome of Do is not known: Do may have failed, may never have arrived, or may
	// arrive later. Compensate is called again until it returns no error, and may be called
	// again after that.
	Compensate(ctx context.Context, in P, done *R) error
}

// None is the result of an action that has none. It is not stored.
type None = struct{}

// Reject returns an error with which an action rejects for a business reason; see
// [saga.Reject].
func Reject(err error) error { return saga.Reject(err) }

// RejectCode is [Reject] with a code for programs, such as "car.none"; see [saga.RejectCode].
func RejectCode(code string, err error) error { return saga.RejectCode(code, err) }

// CallOf returns the call of ctx, the context that a method of an action got; see [tcc.CallOf].
func CallOf(ctx context.Context) saga.Call { return tcc.CallOf(ctx) }

// IdempotencyKey returns the key of the call of ctx for an external system. It is the same in
// every call of one step of a saga; see [saga.Call.IdempotencyKey].
func IdempotencyKey(ctx context.Context) string { return tcc.CallOf(ctx).IdempotencyKey() }
