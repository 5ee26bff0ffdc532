package local

// CommitAnswer is for tests.
type CommitAnswer = commitAnswer

const (
	CommitUnknown   = commitUnknown
	CommitRefused   = commitRefused
	CommitTransient = commitTransient
)

var CommitFailed = commitFailed
