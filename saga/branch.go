package saga

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Call is one call of a branch.
type Call struct {
	GID      string
	BranchID string
	Kind     string
	Op       barrier.Op
	Caller   string // the engine that calls: its log's id, the same for all its instances; empty if the caller does not say
	Attempt  int    // from 1
	Payload  []byte // the encoded input
	Receipt  any    // what the [Effect] of the same call returned
}

// Key is the identity of the branch, the same in every call: use it, as
// "gid/branch", where another system asks for an idempotency key.
func (c Call) Key() barrier.Key { return barrier.Key{GID: c.GID, BranchID: c.BranchID} }

// IdempotencyKey names the branch among those of all engines: "LOG/gid/branch",
// where LOG is the id of the engine's log. It is the same in every call of the
// branch. Use it where several engines share a side outside, such as an account at
// a payment gateway; [Call.Key] is unique within one engine only. Neither is unique
// for ever: a gid that is used again after the retention has the same.
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

// Effect is the part of a call that acts on something other than a database. It runs
// outside any local transaction and may be called more than once: it needs [Call.Key] as
// an idempotency key. The receipt is handed to the [Local] work of the same call.
type Effect func(ctx context.Context, call Call) (receipt any, err error)

// EffectBatch is [Effect] for calls of several transactions. It returns the receipts and
// the failures in the order of the calls; failures is nil if there is none.
type EffectBatch func(ctx context.Context, calls []BatchCall) (receipts []any, failures []error)

// Cleaner removes what a branch keeps of transactions that are finished and past their
// retention, in the local transaction tx, with their barrier rows. The gids are at most a
// few hundred.
type Cleaner func(ctx context.Context, tx *gorm.DB, gids []string) error

// Branch is a kind of branch as an engine runs it. It has one of three shapes: [NewLocal]
// makes a branch that works in a database, [NewExternal] one that works outside of any,
// and [NewRemote] one that another service has. Users write typed branches with a
// pattern, such as package tcc, which makes these.
type Branch struct {
	kind   string
	encode Encoder
	shape  any // Local, External or Remote
}

// Local is a branch that works in a database.
//
// The engine opens the local transaction, asks the barrier in it, calls Work only if the
// verdict is Run, and commits. A panic is an error.
type Local struct {
	// Database is where the branch works and has its barrier rows. Defaults to the
	// engine's own database. A branch there shares commits with the log, and with other
	// branches.
	Database *gorm.DB

	// Work does the work of a call in the local transaction tx, which it neither commits
	// nor rolls back.
	Work func(ctx context.Context, tx *gorm.DB, call Call) error

	// WorkBatch, if it is not nil, does the Work of the same operation of several
	// transactions at once, in tx: one statement for all instead of one each. It returns
	// the failures in the order of the calls, or nil if there is none; a Try that failed
	// has changed nothing. The error is of the database and fails all calls for now: each
	// is then made alone.
	WorkBatch func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []BatchCall) (failures []error, err error)

	// Effects are the external parts of Confirm and Cancel. An effect comes before the
	// Work of its call, and only if the barrier says that the call is due. The Work gets
	// its receipt and commits.
	Effects map[barrier.Op]Effect

	// EffectBatches hold, for the same operations, functions that make the effects of
	// several transactions at once. They are called right after the Trys; Effects are
	// called otherwise.
	EffectBatches map[barrier.Op]EffectBatch

	// Clean, if it is not nil, removes what the branch keeps in Database.
	Clean Cleaner
}

// External is a branch that acts on something other than a database.
//
// A Try is marked in the barrier before it is called, so that Cancel comes whenever the
// Try may have had an effect. A Confirm or Cancel is called first, and only if the barrier
// says that it is due; then the barrier row is written.
type External struct {
	Try, Confirm, Cancel Effect // their receipts are dropped

	// Database has the barrier rows. Defaults to the engine's own database.
	Database *gorm.DB

	// Clean, if it is not nil, removes what the branch keeps in Database.
	Clean Cleaner
}

// Remote is a service that has branches, and their barrier, for an engine
// elsewhere.
type Remote interface {
	// Call makes one call of a branch. It may be made again, also after it was
	// made with success, and a Try may come after the Cancel: the barrier there
	// knows. The error of a Try that the branch said no to wraps a [Rejection];
	// after any other, Cancel is called. It has to end when ctx does.
	Call(ctx context.Context, call Call) error
}

// NewLocal returns a kind of branch that works in a database. An engine checks it when it
// is registered; see [Registrar].
func NewLocal(kind string, encode Encoder, branch Local) Branch { return Branch{kind, encode, branch} }

// NewExternal returns a kind of branch that works outside of any database.
func NewExternal(kind string, encode Encoder, branch External) Branch {
	return Branch{kind, encode, branch}
}

// NewRemote returns a kind of branch that another service has.
func NewRemote(kind string, encode Encoder, service Remote) Branch {
	return Branch{kind, encode, service}
}

// Kind returns the name of the kind.
func (b Branch) Kind() string { return b.kind }

// Encoder returns the function that encodes inputs.
func (b Branch) Encoder() Encoder { return b.encode }

// Shape returns what the branch was made of: a [Local], an [External] or a [Remote]; nil
// for the zero Branch.
func (b Branch) Shape() any { return b.shape }
