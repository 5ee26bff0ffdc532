package main

import (
	"context"
	"errors"
	"os"
	"sync"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/tcc"
)

// Faults are the switches of POST /faults.
type Faults struct {
	// BrokerUnreachable closes every connection to the broker, and refuses new ones,
	// until it is set to false.
	BrokerUnreachable bool `json:"broker_unreachable"`
	// FailConfirms makes the next n Confirms of the stock fail.
	FailConfirms int `json:"fail_confirms"`
	// DieAfterDecision kills the process right after the next decision to
	// confirm, before the message is published.
	DieAfterDecision bool `json:"die_after_decision"`
}

type faults struct {
	dialer *dialer
	mu     sync.Mutex
	now    Faults
}

func (f *faults) get() Faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *faults) set(to Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = to
	f.dialer.set(to.BrokerUnreachable)
}

// decided is called first after a decision to confirm.
func (f *faults) decided() {
	if f.get().DieAfterDecision {
		die()
	}
}

// die ends this process as kill -9 does: nothing is flushed or closed.
func die() {
	if process, err := os.FindProcess(os.Getpid()); err == nil {
		process.Kill()
	}
	select {}
}

var errFails = errors.New("POST /faults makes this Confirm fail")

func (f *faults) confirm() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now.FailConfirms == 0 {
		return nil
	}
	f.now.FailConfirms--
	return errFails
}

// faultyStock is the ready-made branch, with the switch of its Confirms.
type faultyStock struct {
	*stock.Stock
	faults *faults
}

func (s faultyStock) Confirm(ctx context.Context, tx *gorm.DB, in stock.Lock) error {
	if err := s.faults.confirm(); err != nil {
		return err
	}
	return s.Stock.Confirm(ctx, tx, in)
}

func (s faultyStock) ConfirmAll(ctx context.Context, tx *gorm.DB, locks []tcc.Item[stock.Lock]) error {
	if s.faults.get().FailConfirms > 0 {
		return errFails // each Confirm is then called alone, and counted there
	}
	return s.Stock.ConfirmAll(ctx, tx, locks)
}

// faultyPublisher is the ready-made branch, with the switch after the decision.
type faultyPublisher struct {
	*message.Publisher
	faults *faults
}

func (p faultyPublisher) Deliver(ctx context.Context, in message.Publish) (any, error) {
	p.faults.decided()
	return p.Publisher.Deliver(ctx, in)
}
