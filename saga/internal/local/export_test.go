package local

// What a COMMIT's error says, for tests.
type CommitAnswer = commitAnswer

const (
	CommitUnknown   = commitUnknown
	CommitRefused   = commitRefused
	CommitTransient = commitTransient
)

var CommitFailed = commitFailed
