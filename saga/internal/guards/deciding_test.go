package guards

// decidingGuards keep a branch that decides the only one that decides.
var decidingGuards = []guard{
	{
		name: "ask-writes", file: "saga/barrier/barrier.go",
		text: `		return r.ask()
`,
		with: `		if state, _ := r.turnedAway(); state == "" {
			return EmptyRollback, nil
		}
		return r.ask()
`,
		pkg: "saga/barrier", run: "^TestVerdicts$/^sqlite", short: true,
		why: "a Try that comes after the answer commits, and its transaction is cancelled",
	},
	{
		name: "ask-tried", file: "saga/barrier/barrier.go",
		text: `if state == StateTried || state == StateConfirmed {`,
		with: `if state == StateConfirmed {`,
		pkg:  "tcc", run: "^TestProcessGoneAfterTheCommitThatDecides$",
		why: "a Try that is committed counts as one that is not",
	},
	{
		name: "ask-commit", file: "saga/internal/call/ask.go",
		text: `if err == nil && verdict != barrier.Duplicate {`,
		with: `if verdict != barrier.Duplicate {`,
		pkg:  "tcc", run: "^TestUnansweredCommitsOfTheBranchThatDecides$/^orders$",
		why: "a question whose COMMIT was not made counts as answered, and refuses no late Try",
	},
	{
		name: "ask-execution", file: "saga/internal/decide/deciding.go",
		text: `	if !e.mayBeCommitted {`,
		with: `	if true {`,
		pkg:  "tcc", run: "^TestUnansweredCommitsOfTheBranchThatDecides$/^orders$",
		why: "a Try whose COMMIT was not answered is cancelled",
	},
	{
		name: "ask-called", file: "saga/internal/decide/deciding.go",
		text: `	e.mayBeCommitted = true
`,
		with: ``,
		pkg:  "saga/remote", run: "^TestServiceThatDecides$/^unsigned,_committed$",
		why: "a Try of another service that was not answered is cancelled",
	},
	{
		name: "ask-continued", file: "saga/internal/decide/forward.go",
		text: `, mayBeCommitted: t.Deciding() != nil}`,
		with: `}`,
		pkg:  "tcc", run: "^TestForwardRecoveryAsksBeforeItCancels$",
		why: "the process that had the transaction before commits after the decision to cancel",
	},
	{
		name: "ask-recovery", file: "saga/internal/recovery/recovery.go",
		text: `		if t.Deciding() != nil {
			if committed`,
		with: `		if false {
			if committed`,
		pkg: "tcc", run: "^TestProcessGoneAfterTheCommitThatDecides$",
		why: "recovery cancels a transaction whose branch has committed",
	},
	{
		name: "ask-unanswered", file: "saga/internal/decide/ask.go",
		text: `		return false, d.noteUnanswered(ctx, t, s, err)
`,
		with: `		return false, nil
`,
		pkg: "saga/remote", run: "^TestServiceThatDecides$/^unsigned,_committed$",
		why: "a question that nobody has answered counts as a no",
	},
	{
		name: "ask-cancel", file: "saga/embedded/decision.go",
		text: `	committed, err := o.calls.Ask(ctx, s.Branch, question)
`,
		with: `	committed, err := false, ctx.Err()
`,
		pkg: "tcc", run: "^TestCancelAsksTheBranchThatDecides$",
		why: "an operator cancels a transaction whose branch has committed",
	},
	{
		name: "ask-plain", file: "saga/remote/service.go",
		text: `		if call.Op == barrier.Ask {
`,
		with: `		if false {
`,
		pkg: "saga/remote", run: "^TestAskOfAHost$",
		why: "a service that does not know the question answers it with yes",
	},
	{
		name: "deciding-log", file: "saga/internal/txlog/queries.go",
		text: "decideHere := decide + byNoBranch",
		with: "decideHere := decide",
		pkg:  "saga/internal/txlog", run: "^TestDecisionByABranch$/^sqlite$",
		why: "a path that has not asked decides",
	},
	{
		name: "deciding-deadline", file: "saga/internal/txlog/end.go",
		text: `	case d.ByBranch:
`,
		with: `	case d.ByBranch && d.State == Cancelling:
`,
		pkg: "tcc", run: "^TestDeadlineAfterTheCommitThatDecides$",
		why: "a transaction whose branch has committed before the deadline is never confirmed after it",
	},
	{
		name: "deciding-kind", file: "saga/internal/txlog/claim.go",
		text: `		if c.deciding != "" {
`,
		with: `		if false {
`,
		pkg: "tcc", run: "^TestUnknownKindThatDecides$/^sqlite$",
		why: "an instance that cannot ask takes the transaction over",
	},
	{
		name: "record-plan", file: "saga/embedded/open.go",
		text: `record.Digest != start.Digest || `,
		with: ``,
		pkg:  "saga/embedded", run: "^TestRecord$/^committed$/^sqlite$",
		why: "a second plan with the same gid counts as recorded, and is lost",
	},
	{
		name: "record-before", file: "saga/embedded/record.go",
		text: `|| !plan.Steps[0].Decides`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestRecordRefuses$",
		why: "a step that nobody tries is confirmed",
	},
	{
		name: "query-missing", file: "saga/dtm/server/branch.go",
		text: `	case address == "" && call.Op == barrier.Ask:
`,
		with: `	case false:
`,
		pkg: "saga/dtm/server", run: "^TestQuestionWithoutURL$",
		why: "a question that nobody is asked counts as a yes",
	},
}
