package invariant

// Rules are the rules that every run has to keep, whatever has failed.
var Rules = []Rule[*Records]{
	{"end", "Every transaction is confirmed or cancelled in the end.", checkEnd},
	{"steps", "A transaction moves along trying, confirming, confirmed or trying, cancelling, cancelled.", checkSteps},
	{"one decision", "A transaction is decided exactly once.", checkOneDecision},
	{"epoch", "The epoch of a transaction never falls.", checkEpoch},
	{"deadline", "No transaction is decided to be confirmed after its deadline, unless a branch has decided it before.", checkDeadline},
	{"times", "A transaction is created, then decided, then finished.", checkTimes},
	{"conflict", "No call contradicts what its branch has done.", checkConflict},

	{"asked for", "Every transaction in the log was asked for by a client.", checkAskedFor},
	{"answers", "An outcome that a client was told is the outcome in the log.", checkAnswers},
	{"one answer", "All clients of a transaction are told the same outcome.", checkOneAnswer},
	{"complete", "A confirmed transaction has all branches that its client asked for.", checkComplete},
	{"refused", "A transaction is not confirmed with a branch whose Try is refused.", checkRefused},
	{"abandoned", "A transaction that no client decided is not confirmed.", checkAbandoned},

	{"named first", "The log names each branch that has left a trace.", checkNamedFirst},
	{"one row", "A branch has its barrier row in one database only.", checkOneRow},
	{"barrier", "The barrier row of each branch agrees with the outcome of its transaction.", checkBarrier},
	{"effects", "A branch has effect as its outcome says: as Try and Confirm, as Try and Cancel, or not at all; each once.", checkEffects},
}
