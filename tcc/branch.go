package tcc

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

// Payload is the input of a branch: a struct of the user's own whose exported
// fields say what to reserve. It is stored as JSON, and each call of the branch gets
// what is stored.
//
// The stored JSON has to fit the type exactly. A call fails, with an error that
// names the field, if the JSON has a field that the type does not have, or has in
// another case; a field twice; null or another type than the field's; a number that
// the field would round; an array of another length. A field that the JSON does not
// have is the zero value. A type with methods of its own for JSON decides by itself
// what it takes. [AllowUnknownFields], [Alias] and [Upgrade] take more.
type Payload interface {
	// Branch returns the kind of branch that takes this payload. It is the same
	// for every value of the type, unless the type serves several [Named]
	// branches.
	Branch() string
}

// Branch is a kind of branch that works in a database.
//
// Each method is called in a local transaction of the framework, after the
// barrier, and so at most once with effect per branch of a transaction; Confirm
// and Cancel only after a Try that was committed, and only one of the two. The
// methods use tx for all they do, and neither commit nor roll back; plain SQL,
// sqlx and sqlc work in it with [SQLTx]. When a local transaction is run again,
// after a deadlock for example, a method is too.
//
// The methods are called from several goroutines, with different transactions.
type Branch[P Payload] interface {
	// Try reserves what in asks for, or returns [Reject] or [RejectCode] to say
	// that it cannot. Any other error also cancels the transaction.
	Try(ctx context.Context, tx *gorm.DB, in P) error

	// Confirm uses the reservation. An error is retried until there is none.
	Confirm(ctx context.Context, tx *gorm.DB, in P) error

	// Cancel gives the reservation back. An error is retried until there is
	// none.
	Cancel(ctx context.Context, tx *gorm.DB, in P) error
}

// Named is implemented by a Branch that is registered under a kind of its own, and
// not under that of its payload's zero value, so that an engine can have several
// branches with one type of payload. The value of the payload chooses one, by what
// its method Branch returns.
type Named interface {
	Kind() string
}

// Located is implemented by a Branch whose database is not the engine's own.
// The schema of package sql has to be installed there, for the barrier.
type Located interface {
	Database() *gorm.DB
}

// Deliverer is implemented by a Branch whose Confirm also acts on something
// other than a database, such as a message broker.
type Deliverer[P Payload] interface {
	// Deliver acts before Confirm, outside any local transaction, after a Try
	// that was committed and the decision to confirm. It may be called more
	// than once: use CallOf(ctx).Key() where the other side asks for an
	// idempotency key. The receipt is handed to Confirm, as
	// CallOf(ctx).Receipt. An error is retried until there is none.
	Deliver(ctx context.Context, in P) (receipt any, err error)
}

// Bulk is implemented by a Branch that can do the same operation for several
// transactions at once, with one statement instead of one each. It is called
// under load, with what has gathered meanwhile; the methods of Branch are called
// otherwise, and whenever something went wrong in bulk. A branch without it
// shares commits all the same.
//
// A type that embeds a Bulk branch to change its Try or Confirm has to change
// these too.
type Bulk[P Payload] interface {
	// TryAll tries the items. The failures are in the order of the items, nil
	// for those that succeeded, and may be nil altogether if all did; an item
	// that failed has changed nothing. The error is of the database: nothing
	// of what was done counts.
	TryAll(ctx context.Context, tx *gorm.DB, items []Item[P]) (failures []error, err error)

	// ConfirmAll confirms the items. After an error nothing of what was done
	// counts, and each item is confirmed by itself.
	ConfirmAll(ctx context.Context, tx *gorm.DB, items []Item[P]) error
}

// BulkDeliverer is implemented by a [Deliverer] that can deliver for several
// transactions at once. It is called with what has gathered, and Deliver
// otherwise, and whenever an attempt is repeated.
type BulkDeliverer[P Payload] interface {
	// DeliverAll delivers the items. The receipts and the failures are in the
	// order of the items; failures may be nil if there is none. All items wait
	// for the slowest.
	DeliverAll(ctx context.Context, items []Item[P]) (receipts []any, failures []error)
}

// Item is one of several calls that a [Bulk] or [BulkDeliverer] branch does at
// once.
type Item[P Payload] struct {
	saga.BatchCall
	In P
}

// Cleaner is implemented by a Branch that keeps rows of its own per
// transaction, such as reservations, which nobody needs after a while.
type Cleaner interface {
	// Clean removes what the branch keeps of transactions that are finished and
	// past the retention of the engine, by gid, in the local transaction in
	// which their barrier rows go too. The gids are at most a few hundred.
	Clean(ctx context.Context, tx *gorm.DB, gids []string) error
}

// External is a kind of branch without a database of its own, such as a call
// of a payment gateway.
//
// Its Try is marked in the barrier of the engine's database before it is
// called, so that Cancel runs whenever Try may have had an effect, also when
// the process dies during the call. Confirm and Cancel may be called more than
// once. Use CallOf(ctx).Key() as the idempotency key of all three.
//
// A context that ends, at the latest at the transaction's deadline, has to end
// the call. Cancel waits for a Try that is under way, until it has returned or its time
// is over. If a Try was given up, or its connection broke, its request may be on its
// way: Cancel is called at once, and once more after another [embedded.Config.CallTimeout].
// A request that arrives later still is for the gateway to refuse, by the idempotency
// key. Package saga, "Calls of branches without a database", has the whole table.
type External[P Payload] interface {
	// Try reserves, or returns Reject. It is called at most once; after any
	// error the transaction is cancelled, and Cancel is called. Return the errors of
	// the context and of the network as they are, or wrapped with %w: they say that
	// the request may still arrive.
	Try(ctx context.Context, in P) error

	// Confirm uses the reservation. An error is retried until there is none.
	Confirm(ctx context.Context, in P) error

	// Cancel gives the reservation back, if there is one: Try may have failed,
	// may never have arrived, or may arrive later. It may be called again after it
	// has succeeded. An error is retried until there is none.
	Cancel(ctx context.Context, in P) error
}

// Reject marks err as a business "no" of a Try; see [saga.Reject].
func Reject(err error) error { return saga.Reject(err) }

// RejectCode is [Reject] with a code for programs, such as "credit.short"; see
// [saga.RejectCode]. The caller of Execute or Try finds it with [errors.As] and a
// [*saga.Rejection].
func RejectCode(code string, err error) error { return saga.RejectCode(code, err) }

type callKey struct{}

func withCall(ctx context.Context, call saga.Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

// CallOf returns the branch call that ctx, as a method of a branch got it,
// belongs to; the zero Call for any other context. Kind and Payload are those under
// which the transaction was begun, also after an [Upgrade].
func CallOf(ctx context.Context) saga.Call {
	call, _ := ctx.Value(callKey{}).(saga.Call)
	return call
}
