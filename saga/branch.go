package saga

import (
	"context"
	"encoding/json"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Call is one call of a branch.
type Call struct {
	GID      string
	BranchID string
	Kind     string
	Op       barrier.Op
	Caller   string // the id of the calling engine's log, the same for all its instances; empty if it is not known
	Attempt  int    // from 1
	Payload  []byte // the encoded input
	Receipt  any    // from the [Effect] of the same call
	Trace    string // trace context of the call, as W3C traceparent, for a [Remote] that carries it to another process; empty if there is none

	// Results are the results of the actions whose Trys ended before this call began, by
	// branch id. The Cancel of an action has the result of its own branch, too. A branch
	// without a result is not in it.
	Results map[string]json.RawMessage

	// Result takes the result of an action, for later calls of the transaction: in a Try or
	// Apply, and in an Ask that finds the Try committed. It is nil in other calls, and in
	// those of other branches. The branch sets it to valid JSON of at most MaxResult bytes,
	// before it returns. The result is kept if the call succeeds.
	Result *json.RawMessage
}

// MaxResult is the most bytes of a result.
const MaxResult = 64 << 10

// Key identifies the branch. It is the same in every call. Use it, as "gid/branch", where
// another system needs an idempotency key.
func (c Call) Key() barrier.Key { return barrier.Key{GID: c.GID, BranchID: c.BranchID} }

// IdempotencyKey identifies the branch among the branches of all engines: "LOG/gid/branch",
// where LOG is the id of the engine's log. It is the same in every call of the branch. Use it
// if several engines share an external system, such as an account at a payment gateway;
// [Call.Key] is unique only within one engine. If a gid is used again after the retention, it
// has the same keys.
func (c Call) IdempotencyKey() string {
	if c.Caller == "" {
		return c.Key().String()
	}
	return c.Caller + "/" + c.Key().String()
}

// BatchCall is a call that is made in a batch with calls of other transactions.
type BatchCall struct {
	// Context holds the values of the caller's context, such as a trace. It does not
	// end; the context of the batch does.
	Context context.Context
	Call
}

// Encoder checks the type of a branch's input and turns it into JSON.
type Encoder func(input any) ([]byte, error)

// Effect is the part of a call that acts on an external system, and not on a database. It runs
// outside of local transactions and may be called more than once: use [Call.Key] as an
// idempotency key. The Work of the same call gets the receipt; see [Local].
type Effect func(ctx context.Context, call Call) (receipt any, err error)

// EffectBatch is [Effect] for calls of several transactions. It returns the receipts and
// the failures in the order of the calls; failures is nil if there is none.
type EffectBatch func(ctx context.Context, calls []BatchCall) (receipts []any, failures []error)

// Cleaner removes the data that a branch keeps for finished transactions, after their
// retention. It runs in the local transaction tx that also removes their barrier rows. There
// are at most a few hundred gids.
type Cleaner func(ctx context.Context, tx *gorm.DB, gids []string) error

// Branch is a kind of branch. It has one of three shapes: [NewLocal] makes a branch that works
// in a database, [NewExternal] one that acts on an external system, and [NewRemote] one that
// another service has. Users write typed branches with a pattern, such as package tcc, which
// makes these.
type Branch struct {
	kind   string
	encode Encoder
	shape  any // Local, External or Remote
	action bool
}

// AsAction returns the branch as an action of a saga. The Try of an action does the work for
// good. Its Confirm only writes the barrier row, and the branch is not called. If the
// transaction is cancelled, Cancel compensates the work. Cancels of actions are called one
// after the other, in the reverse order of their Trys. An action that is
// [Step.AfterDecision] is called with the operation Apply instead of Try.
func (b Branch) AsAction() Branch {
	b.action = true
	return b
}

// IsAction reports whether the branch is an action; see [Branch.AsAction].
func (b Branch) IsAction() bool { return b.action }

// Local is a branch that works in a database.
//
// The engine opens the local transaction, writes the barrier row, calls Work only if the
// verdict is Run, and commits. A panic counts as an error.
type Local struct {
	// Database has the data and the barrier rows of the branch. Defaults to the engine's
	// own database, where a branch shares commits with the log and with other branches.
	Database *gorm.DB

	// Work does the work of a call in the local transaction tx. It must not commit tx or
	// roll it back.
	Work func(ctx context.Context, tx *gorm.DB, call Call) error

	// WorkBatch, if it is not nil, does the Work of several calls at once, in tx: one
	// statement for all instead of one each. The calls are of different transactions and
	// of the same operation, Try or Confirm. It returns the failures in the order of the
	// calls, or nil if there is none. A failed Try must leave no change. If WorkBatch
	// returns an error, which is one of the database, each call is made again alone.
	WorkBatch func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []BatchCall) (failures []error, err error)

	// Effects are the external parts of Confirm and Cancel. An effect is called before the
	// Work of its call, and only if the call is due by the barrier row. The Work gets its
	// receipt.
	Effects map[barrier.Op]Effect

	// EffectBatches make the effects of several transactions at once. Each operation here
	// has to be in Effects too. An engine calls the effect from Effects for a single call,
	// or if a batch is not possible.
	EffectBatches map[barrier.Op]EffectBatch

	// Clean, if it is not nil, removes old data of the branch from Database.
	Clean Cleaner
}

// External is a branch that acts on an external system, and not on a database.
//
// The engine marks a Try in the barrier row before it calls it, so that Cancel is called
// whenever the Try may have had an effect. It calls a Confirm or Cancel first, if the call is
// due by the barrier row, and then writes the new state of the row.
type External struct {
	Try, Confirm, Cancel Effect // their receipts are dropped

	// Database has the barrier rows. Defaults to the engine's own database.
	Database *gorm.DB

	// Clean, if it is not nil, removes old data of the branch from Database.
	Clean Cleaner
}

// Remote is a service that has branches, and their barrier, for an engine in another process.
//
// A Remote in this process, such as a branch of package xa, writes the barrier rows itself
// too. If it has a method Database() *gorm.DB, the engine reads the rows in that database for
// Lookup, and removes them after the retention. The schema has to be installed there.
type Remote interface {
	// Call makes one call of a branch. The same call may be made again, also after a
	// success, and a Try may arrive after its Cancel: the service's barrier turns such
	// calls away. If the branch rejects a Try, the error wraps a [Rejection]. After any
	// other error of a Try, Cancel is called. Call has to return when ctx ends.
	//
	// A branch that decides is also called with the operation Ask; see [Step.Decides].
	// Then nil means that its Try was committed, and an error that wraps
	// [ErrNotCommitted] means that it was not, and that a Try that arrives later is
	// refused. After any other error the answer is not known, and the branch is asked
	// again.
	Call(ctx context.Context, call Call) error
}

// Nesting is a [Remote] in this process: each of its branches is a nested transaction of a
// [ChildEngine], which is also the barrier of the branch. A participant takes such a branch,
// too. Package nested makes it.
type Nesting interface {
	Remote
	// ChildGID returns the gid of the nested transaction that is the branch.
	ChildGID(branch barrier.Key) string
}

// NewLocal returns a kind of branch that works in a database. Register checks it; see
// [Registrar].
func NewLocal(kind string, encode Encoder, branch Local) Branch {
	return Branch{kind: kind, encode: encode, shape: branch}
}

// NewExternal returns a kind of branch that acts on an external system.
func NewExternal(kind string, encode Encoder, branch External) Branch {
	return Branch{kind: kind, encode: encode, shape: branch}
}

// NewRemote returns a kind of branch that another service has.
func NewRemote(kind string, encode Encoder, service Remote) Branch {
	return Branch{kind: kind, encode: encode, shape: service}
}

// Kind returns the name of the kind.
func (b Branch) Kind() string { return b.kind }

// Encoder returns the function that encodes inputs.
func (b Branch) Encoder() Encoder { return b.encode }

// Shape returns the [Local], [External] or [Remote] of the branch; nil for the zero Branch.
func (b Branch) Shape() any { return b.shape }
