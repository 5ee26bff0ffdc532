package embedded_test

import (
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// The contract and the log have the same words for the states.
func TestStates(t *testing.T) {
	t.Parallel()
	for logged, state := range map[string]saga.State{
		txlog.Trying: saga.Trying, txlog.Confirming: saga.Confirming, txlog.Confirmed: saga.Confirmed,
		txlog.Cancelling: saga.Cancelling, txlog.Cancelled: saga.Cancelled,
	} {
		if logged != string(state) {
			t.Errorf("the log says %q, the contract %q", logged, state)
		}
	}
}
