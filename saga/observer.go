package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// Observer is told what happens in an engine, in a participant, or in a consumer of messages. A
// configuration has a list of observers. Package otelsaga has one that makes OpenTelemetry
// metrics and spans.
//
// Observe is called by many goroutines at once, and the caller waits for it. Some calls are
// made in a local transaction that holds locks. So Observe has to return within microseconds,
// and must not use the database of the engine. If it panics, the panic is logged, and the event
// is dropped for this observer. If it does not return within three seconds, the caller goes on. The
// observer then gets no events until that call has returned.
//
// Events are in order for one branch call, and for one transaction in one process. An event is
// lost if the process ends just after what it tells of. The log has the truth.
type Observer interface {
	// Observe gets an event. The type of an event is one of the structs of this package
	// whose documentation begins with "is an Event"; more may be added. The events
	// [OperationStarted], [CallStarted] and [MessageStarted] begin something: the returned
	// context, which is derived from ctx, is that of the operation, call or handler, and the
	// event of its end gets the same context. For other events, the result has no meaning.
	Observe(ctx context.Context, e Event) context.Context
}

// TraceKeeper is an [Observer] that also keeps traces together across processes. The engine
// stores the trace context of the caller with the transaction, and sends that of a call to
// other services. If there are several, the first one in the list counts.
type TraceKeeper interface {
	// Inject returns the trace context of ctx, as W3C traceparent; empty if there is none.
	Inject(ctx context.Context) string

	// Extract returns a context whose spans continue a trace. A trace that is not valid
	// changes nothing: it may come from another service.
	Extract(ctx context.Context, trace string) context.Context
}

// MaxTrace is the most characters of a trace context.
const MaxTrace = 255

// Observers are a list of observers. It keeps their panics from the caller, and does not wait
// for one that blocks; see [Observer]. A nil *Observers has none. It is safe for concurrent use.
type Observers struct {
	all    []*guarded
	keeper *guarded // nil if no observer keeps traces
}

// NewObservers returns the list of observers; nil if it is empty. The logger gets the panics.
func NewObservers(logger *slog.Logger, observers []Observer) (*Observers, error) {
	if len(observers) == 0 {
		return nil, nil
	}
	o := &Observers{}
	limited := warn.New(logger)
	for i, one := range observers {
		if one == nil {
			return nil, fmt.Errorf("observer %d is nil", i+1)
		}
		g := &guarded{Observer: one, logger: logger, warn: limited}
		if _, keeps := one.(TraceKeeper); keeps && o.keeper == nil {
			o.keeper = g
		}
		o.all = append(o.all, g)
	}
	return o, nil
}

// Observe gives an event to all observers, one after the other.
func (o *Observers) Observe(ctx context.Context, e Event) context.Context {
	if o == nil {
		return ctx
	}
	for _, g := range o.all {
		ctx, _ = g.run(ctx, func(ctx context.Context) (context.Context, string) { return g.Observer.Observe(ctx, e), "" })
	}
	return ctx
}

// Inject returns the trace context of ctx; empty if there is none.
func (o *Observers) Inject(ctx context.Context) string {
	if o == nil || o.keeper == nil {
		return ""
	}
	_, trace := o.keeper.run(ctx, func(ctx context.Context) (context.Context, string) {
		return ctx, o.keeper.Observer.(TraceKeeper).Inject(ctx)
	})
	if len(trace) > MaxTrace {
		return ""
	}
	return trace
}

// Extract returns a context whose spans continue a trace.
func (o *Observers) Extract(ctx context.Context, trace string) context.Context {
	if o == nil || o.keeper == nil || trace == "" || len(trace) > MaxTrace {
		return ctx
	}
	ctx, _ = o.keeper.run(ctx, func(ctx context.Context) (context.Context, string) {
		return o.keeper.Observer.(TraceKeeper).Extract(ctx, trace), ""
	})
	return ctx
}

// guarded is one observer of a list.
type guarded struct {
	Observer
	logger  *slog.Logger
	warn    *warn.Logger
	blocked atomic.Int64 // calls that nobody waits for any more
}

// observeLimit is how long the caller waits for an observer.
const observeLimit = 3 * time.Second

// observed is what an observer has returned.
type observed struct {
	ctx   context.Context
	trace string
}

// run calls an observer with ctx, in a goroutine of its own, and waits for it. It returns ctx if the
// observer panics or blocks.
func (g *guarded) run(ctx context.Context, call func(context.Context) (context.Context, string)) (context.Context, string) {
	if g.blocked.Load() > 0 {
		return ctx, ""
	}
	ended, timer := make(chan observed, 1), time.NewTimer(observeLimit)
	defer timer.Stop()
	go g.protect(ctx, call, ended)
	select {
	case r := <-ended:
		return r.ctx, r.trace
	case <-timer.C:
	}
	g.blocked.Add(1)
	g.warn.Warn(context.Background(), "saga: an observer blocks; it gets no events until it returns", fmt.Errorf("%T has not returned within %s", g.Observer, observeLimit))
	go func() {
		<-ended
		g.blocked.Add(-1)
	}()
	return ctx, ""
}

func (g *guarded) protect(ctx context.Context, call func(context.Context) (context.Context, string), ended chan<- observed) {
	result, returned := observed{ctx: ctx}, false
	defer func() {
		if !returned {
			p := recover() // nil if the observer has ended the goroutine
			g.warn.Warn(context.Background(), "saga: an observer panicked; the event is dropped for it", errors.Join(fmt.Errorf("%T: %v", g.Observer, p), errors.New(string(debug.Stack()))))
		}
		ended <- result
	}()
	derived, trace := call(ctx)
	if derived != nil {
		result = observed{derived, trace}
	}
	returned = true
}
