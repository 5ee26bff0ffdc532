package guards

// commitGuards keep the members of shared commits apart: of the log, and of calls of branches.
var commitGuards = []guard{
	{
		name: "confirm-many-late", file: "saga/internal/txlog/queries.go",
		text: "WHERE state = 'trying' AND epoch = ?`+inTime+",
		with: "WHERE state = 'trying' AND epoch = ?`+",
		pkg:  "saga/internal/commit", run: "^TestOneMemberFails$/^sqlite$",
		why: "a transaction of a batch is confirmed after its deadline",
	},
	{
		name: "confirm-many-state", file: "saga/internal/txlog/queries.go",
		text: "WHERE state = 'trying' AND epoch = ?`+inTime+",
		with: "WHERE epoch = ?`+inTime+",
		pkg:  "saga/internal/commit", run: "^TestOneMemberFails$/^sqlite$", short: true,
		why: "a transaction of a batch is decided twice",
	},
	{
		name: "commit-unanswered", file: "saga/internal/commit/commit.go",
		text: "func isUnanswered(err error) bool { return errors.Is(err, local.ErrCommitUnknown) }",
		with: "func isUnanswered(err error) bool { return errors.Is(err, local.ErrCommitUnknown) && false }",
		pkg:  "saga/internal/commit", run: "^TestUnansweredCommit$", short: true,
		why: "a begin whose COMMIT was not answered finds its own row, and is told that the gid is in use",
	},
	{
		name: "commit-gone", file: "saga/internal/commit/commit.go",
		text: "if m.err = local.Expired(m.ctx); m.err != nil {",
		with: "if m.err = nil; m.err != nil {",
		pkg:  "saga/internal/commit", run: "^TestACallerIsGone$",
		why: "a transaction is begun for a caller that is told that nothing was begun",
	},
	{
		name: "gather-confirm-tried", file: "saga/internal/call/gatherrun.go",
		text: "if found[i] != barrierrows.Tried {",
		with: "if found[i] == barrierrows.Missing {",
		pkg:  "saga/internal/call", run: "^TestVerdictsOfABatch$/^sqlite$",
		why: "a Confirm of a batch is told that it was done, although the branch is cancelled",
	},
	{
		name: "gather-suspend", file: "saga/internal/call/gatherrun.go",
		text: "if len(missing) > 0 {",
		with: "if len(missing) < 0 {",
		pkg:  "saga/internal/call", run: "^TestVerdictsOfABatch$/^sqlite$",
		why: "a Try that arrives after a Cancel of a batch reserves, and nobody cancels it",
	},
	{
		name: "gather-untry", file: "saga/internal/call/gatherrun.go",
		text: "if len(failed) > 0 {",
		with: "if len(failed) < 0 {",
		pkg:  "saga/internal/call", run: "^TestFailuresInABatch$/^sqlite$",
		why: "a Try of a batch that was rejected counts as tried, and a repeated one as done",
	},
	{
		name: "gather-savepoint", file: "saga/internal/call/gatherrun.go",
		text: "failures[i], err = rejection, point.RollBack(ctx); err != nil {",
		with: "failures[i], err = rejection, nil; err != nil {",
		pkg:  "saga/internal/call", run: "^TestRejectionUndoesItsWork$/^sqlite$",
		why: "what a rejected Try of a batch has written stays",
	},
	{
		name: "gather-inputs", file: "saga/internal/call/gatherrun.go",
		text: "if err := inputs.Remove(ctx, r.tx, m.call.Key()); err != nil {",
		with: "if err := inputs.Remove(ctx, r.tx, barrier.Key{}); err != nil {",
		pkg:  "saga/internal/call", run: "^TestResultsAndInputsOfABatch$/^sqlite$",
		why: "a host asks for ever for the outcome of a branch that was confirmed in a batch",
	},
	{
		name: "guard-of-callers", file: "saga/embedded/executein.go",
		text: "tx, err = local.Guard(ctx, tx)",
		with: "_, err = local.Guard(ctx, tx)",
		pkg:  "saga/embedded", run: "^TestADeadlockThatABranchIgnoresInALocalTransaction$",
		why: "after a deadlock that a branch ignores, the rest of a plan in a caller's local transaction commits by itself",
	},
	{
		name: "gather-end-count", file: "saga/internal/barrierrows/batch.go",
		text: "if n, err := result.RowsAffected(); err != nil || n != int64(len(gids)) {\n\t\treturn errors.Join(ErrNotAll, err)",
		with: "if _, err := result.RowsAffected(); err != nil {\n\t\treturn errors.Join(ErrNotAll, err)",
		pkg:  "saga/internal/barrierrows", run: "^TestEndBatch$/^sqlite$",
		why: "a batch confirms or cancels a branch that is not tried",
	},
}
