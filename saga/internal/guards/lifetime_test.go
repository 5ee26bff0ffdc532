package guards

// lifetimeGuards keep work going after its caller has gone, until the engine stops, and
// keep paused kinds from being called.
var lifetimeGuards = []guard{
	{
		name: "lifetime-caller", file: "saga/internal/lifetime/lifetime.go",
		text: `work, end := context.WithCancel(context.WithoutCancel(ctx))`,
		with: `work, end := context.WithCancel(ctx)`,
		pkg:  "saga/internal/lifetime", run: "^TestDetach$",
		why: "an engine interrupts everything when the context that it was opened with ends",
	},
	{
		name: "detach-caller", file: "saga/internal/lifetime/lifetime.go",
		text: `detached, end := context.WithCancel(context.WithoutCancel(ctx))`,
		with: `detached, end := context.WithCancel(ctx)`,
		pkg:  "saga/internal/lifetime", run: "^TestDetach$", short: true,
		why: "a caller who goes breaks off the calls and the decision of its transaction",
	},
	{
		name: "detach-end", file: "saga/internal/lifetime/lifetime.go",
		text: `context.AfterFunc(l.work, end)`,
		with: `context.AfterFunc(context.Background(), end)`,
		pkg:  "saga/internal/lifetime", run: "^TestDetach$",
		why: "Stop cannot interrupt the calls that are left",
	},
	{
		name: "detach-call", file: "saga/internal/lifetime/lifetime.go",
		text: `context.WithTimeout(whole, l.callTimeout)`,
		with: `context.WithCancel(whole)`,
		pkg:  "saga/internal/lifetime", run: "^TestDetach$",
		why: "a write to a database that says nothing any more waits for ever",
	},
	{
		name: "warn-repeated", file: "saga/internal/warn/warn.go",
		text: `if time.Since(l.last[message]) < Every {`,
		with: `if false {`,
		pkg:  "saga/internal/warn", run: "^TestWarn$",
		why: "an outage floods the log",
	},
	{
		name: "warn-ended", file: "saga/internal/warn/warn.go",
		text: `	if ctx.Err() != nil {
		return
	}
`,
		with: ``,
		pkg:  "saga/internal/warn", run: "^TestWarn$",
		why: "each Stop warns of errors that are its own consequence",
	},
	{
		name: "pause-refuse", file: "saga/internal/pause/pause.go",
		text: `if k.Has(s.Kind) {`,
		with: `if false {`,
		pkg:  "saga/internal/pause", run: "^TestWatch$",
		why: "a transaction with a paused kind begins",
	},
	{
		name: "pause-kept", file: "saga/internal/pause/pause.go",
		text: `	if err != nil {
		return err
	}
	paused := `,
		with: `	_ = err
	paused := `,
		pkg: "saga/internal/pause", run: "^TestWatch$",
		why: "paused kinds go on when the log cannot be asked",
	},
	{
		name: "pause-execute", file: "saga/embedded/execute.go",
		text: `if err := p.paused.Refuse(t.Steps); err != nil {`,
		with: `if err := p.paused.Refuse(nil); err != nil {`,
		pkg:  "tcc", run: "^TestPauseKind$/^sqlite$",
		why: "a plan with a paused kind is executed",
	},
	{
		name: "pause-try", file: "saga/embedded/open.go",
		text: `	if err := o.paused.Refuse(t.Steps); err != nil {
		return err
	}
`,
		with: ``,
		pkg:  "tcc", run: "^TestPauseKind$/^sqlite$",
		why: "a branch of a paused kind is tried",
	},
	{
		name: "pause-drive", file: "saga/internal/drive/round.go",
		text: `case d.Paused.Has(s.Kind):`,
		with: `case false:`,
		pkg:  "tcc", run: "^TestPauseKind$/^sqlite$",
		why: "a branch of a paused kind is confirmed or cancelled",
	},
	{
		name: "follow-await", file: "saga/internal/follow/follow.go",
		text: `if err != nil || done(saga.State(record.State)) {`,
		with: `if err != nil || record.GID != "" {`,
		pkg:  "saga/embedded", run: "^TestARepetitionBeforeTheDecision$",
		why: "a caller is told an undecided state as the outcome",
	},
	{
		name: "enter-lease", file: "saga/embedded/admission.go",
		text: `if err := a.awaitLease(ctx); err != nil {`,
		with: `if err := error(nil); err != nil {`,
		pkg:  "tcc", run: "^TestWithoutRunTheLeaseRunsOut$",
		why: "an instance that others take for gone begins transactions",
	},
}
