package guards

// outsideGuards keep calls that act on something other than a database from
// overtaking each other.
var outsideGuards = []guard{
	{
		name: "try-marked", file: "saga/internal/call/try.go",
		text: `	verdict, err := t.mark(ctx, b, call, mark)
	if err != nil {
		return verdict, err
	}
`,
		with: `	verdict, err := barrier.Run, error(nil)
`,
		pkg: "tcc", run: "^TestCancelWaitsForTheEndOfATry$/^lost_lease$/^sqlite$",
		why: "a Try is made again, and a Cancel overtakes it",
	},
	{
		name: "try-made-before", file: "saga/internal/call/try.go",
		text: `case err != nil || row != nil && row.UnderWay != nil && row.UnderWay.By == mark:`,
		with: `case err != nil || row != nil:`,
		pkg:  "saga/remote", run: "^TestExternalBranchBehindAHost$",
		why: "a Try whose outcome is unknown is made a second time",
	},
	{
		name: "cancel-waits", file: "saga/internal/call/effect.go",
		text: `case unclear && row.UnderWay.Left > 0:`,
		with: `case unclear && row.UnderWay.Left > 0 && row.State != barrier.StateTried:`,
		pkg:  "tcc", run: "^TestCancelWaitsForTheEndOfATry$/^caller$/^sqlite$",
		why: "a Cancel overtakes a Try that is under way",
	},
	{
		name: "cancel-once-more", file: "saga/internal/call/effect.go",
		text: `case unclear && row.UnderWay.Left > 0:`,
		with: `case unclear && row.UnderWay.Left > 0 && row.State == barrier.StateTried:`,
		pkg:  "tcc", run: "^TestSecondCancelKeepsItsTime$",
		why: "the second Cancel comes at once, before a Try that arrives late",
	},
	{
		name: "cancel-again-waits", file: "saga/internal/call/effect.go",
		text: `if err == nil && result.CancelAgain {`,
		with: `if false {`,
		pkg:  "tcc", run: "^TestRequestThatArrivesAfterItsCancel$/^time_of_the_call$",
		why: "the branch counts as cancelled before the second Cancel",
	},
	{
		name: "outside-state", file: "saga/internal/call/effect.go",
		text: `	case row.State != barrier.StateTried:
		return result, nil
	}`,
		with: `	}`,
		pkg:  "tcc", run: "^TestConflictIsRaisedToAttention$/^sqlite$",
		why: "the outside part of a call is made that the barrier turns away",
	},
	{
		name: "outside-mismatch", file: "saga/internal/call/effect.go",
		text: `if err != nil || row == nil || !row.Matches(c.Request(call)) {`,
		with: `if err != nil || row == nil {`,
		pkg:  "saga/embedded", run: "^TestOutsideOfAnotherTransaction$/^sqlite$", short: true,
		why: "the outside part of a Confirm or Cancel is made on what another engine has reserved",
	},
	{
		name: "try-abandoned", file: "saga/internal/call/try.go",
		text: `	if errors.Is(err, errAbandoned) {
		return verdict, err // it goes on, and its mark stays
	}
`,
		with: ``,
		pkg:  "tcc", run: "^TestCancelWaitsForATryThatWasGivenUp$",
		why: "a Cancel comes while a Try that was given up is still at work",
	},
	{
		name: "try-may-arrive", file: "saga/internal/call/try.go",
		text: `t.unmark(ctx, b, call, mark, !mayArrive(ctx, err))`,
		with: `t.unmark(ctx, b, call, mark, true || !mayArrive(ctx, err))`,
		pkg:  "tcc", run: "^TestRequestThatArrivesAfterItsCancel$/^time_of_the_call$",
		why: "a request that arrives after its Cancel stays reserved",
	},
	{
		name: "try-clear-failure", file: "saga/internal/call/try.go",
		text: `case err == nil || errors.As(err, &rejection):
		return false`,
		with: `case err == nil || errors.As(err, &rejection):
		return err != nil`,
		pkg: "tcc", run: "^TestClearFailureIsCancelledOnce$",
		why: "a Cancel waits after a Try that has clearly ended",
	},
	{
		name: "try-not-noted", file: "saga/internal/call/try.go",
		text: `	case !noted:
		// The time`,
		with: `	case false && !noted:
		// The time`,
		pkg: "tcc", run: "^TestTryThatReturnsAfterAPause$",
		why: "a Try that returns after its Cancel stays reserved until its time is over",
	},
	{
		name: "try-late", file: "saga/internal/call/latetry.go",
		text: `if err != nil || !cancelled {`,
		with: `if true || !cancelled {`,
		pkg:  "tcc", run: "^TestTryThatReturnsAfterItsTransaction$",
		why: "a Try that returns after its Cancel stays reserved",
	},
	{
		name: "cancel-again", file: "saga/internal/call/effect.go",
		text: `	if result.CancelAgain {
		return barrierrows.Mark`,
		with: `	if false {
		return barrierrows.Mark`,
		pkg: "tcc", run: "^TestRequestThatArrivesAfterItsCancel$/^time_of_the_call$",
		why: "a Try that arrives after its Cancel stays reserved",
	},
	{
		name: "participant-caller", file: "saga/internal/call/caller.go",
		text: `request.Caller = c.prefix + request.Caller`,
		with: `request.Caller = "" + request.Caller`,
		pkg:  "saga/embedded", run: "^TestACallFromElsewhereIsNobodyElses$/^sqlite$",
		why: "a call from elsewhere that names this engine's log confirms its branches",
	},
}
