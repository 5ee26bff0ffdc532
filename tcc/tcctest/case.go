package tcctest

import (
	"context"
	"encoding/json"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// Case is one payload to exercise a branch with, and what must hold.
type Case[P tcc.Payload] struct {
	// Name tells cases apart. Defaults to the payload as JSON.
	Name string

	// Payload is one that Try accepts after Reset.
	Payload P

	// Reset brings what the branch works on into its first state. It is called
	// before every order. Needed.
	Reset func(ctx context.Context, db *gorm.DB) error

	// State returns all that the branch works on, as a value that
	// [reflect.DeepEqual] compares: the row of an account, say, and not only one
	// of its columns. It is what the orders are judged by. Needed.
	State func(ctx context.Context, db *gorm.DB) (any, error)

	// Holds, if it is not nil, is called after every step and returns what is
	// wrong: a sum that is not conserved, say, or a negative number.
	Holds func(ctx context.Context, db *gorm.DB) error

	// Capacity is how many transactions can try the payload, after Reset, until
	// the branch rejects it. 0 leaves out the order that many want more than
	// there is.
	Capacity int
}

func (c Case[P]) name() string {
	if c.Name != "" {
		return c.Name
	}
	text, err := json.Marshal(c.Payload)
	if err != nil {
		return "payload"
	}
	return string(text)
}

func (c Case[P]) check() error {
	switch {
	case c.Reset == nil:
		return fmt.Errorf("tcctest: Case.Reset is nil: it is needed to begin every order in the same state")
	case c.State == nil:
		return fmt.Errorf("tcctest: Case.State is nil: it is needed to see what an order has left")
	case c.Capacity < 0:
		return fmt.Errorf("tcctest: Case.Capacity is negative: %d", c.Capacity)
	}
	return nil
}
