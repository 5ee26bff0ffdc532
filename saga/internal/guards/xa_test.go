package guards

// xaGuards keep a prepared transaction from being ended twice, or not at all.
var xaGuards = []guard{
	{
		name: "xa-not-begun", file: "saga/internal/local/twophase.go",
		text: `c.broken = c.broken || c.send(ctx, c.statements.NotBegun) != nil`,
		with: `_ = c.Rollback()`,
		pkg:  "saga/xa", run: "^TestVerdicts$/^mysql$",
		why: "a repeated Try rolls back what the first one has prepared",
	},
	{
		name: "xa-gone", file: "saga/xa/database.go",
		text: `if err = d.awaitEnd(ctx, p.format); err != nil {`,
		with: `if err = nil; err != nil {`,
		pkg:  "saga/xa", run: "^TestEndedWhileTheConnectionCloses$",
		why: "MariaDB answers a COMMIT with success and does nothing, while it ends the connection that has prepared",
	},
	{
		name: "xa-cancelled-row", file: "saga/xa/branch.go",
		text: `return r.record(ctx, true, request(call, barrier.Try), request(call, barrier.Cancel))`,
		with: `return nil`,
		pkg:  "saga/xa", run: "^TestVerdicts$/^mysql$",
		why: "a Try that arrives after its Cancel is prepared, and nobody ends it",
	},
	{
		name: "xa-unknown", file: "saga/xa/branch.go",
		text: `	err = r.record(ctx, false, request(call, barrier.Confirm))
`,
		with: `	err = nil
`,
		pkg: "saga/xa", run: "^TestPreparedTransactionIsLost$/^postgres$",
		why: "a Confirm whose transaction is lost succeeds",
	},
	{
		name: "xa-failed-statement", file: "saga/xa/server.go",
		text: `End: "SELECT 1", `,
		with: ``,
		pkg:  "saga/xa", run: "^TestDeadlock$/^postgres$",
		why: "PostgreSQL answers PREPARE with success and rolls back, if the work has ignored an error",
	},
	{
		name: "xa-foreign", file: "saga/xa/indoubt.go",
		text: `case p.Foreign || p.State == saga.Trying:`,
		with: `case p.State == saga.Trying:`,
		pkg:  "saga/xa", run: "^TestSweep$/^postgres$",
		why: "Sweep rolls back the transactions of another engine",
	},
	{
		name: "xa-undecided", file: "saga/xa/indoubt.go",
		text: `case p.Foreign || p.State == saga.Trying:`,
		with: `case p.Foreign:`,
		pkg:  "saga/xa", run: "^TestSweep$/^postgres$",
		why: "Sweep rolls back what is not decided yet",
	},
	{
		name: "xa-state-not-known", file: "saga/xa/states.go",
		text: `p.Err = errShortened`,
		with: `p.Err = nil`,
		pkg:  "saga/xa", run: "^TestStatesOfMany$", short: true,
		why: "an operator is told that the log does not have a transaction, although the search was given up",
	},
}
