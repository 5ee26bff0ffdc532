package guards

// driveGuards keep the second phase going until every branch is done, and by one driver.
var driveGuards = []guard{
	{
		name: "drive-waits", file: "saga/internal/drive/round.go",
		text: `case errors.As(err, &notYet):`,
		with: `case false && errors.As(err, &notYet):`,
		pkg:  "tcc", run: "^TestCancelWaitsForTheEndOfATry$/^caller$/^sqlite$",
		why: "a Cancel that waits for its Try counts as failed, and raises alarms",
	},
	{
		name: "drive-limits", file: "saga/internal/drive/round.go",
		text: `case s.Branch != nil && s.Failed > 0:`,
		with: `case false:`,
		pkg:  "tcc", run: "^TestServiceThatIsDown$",
		why: "a service that is down is called with all retries at once",
	},
	{
		name: "attention-conflict", file: "saga/internal/drive/attention.go",
		text: `if cause := a.failures[s]; errors.Is(cause, barrier.ErrConflict) {`,
		with: `if cause := a.failures[s]; false && errors.Is(cause, barrier.ErrConflict) {`,
		pkg:  "tcc", run: "^TestAttentionOfAConflict$",
		why: "nobody is told of a conflict, which no retry mends",
	},
	{
		name: "attention-attempts", file: "saga/internal/drive/attention.go",
		text: `cause != nil && s.Failed >= a.d.AttentionAttempts {`,
		with: `cause != nil && false {`,
		pkg:  "tcc", run: "^TestAttentionAfterAttempts$/^sqlite$",
		why: "nobody is told of a branch that fails again and again",
	},
	{
		name: "attention-age", file: "saga/internal/drive/attention.go",
		text: `age < a.d.AttentionAge {`,
		with: `age >= 0 {`,
		pkg:  "tcc", run: "^TestAttentionOfAge$",
		why: "nobody is told of a transaction that waits for long",
	},
	{
		name: "effect-again", file: "saga/internal/drive/effects.go",
		text: `if m.err = err; err == nil && found[i] == barrierrows.Tried {`,
		with: `if m.err = err; err == nil && found[i] != barrierrows.Missing {`,
		pkg:  "saga/embedded", run: "^TestAnEffectThatIsDoneMeanwhile$/^sqlite$",
		why: "the effect of a Confirm that is done is made again in a batch",
	},
	{
		name: "effect-counts", file: "saga/internal/call/effect.go",
		text: `if len(receipts) != len(calls) || failures != nil && len(failures) != len(calls) {`,
		with: `if false {`,
		pkg:  "saga/embedded", run: "^TestDeliveriesInCompany$",
		why: "a bulk branch that returns too few receipts ends the process",
	},
	{
		name: "tried-all-state", file: "saga/internal/barrierrows/batch.go",
		text: `case r.State == barrier.StateTried && r.Matches(requests[i]):`,
		with: `case r.Matches(requests[i]):`,
		pkg:  "saga/embedded", run: "^TestAnEffectThatIsDoneMeanwhile$/^sqlite$",
		why: "the effect of a Confirm that is done, or of a cancelled branch, is made",
	},
	{
		name: "tried-all-matches", file: "saga/internal/barrierrows/batch.go",
		text: `case r.State == barrier.StateTried && r.Matches(requests[i]):`,
		with: `case r.State == barrier.StateTried:`,
		pkg:  "saga/internal/barrierrows", run: "^TestMismatchInBulk$/^sqlite$",
		why: "the effect of a Confirm is made on what another engine has reserved",
	},
	{
		name: "presume-failed", file: "saga/internal/recovery/recovery.go",
		text: `			r.InFlight.Release(entry)
			r.Warn.Warn(ctx, "saga: deciding an undecided transaction failed; it is due again later", err, slog.String("gid", t.GID))
			return
`,
		with: `			r.Warn.Warn(ctx, "saga: deciding an undecided transaction failed; it is due again later", err, slog.String("gid", t.GID))
`,
		pkg: "saga/embedded", run: "^TestNoCancelBeforeTheDecision$",
		why: "branches are cancelled although the decision to cancel could not be written",
	},
	{
		name: "resume-paused", file: "saga/internal/recovery/recovery.go",
		text: `if record.Paused() || foreign {`,
		with: `if foreign {`,
		pkg:  "tcc", run: "^TestPausedAtItsDeadline$",
		why: "a transaction that an operator has paused is cancelled at its deadline",
	},
	{
		name: "recovery-bytes", file: "saga/internal/recovery/claim.go",
		text: `Bytes: int(room)`,
		with: `Bytes: 1 << 40`,
		pkg:  "tcc", run: "^TestRecoveryKeepsTheHeapSmall$/^postgres$",
		why: "recovery reads more into memory than it is allowed",
	},
	{
		name: "foreign-raised", file: "saga/internal/recovery/claim.go",
		text: `	r.raiseForeign(ctx, claims.Foreign)
`,
		with: ``,
		pkg:  "tcc", run: "^TestKindThatNobodyKnows$/^sqlite$",
		why: "nobody is told of a transaction whose kind of branch nobody knows",
	},
	{
		name: "sweep-ends", file: "saga/internal/recovery/sweep.go",
		text: `case claims.More && !claims.Last.Due.After(s.until):`,
		with: `case claims.More:`,
		pkg:  "saga/internal/recovery", run: "^TestSweep$",
		why: "a sweep goes on for ever while more comes due, and what was left out waits",
	},
	{
		name: "sweep-vain", file: "saga/internal/recovery/sweep.go",
		text: `case len(claims.Foreign) > 0 && !s.claimed:`,
		with: `case false:`,
		pkg:  "saga/internal/recovery", run: "^TestSweep$",
		why: "an instance looks all the time at what it cannot drive",
	},
	{
		name: "watched-digest", file: "saga/internal/enlist/enlist.go",
		text: `if shown[x.txn.GID] == x.digest {`,
		with: `if shown[x.txn.GID] != "" {`,
		pkg:  "saga/internal/enlist", run: "^TestWatchedInVain$/^sqlite$",
		why: "the Confirms of a plan that was rolled back are made for another plan of the same gid",
	},
	{
		name: "watched-in-flight", file: "saga/internal/enlist/enlist.go",
		text: `entry, started := w.InFlight.Start(x.txn.GID)`,
		with: `entry, started := w.InFlight.TakeOver(x.txn.GID), true`,
		pkg:  "saga/internal/enlist", run: "^TestWatchedInFlight$",
		why: "a transaction has two drivers in a process",
	},
}
