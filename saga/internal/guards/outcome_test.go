package guards

// outcomeGuards keep a service that asks for outcomes from ending a branch the wrong way.
var outcomeGuards = []guard{
	{
		name: "outcome-log", file: "saga/embedded/outcome.go",
		text: `if log != a.logID {`,
		with: `if false {`,
		pkg:  "saga/embedded", run: "^TestOutcome$/^sqlite$", short: true,
		why: "an engine says of a transaction of another log that it does not exist, and its branch is cancelled",
	},
	{
		name: "outcome-primary", file: "saga/embedded/outcome.go",
		text: `if record, err = a.log.GetLocked(ctx, tx, gid); err != nil {`,
		with: `if record, err = a.log.Get(ctx, a.db, gid); err != nil {`,
		pkg:  "saga/embedded", run: "^TestOutcomeIsNotOfAReplica$/^sqlite$",
		why: "a replica that lags behind says that a transaction does not exist, and its branch is cancelled",
	},
	{
		name: "outcome-paused", file: "saga/embedded/outcome.go",
		text: `case record.Paused() || paused:`,
		with: `case false && paused:`,
		pkg:  "saga/embedded", run: "^TestOutcome$/^sqlite$",
		why: "a service calls what an operator has paused",
	},
	{
		name: "outcome-ordered", file: "saga/embedded/outcome.go",
		text: `case ordered && state == saga.Cancelling:`,
		with: `case ordered && false:`,
		pkg:  "saga/embedded", run: "^TestOutcome$/^sqlite$",
		why: "Cancels that have an order are called in another order",
	},
	{
		name: "outcome-signed", file: "saga/remote/engine.go",
		text: `case signed != nil && !signed.signs(`,
		with: `case false && !signed.signs(`,
		pkg:  "saga/remote", run: "^TestOutcomeAnswersThatDoNotCount$", short: true,
		why: "the answer of anybody ends a branch",
	},
	{
		name: "outcome-question", file: "saga/remote/engine.go",
		text: `case reply.Log != asked.Log || reply.GID != asked.GID || reply.Request != asked.Request:`,
		with: `case false:`,
		pkg:  "saga/remote", run: "^TestUnsignedOutcome$",
		why: "the answer to another question ends a branch",
	},
	{
		name: "outcome-two-errors", file: "saga/internal/outcome/outcome.go",
		text: `errors.Is(err, saga.ErrNotFound) && !errors.Is(err, saga.ErrOtherLog)`,
		with: `errors.Is(err, saga.ErrNotFound)`,
		pkg:  "saga/internal/outcome", run: "^TestDue$", short: true,
		why: "an engine with another log cancels a branch",
	},
	{
		name: "outcome-under-way", file: "saga/internal/outcome/outcome.go",
		text: `!kept || underWay {`,
		with: `!kept || false && underWay {`,
		pkg:  "saga/remote", run: "^TestOutcomeOfAnExternalBranch$/^sqlite$",
		why: "an outcome is asked for while the Try is under way",
	},
	{
		name: "outcome-ended", file: "saga/internal/outcome/outcome.go",
		text: `if row == nil || row.State != barrier.StateTried && !unclear {`,
		with: `if row == nil {`,
		pkg:  "saga/remote", run: "^TestInputsThatAreLeft$/^sqlite$",
		why: "an outcome is asked for a branch that has ended, and the log may not know it any more",
	},
	{
		name: "input-claimed", file: "saga/internal/inputs/inputs.go",
		text: `pause(since[i]).Microseconds()`,
		with: `(0 * pause(since[i])).Microseconds()`,
		pkg:  "saga/internal/inputs", run: "^TestClaim$/^sqlite$", short: true,
		why: "every process of a service asks for the same branches",
	},
	{
		name: "input-removed", file: "saga/internal/call/doubt.go",
		text: `if c.asks(call) && (verdict`,
		with: `if false && (verdict`,
		pkg:  "saga/remote", run: "^TestInputsAreKept$/^sqlite$",
		why: "inputs stay after the end of their branches",
	},
	{
		name: "input-caller", file: "saga/internal/call/doubt.go",
		text: `return c.askAfter > 0 && call.Caller != "" && call.Caller != barrier.NoCaller`,
		with: `return c.askAfter > 0`,
		pkg:  "saga/remote", run: "^TestInputsAreKept$/^sqlite$",
		why: "an outcome is asked for a branch that a DTM server called, and no log knows it",
	},
	{
		name: "input-cancel-again", file: "saga/internal/call/effect.go",
		text: `		if result.CancelAgain {
			if keepErr`,
		with: `		if false {
			if keepErr`,
		pkg: "saga/remote", run: "^TestOutcomeOfAnExternalBranch$/^sqlite$",
		why: "the second Cancel of a branch is not made by a service that asks",
	},
	{
		name: "input-orphans", file: "saga/internal/clean/hosted.go",
		text: `return inputs.RemoveOrphans(ctx, tx, gids)`,
		with: `return inputs.RemoveOrphans(ctx, tx, nil)`,
		pkg:  "saga/remote", run: "^TestInputsThatAreLeft$/^sqlite$",
		why: "inputs stay without a barrier row",
	},
	{
		name: "input-no-orphan", file: "saga/internal/inputs/inputs.go",
		text: `SELECT 1 FROM saga_barrier WHERE saga_barrier.gid`,
		with: `SELECT 1 FROM saga_barrier WHERE 1 = 0 AND saga_barrier.gid`,
		pkg:  "saga/internal/inputs", run: "^TestRemoveOrphans$/^sqlite$",
		why: "cleaning removes the input of a branch in doubt, which never asks",
	},
	{
		name: "input-text", file: "saga/internal/inputs/inputs.go",
		text: `if !utf8.Valid(payload) {`,
		with: `if false && !utf8.Valid(payload) {`,
		pkg:  "saga/internal/inputs", run: "^TestPayload$/^sqlite$",
		why: "a payload is kept that does not come back as it was",
	},
}
