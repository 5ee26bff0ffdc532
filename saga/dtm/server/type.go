package server

import (
	"slices"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// transType is a type of transaction.
type transType int

const (
	tcc transType = iota
	sagas
	msg
	xa
	numTypes
)

// types has what differs between the types: DTM's names, and the pattern in the log.
var types = [numTypes]struct {
	name, pattern string
	ops           map[barrier.Op]string
	statuses      map[saga.State]string
}{
	tcc: {"tcc", PatternTCC, map[barrier.Op]string{barrier.Try: "try", barrier.Confirm: "confirm", barrier.Cancel: "cancel"},
		map[saga.State]string{saga.Trying: "prepared", saga.Confirming: "submitted", saga.Confirmed: "succeed", saga.Cancelling: "aborting", saga.Cancelled: "failed"}},
	sagas: {"saga", PatternSaga, map[barrier.Op]string{barrier.Try: "action", barrier.Cancel: "compensate"},
		map[saga.State]string{saga.Trying: "submitted", saga.Confirming: "submitted", saga.Confirmed: "succeed", saga.Cancelling: "aborting", saga.Cancelled: "failed"}},
	msg: {"msg", PatternMsg, map[barrier.Op]string{barrier.Apply: "action", barrier.Ask: "msg"},
		map[saga.State]string{saga.Trying: "prepared", saga.Confirming: "submitted", saga.Confirmed: "succeed", saga.Cancelling: "failed", saga.Cancelled: "failed"}},
	xa: {"xa", PatternXA, map[barrier.Op]string{barrier.Try: "action", barrier.Confirm: "commit", barrier.Cancel: "rollback"},
		map[saga.State]string{saga.Trying: "prepared", saga.Confirming: "submitted", saga.Confirmed: "succeed", saga.Cancelling: "aborting", saga.Cancelled: "failed"}},
}

func (t transType) String() string { return types[t].name }

// pattern returns the name of the type in the log.
func (t transType) pattern() string { return types[t].pattern }

// op returns the name of an operation in a call.
func (t transType) op(op barrier.Op) string { return types[t].ops[op] }

// listed returns the operations that a query shows, in DTM's order.
func (t transType) listed() (ops []barrier.Op) {
	for _, op := range []barrier.Op{barrier.Cancel, barrier.Try, barrier.Apply, barrier.Confirm} {
		if name := t.op(op); name != "" && name != "try" && (t != xa || op != barrier.Try) {
			ops = append(ops, op)
		}
	}
	return ops
}

// status returns DTM's name of a state.
func (t transType) status(s saga.State) string { return types[t].statuses[s] }

// states returns the states with a status of DTM; none if the type never has it.
func (t transType) states(status string) (states []saga.State) {
	for state, name := range types[t].statuses {
		if name == status {
			states = append(states, state)
		}
	}
	slices.Sort(states)
	return states
}

// stored returns the name of the type in a stored branch. It is empty for TCC: branches of
// older versions have no type.
func (t transType) stored() string {
	if t == tcc {
		return ""
	}
	return t.String()
}

func parseType(name string) (transType, error) {
	for t := range numTypes {
		if name == t.String() {
			return t, nil
		}
	}
	return 0, invalid("the trans_type is %q: this server has tcc, saga, msg and xa", wire.Clip(name, 40))
}
