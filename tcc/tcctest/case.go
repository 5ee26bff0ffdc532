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

// Case is a payload to exercise a branch with, and the states that the branch must leave.
//
// Payload, Reset and State are required. Also give Tried, Confirmed, Cancelled and Capacity:
// without them, several faults are not found. See the documentation of the package.
type Case[P tcc.Payload] struct {
	// Name distinguishes cases. Defaults to the payload as JSON.
	Name string

	// Payload has to be one that Try accepts after Reset.
	Payload P

	// Reset sets the data of the branch to its first state. It is called before
	// every order. Required.
	Reset func(ctx context.Context, db *gorm.DB) error

	// State returns all data of the branch, for example the whole row of an account.
	// The value is compared with [reflect.DeepEqual]. Leave out data that differ
	// from run to run, such as times and ids. Required.
	State func(ctx context.Context, db *gorm.DB) (any, error)

	// Tried, Confirmed and Cancelled are the values that State must return after
	// Try, after Try and Confirm, and after Try and Cancel. They have the type that
	// State returns.
	//
	// If Tried or Confirmed is nil, the state after the first run is taken as right,
	// and a wrong column is not found. If Cancelled is nil, it is the state before
	// Try. Set it if Cancel leaves another state, such as an order that is closed.
	Tried, Confirmed, Cancelled any

	// Holds is called after every step, if it is not nil. It returns an error if an
	// invariant is broken, such as a sum that changed, or a negative number.
	Holds func(ctx context.Context, db *gorm.DB) error

	// Capacity is how many transactions can try the payload after Reset, until the
	// branch rejects it. With 0, the orders with more transactions than capacity are
	// left out.
	Capacity int

	// HTTP is the transport of the HTTP client that the branch uses outside of a
	// local transaction. If it is not nil, Exercise makes its requests fail.
	HTTP *Transport

	// Break, if it is not nil, makes all calls of the other side fail until mend is
	// called. For example, it stops a fake. Use it for a branch that acts on
	// something other than a database, and not over HTTP.
	Break func(ctx context.Context) (mend func(), err error)

	// Limit is how long a call of the branch may take until its context ends. If the
	// call does not return then, it is given up after another 5 seconds, or after
	// another Limit if that is shorter. Defaults to 10 seconds.
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
		return errors.New("tcctest: Case.Reset is nil: it has to set the first state before every order")
	case c.State == nil:
		return errors.New("tcctest: Case.State is nil: it has to return the state after every order")
	case c.Capacity < 0:
		return fmt.Errorf("tcctest: Case.Capacity is negative: %d", c.Capacity)
	case c.Limit < 0:
		return fmt.Errorf("tcctest: Case.Limit is negative: %v", c.Limit)
	}
	return nil
}
