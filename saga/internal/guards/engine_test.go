package guards

// engineGuards keep the engine to what the log says.
var engineGuards = []guard{
	{
		name: "settle-epoch", file: "saga/internal/decide/settle.go",
		text: `		case record.Epoch != t.Epoch:
			return e.awaitTaken(ctx)
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestAnExecutionThatWasTakenOver$/^sqlite$",
		why: "an execution that was taken over drives beside the new driver",
	},
	{
		name: "settle-lost", file: "saga/internal/decide/settle.go",
		text: `	e.taken = true
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestAnExecutionThatWasTakenOver$/^sqlite$",
		why: "an execution that was taken over drives beside the new driver",
	},
	{
		name: "follow-digest", file: "saga/embedded/execute.go",
		text: `if record.Digest != digest {`,
		with: `if false {`,
		pkg:  "tcc", run: "^TestAnotherPlanUnderTheSameGID$/^sqlite$", short: true,
		why: "a caller with another plan is told confirmed",
	},
	{
		name: "stale-drive", file: "saga/internal/drive/driver.go",
		text: `	case errors.Is(err, txlog.ErrStale) || errors.Is(err, local.ErrCommitUnknown):
		if record, readErr := d.Reader.Locked(ctx, t.GID); readErr == nil {
			if state := saga.State(record.State); errors.Is(err, local.ErrCommitUnknown) && state.Finished() && record.Epoch == t.Epoch {
				d.Observe.Finished(ctx, t.Subject(), state, t.Begun)
			}
			return saga.State(record.State)
		}
`,
		with: `	case false && errors.Is(err, local.ErrCommitUnknown):
`,
		pkg: "saga/embedded", run: "^TestAStaleLastCommitIsToldTheEnd$/^sqlite$",
		why: "a driver that was taken over tells an old state",
	},
	{
		name: "raced-commit", file: "saga/internal/drive/commit.go",
		text: `	case !one.effect.Due:
		return call.ErrRaced
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestATrySlipsInBetween$/^here$",
		why: "a Confirm or Cancel counts as done although its outside part was not made",
	},
	{
		name: "raced-apart", file: "saga/internal/call/effect.go",
		text: `		if !result.Due {
			return ErrRaced
		}
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestATrySlipsInBetween$/^apart$",
		why: "the same for a branch in another database",
	},
	{
		name: "planned-without-branches", file: "saga/internal/drive/conclude.go",
		text: `if len(t.Steps) == 0 && t.Planned {`,
		with: `if false {`,
		pkg:  "saga/embedded", run: "^TestAPlanWithoutBranchesIsNotFinished$/^sqlite$", short: true,
		why: "a transaction whose branches could not be read is finished, and nobody is confirmed",
	},
	{
		name: "confirm-untried", file: "saga/embedded/decision.go",
		text: `if d.State == txlog.Confirming && !b.Tried && !d.ByBranch {`,
		with: `if false {`,
		pkg:  "tcc", run: "^TestConfirmNeedsEveryTry$/^sqlite$", short: true,
		why: "a transaction is confirmed with a branch whose Try has failed",
	},
	{
		name: "confirm-planned", file: "saga/embedded/decision.go",
		text: `d.State == txlog.Confirming && !d.ByBranch && (t.Digest != "" || t.Expired) {`,
		with: `d.State == txlog.Confirming && !d.ByBranch && t.Expired {`,
		pkg:  "tcc", run: "^(TestDecideWhileExecuting|TestTransactionWithAPlanFromOutside)$",
		why: "a transaction is confirmed from outside while its Trys are under way",
	},
	{
		name: "hand-over", file: "saga/embedded/decision.go",
		text: `			d.Owner, d.Due = "", 0
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestADecisionIsHandedOver$/^sqlite$",
		why: "a transaction with a branch that this instance does not know waits for a lease instead of the next poll",
	},
	{
		name: "decide-paused", file: "saga/embedded/decision.go",
		text: `d.Owner != "" && !t.Paused() {`,
		with: `d.Owner != "" {`,
		pkg:  "tcc", run: "^TestPauseAndResume$/^sqlite$",
		why: "a paused transaction is driven",
	},
	{
		name: "resume-strange", file: "saga/internal/recovery/recovery.go",
		text: `	if !t.Known() {
		decision.Owner, decision.Due = "", 0
	}
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestADecisionIsHandedOver$/^sqlite$",
		why: "a cancelled transaction with a branch that this instance does not know waits for a lease",
	},
	{
		name: "repeat-mismatch", file: "saga/embedded/open.go",
		text: `	case named.ID != "" && (named.Kind != s.Kind || named.Payload != string(s.Payload)):
		return saga.ErrMismatch
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestRepeatsAfterTheDecision$/^sqlite$",
		why: "a repeated Try with another payload succeeds after the decision",
	},
	{
		name: "repeat-tried", file: "saga/embedded/open.go",
		text: `case named.Tried && (state == saga.Confirming || state == saga.Confirmed):`,
		with: `case state == saga.Confirming || state == saga.Confirmed:`,
		pkg:  "saga/embedded", run: "^TestRepeatsAfterTheDecision$/^sqlite$",
		why: "a Try of a branch that the transaction does not have succeeds after the decision",
	},
	{
		name: "repeat-confirmed", file: "saga/embedded/open.go",
		text: `case named.Tried && (state == saga.Confirming || state == saga.Confirmed):`,
		with: `case named.Tried:`,
		pkg:  "saga/embedded", run: "^TestRepeatsAfterTheDecision$/^sqlite$",
		why: "a Try succeeds in a transaction that is cancelled",
	},
	{
		name: "mark-tried-late", file: "saga/embedded/open.go",
		text: `if err == nil && isCancelled(outcome.State) {`,
		with: `if false {`,
		pkg:  "tcc", run: "^TestCancelWaitsForTheEndOfATry$/^caller$/^sqlite$",
		why: "a Try whose reservation is given back is reported as made",
	},
	{
		name: "within-try", file: "saga/embedded/open.go",
		text: `if err == nil && !limit.has(record.Pattern) || errors.Is(err, txlog.ErrNotFound) {`,
		with: `if err == nil && record.GID == "" || errors.Is(err, txlog.ErrNotFound) {`,
		pkg:  "saga/embedded", run: "^TestWithin$/^sqlite$",
		why: "a client of one API adds a branch to a transaction of another",
	},
	{
		name: "within-decide", file: "saga/embedded/decision.go",
		text: `	if !limit.has(t.Pattern) {
		return d, false, txlog.ErrNotFound
	}
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestWithin$/^sqlite$",
		why: "a client of one API decides a transaction of another",
	},
	{
		name: "within-lookup", file: "saga/embedded/within.go",
		text: `if err == nil && !w.scope.has(found.Pattern) {`,
		with: `if false {`,
		pkg:  "saga/embedded", run: "^TestWithin$/^sqlite$",
		why: "a client of one API reads a transaction of another",
	},
	{
		name: "within-begin", file: "saga/embedded/open.go",
		text: `(record.Digest != start.Digest || record.Pattern != start.Pattern || `,
		with: `(record.Digest != start.Digest || `,
		pkg:  "saga/embedded", run: "^TestWithin$/^sqlite$",
		why: "a client of one API takes a transaction of another for its own",
	},
	{
		name: "begin-planned", file: "saga/embedded/open.go",
		text: `(record.Digest != start.Digest || record.Pattern != start.Pattern || `,
		with: `(record.Pattern != start.Pattern || `,
		pkg:  "tcc", run: "^TestOpenTransactionRefusals$",
		why: "Begin takes a transaction for its own that is executed with a plan",
	},
	{
		name: "resolve-conflict", file: "saga/embedded/resolve.go",
		text: `if !lastIsConflict(attempts[key.GID], key.BranchID, op) {`,
		with: `if false && !lastIsConflict(attempts[key.GID], key.BranchID, op) {`,
		pkg:  "saga/embedded", run: "^TestResolveIsRefused$/^sqlite$",
		why: "a branch that only fails is never called again",
	},
	{
		name: "resolve-done", file: "saga/embedded/resolve.go",
		text: `	case !b.DoneAt.IsZero():
		return fmt.Errorf("branch %s is done already: %w", key.BranchID, saga.ErrRefused)
`,
		with: `	case false && !b.DoneAt.IsZero():
`,
		pkg: "saga/embedded", run: "^TestResolveIsRefused$/^sqlite$",
		why: "the record says of a branch that is confirmed that it is not",
	},
	{
		name: "resolve-would-run", file: "saga/embedded/resolve.go",
		text: `return fmt.Errorf("the barrier says that the call can succeed: retry instead: %w", saga.ErrRefused)`,
		with: `return nil`,
		pkg:  "saga/embedded", run: "^TestResolveIsRefused$/^sqlite$",
		why: "a branch that can be confirmed now is given up",
	},
	{
		name: "open-batch-scope", file: "saga/embedded/decision.go",
		text: `o.toDecide(ctx, tx, limit, d, x, t, &decided)`,
		with: `o.toDecide(ctx, tx, scopeOf(ctx), d, x, t, &decided)`,
		pkg:  "saga/embedded", run: "^TestDecisionsOfOpenTransactionsInABatch$/^sqlite$",
		why: "a client of one API decides a transaction of another, if others share the commit",
	},
	{
		name: "open-batch-scope-try", file: "saga/embedded/open.go",
		text: `	limit := scopeOf(ctx) // a`,
		with: `	limit := scope{} // a`,
		pkg:  "saga/embedded", run: "^TestForeignTriesInABatch$/^sqlite$",
		why: "a client of one API adds a branch to a transaction of another, if others share the commit",
	},
	{
		name: "open-batch-scope-resident", file: "saga/embedded/joins.go",
		text: `if !scopeOf(c.Context).has(all[i].Pattern) {`,
		with: `if c.Context == nil {`,
		pkg:  "saga/embedded", run: "^TestTriesOfOpenTransactionsInABatch$/^sqlite$",
		why: "a client of one API tries a branch in a transaction of another, if others share the commit",
	},
	{
		name: "open-batch-failed", file: "saga/internal/call/gatherrun.go",
		text: `if err := r.in.log.Leave(ctx, r.tx, branchID, gids); err != nil {`,
		with: `if err := ctx.Err(); err != nil {`,
		pkg:  "saga/embedded", run: "^TestTriesOfOpenTransactionsInABatch$/^sqlite$",
		why: "a rejected branch stays in the log as tried, and is confirmed",
	},
	{
		name: "open-batch-full", file: "saga/internal/txlog/join.go",
		text: ` || h.Bytes+len(b.Payload) > room.Bytes`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestTriesOfOpenTransactionsInABatch$/^sqlite$",
		why: "a transaction has more branches than fit into it",
	},
	{
		name: "open-batch-decided", file: "saga/internal/txlog/join.go",
		text: `if !open || slices.Contains(gids[:i], all[i].GID) {`,
		with: `if _ = open; slices.Contains(gids[:i], all[i].GID) {`,
		pkg:  "saga/embedded", run: "^TestTriesOfOpenTransactionsInABatch$/^sqlite$",
		why: "a branch is added to a transaction that is decided, and is never ended",
	},
	{
		name: "postponed-while-released", file: "saga/internal/inflight/inflight.go",
		text: `	e.postponed = true
`,
		with: ``,
		pkg:  "saga/internal/inflight", run: "^TestBusy$",
		why: "a retry waits for a lease if a claim has come between the end of a round and its release",
	},
}
