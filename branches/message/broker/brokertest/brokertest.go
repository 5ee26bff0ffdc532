// Package brokertest has the tests that an implementation of package broker has
// to pass. Call them in tests of the implementation, with a real broker:
//
//	func TestPublishing(t *testing.T) {
//		brokertest.Publishing(t, brokertest.Harness{Broker: mine, Name: newName, Stored: stored, Break: restart})
//	}
package brokertest

import (
	"context"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Harness gives the tests a broker. All functions are called from tests that run
// in parallel. Broker, Name and Stored are needed.
type Harness struct {
	// Broker returns a broker, which the test closes by its Cleanup.
	Broker func(t *testing.T) broker.Broker

	// Name returns a name for a stream, which no other test has. The test uses
	// the subjects NAME.a, NAME.b and so on. It removes the stream by its
	// Cleanup.
	Name func(t *testing.T) string

	// Stored returns what a stream holds, in its order.
	Stored func(t *testing.T, stream string) []broker.Stored

	// Break starts a broker of its own, which it returns, and a function that
	// stops it and a function that starts it again, with all that it had stored.
	// Without Break nothing is shown about outages.
	Break func(t *testing.T) (b broker.Broker, stored func(stream string) []broker.Stored, stop, start func())
}

// within is the longest time that a call may take in these tests.
const within = 30 * time.Second

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
