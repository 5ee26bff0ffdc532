package action

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/tcc"
)

// Register adds a kind of action to an engine, or to a participant: a service with actions that
// the engine of another process calls. Call it at start-up, before the engine runs. The
// options are those of package tcc, such as [tcc.Alias] and [tcc.Upgrade].
//
// The error wraps [saga.ErrInvalid] if JSON cannot store the input or the result without loss,
// or if a kind is registered already.
func Register[P tcc.Payload, R any](engine saga.Registrar, a Action[P, R], options ...tcc.Option[P]) error {
	results, err := checkedResults[P, R]()
	if err != nil {
		return err
	}
	return tcc.RegisterKinds(tcc.Registration[P]{Package: "action", Engine: engine, Branch: a, Options: options, Make: func(as tcc.Version[P]) saga.Branch {
		return saga.NewLocal(as.Kind, as.Encode, saga.Local{
			Database: databaseOf(a), Work: work(a, as.Decode, results), Clean: cleanOf(a),
		}).AsAction()
	}})
}

// RegisterExternal adds a kind of action without a database; see [Register].
func RegisterExternal[P tcc.Payload, R any](engine saga.Registrar, a External[P, R], options ...tcc.Option[P]) error {
	results, err := checkedResults[P, R]()
	if err != nil {
		return err
	}
	return tcc.RegisterKinds(tcc.Registration[P]{Package: "action", Engine: engine, Branch: a, Options: options, Make: func(as tcc.Version[P]) saga.Branch {
		effects := external[P, R]{a, as.Decode, results}
		return saga.NewExternal(as.Kind, as.Encode, saga.External{
			Try: effects.do, Cancel: effects.compensate, Database: databaseOf(a), Clean: cleanOf(a),
		}).AsAction()
	}})
}

// RegisterRemote adds a kind of action that lives in another service. That service registers
// the action with a participant, for example with package remote. [tcc.Upgrade] and
// [tcc.AllowUnknownFields] are options for the registration there; RegisterRemote refuses them.
func RegisterRemote[P tcc.Payload](engine saga.Registrar, service saga.Remote, options ...tcc.Option[P]) error {
	return tcc.RegisterKinds(tcc.Registration[P]{Package: "action", Engine: engine, Branch: service, Remote: true, Options: options,
		Make: func(as tcc.Version[P]) saga.Branch {
			return saga.NewRemote(as.Kind, as.Encode, service).AsAction()
		}})
}

func checkedResults[P tcc.Payload, R any]() (results[R], error) {
	results, err := resultsOf[R]()
	if err != nil {
		var in P
		return results, fmt.Errorf("action: register the action that takes a %T: %w", in, err)
	}
	return results, nil
}

func databaseOf(a any) *gorm.DB {
	if located, ok := a.(tcc.Located); ok {
		return located.Database()
	}
	return nil
}

func cleanOf(a any) saga.Cleaner {
	cleaner, ok := a.(tcc.Cleaner)
	if !ok {
		return nil
	}
	return func(ctx context.Context, tx *gorm.DB, gids []string) error {
		ctx, end := context.WithCancel(ctx) // tcc.SQLTx needs one that ends
		defer end()
		return cleaner.Clean(ctx, tx.WithContext(ctx), gids)
	}
}

// work returns the Work of a local branch.
func work[P tcc.Payload, R any](a Action[P, R], decode tcc.Decoder[P], results results[R]) func(context.Context, *gorm.DB, saga.Call) error {
	return func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
		in, err := decode(call)
		if err != nil {
			return err
		}
		ctx, end := context.WithCancel(tcc.WithCall(ctx, call)) // tcc.SQLTx needs one that ends
		defer end()
		tx = tx.WithContext(ctx)
		switch call.Op {
		case barrier.Try, barrier.Apply:
			done, err := a.Do(ctx, tx, in)
			if err != nil {
				return err
			}
			return results.set(call, done)
		case barrier.Cancel:
			done, err := results.own(call)
			switch {
			case err != nil:
				return err
			case done == nil && results.none:
				done = new(R)
			case done == nil:
				return fmt.Errorf("compensate: the result of Do: %w", ErrNoResult)
			}
			return a.Compensate(ctx, tx, in, *done)
		}
		return fmt.Errorf("an action has no operation %q", string(call.Op))
	}
}

// external has the effects of an external action.
type external[P tcc.Payload, R any] struct {
	action  External[P, R]
	decode  tcc.Decoder[P]
	results results[R]
}

func (e external[P, R]) do(ctx context.Context, call saga.Call) (any, error) {
	in, err := e.decode(call)
	if err != nil {
		return nil, err
	}
	done, err := e.action.Do(tcc.WithCall(ctx, call), in)
	if err != nil {
		return nil, err
	}
	return nil, e.results.set(call, done)
}

func (e external[P, R]) compensate(ctx context.Context, call saga.Call) (any, error) {
	in, err := e.decode(call)
	if err != nil {
		return nil, err
	}
	done, err := e.results.own(call)
	if err != nil {
		return nil, err
	}
	return nil, e.action.Compensate(tcc.WithCall(ctx, call), in, done)
}
