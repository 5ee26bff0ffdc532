package guards

// bulkGuards keep acts on many transactions from being made twice or on others, and the labels of
// transactions with them.
var bulkGuards = []guard{
	{
		name: "bulk-once", file: "saga/internal/txlog/bulk.go",
		text: `SET result = 'done', acted_at = {now} WHERE bulk_id = ? AND number = ? AND result = ''`,
		with: `SET result = 'done', acted_at = {now} WHERE bulk_id = ? AND number = ?`,
		pkg:  "saga/embedded", run: "^TestBulkWithAListThatIsOutOfDate$/^retry$", short: true,
		why: "a transaction of a bulk action is acted on twice",
	},
	{
		name: "bulk-result", file: "saga/internal/txlog/bulk.go",
		text: `SET result = ?, error = ?, acted_at = {now} WHERE bulk_id = ? AND number = ? AND result = ''`,
		with: `SET result = ?, error = ?, acted_at = {now} WHERE bulk_id = ? AND number = ?`,
		pkg:  "saga/embedded", run: "^TestBulkWithAListThatIsOutOfDate$/^pause$",
		why: "a bulk action says that it has not acted on a transaction on which it has",
	},
	{
		name: "bulk-complete", file: "saga/internal/txlog/bulk.go",
		text: `FROM saga_bulk_acts WHERE total >= 0` + "`",
		with: `FROM saga_bulk_acts WHERE total >= -1` + "`",
		pkg:  "saga/embedded", run: "^TestBulkListThatBreaksOff$",
		why: "a person confirms the number of an incomplete list, and it is run",
	},
	{
		name: "bulk-started", file: "saga/internal/txlog/bulk.go",
		text: "SET total = -1 WHERE id = ? AND ` + old)",
		with: "SET total = -1 WHERE id = ? AND (1 = 1 OR ` + old + `)`)",
		pkg:  "saga/embedded", run: "^TestBulkThatBeginsWhileItIsCleaned$",
		why: "the list of a bulk action is removed while it runs",
	},
	{
		name: "bulk-same", file: "saga/embedded/bulk.go",
		text: `return !listed.IsZero() && r.CreatedAt.After(listed)`,
		with: `return false && r.CreatedAt.After(listed)`,
		pkg:  "saga/embedded", run: "^TestBulkTargetsThatHaveChanged$/^sqlite$",
		why: "a bulk action acts on a new transaction that has the gid of one in its list",
	},
	{
		name: "bulk-act-rolled-back", file: "saga/internal/txlog/operate.go",
		text: `		if err := bulks(l).done(ctx, tx, a.BulkID, a.Target); err != nil {
			return err
		}
`,
		with: `		_ = bulks(l).done(ctx, tx, a.BulkID, a.Target)
`,
		pkg: "saga/embedded", run: "^TestBulkWithAListThatIsOutOfDate$/^retry$",
		why: "the second one to act on a transaction of a bulk action is not stopped",
	},
	{
		name: "labels-withdrawn", file: "saga/internal/txlog/start.go",
		text: `	return l.removeFrom(ctx, tx, []func(int) string{l.sql.labels.remove}, labelled)
`,
		with: `	return nil
`,
		pkg: "saga/embedded", run: "^TestLabelsOfRejectionsShareACommit$",
		why: "a rejection of a transaction with labels dissolves its batch",
	},
	{
		name: "labels-removed", file: "saga/internal/txlog/clean.go",
		text: `	q.remove = append(q.remove, labelStatements(d).remove)
`,
		with: ``,
		pkg:  "saga/embedded", run: "^TestLabelsAreRemoved$/^sqlite$",
		why: "labels outlive their transaction, and are shown for another one with the same gid",
	},
}
