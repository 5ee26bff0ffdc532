package tcc

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Register adds a kind of branch to an engine, or to a participant: a service with
// branches that the engine of another process calls. Call it at start-up, before the
// engine runs.
//
// With options, the branch takes further kinds, of older or newer versions of the
// payload: see [Alias] and [Upgrade].
//
// The error wraps [saga.ErrInvalid] if JSON cannot store the payload type without loss,
// or if a kind is registered already.
func Register[P Payload](engine saga.Registrar, b Branch[P], options ...Option[P]) error {
	return registerAll(engine, "branch", b, options, func(as version[P]) saga.Branch {
		local := saga.Local{Work: work(b, as.decode)}
		if located, ok := b.(Located); ok {
			local.Database = located.Database()
		}
		if deliverer, ok := b.(Deliverer[P]); ok {
			local.Effects = map[barrier.Op]saga.Effect{barrier.Confirm: effect(deliverer.Deliver, as.decode)}
		}
		if deliverer, ok := b.(BulkDeliverer[P]); ok && local.Effects != nil {
			local.EffectBatches = map[barrier.Op]saga.EffectBatch{barrier.Confirm: effectBatch(deliverer.DeliverAll, as.decode)}
		}
		if bulk, ok := b.(Bulk[P]); ok {
			local.WorkBatch = workBatch(bulk, as.decode)
		}
		if cleaner, ok := b.(Cleaner); ok {
			local.Clean = func(ctx context.Context, tx *gorm.DB, gids []string) error {
				ctx, end := ending(ctx)
				defer end()
				return cleaner.Clean(ctx, tx.WithContext(ctx), gids)
			}
		}
		return saga.NewLocal(as.kind, as.encode, local)
	})
}

// RegisterExternal adds a kind of branch without a database; see [Register].
func RegisterExternal[P Payload](engine saga.Registrar, b External[P], options ...Option[P]) error {
	return registerAll(engine, "branch", b, options, func(as version[P]) saga.Branch {
		plain := func(call func(context.Context, P) error) saga.Effect {
			return effect(func(ctx context.Context, in P) (any, error) { return nil, call(ctx, in) }, as.decode)
		}
		return saga.NewExternal(as.kind, as.encode, saga.External{Try: plain(b.Try), Confirm: plain(b.Confirm), Cancel: plain(b.Cancel)})
	})
}

// RegisterRemote adds a kind of branch that lives in another service. That service
// registers the branch with a participant, for example with package remote. Its payload
// type may be another one with the same JSON. It accepts payloads as strictly as
// described at [Payload].
//
// The engine calls the service with the kind and the payload that the transaction was
// begun with. So Upgrade and AllowUnknownFields are options for the registration in the
// service. RegisterRemote refuses them.
func RegisterRemote[P Payload](engine saga.Registrar, service saga.Remote, options ...Option[P]) error {
	for _, o := range options {
		if !o.remote {
			return fmt.Errorf("tcc: register remote: %s belongs in the service's own registration: %w", o.name, saga.ErrInvalid)
		}
	}
	return registerAll(engine, "service", service, options, func(as version[P]) saga.Branch { return saga.NewRemote(as.kind, as.encode, service) })
}

// RegisterService is [RegisterRemote] for a service in this process. Service gets the function that
// decodes the payload of a call, as strictly as described at [Payload], and returns the
// service. All options are possible. Package nested uses it.
func RegisterService[P Payload](engine saga.Registrar, service func(decode func(saga.Call) (P, error)) saga.Remote, options ...Option[P]) error {
	return registerAll(engine, "service", service, options, func(as version[P]) saga.Branch {
		return saga.NewRemote(as.kind, as.encode, service(as.decode))
	})
}

// registerAll checks all options, and registers a branch once for each kind that it
// takes.
func registerAll[P Payload](engine saga.Registrar, role string, b any, options []Option[P], erase func(version[P]) saga.Branch) error {
	versions, err := versionsOf(b, options)
	if err != nil {
		return err
	}
	kind := versions[0].kind
	if isNil(engine) {
		return fmt.Errorf("tcc: register %s: the engine is nil: %w", kind, saga.ErrInvalid)
	}
	if isNil(b) {
		return fmt.Errorf("tcc: register %s: the %s is nil: %w", kind, role, saga.ErrInvalid)
	}
	for _, as := range versions {
		if err := engine.Register(erase(as)); err != nil {
			return err // it names the kind
		}
	}
	return nil
}

func effect[P Payload](act func(context.Context, P) (any, error), decode decoder[P]) saga.Effect {
	return func(ctx context.Context, call saga.Call) (any, error) {
		in, err := decode(call)
		if err != nil {
			return nil, err
		}
		return act(withCall(ctx, call), in)
	}
}

func work[P Payload](b Branch[P], decode decoder[P]) func(context.Context, *gorm.DB, saga.Call) error {
	return func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
		in, err := decode(call)
		if err != nil {
			return err
		}
		ctx, end := ending(withCall(ctx, call))
		defer end()
		tx = tx.WithContext(ctx)
		switch call.Op {
		case barrier.Try:
			return b.Try(ctx, tx, in)
		case barrier.Confirm:
			return b.Confirm(ctx, tx, in)
		case barrier.Cancel:
			return b.Cancel(ctx, tx, in)
		}
		return fmt.Errorf("unknown operation %q", string(call.Op))
	}
}

func workBatch[P Payload](b Bulk[P], decode decoder[P]) func(context.Context, *gorm.DB, barrier.Op, []saga.BatchCall) ([]error, error) {
	return func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
		items, err := itemsOf(calls, decode)
		if err != nil {
			return nil, err
		}
		ctx, end := ending(ctx)
		defer end()
		tx = tx.WithContext(ctx)
		switch op {
		case barrier.Try:
			return b.TryAll(ctx, tx, items)
		case barrier.Confirm:
			return nil, b.ConfirmAll(ctx, tx, items)
		}
		return nil, fmt.Errorf("%s is not called in batches", op)
	}
}

// ending returns a context that ends with the call: [SQLTx] needs one that ends.
func ending(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Done() != nil {
		return ctx, func() {}
	}
	return context.WithCancel(ctx)
}

func itemsOf[P Payload](calls []saga.BatchCall, decode decoder[P]) ([]Item[P], error) {
	items := make([]Item[P], len(calls))
	for i, call := range calls {
		in, err := decode(call.Call)
		if err != nil {
			return nil, err
		}
		items[i] = Item[P]{call, in}
	}
	return items, nil
}

func effectBatch[P Payload](f func(context.Context, []Item[P]) ([]any, []error), decode decoder[P]) saga.EffectBatch {
	return func(ctx context.Context, calls []saga.BatchCall) ([]any, []error) {
		items, err := itemsOf(calls, decode)
		if err != nil {
			return make([]any, len(calls)), slices.Repeat([]error{err}, len(calls))
		}
		return f(ctx, items)
	}
}
