package guards

// decideGuards keep the first phase of a plan from a wrong decision, and from one that
// nobody drives.
var decideGuards = []guard{
	{
		name: "cancel-after-takeover", file: "saga/internal/decide/settle.go",
		text: `if e.txn.Epoch > 1 {`,
		with: `if false {`,
		pkg:  "saga/internal/decide", run: "^TestOnlyTheFirstDriverLeavesOutCancels$/^sqlite$",
		why: "a stale process tries a branch after the transaction was cancelled, and the barrier does not refuse it",
	},
	{
		name: "stage-stale", file: "saga/internal/txlog/start.go",
		text: `		return false, ErrStale
`,
		with: `		return false, l.Tried(ctx, tx, gid, branchIDs...)
`,
		pkg: "saga/internal/decide", run: "^TestAStaleDriverStopsAfterItsStage$/^sqlite$",
		why: "a stale process goes on with the next steps of a saga that another one cancels",
	},
	{
		name: "decide-taken", file: "saga/embedded/execute.go",
		text: `	case decision.Taken:
		p.inFlight.Release(entry)
		return decision.Outcome, decision.Err(nil)
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestAnExecutionThatWasTakenOver$/^sqlite$",
		why: "an execution that was taken over drives beside the new driver",
	},
	{
		name: "touched", file: "saga/internal/decide/execution.go",
		text: `		e.notTried = e.notTried[n:]
`,
		with: ``,
		pkg:  "tcc", run: "^TestExternalTryIsCancelledWheneverItMayHaveHadAnEffect$", short: true,
		why: "a branch whose Try has failed, and may have reserved, is not cancelled",
	},
	{
		name: "touched-run", file: "saga/internal/decide/execution.go",
		text: `		e.notTried = e.notTried[len(steps):]
`,
		with: ``,
		pkg:  "tcc", run: "^TestOrderOfTrys$",
		why: "branches that were tried before a failure are not cancelled",
	},
	{
		name: "cancel-conflict", file: "saga/internal/decide/settle.go",
		text: `if failed != nil && errors.Is(cause, barrier.ErrConflict) {`,
		with: `if false && failed != nil && errors.Is(cause, barrier.ErrConflict) {`,
		pkg:  "tcc", run: "^TestTwoEnginesWithOneGID$/^sqlite$",
		why: "a transaction that has met another one's row can never be cancelled to its end",
	},
	{
		name: "cancel-caller", file: "saga/internal/decide/settle.go",
		text: `deciding, stop := d.Life.DetachCall(ctx)`,
		with: `deciding, stop := context.WithCancel(ctx)`,
		pkg:  "saga/embedded", run: "^TestACallerGoesDuringATry$",
		why: "what a caller has left reserved stays so until the deadline",
	},
	{
		name: "settle-decided", file: "saga/internal/decide/settle.go",
		text: `case saga.State(record.State).Decided():`,
		with: `case record.Epoch < 0:`,
		pkg:  "tcc", run: "^TestUnansweredCommits$",
		why: "a caller is told unknown of a decision whose COMMIT went unanswered",
	},
	{
		name: "insert-ours", file: "saga/internal/decide/start.go",
		text: `if getErr == nil && e.isOurs(record) {`,
		with: `if getErr == nil {`,
		pkg:  "saga/embedded", run: "^TestAGIDThatIsUsedAfterAnUnansweredCommit$",
		why: "a caller drives somebody else's transaction as its own",
	},
	{
		name: "insert-unanswered", file: "saga/internal/decide/start.go",
		text: `case errors.Is(err, txlog.ErrExists) && unanswered:`,
		with: `case errors.Is(err, txlog.ErrExists) && unanswered && false:`,
		pkg:  "tcc", run: "^TestUnansweredCommits$",
		why: "a transaction whose COMMIT went unanswered is not driven by its own caller",
	},
	{
		name: "batch-unanswered", file: "saga/internal/decide/batch.go",
		text: `case errors.Is(err, local.ErrCommitUnknown), errors.Is(err, barrierrows.ErrNotAll)`,
		with: `case errors.Is(err, barrierrows.ErrNotAll)`,
		pkg:  "saga/embedded", run: "^TestACommitOfWhichTheServerDoesNotKnow$",
		why: "a caller is told unknown of what is certain",
	},
	{
		name: "batch-left", file: "saga/internal/decide/batch.go",
		text: `if m.err = local.Expired(m.ctx); m.err != nil {`,
		with: `if false {`,
		pkg:  "saga/embedded", run: "^TestACallerLeavesTheCompany$/^sqlite$",
		why: "a batch with a caller who has gone is written again and again",
	},
	{
		name: "batch-order", file: "saga/internal/decide/batch.go",
		text: `	sortByInput(batch)
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestBatchesLockInOrder$",
		why: "batches that want the same rows deadlock",
	},
	{
		name: "rest-rejected", file: "saga/internal/decide/try.go",
		text: `case undoable && len(remaining) == len(r.batch) && allRejected(failures):`,
		with: `case undoable && len(remaining) == len(r.batch):`,
		pkg:  "saga/embedded", run: "^TestALaterBulkBranchFails$/^sqlite$",
		why: "a fault of a later branch is recorded as a rejection, although it may pass alone",
	},
	{
		name: "rest-again", file: "saga/internal/decide/try.go",
		text: `	if err := point.RollBack(ctx); err != nil {
		return nil, err
	}
	r.forgetResults()`,
		with: `	r.forgetResults()`,
		pkg:  "saga/embedded", run: "^TestALaterBulkBranchFails$/^sqlite$",
		why: "the first Trys of a member that is refused by a later branch stay reserved, and those of the others are made twice",
	},
	{
		name: "followed-digest", file: "saga/embedded/execute.go",
		text: `case record.Digest != digest:`,
		with: `case false:`,
		pkg:  "saga/embedded", run: "^TestAnotherPlanWhoseCallerGoes$",
		why: "a caller with another plan, whose time is over, is told confirmed",
	},
	{
		name: "begin-batch-confirms", file: "saga/internal/decide/write.go",
		text: `		if decides && s.EndsWithDecision() {`,
		with: `		if s.EndsWithDecision() {`,
		pkg:  "saga/internal/decide", run: "^TestABatchOfBegins$/^sqlite$",
		why: "a branch of an undecided transaction counts as confirmed",
	},
	{
		name: "begin-batch-unanswered", file: "saga/internal/decide/start.go",
		text: `		e.unanswered = m.unanswered
`,
		with: ``,
		pkg:  "saga/internal/decide", run: "^TestAnUnansweredBegin$",
		why: "a transaction that has begun waits for a lease, and is cancelled",
	},
}
