package guards

// outsideGuards keep calls that act on something other than a database from
// overtaking each other.
var outsideGuards = []guard{
	{
		name: "try-marked", file: "saga/outside.go",
		text: `	if err := c.markTry(ctx, b, call, mark); err != nil {
		return err
	}
`,
		with: ``,
		pkg:  "tcc", run: ".",
		why: "a Try is made again, and a Cancel overtakes it",
	},
	{
		name: "try-made-before", file: "saga/outside.go",
		text: `		if err != nil || row != nil && row.UnderWay != nil && row.UnderWay.By == mark {
			return err
		}
`,
		with: `		if true {
			return err
		}
`,
		pkg: "tcc", run: ".",
		why: "a Try whose outcome is unknown is made a second time",
	},
	{
		name: "try-expired", file: "saga/outside.go",
		text: `	if err := local.Expired(ctx); err != nil {
		// It was not made.
		return errors.Join(err, c.ended(ctx, b, call, mark))
	}
`,
		with: ``,
		pkg:  "tcc", run: ".",
		why: "a Try is made after the time of its mark",
	},
	{
		name: "try-abandoned", file: "saga/outside.go",
		text: `if errors.Is(err, errAbandoned) || err != nil && ctx.Err() != nil {`,
		with: `if false {`,
		pkg:  "tcc", run: ".",
		why: "a Cancel comes while a Try that was given up is still on its way",
	},
	{
		name: "try-ended", file: "saga/outside.go",
		text: `	if markErr := c.ended(ctx, b, call, mark); markErr != nil {`,
		with: `	if markErr := error(nil); markErr != nil {`,
		pkg:  "tcc", run: ".",
		why: "a Cancel waits for a Try that has ended",
	},
	{
		name: "try-late", file: "saga/outside.go",
		text: `if err == nil && row != nil && row.State == barrier.StateCancelled {`,
		with: `if false {`,
		pkg:  "tcc", run: ".",
		why: "a Try that arrives after its Cancel stays reserved",
	},
	{
		name: "cancel-waits", file: "saga/outside.go",
		text: `case unclear && row.UnderWay.Left > 0 && row.State == barrier.StateTried:`,
		with: `case false:`,
		pkg:  "tcc", run: ".",
		why: "a Cancel overtakes a Try that is under way",
	},
	{
		name: "cancel-once-more", file: "saga/outside.go",
		text: `	case unclear && row.UnderWay.Left > 0:
		return look,`,
		with: `	case false:
		return look,`,
		pkg: "tcc", run: ".",
		why: "the second Cancel comes at once, before a Try that arrives late",
	},
	{
		name: "cancel-again", file: "saga/caller.go",
		text: `		if look.again {
			// The row`,
		with: `		if false {
			// The row`,
		pkg: "tcc", run: ".",
		why: "a Try that arrives after its Cancel stays reserved",
	},
	{
		name: "cancel-again-waits", file: "saga/caller.go",
		text: `if err == nil && look.again {`,
		with: `if false {`,
		pkg:  "tcc", run: ".",
		why: "the branch counts as cancelled before the second Cancel",
	},
	{
		name: "outside-mismatch", file: "saga/outside.go",
		text: `if err != nil || row == nil || !row.Matches(call.request()) {`,
		with: `if err != nil || row == nil {`,
		pkg:  "saga", run: "^TestOutsideOfAnotherTransaction$",
		why: "the outside part of a Confirm or Cancel is made on what another engine has reserved",
	},
	{
		name: "outside-state", file: "saga/outside.go",
		text: `	case row.State != barrier.StateTried:
		return look, nil
	}`,
		with: `	}`,
		pkg:  "tcc", run: ".",
		why: "the outside part of a call is made that the barrier turns away",
	},
	{
		name: "participant-caller", file: "saga/participant.go",
		text: `call.Caller = fromElsewhere + call.Caller`,
		with: `call.Caller = "" + call.Caller`,
		pkg:  "saga/remote", run: ".",
		why: "a call from elsewhere that names this engine's log confirms its branches",
	},
}
