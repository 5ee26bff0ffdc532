package guards

// messageGuards keep a message from being handled twice, lost, or out of its order.
var messageGuards = []guard{
	{
		name: "inbox-moved", file: "branches/message/inbox.go",
		text: `if result.Error == nil && result.RowsAffected != int64(len(entries)+len(next)) {`,
		with: `if false {`,
		pkg:  "branches/message", run: "^TestHandledElsewhereMeanwhile$/^sqlite$",
		why: "a message that another process has handled meanwhile is handled again",
	},
	{
		name: "inbox-handled", file: "branches/message/inbox.go",
		text: `WHERE"+ofMessages+" AND handled_at IS NULL", b.of(entries)...)
	} else {`,
		with: `WHERE"+ofMessages, b.of(entries)...)
	} else {`,
		pkg: "branches/message", run: "^TestHandledElsewhereMeanwhile$/^sqlite$",
		why: "the same",
	},
	{
		name: "inbox-next", file: "branches/message/inbox.go",
		text: ` begun_by = CASE WHEN message_id IN ? THEN '' ELSE ? END WHERE"+ofMessages+" AND handled_at IS NULL",`,
		with: ` begun_by = CASE WHEN message_id IN ? THEN '' ELSE ? END WHERE"+ofMessages,`,
		pkg:  "branches/message", run: "^TestNextIsHandledElsewhere$/^postgres$",
		why: "a message that waits, and that another process has handled, is handled again",
	},
	{
		name: "attempts", file: "branches/message/retry.go",
		text: `if e.attempts >= w.config.Attempts || isPermanent(failure) {`,
		with: `if isPermanent(failure) {`,
		pkg:  "branches/message", run: "^TestLastAttemptOfAKey$",
		why: "a message with a key that no handler can handle is handled for ever, and holds up its key",
	},
	{
		name: "attempts-claimed", file: "branches/message/claim.go",
		text: `	case r.Attempts >= c.config.Attempts:
		return verdictDead, nil
`,
		with: ``,
		pkg:  "branches/message", run: "^TestHandlerKillsTheProcess$/^sqlite$",
		why: "a message whose attempts are used up is handled once more, by each process",
	},
	{
		name: "attempt-killed", file: "branches/message/inbox.go",
		text: `ELSE attempts + 1 END,"+`,
		with: `ELSE attempts END,"+`,
		pkg:  "branches/message", run: "^TestHandlerKillsTheProcess$/^sqlite$",
		why: "a message whose handler ends the process ends one process after the other",
	},
	{
		name: "suspected-attempt", file: "branches/message/inbox.go",
		text: `CASE WHEN begun_by LIKE '%+' THEN attempts WHEN error`,
		with: `CASE WHEN error`,
		pkg:  "branches/message", run: "^TestHandlerKillsTheProcess$/^sqlite$",
		why: "a message spends an attempt on the handler of another one, and becomes a dead letter",
	},
	{
		name: "suspected-twice", file: "branches/message/inbox.go",
		text: `WHEN error = ? THEN attempts + 2 ELSE`,
		with: `WHEN error = ? THEN attempts + 1 ELSE`,
		pkg:  "branches/message", run: "^TestHandlerKillsTheProcess$/^sqlite$",
		why: "a message whose handler ends the process ends more processes than it has attempts",
	},
	{
		name: "suspected-alone", file: "branches/message/claim.go",
		text: `e.alone = e.attempts > 0 || e.reason == suspected`,
		with: `e.alone = e.attempts > 0`,
		pkg:  "branches/message", run: "^TestHandlerKillsTheProcess$/^sqlite$",
		why: "a message whose handler ends the process is suspected for ever, together with others",
	},
	{
		name: "resent", file: "branches/message/claim.go",
		text: `if !r.Handled && e.resent > r.Resent && (r.Buried || r.Attempts >= c.config.Attempts) {`,
		with: `if !r.Handled && e.resent > r.Resent && false {`,
		pkg:  "branches/message", run: "^TestDeadLetterAndResend$/^sqlite$",
		why: "a message that was sent again from the dead letters is dropped",
	},
	{
		name: "give-back", file: "branches/message/consumer.go",
		text: `	c.inflight.giveBack(rest)
	workers.Wait()`,
		with: `	_ = rest
	workers.Wait()`,
		pkg: "branches/message", run: "^TestCleanStopGivesBack$",
		why: "what waits in a process that stops comes again only after its AckWait",
	},
	{
		name: "give-back-marked", file: "branches/message/consumer.go",
		text: `	c.inflight.giveBack(marking)
`,
		with: `	_ = marking
`,
		pkg: "branches/message", run: "^TestCleanStopGivesBack$",
		why: "the same of what a worker was about to begin",
	},
	{
		name: "give-back-rest", file: "branches/message/inflight.go",
		text: `if err := f.inbox.unbegin(ctx, entries); err != nil {`,
		with: `if err := ctx.Err(); err != nil {`,
		pkg:  "branches/message", run: "^TestCleanStopGivesBack$/^alone$",
		why: "a message spends an attempt on a Stop before its handler has begun",
	},
	{
		name: "give-back-key", file: "branches/message/work.go",
		text: `		if !w.queue.putBack(entries, delays[key]) {
			w.giveBack(entries)
		}`,
		with: `		_ = w.queue.putBack(entries, delays[key])`,
		pkg:  "branches/message", run: "^TestFailureWhileStopping$",
		why: "a message with a key that fails during Stop comes again only after its AckWait",
	},
	{
		name: "database-hangs", file: "branches/message/transact.go",
		text: `w.ctx.Err() == nil && w.databaseHangs():`,
		with: `w.ctx.Err() == nil && false:`,
		pkg:  "branches/message", run: "^TestDatabaseHangs$",
		why: "a message spends an attempt on a database that hangs",
	},
	{
		name: "letter-first", file: "branches/message/retry.go",
		text: `		return w.retryAfter(e, w.config.backoff(max(e.letterFailures, 3)))
`,
		with: ``,
		pkg:  "branches/message", run: "^TestLargestMessageOfWorkQueue$",
		why: "a message whose dead letter could not be written is acknowledged, and lost",
	},
	{
		name: "key-lane", file: "branches/message/queue.go",
		text: `if key := e.m.Key; key != "" {`,
		with: `if key := e.m.Key; false {`,
		pkg:  "branches/message", run: "^TestWorkersKeepTheOrderOfAKey$/^batch_1$/^sqlite$",
		why: "messages of one key are handled at once, and out of their order",
	},
	{
		name: "inbox-kept", file: "branches/message/inboxclean.go",
		text: `first uint64) (last string, err error) {
`,
		with: `first uint64) (last string, err error) {
	first = 1 << 62
`,
		pkg: "branches/message", run: "^TestInboxIsCleaned$/^sqlite$",
		why: "a message that the stream still has is handled again after the retention",
	},
	{
		name: "outbox-prepared", file: "branches/message/outbox.go",
		text: `if result.Error == nil && result.RowsAffected != int64(rows) {`,
		with: `if false {`,
		pkg:  "branches/message", run: "^TestExercise$",
		why: "a message counts as published or discarded that the outbox does not hold",
	},
	{
		name: "outbox-foreign", file: "branches/message/outbox.go",
		text: `if errors.Is(r.err, broker.ErrForeign) {`,
		with: `if false {`,
		pkg:  "branches/message", run: "^TestAnotherMessageUnderItsID$",
		why: "nobody is told of a message that the broker takes for another one",
	},
	{
		name: "outbox-id", file: "branches/message/outbox.go",
		text: `call.Key().String() + "/" + rand.Text()`,
		with: `call.Key().String() + "/" + rand.Text()[:0]`,
		pkg:  "branches/message", run: "^TestTheSameGIDTwice$/^sqlite$",
		why: "a message of another service with the same gid is dropped as a repetition",
	},
	{
		name: "outbox-key", file: "branches/message/outbox.go",
		text: `case in.Key != "" && call.Caller != p.logID:`,
		with: `case false:`,
		pkg:  "branches/message", run: "^TestKeyNeedsTheEnginesDatabase$",
		why: "a message with a key goes out in an order that nobody knows",
	},
	{
		name: "order-decided", file: "branches/message/order.go",
		text: `ORDER BY t.decided_at, `,
		with: `ORDER BY `,
		pkg:  "branches/message", run: "^TestOrderOfTheDecisions$/^sqlite$",
		why: "messages of one key go out in the order of their transactions' begins",
	},
	{
		name: "order-behind", file: "branches/message/order.go",
		text: `if !earlier.done {`,
		with: `if false {`,
		pkg:  "branches/message", run: "^TestBehindAMessageThatFails$/^sqlite$",
		why: "a message overtakes an earlier one of its key that could not be published",
	},
	{
		name: "publishin-committed", file: "branches/message/direct.go",
		text: `err = d.p.local.Run(ctx, work)`,
		with: `err = work(d.p.db.WithContext(ctx))`,
		pkg:  "branches/message", run: "^TestPublishInBeforeTheCommit$",
		why: "a message is published before the commit if the pool reads what is not committed",
	},
	{
		name: "publishin-shown", file: "branches/message/direct.go",
		text: `if found[x.rows[0].MessageID] {`,
		with: `if found != nil {`,
		pkg:  "branches/message", run: "^TestPublishIn$/^sqlite$",
		why: "a message of a local transaction that was rolled back is published",
	},
	{
		name: "publishin-taken", file: "branches/message/direct.go",
		text: `WHERE claimed_by = '' AND message_id IN ?`,
		with: `WHERE message_id IN ?`,
		pkg:  "branches/message", run: "^TestPublishInTakenByAnother$/^sqlite$",
		why: "a message that a relay has claimed is published twice at once",
	},
	{
		name: "publishin-stop", file: "branches/message/direct.go",
		text: `if d.round(true) == nil && len(d.ready) > 0 {`,
		with: `if false {`,
		pkg:  "branches/message", run: "^TestPublishInAndStop$/^sqlite$",
		why: "Stop leaves messages of commits to another process, or publishes them again",
	},
	{
		name: "publishin-claim", file: "branches/message/publishin.go",
		text: `claim = later(tx, d.claim())`,
		with: `claim = "NULL"`,
		pkg:  "branches/message", run: "^TestPublishInClaim$/^sqlite$",
		why: "a relay publishes a message while its own process does",
	},
	{
		name: "publishin-data", file: "branches/message/publishin.go",
		text: `r.Data = bytes.Clone(r.Data)`,
		with: `_ = bytes.Clone(r.Data)`,
		pkg:  "branches/message", run: "^TestPublishIn$/^sqlite$",
		why: "a message changes after it was written, because the caller uses its data again",
	},
	{
		name: "publishin-pool", file: "branches/message/publishin.go",
		text: `if pool != d.pool {`,
		with: `if pool == nil {`,
		pkg:  "branches/message", run: "^TestPublishInRefusals$",
		why: "a message is written into a database whose outbox nobody reads",
	},
	{
		name: "publishin-order", file: "branches/message/chain.go",
		text: `case before != nil && !before.done:`,
		with: `case false:`,
		pkg:  "branches/message", run: "^TestPublishInOrderAfterAFailure$/^sqlite$",
		why: "a message overtakes an earlier one of its call that could not be published",
	},
	{
		name: "publishin-elsewhere", file: "branches/message/chain.go",
		text: `if slices.Contains(left, r.AfterID) {`,
		with: `if slices.Contains(left[:0], r.AfterID) {`,
		pkg:  "branches/message", run: "^TestPublishInBehindAnotherRelay$/^sqlite$",
		why: "a message overtakes an earlier one of its call that another relay has",
	},
	{
		name: "outbox-page", file: "branches/message/waitingrows.go",
		text: `AND (t.gid <> ? OR o.branch_id > ?)`,
		with: `AND (t.gid <> ? OR o.branch_id >= ?)`,
		pkg:  "branches/message", run: "^TestOutboxInAnOutage$/^sqlite$",
		why: "a page of the outbox shows a message again",
	},
	{
		name: "outbox-window", file: "branches/message/waitingrows.go",
		text: `		add("<", *to)`,
		with: `		_ = to`,
		pkg:  "branches/message", run: "^TestOutboxStep$/^sqlite$",
		why: "a page shows a message again if transactions end meanwhile",
	},
}
