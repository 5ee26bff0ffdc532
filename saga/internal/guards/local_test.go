package guards

// localGuards keep a local transaction one transaction, and its answer honest.
var localGuards = []guard{
	{
		name: "ready", file: "saga/internal/local/tx.go",
		text: `	if aborted != nil {
		return fmt.Errorf("%w: %w", ErrAborted, aborted)
	}
	return nil
}

// Why a Tx`,
		with: `	return nil
}

// Why a Tx`,
		pkg: "saga/internal/local", run: "^TestIgnoredDeadlock$",
		why: "after a deadlock that user code ignores, statements commit by themselves",
	},
	{
		name: "ready-commit", file: "saga/internal/local/local.go",
		text: `	if err := t.ready(ctx); err != nil {
		return t.classify(ctx, fmt.Errorf("commit: %w", err))
	}
`,
		with: ``,
		pkg:  "saga/internal/local", run: "^TestDeadlockInTheLastStatement$",
		why: "a transaction that the server has rolled back counts as committed",
	},
	{
		name: "rolled-back", file: "saga/internal/local/tx.go",
		text: `case rolledBack(t.dialect, err), t.answered(err) == nil`,
		with: `case t.answered(err) == nil`,
		pkg:  "saga/internal/local", run: "^TestIgnoredDeadlock$",
		why: "a deadlock that user code ignores is not noticed",
	},
	{
		name: "may-have-rolled-back", file: "saga/internal/local/tx.go",
		text: `	case mayHaveRolledBack(t.dialect, err):
		t.mustAsk = true
`,
		with: ``,
		pkg:  "saga/internal/local", run: "^TestSQLiteThatRollsBackByItself$", short: true,
		why: "SQLite has rolled back, and what follows commits by itself",
	},
	{
		name: "doubt", file: "saga/internal/local/tx.go",
		text: `t.mustAsk, t.lockingRead = true, lockingRead`,
		with: `t.lockingRead = lockingRead`,
		pkg:  "saga/internal/local", run: "^(TestImplicitCommitIsNoticed|TestIgnoredDeadlock)$",
		why: "a statement that commits implicitly splits the transaction",
	},
	{
		name: "doubt-locking-read", file: "saga/internal/local/userhandle.go",
		text: `return firstWord(query) == "select" && single(query) && !locking.MatchString(query)`,
		with: `return firstWord(query) == "select" && single(query)`,
		pkg:  "saga/internal/local", run: "^TestIgnoredDeadlock$",
		why: "a deadlock that comes with the rows of a locking read is not noticed",
	},
	{
		name: "lost-in-work", file: "saga/internal/local/tx.go",
		text: `t.answered(err) == nil && (looksLost(err) || ctx.Err() != nil):`,
		with: `t.answered(err) == nil && false:`,
		pkg:  "saga/internal/local", run: "^TestACancelledStatementIsNotIgnored$",
		why: "work goes on after a statement that was cut off, whose effect is not known",
	},
	{
		name: "check-exec", file: "saga/internal/local/userhandle.go",
		text: `	if err := checkEnding(query); err != nil {
		return nil, err
	}
	result, err := t.Tx.ExecContext`,
		with: `	result, err := t.Tx.ExecContext`,
		pkg:  "saga/internal/local", run: "^TestEveryWayToEndATransaction$/^sqlite$", short: true,
		why: "user code commits half of the work",
	},
	{
		name: "check-query", file: "saga/internal/local/userhandle.go",
		text: `	if err := checkEnding(query); err != nil {
		return nil, err
	}
	rows, err := t.Tx.QueryContext`,
		with: `	rows, err := t.Tx.QueryContext`,
		pkg:  "saga/internal/local", run: "^TestEveryWayToEndATransaction$/^sqlite$",
		why: "user code commits half of the work with a query",
	},
	{
		name: "check-row", file: "saga/internal/local/userhandle.go",
		text: `	if err := checkEnding(query); err != nil {
		return t.failedRow(ctx, query, err)
	}`,
		with: ``,
		pkg:  "saga/internal/local", run: "^TestEveryWayToEndATransaction$/^sqlite$",
		why: "user code commits half of the work with a query for one row",
	},
	{
		name: "check-prepare", file: "saga/internal/local/userhandle.go",
		text: `	if err := checkEnding(query); err != nil {
		return nil, err
	}
	return t.Tx.PrepareContext`,
		with: `	return t.Tx.PrepareContext`,
		pkg:  "saga/internal/local", run: "^TestEveryWayToEndATransaction$/^sqlite$",
		why: "user code commits half of the work with a prepared statement",
	},
	{
		name: "commit-method", file: "saga/internal/local/tx.go",
		text: `func (t *Tx) Commit() error { return errOwned }`,
		with: `func (t *Tx) Commit() error { return t.tx.Commit() }`,
		pkg:  "saga/internal/local", run: "^TestEveryWayToEndATransaction$/^sqlite$",
		why: "user code commits half of the work with the method of its handle",
	},
	{
		name: "commit-unknown-mysql", file: "saga/internal/local/fault.go",
		text: `		case slices.Contains([]uint16{1053, 1180, 1317, 1927}, number):
			return commitUnknown
`,
		with: `		case number == 0:
			return commitUnknown
`,
		pkg: "saga/internal/local", run: "^TestAnswersOfCommit$",
		why: "a COMMIT during which the server went away counts as refused, though it may have happened",
	},
	{
		name: "commit-unknown-postgres", file: "saga/internal/local/fault.go",
		text: `case state == "40003" || strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57P"):`,
		with: `case state == "":`,
		pkg:  "saga/internal/local", run: "^TestAnswersOfCommit$",
		why: "the same on PostgreSQL",
	},
	{
		name: "commit-unknown", file: "saga/internal/local/fault.go",
		text: `		return commitRefused
	}
	return commitUnknown
}`,
		with: `		return commitRefused
	}
	return commitTransient
}`,
		pkg: "saga/internal/local", run: "^TestAnswersOfCommit$",
		why: "a COMMIT that was not answered is made again",
	},
	{
		name: "commit-expired", file: "saga/internal/local/local.go",
		text: `	if err := Expired(ctx); err != nil {
		return false, err
	}
`,
		with: ``,
		pkg:  "saga/internal/local", run: "^TestRunWithAContextThatEnds$/^sqlite$",
		why: "work is committed after the end of its context",
	},
	{
		name: "lost-foreign", file: "saga/internal/local/tx.go",
		text: `return askErr != nil && t.answered(askErr) == nil`,
		with: `_ = askErr; return true`,
		pkg:  "saga/internal/local", run: "^TestWhoseConnectionWasLost$/^sqlite$",
		why: "a network error of the user's own makes its work run again and again",
	},
	{
		name: "spoiled", file: "saga/internal/local/tx.go",
		text: `t.aborted, t.unusable = errEnded, true`,
		with: `t.aborted = errEnded`,
		pkg:  "saga/internal/local", run: "^TestASpoiledConnectionIsClosed$",
		why: "a connection goes back to the pool in the middle of somebody's transaction",
	},
	{
		name: "share", file: "saga/internal/local/share.go",
		text: `	if s.slots == nil {
		return func() {}, nil
	}`,
		with: `	if s != nil {
		return func() {}, nil
	}`,
		pkg: "saga/internal/local", run: "^TestShareOfThePool$/^mysql$",
		why: "the framework takes all connections, and the user's own queries wait",
	},
	{
		name: "share-kept", file: "saga/internal/local/share.go",
		text: `slots: make(chan struct{}, size-kept)}`,
		with: `slots: make(chan struct{}, size)}`,
		pkg:  "saga/internal/local", run: "^TestShareCountsWhatIsKept$",
		why: "idle sessions of shared commits come on top of the share",
	},
	{
		name: "heart-reserved", file: "saga/internal/local/exec.go",
		text: `	if good && !r.closed {
		r.conn = conn
		return
	}`,
		with: `	_ = good`,
		pkg:  "saga/internal/local", run: "^TestReserved$",
		why: "a heartbeat waits for a connection while the pool is exhausted, and the lease runs out",
	},
	{
		name: "heart-readonly", file: "saga/internal/local/exec.go",
		text: `|| !looksLost(err) && !readOnly(err) {`,
		with: `|| !looksLost(err) {`,
		pkg:  "saga/internal/local", run: "^TestReserved$",
		why: "the heartbeat stays with an old primary after a failover",
	},
	{
		name: "chain-begun", file: "saga/internal/local/chain.go",
		text: "	c.begun = false\n	return c, nil",
		with: `	return c, nil`,
		pkg:  "saga/internal/local", run: "^TestTransactionsFollowEachOther$",
		why: "after a rollback, each statement commits by itself",
	},
	{
		name: "chain-prepared", file: "saga/internal/local/tx.go",
		text: `		return nil, t.leaveChain()`,
		with: ``,
		pkg:  "saga/internal/local", run: "^TestPreparedStatementsInAChain$",
		why: "gorm keeps a prepared statement that only one connection knows",
	},
	{
		name: "chain-again", file: "saga/internal/local/local.go",
		text: `	case errors.Is(aborted, errChained), aborted != nil && looksLost(aborted) && ctx.Err() == nil:`,
		with: `	case errors.Is(aborted, errChained) && !rejected(err):`,
		pkg:  "saga/internal/local", run: "^TestPreparedStatementsInAChain$",
		why: "a branch that prepares a statement rejects, because of an error that it does not know",
	},
	{
		name: "chain-lost", file: "saga/internal/local/local.go",
		text: `	case errors.Is(aborted, errChained), aborted != nil && looksLost(aborted) && ctx.Err() == nil:`,
		with: `	case errors.Is(aborted, errChained):`,
		pkg:  "saga/internal/local", run: "^TestARejectionBecauseOfALostConnection$",
		why: "a branch that takes a lost connection for a rejection cancels the transaction",
	},
	{
		name: "chain-aborted", file: "saga/internal/local/local.go",
		text: `	if errors.Is(t.tx.Rollback(), sql.ErrTxDone) {`,
		with: `	if _ = t.tx.Rollback(); false {`,
		pkg:  "saga/internal/local", run: "^TestAnAbortedConnectionIsClosed$",
		why: "the next transaction on the connection commits what a call that was given up has written",
	},
	{
		name: "chain-level", file: "saga/internal/local/shared.go",
		text: `maxIdle: min(maxIdle, own.kept), setUp: []string{readCommittedSession}}`,
		with: `maxIdle: min(maxIdle, own.kept)}`,
		pkg:  "saga/internal/local", run: "^TestAWaitingTransactionHoldsNothing$",
		why: "a local transaction runs with the isolation level of the server",
	},
}
