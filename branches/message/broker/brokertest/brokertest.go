// Package brokertest has the tests that an implementation of package broker has to pass.
// Call them in the tests of the implementation, with a real broker:
//
//	func TestPublishing(t *testing.T) {
//		brokertest.Publishing(t, brokertest.Harness{Broker: connect, Name: newName, Stored: stored, Break: restart})
//	}
//
//	func TestReceiving(t *testing.T) {
//		brokertest.Receiving(t, brokertest.Receiver{Broker: connectOwn, Stream: newStream})
//	}
package brokertest

import (
	"context"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Harness gives a broker to the tests of publishing. Tests that run in parallel call its
// functions. Broker, Name and Stored are required.
type Harness struct {
	// Broker returns a broker. It registers a Cleanup of the test that closes the
	// broker.
	Broker func(t *testing.T) broker.Broker

	// Name returns a name for a stream that no other test uses. It registers a
	// Cleanup of the test that removes the stream. The test uses the subjects
	// NAME.a, NAME.b and so on.
	Name func(t *testing.T) string

	// Stored returns the messages of a stream, in their order.
	Stored func(t *testing.T, stream string) []broker.Stored

	// Break starts a separate broker and returns it, with a function that stops it,
	// and a function that starts it again with all stored messages. Without Break,
	// outages are not tested.
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
