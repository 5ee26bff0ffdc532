package tcctest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// Case is one payload to exercise a branch with, and what must hold.
//
// Payload, Reset and State are needed. Tried, Confirmed, Cancelled and Capacity
// are worth the few lines that they take: without them several faults are not
// found; see the documentation of the package.
type Case[P tcc.Payload] struct {
	// Name tells cases apart. Defaults to the payload as JSON.
	Name string

	// Payload is one that Try accepts after Reset.
	Payload P

	// Reset brings what the branch works on into its first state. It is called
	// before every order. Needed.
	Reset func(ctx context.Context, db *gorm.DB) error

	// State returns all that the branch works on, as a value that
	// [reflect.DeepEqual] compares: the whole row of an account, for example.
	// It leaves out what differs from run to run, such as times and ids. Needed.
	State func(ctx context.Context, db *gorm.DB) (any, error)

	// Tried, Confirmed and Cancelled are what State must return after Try, after
	// Try and Confirm, and after Try and Cancel, of the type that State returns.
	//
	// A nil Tried or Confirmed takes what the first run leaves as right, so that
	// a wrong column is not found. A nil Cancelled is the state before Try. A
	// branch whose Cancel ends in a state of its own, such as an order that is
	// closed, states it in Cancelled.
	Tried, Confirmed, Cancelled any

	// Holds, if it is not nil, is called after every step and returns an error
	// if an invariant is broken: a sum that is not conserved, or a negative
	// number.
	Holds func(ctx context.Context, db *gorm.DB) error

	// Capacity is how many transactions can try the payload, after Reset, until
	// the branch rejects it. 0 leaves out the orders with more transactions than
	// there is capacity for.
	Capacity int

	// HTTP, if it is not nil, is the transport of the HTTP client that the
	// branch uses outside a local transaction. Exercise makes its requests fail.
	HTTP *Transport

	// Break, if it is not nil, makes all calls of the other side fail until mend
	// is called: it stops a fake, for example. It is for a branch that acts on
	// something other than a database, over something other than HTTP.
	Break func(ctx context.Context) (mend func(), err error)

	// Limit is when the context of a call of the branch ends. A call that does
	// not return then is given up after a further 5 seconds, or after Limit if
	// that is less. Defaults to 10 seconds.
	Limit time.Duration
}

const defaultLimit = 10 * time.Second

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
		return errors.New("tcctest: Case.Reset is nil: it is needed to begin every order in the same state")
	case c.State == nil:
		return errors.New("tcctest: Case.State is nil: it is needed to see what an order has left")
	case c.Capacity < 0:
		return fmt.Errorf("tcctest: Case.Capacity is negative: %d", c.Capacity)
	case c.Limit < 0:
		return fmt.Errorf("tcctest: Case.Limit is negative: %v", c.Limit)
	}
	return nil
}
