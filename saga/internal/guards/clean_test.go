package guards

// cleanGuards keep cleaning from what is still needed.
var cleanGuards = []guard{
	{
		name: "aged-deadline", file: "saga/internal/txlog/clean.go",
		text: `finished <= before && deadline <= before {`,
		with: `finished <= before {`,
		pkg:  "saga/internal/txlog", run: "^TestWhatIsOld$/^sqlite$",
		why: "cleaning locks again and again what it has to leave: a Try may come until the deadline",
	},
	{
		name: "aged-end", file: "saga/internal/txlog/clean.go",
		text: `finished != 0 && finished <= before && deadline <= before {`,
		with: `finished != 0 && deadline <= before {`,
		pkg:  "saga/internal/txlog", run: "^TestWhatIsOld$/^sqlite$",
		why: "cleaning locks again and again what has just finished",
	},
	{
		name: "old-deadline", file: "saga/internal/txlog/clean.go",
		text: ` || now-deadline < age.Microseconds()`,
		with: ` && now-deadline != 0`,
		pkg:  "saga/internal/txlog", run: "^TestWhatIsOld$/^sqlite$", short: true,
		why: "a Try that comes before the deadline finds no barrier row, and reserves",
	},
	{
		name: "old-end", file: "saga/internal/txlog/clean.go",
		text: `finished == 0 || now-finished < age.Microseconds() ||`,
		with: `finished == 0 ||`,
		pkg:  "saga/internal/txlog", run: "^TestWhatIsOld$/^sqlite$",
		why: "a transaction is removed as soon as it ends, and its gid runs a second time",
	},
	{
		name: "old-unfinished", file: "saga/internal/txlog/clean.go",
		text: `finished == 0 || now-finished < age.Microseconds() ||`,
		with: `now-finished < age.Microseconds() ||`,
		pkg:  "saga/internal/txlog", run: "^TestWhatIsOld$/^sqlite$",
		why: "a transaction is removed that is not finished",
	},
	{
		name: "clean-kinds", file: "saga/internal/clean/cleaner.go",
		text: `if t.Finished < 2*c.Retention {`,
		with: `if false {`,
		pkg:  "saga/embedded", run: "^TestCleaningLeavesKindsThatAreUnknown$/^sqlite$",
		why: "an instance removes the log's rows of what only another instance can clean",
	},
	{
		name: "clean-retired", file: "saga/internal/clean/cleaner.go",
		text: `if t.Finished < 2*c.Retention {`,
		with: `if true {`,
		pkg:  "saga/embedded", run: "^TestCleaningLeavesKindsThatAreUnknown$/^sqlite$",
		why: "the rows of a retired kind stay for ever",
	},
	{
		name: "clean-look", file: "saga/internal/clean/cleaner.go",
		text: `	old, err := c.Log.LockOld(ctx, tx, c.Retention, gids)
	if err != nil || len(old) == 0 {`,
		with: `	var old []txlog.Old
	for _, gid := range gids {
		old = append(old, txlog.Old{GID: gid, Finished: c.Retention})
	}
	if err != nil || len(old) == 0 {`,
		pkg: "saga/embedded", run: "^TestAGIDThatIsUsedAgainWhileCleaning$/^sqlite$",
		why: "what a replica that lags behind says is removed from other databases",
	},
	{
		name: "clean-look-again", file: "saga/internal/clean/removal.go",
		text: `		gids := gidsOf(old)`,
		with: `		_ = old
		gids := r.gids`,
		pkg: "saga/embedded", run: "^TestAGIDThatIsUsedAgainWhileCleaning$/^sqlite$",
		why: "a transaction that uses the gid again is removed",
	},
	{
		name: "clean-elsewhere", file: "saga/internal/clean/removal.go",
		text: `failed, err = r.only(old).remove(ctx, c.Calls, tx)`,
		with: `_ = old
		failed, err = r.only(r.gids).remove(ctx, c.Calls, tx)`,
		pkg: "saga/embedded", run: "^TestCleaningLeavesWhatIsUnderWayElsewhere$/^sqlite$",
		why: "the barrier row of a branch that is not final is removed from another database",
	},
	{
		name: "clean-named", file: "saga/internal/clean/removal.go",
		text: `		r.gids = slices.DeleteFunc(r.gids, func(gid string) bool { return slices.Contains(recent, gid) })
`,
		with: `		_ = recent
`,
		pkg: "saga/embedded", run: "^TestCleaningLeavesWhatIsUnderWayElsewhere$/^sqlite$",
		why: "the log no longer names what is left in another database",
	},
	{
		name: "clean-failed-kind", file: "saga/internal/clean/cleaner.go",
		text: `		if failed == nil {
			return errors.Join(all, err)
		}
		all = errors.Join(all, err)
		gids = `,
		with: `		if failed != nil {
			return errors.Join(all, err)
		}
		all = errors.Join(all, err)
		gids = `,
		pkg: "saga/embedded", run: "^TestCleaningGoesOnWithoutAKindThatFails$/^sqlite$",
		why: "a kind of branch whose Clean fails keeps everything from being removed",
	},
	{
		name: "clean-broken-off", file: "saga/internal/clean/removal.go",
		text: `		if removeErr != nil {
			return failedThere, removeErr
		}
		// The log`,
		with: `		if removeErr != nil {
			_ = failedThere
			continue
		}
		// The log`,
		pkg: "saga/embedded", run: "^TestCleaningGoesOnWithoutAKindThatFails$/^sqlite$",
		why: "the log no longer names what could not be removed from another database",
	},
	{
		name: "clean-again", file: "saga/internal/call/clean.go",
		text: `if !b.Cleaning.CompareAndSwap(false, true) {`,
		with: `if false {`,
		pkg:  "saga/embedded", run: "^TestACleanThatHangsIsCalledOnce$",
		why: "a Clean that hangs is called again and again",
	},
	{
		name: "participant-look", file: "saga/internal/clean/hosted.go",
		text: `		gids, _, txErr := barrierrows.LockOld(ctx, tx, batch, r.age)
`,
		with: `		gids, txErr := batch, error(nil)
`,
		pkg: "saga/remote", run: "^TestCleanLooksAtEachBatch$/^sqlite$",
		why: "a participant cleans a transaction that is in use again",
	},
	{
		name: "participant-in-use", file: "saga/internal/clean/hosted.go",
		text: `func(gid string) bool { return inUse[gid] ||`,
		with: `func(gid string) bool { return false && inUse[gid] ||`,
		pkg:  "saga/remote", run: "^TestClean",
		why: "a participant removes rows that an engine in the same database still needs",
	},
	{
		name: "participant-own", file: "saga/internal/clean/hosted.go",
		text: `func(gid string) bool { return !ofKind(kinds[gid], b.Kind) }`,
		with: `func(gid string) bool { return false && !ofKind(kinds[gid], b.Kind) }`,
		pkg:  "saga/remote", run: "^TestCleanByKind$/^sqlite$",
		why: "a branch is told to clean what is of another kind",
	},
	{
		name: "participant-failed", file: "saga/internal/clean/hosted.go",
		text: `			r.failed[b.Kind] = true
`,
		with: ``,
		pkg:  "saga/remote", run: "^TestCleanGoesOn$",
		why: "a kind whose Clean fails keeps the others from being removed",
	},
	{
		name: "participant-age", file: "saga/participant/participant.go",
		text: `	if age < p.minAge {`,
		with: `	if false {`,
		pkg:  "saga/remote", run: "^TestClean",
		why: "a call that arrives late finds no row: its Try reserves, and nobody gives it back",
	},
}
