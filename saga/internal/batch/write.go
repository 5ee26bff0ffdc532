package batch

import (
	"errors"
	"slices"
)

// MemberError is the error of one member of a batch, whose number is Index. The others may
// be written without it.
type MemberError struct {
	Index int
	Err   error
}

func (e *MemberError) Error() string { return e.Err.Error() }
func (e *MemberError) Unwrap() error { return e.Err }

// ErrSomeMember is wrapped by the error of a batch if one of its members has caused it, and
// it is not known which one.
var ErrSomeMember = errors.New("a member of the batch has failed")

// ErrAlone says that a member has to be written alone, without a batch.
var ErrAlone = errors.New("it is written alone")

// Write writes members together, and calls end once for each of them: with nil after write
// has succeeded, with ErrAlone if the member has to be written alone, or with an error of
// write that final reports as the result of all members.
//
// If one member has failed, Write writes the others again without it. If it is not known which
// one, it writes both halves.
func Write[T any](members []T, write func([]T) error, final func(error) bool, end func(member T, err error)) {
	switch len(members) {
	case 0:
		return
	case 1:
		end(members[0], ErrAlone)
		return
	}
	err := write(members)
	var one *MemberError
	switch {
	case err == nil || final(err):
		for _, m := range members {
			end(m, err)
		}
	case errors.As(err, &one):
		end(members[one.Index], ErrAlone)
		Write(slices.Delete(slices.Clone(members), one.Index, one.Index+1), write, final, end)
	case errors.Is(err, ErrSomeMember):
		half := len(members) / 2
		Write(members[:half], write, final, end)
		Write(members[half:], write, final, end)
	default:
		for _, m := range members {
			end(m, ErrAlone)
		}
	}
}
