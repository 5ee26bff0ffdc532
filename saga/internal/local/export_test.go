package local

// CommitAnswer is for tests.
type CommitAnswer = commitAnswer

const (
	CommitUnknown   = commitUnknown
	CommitRefused   = commitRefused
	CommitTransient = commitTransient
)

var CommitFailed = commitFailed

// Slots returns how many connections of a share are given out, and how many are kept idle.
func Slots(size int) (given, kept int) {
	s := newShare(size)
	return cap(s.slots), s.kept
}

// Kept returns how many connections of a share are kept for shared local transactions.
func Kept(size int) int { return newShare(size).keptShared() }
