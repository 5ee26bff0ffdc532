package guards

// lookupGuards keep an operator from seeing barrier rows that are not of the transaction, and
// others from seeing any.
var lookupGuards = []guard{
	{
		name: "barrier-question-signed", file: "saga/remote/servebarrier.go",
		text: `	if err == nil {
		err = checkQuestion(`,
		with: `	if err = nil; err == nil {
		err = checkQuestion(`,
		pkg: "saga/remote", run: "^TestStrangeBarrierQuestions$",
		why: "anybody who reaches the port of a host reads its barrier rows",
	},
	{
		name: "barrier-question-caller", file: "saga/barrier/queries.go",
		text: ` AND caller IN (?, '') ORDER BY branch_id LIMIT ?`,
		with: ` AND ? <> '' ORDER BY branch_id LIMIT ?`,
		pkg:  "saga/remote", run: "^TestBarrierRowsOfAService$/^sqlite$",
		why: "an operator of one log sees the barrier rows of another one with the same gid",
	},
	{
		name: "barrier-answer-signed", file: "saga/remote/barrier.go",
		text: `case signed != nil && !signed.signs(`,
		with: `case false && !signed.signs(`,
		pkg:  "saga/remote", run: "^TestSignedBarrierAnswers$",
		why: "an operator is shown barrier rows that somebody else has made up, or old ones",
	},
	{
		name: "barrier-answer-question", file: "saga/remote/barrier.go",
		text: `case reply.Caller != asked.Caller || reply.GID != asked.GID || reply.Request != asked.Request:`,
		with: `case false:`,
		pkg:  "saga/remote", run: "^TestBarrierAnswersThatDoNotCount$",
		why: "an old answer of an unsigned host counts",
	},
	{
		name: "barrier-answer-rows", file: "saga/remote/barrier.go",
		text: `case row.GID != asked.GID || row.Caller != "" && row.Caller != asked.Caller:`,
		with: `case false:`,
		pkg:  "saga/remote", run: "^TestBarrierAnswersThatDoNotCount$",
		why: "the barrier rows of another transaction are shown",
	},
	{
		name: "lookup-settle", file: "saga/embedded/lookup.go",
		text: `	v.inFlight.Settle(ctx, gid)
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestToldBeforeTheEndIsWritten$",
		why: "a caller that was told that a transaction is confirmed asks the engine, which says that it is not yet",
	},
}
