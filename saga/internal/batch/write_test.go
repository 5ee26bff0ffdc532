package batch_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tccsaga/tccsaga/saga/internal/batch"
)

// Write gives each member one result, and leaves out only those that fail.
func TestWrite(t *testing.T) {
	t.Parallel()
	failure, final := errors.New("on purpose"), errors.New("for all")
	members := func(n int) (all []int) {
		for i := range n {
			all = append(all, i)
		}
		return all
	}
	bad := func(some []int) int { return slices.IndexFunc(some, func(m int) bool { return m%10 == 7 }) }
	for name, c := range map[string]struct {
		members []int
		write   func(some []int) error
		alone   []int
		result  error // of the others
		writes  int
	}{
		"none":    {nil, func([]int) error { return failure }, nil, nil, 0},
		"one":     {members(1), func([]int) error { return failure }, members(1), nil, 0},
		"success": {members(30), func([]int) error { return nil }, nil, nil, 1},
		"known members fail": {members(30), func(some []int) error {
			if i := bad(some); i >= 0 {
				return fmt.Errorf("wrapped: %w", &batch.MemberError{Index: i, Err: failure})
			}
			return nil
		}, []int{7, 17, 27}, nil, 4},
		"some members fail": {members(32), func(some []int) error {
			if bad(some) >= 0 {
				return fmt.Errorf("%w: %w", batch.ErrSomeMember, failure)
			}
			return nil
		}, []int{6, 7, 16, 17, 26, 27}, nil, 24},
		"the database fails": {members(30), func([]int) error { return failure }, members(30), nil, 1},
		"for all":            {members(30), func([]int) error { return fmt.Errorf("wrapped: %w", final) }, nil, final, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writes := 0
			results := map[int]error{}
			batch.Write(c.members, func(some []int) error { writes++; return c.write(some) }, func(err error) bool { return errors.Is(err, final) },
				func(m int, err error) {
					if _, twice := results[m]; twice {
						t.Errorf("%d has two results", m)
					}
					results[m] = err
				})
			for _, m := range c.members {
				err, ended := results[m]
				want := c.result
				if slices.Contains(c.alone, m) {
					want = batch.ErrAlone
				}
				if !ended || !errors.Is(err, want) {
					t.Errorf("%d: %v, want %v", m, err, want)
				}
			}
			if writes > c.writes {
				t.Errorf("%d writes, at most %d are needed", writes, c.writes)
			}
		})
	}
	if err := (&batch.MemberError{Err: failure}); !errors.Is(err, failure) || err.Error() != "on purpose" {
		t.Error(err)
	}
}
