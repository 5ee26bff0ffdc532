package tcc

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

// Payload is the input of a branch: a struct of your own. Its exported fields say what
// to reserve. It is stored as JSON, and each call of the branch gets the stored payload.
//
// The stored JSON has to fit the type exactly. A call fails, with an error that names
// the field, in these cases:
//
//   - The type does not have a field of the JSON, or has it in another case.
//   - The JSON has a field twice.
//   - A value does not fit the type of its field, for example null for a number.
//   - The field would round a number.
//   - An array has another length.
//
// A field that the JSON does not have gets the zero value. A type with its own methods
// for JSON decides itself which JSON it accepts. With [AllowUnknownFields], [Alias] and
// [Upgrade], a branch accepts more.
type Payload interface {
	// Branch returns the kind of branch that takes this payload. It returns the
	// same kind for every value of the type, unless several [Named] branches take
	// the type.
	Branch() string
}

// Branch is a kind of branch that works in a database.
//
// The framework calls each method in a local transaction, after the barrier row is
// written. So each method takes effect at most once for a branch of a transaction.
// Confirm or Cancel is called only after a Try that was committed, and never both.
//
// A method does all its work with tx, and neither commits nor rolls back. For plain SQL,
// sqlx and sqlc, use [SQLTx]. If the local transaction has to run again, for example
// after a deadlock, the method is called again. So a method does not call other systems:
// implement [Deliverer], or use [External].
//
// Several goroutines call the methods at the same time, for different transactions.
type Branch[P Payload] interface {
	// Try makes the reservation that in describes. If that is not possible, it
	// returns [Reject] or [RejectCode]. Any other error also cancels the transaction.
	Try(ctx context.Context, tx *gorm.DB, in P) error

	// Confirm uses the reservation. It cannot reject: it is called again until it
	// returns no error.
	Confirm(ctx context.Context, tx *gorm.DB, in P) error

	// Cancel gives the reservation back. It is called again until it returns no
	// error.
	Cancel(ctx context.Context, tx *gorm.DB, in P) error
}

// Named is implemented by a Branch that names its kind itself. Other branches take the
// kind from the zero value of their payload type. With Named, an engine can have several
// branches with the same payload type. For each payload, the method Branch chooses one
// of them.
type Named interface {
	Kind() string
}

// Located is implemented by a Branch that works in another database than the engine's.
// Install the schema there with package schema: the barrier needs it.
type Located interface {
	Database() *gorm.DB
}

// Deliverer is implemented by a Branch whose Confirm also has an effect outside of the
// database, such as a message to a broker.
type Deliverer[P Payload] interface {
	// Deliver makes the effect of a Confirm. It is called before Confirm, outside
	// of any local transaction, after a Try that was committed and after the
	// decision to confirm. It may be called more than once: give CallOf(ctx).Key()
	// to the other side as the idempotency key. Confirm gets the receipt as
	// CallOf(ctx).Receipt. Deliver is called again until it returns no error.
	Deliver(ctx context.Context, in P) (receipt any, err error)
}

// Bulk is implemented by a Branch that can do one operation for several transactions
// with one statement. Under load, the framework calls its methods with a batch of calls.
// Otherwise, and after a failure in a batch, it calls the methods of Branch. A branch
// without Bulk shares commits, too.
//
// A type that embeds a Bulk branch and changes its Try or Confirm has to change TryAll
// or ConfirmAll, too.
type Bulk[P Payload] interface {
	// TryAll tries the items. It returns one failure for each item, in the same
	// order, and nil for an item that succeeded. If all succeeded, failures may be
	// nil. An item that failed has changed nothing. A fault of the database is
	// returned as err: the work for all items is rolled back.
	TryAll(ctx context.Context, tx *gorm.DB, items []Item[P]) (failures []error, err error)

	// ConfirmAll confirms the items. After an error, the work for all items is
	// rolled back, and each item is confirmed alone.
	ConfirmAll(ctx context.Context, tx *gorm.DB, items []Item[P]) error
}

// BulkDeliverer is implemented by a [Deliverer] that can deliver for several
// transactions at once. Under load, the framework calls DeliverAll with a batch.
// Otherwise, and for each repeated attempt, it calls Deliver.
type BulkDeliverer[P Payload] interface {
	// DeliverAll delivers the items. It returns one receipt and one failure for
	// each item, in the same order. If all succeeded, failures may be nil. All items
	// wait for the slowest.
	DeliverAll(ctx context.Context, items []Item[P]) (receipts []any, failures []error)
}

// Item is one call in a batch of a [Bulk] or [BulkDeliverer] branch.
type Item[P Payload] struct {
	saga.BatchCall
	In P
}

// Cleaner is implemented by a Branch that keeps rows for each transaction, such as
// reservations, and no longer needs them after a while.
type Cleaner interface {
	// Clean removes the branch's rows of finished transactions, after the retention
	// of the engine. It gets up to a few hundred gids. It runs in the local
	// transaction that also removes their barrier rows.
	Clean(ctx context.Context, tx *gorm.DB, gids []string) error
}

// External is a kind of branch without a database, such as a call of a payment gateway.
//
// The framework writes a barrier row in the engine's database before it calls Try. So
// Cancel is called whenever Try may have had an effect, also if the process died during
// the call. Confirm and Cancel may be called more than once. Use CallOf(ctx).Key() as the
// idempotency key of all three.
//
// A call has to return when its context ends. The context of a Try ends at the transaction's
// deadline at the latest. Cancel waits for a Try that is under way, until the Try
// returns or its time is over. If a Try timed out, or lost its connection, its request
// may still arrive. Then Cancel is called at once, and again after the CallTimeout of the
// engine's configuration. If the request arrives even later, the gateway has to refuse it
// by the idempotency key. Package saga, "External branches", lists all cases.
type External[P Payload] interface {
	// Try makes the reservation, or returns Reject. It is called at most once. After
	// any error the transaction is cancelled, and Cancel is called. Return errors of
	// the context and of the network unchanged, or wrapped with %w: they mean that
	// the request may still arrive.
	Try(ctx context.Context, in P) error

	// Confirm uses the reservation. It is called again until it returns no error.
	Confirm(ctx context.Context, in P) error

	// Cancel gives the reservation back, if there is one. Try may have failed, may
	// never have arrived, or may arrive later. Cancel is called again until it
	// returns no error, and may be called again after that.
	Cancel(ctx context.Context, in P) error
}

// Reject returns an error with which a Try rejects for a business reason; see
// [saga.Reject].
func Reject(err error) error { return saga.Reject(err) }

// RejectCode is [Reject] with a code for programs, such as "credit.short"; see
// [saga.RejectCode]. The caller of Execute or Try finds it with [errors.As] and a
// [*saga.Rejection].
func RejectCode(code string, err error) error { return saga.RejectCode(code, err) }

type callKey struct{}

// WithCall returns a context of which [CallOf] returns the call. It is for packages that write
// typed branches of another pattern, such as package action.
func WithCall(ctx context.Context, call saga.Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

// CallOf returns the branch call of ctx, the context that a method of a branch got. For
// any other context it returns the zero Call. Kind and Payload are those that the
// transaction was begun with, also if the branch is registered with [Upgrade].
func CallOf(ctx context.Context) saga.Call {
	call, _ := ctx.Value(callKey{}).(saga.Call)
	return call
}
