package xa

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Branch is a kind of branch whose work is prepared in the Try, and committed or rolled back by
// the server when the transaction is decided.
type Branch[P tcc.Payload] interface {
	// Work does all the work of the branch in the local transaction tx, and neither
	// commits nor rolls back. Nobody else sees the work before the decision. If the work
	// is not possible, Work returns [tcc.Reject] or [tcc.RejectCode]. Any other error
	// also cancels the transaction. After a deadlock, or another transient fault of the
	// database, Work is called again, in a new local transaction. So it does not call
	// other systems.
	//
	// Several goroutines call Work at the same time, for different transactions.
	Work(ctx context.Context, tx *gorm.DB, in P) error
}

// Func is a function as a [Branch].
type Func[P tcc.Payload] func(ctx context.Context, tx *gorm.DB, in P) error

// Work calls f.
func (f Func[P]) Work(ctx context.Context, tx *gorm.DB, in P) error { return f(ctx, tx, in) }

// Register adds a kind of branch that works in the database db to an engine. Call it at
// start-up, before the engine runs. A plan may have such branches beside those of package tcc:
// give the payloads to [tcc.Execute] or to an open transaction. Payloads and options are those
// of [tcc.Register].
//
// The db may be on the pool of the engine's own database, or of another one. Even then, no call
// of the branch shares a commit with the log. The error wraps [saga.ErrInvalid] as that of
// [tcc.Register] does.
func Register[P tcc.Payload](engine saga.Registrar, db *Database, b Branch[P], options ...tcc.Option[P]) error {
	if db == nil {
		return fmt.Errorf("xa: register: the database is nil, open it with xa.Open: %w", saga.ErrInvalid)
	}
	return tcc.RegisterTyped(engine, b, func(as tcc.Typed[P]) saga.Branch {
		work := func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
			ctx, in, err := as.Input(ctx, call)
			if err != nil {
				return err
			}
			return b.Work(ctx, tx.WithContext(ctx), in)
		}
		return saga.NewRemote(as.Kind, as.Encode, &remote{db, work})
	}, options...)
}
