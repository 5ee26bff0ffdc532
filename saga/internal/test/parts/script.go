package parts

import (
	"context"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

// Script answers the calls of branches and remembers them. A call is named like
// "confirm order-1/01". The zero Script lets each call succeed. It is safe for concurrent
// use.
type Script struct {
	mu      sync.Mutex
	made    []string
	answers map[string]func(context.Context) error
}

// Fail lets a call fail with err, each time.
func (s *Script) Fail(call string, err error) {
	s.Do(call, func(context.Context) error { return err })
}

// Do answers a call with f, each time.
func (s *Script) Do(call string, f func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == nil {
		s.answers = map[string]func(context.Context) error{}
	}
	s.answers[call] = f
}

// Made returns the calls so far, in order, and forgets them.
func (s *Script) Made() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.made = nil }()
	return strings.Join(s.made, ", ")
}

// MadeSorted is Made for calls that are made in parallel: in the order of their names.
func (s *Script) MadeSorted() string {
	made := strings.Split(s.Made(), ", ")
	slices.Sort(made)
	return strings.Join(made, ", ")
}

// Call makes [Script] a [saga.Remote].
func (s *Script) Call(ctx context.Context, call saga.Call) error {
	name := string(call.Op) + " " + call.Key().String()
	s.mu.Lock()
	s.made = append(s.made, name)
	answer := s.answers[name]
	s.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx)
}

// Work is the Work of a [saga.Local].
func (s *Script) Work(ctx context.Context, _ *gorm.DB, call saga.Call) error {
	return s.Call(ctx, call)
}

// Effect is a [saga.Effect].
func (s *Script) Effect(ctx context.Context, call saga.Call) (receipt any, err error) {
	return nil, s.Call(ctx, call)
}
