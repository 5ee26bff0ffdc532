package guards

// batchGuards keep the members of a shared commit from harming each other.
var batchGuards = []guard{
	{
		name: "finish-all-count", file: "saga/internal/txlog/end.go",
		text: `if changed, err := result.RowsAffected(); err != nil || changed != int64(n) {`,
		with: `if _, err := result.RowsAffected(); err != nil {`,
		pkg:  "saga/internal/txlog", run: "^TestFinishAll$/^sqlite$", short: true,
		why: "a driver that has lost one of a batch is told that all are finished",
	},
	{
		name: "finish-all-epoch", file: "saga/internal/txlog/queries.go",
		text: `WHERE state IN ('confirming', 'cancelling') AND epoch = ? AND gid IN`,
		with: `WHERE state IN ('confirming', 'cancelling') AND epoch >= ? AND gid IN`,
		pkg:  "saga/internal/txlog", run: "^TestFinishAll$/^sqlite$",
		why: "a driver that has lost one of a batch finishes it under another driver",
	},
	{
		name: "finish-all-state", file: "saga/internal/txlog/queries.go",
		text: `WHERE state IN ('confirming', 'cancelling') AND epoch = ? AND gid IN`,
		with: `WHERE epoch = ? AND gid IN`,
		pkg:  "saga/internal/txlog", run: "^TestFinishAll$/^sqlite$",
		why: "a confirmed transaction becomes cancelled",
	},
	{
		name: "finish-all-count-engine", file: "saga/internal/txlog/end.go",
		text: `if changed, err := result.RowsAffected(); err != nil || changed != int64(n) {`,
		with: `if _, err := result.RowsAffected(); err != nil {`,
		pkg:  "saga/embedded", run: "^TestAStaleArrivalInCompany$/^sqlite$",
		why: "an engine that was paused past its lease reports the end of what another one drives",
	},
	{
		name: "confirm-all-count", file: "saga/internal/barrierrows/batch.go",
		text: `if changed, err := result.RowsAffected(); err != nil || changed != int64(n) {`,
		with: `if _, err := result.RowsAffected(); err != nil {`,
		pkg:  "saga/internal/barrierrows", run: "^TestConfirmAll$/^sqlite$", short: true,
		why: "the Confirm of a branch that is not tried, or confirmed already, runs",
	},
	{
		name: "confirm-all-count-engine", file: "saga/internal/barrierrows/batch.go",
		text: `if changed, err := result.RowsAffected(); err != nil || changed != int64(n) {`,
		with: `if _, err := result.RowsAffected(); err != nil {`,
		pkg:  "saga/embedded", run: "^TestAConflictInTheLastCommit$/^sqlite$",
		why: "a Confirm runs whose branch is cancelled, and the transaction ends as confirmed",
	},
	{
		name: "confirm-all-state", file: "saga/internal/barrierrows/queries.go",
		text: `WHERE state = 'tried' AND caller IN (?, '') AND branch_id IN`,
		with: `WHERE caller IN (?, '') AND branch_id IN`,
		pkg:  "saga/internal/barrierrows", run: "^TestConfirmAll$/^sqlite$",
		why: "a cancelled branch is confirmed",
	},
	{
		name: "confirm-all-caller", file: "saga/internal/barrierrows/queries.go",
		text: `WHERE state = 'tried' AND caller IN (?, '') AND branch_id IN`,
		with: `WHERE state = 'tried' AND caller IN (?, '', caller) AND branch_id IN`,
		pkg:  "saga/internal/barrierrows", run: "^TestConfirmAll$/^sqlite$",
		why: "the branch of another engine that uses the same gid is confirmed",
	},
	{
		name: "try-all-duplicate", file: "saga/internal/barrierrows/batch.go",
		text: `		if local.Duplicate(err) {
			return ErrNotAll
		}`,
		with: `		if local.Duplicate(err) {
			return err
		}`,
		pkg: "saga/embedded", run: "^TestABranchThatIsKnownInCompany$/^sqlite$",
		why: "a caller whose branch has a barrier row is told an error of the database instead of a verdict",
	},
	{
		name: "refused-barrier", file: "saga/internal/decide/write.go",
		text: `	if err := barrierrows.Remove(ctx, r.tx, gids...); err != nil {
		return nil, err
	}
`,
		with: `	_ = barrierrows.Remove
`,
		pkg: "saga/embedded", run: "^TestARefusedMemberLeavesNoBarrierRow$/^sqlite$",
		why: "a cancelled transaction of a batch leaves a barrier row that says it is confirmed",
	},
	{
		name: "refused-log", file: "saga/internal/decide/write.go",
		text: `	if err := r.d.Log.Withdraw(ctx, r.tx, starts...); err != nil {
		return nil, err
	}
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestRejectionsShareACommit$",
		why: "each rejection dissolves its batch, because the log has the transaction already",
	},
	{
		name: "refused-fresh", file: "saga/internal/decide/batch.go",
		text: `	err = d.Shared.Run(ctx, len(batch), branchesOf(batch[0].steps), func(ctx context.Context, tx *gorm.DB, w *call.Watch) error {
		run := &batchRun{d: d, tx: tx, watch: w, batch: batch, cancelled: map[*item]*txn.BranchError{}}`,
		with: `	kept := map[*item]*txn.BranchError{}
	err = d.Shared.Run(ctx, len(batch), branchesOf(batch[0].steps), func(ctx context.Context, tx *gorm.DB, w *call.Watch) error {
		run := &batchRun{d: d, tx: tx, watch: w, batch: batch, cancelled: kept}`,
		pkg: "saga/embedded", run: "^TestABatchIsRunAgain$/^sqlite$",
		why: "a refusal of a run that was rolled back is told, although the next run has confirmed",
	},
	{
		name: "gone", file: "saga/internal/decide/write.go",
		text: `		if local.Expired(m.ctx) != nil {
			return errCallerGone
		}`,
		with: `		_ = local.Expired(m.ctx)`,
		pkg:  "saga/embedded", run: "^TestACallerGoesWhileTheBatchIsWritten$/^sqlite$",
		why: "a caller that has gone is confirmed after its deadline",
	},
	{
		name: "savepoint", file: "saga/internal/decide/try.go",
		text: `return failed, point.RollBack(ctx)`,
		with: `return failed, nil`,
		pkg:  "saga/embedded", run: "^TestRejectionsOneByOne$/^sqlite$",
		why: "the first Trys of a member that is refused later stay reserved, and nobody gives them back",
	},
	{
		name: "savepoint-sent", file: "saga/internal/call/savepoint.go",
		text: `	if s.isCurrent() {
		return nil
	}
	return s.exec(ctx, "ROLL`,
		with: `	if true {
		return nil
	}
	return s.exec(ctx, "ROLL`,
		pkg: "saga/embedded", run: "^TestRejectionsOneByOne$/^sqlite$",
		why: "what a rejected member has written stays",
	},
	{
		name: "savepoint-each", file: "saga/internal/call/savepoint.go",
		text: `	if s.set && s.isCurrent() {`,
		with: `	if s.set {`,
		pkg:  "saga/embedded", run: "^TestRejectionsOneByOne$/^sqlite$",
		why: "a rejection undoes what other members have reserved",
	},
	{
		name: "confirm-stumbles", file: "saga/internal/decide/write.go",
		text: `		if failures != nil {
			return failureOf(barrier.Confirm, members, failures)
		}`,
		with: `		_ = failures`,
		pkg:  "saga/embedded", run: "^TestAFailureInCompany$/^sqlite$",
		why: "a joint Confirm that failed counts as done",
	},
	{
		name: "late-try-failure", file: "saga/internal/decide/try.go",
		text: `			// The effects of their other branches have to be undone.
			return nil, failureOf(barrier.Try, remaining, failures)
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestRejectionsShareACommit$",
		why: "a member whose later Try has failed is confirmed",
	},
	{
		name: "watch-abort", file: "saga/internal/call/watch.go",
		text: `	go func() { tx.Abort(ErrSlow); close(aborted) }()`,
		with: `	go func() { _ = tx; close(aborted) }()`,
		pkg:  "saga/embedded", run: "^TestACallThatIgnoresTheEndOfItsBatch$/^sqlite$",
		why: "a batch that was given up holds its locks, and what its call still does may be committed",
	},
	{
		name: "watch-fires", file: "saga/internal/call/shared.go",
		text: `	case <-w.fired:
		err = ErrSlow
	}
	if members > 1 {`,
		with: `	}
	if members > 1 {`,
		pkg: "saga/embedded", run: "^TestACallThatIgnoresTheEndOfItsBatch$/^sqlite$",
		why: "one slow call makes all of its batch wait",
	},
	{
		name: "together-results", file: "saga/internal/call/batch.go",
		text: `case failures != nil && len(failures) != len(calls):`,
		with: `case false:`,
		pkg:  "saga/embedded", run: "^TestATogetherThatDoesNotCountWell$/^sqlite$",
		why: "a bulk branch that returns too few results gives the failure of one to another, or panics",
	},
}
