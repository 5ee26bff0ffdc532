package embedded

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

var errRemoteBarrier = errors.New("the service that has the branch keeps its barrier, and cannot be asked for it")

// lookTimeout limits the read of the barrier rows in one database, and the question to one
// service.
const lookTimeout = 2 * time.Second

// barrierRows reads the barrier rows of a transaction: once per database, and once per service.
// It asks the services side by side.
type barrierRows struct {
	ctx      context.Context
	gid      string
	read     map[*gorm.DB]*barrierAnswer
	services map[any]*barrierAnswer
}

// barrierAnswer has the rows of one database or service, once done is closed.
type barrierAnswer struct {
	rows []barrier.Row
	err  error
	done chan struct{}
}

// newBarrierRows begins to ask the services that have the branches.
func newBarrierRows(ctx context.Context, registry *txn.Registry, gid, logID string, branches []txlog.Branch) *barrierRows {
	b := &barrierRows{ctx: ctx, gid: gid, read: map[*gorm.DB]*barrierAnswer{}, services: map[any]*barrierAnswer{}}
	for _, branch := range branches {
		known, err := registry.Branch(branch.Kind)
		if err != nil || known.Database != nil {
			continue
		}
		service, can := known.Remote.(saga.BarrierReader)
		if !can || b.services[serviceKey(known)] != nil {
			continue
		}
		answer := &barrierAnswer{done: make(chan struct{})}
		b.services[serviceKey(known)] = answer
		go answer.ask(ctx, service, gid, logID)
	}
	return b
}

// serviceKey identifies the service of a branch.
func serviceKey(b *txn.Branch) any {
	if reflect.ValueOf(b.Remote).Comparable() {
		return b.Remote
	}
	return b.Kind
}

// ask asks a service. It does not wait for one that ignores the end of its context.
func (a *barrierAnswer) ask(ctx context.Context, service saga.BarrierReader, gid, logID string) {
	defer close(a.done)
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, fmt.Errorf("the service did not answer within %s", lookTimeout))
	defer cancel()
	type answer struct {
		rows []barrier.Row
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		result := answer{err: errors.New("asking the service for its barrier panicked")}
		defer func() {
			_ = recover() // a panic in the user's service must not end the process
			answers <- result
		}()
		result.rows, result.err = service.Barrier(ctx, gid, logID)
	}()
	select {
	case result := <-answers:
		a.rows, a.err = result.rows, result.err
	case <-ctx.Done():
		a.err = context.Cause(ctx)
	}
}

// of returns the barrier row of a branch; nil if there is none.
func (b *barrierRows) of(branch *txn.Branch, branchID string) (*barrier.Row, error) {
	answer := b.services[serviceKey(branch)]
	switch {
	case branch.Database != nil:
		answer = b.readFrom(branch.Database)
	case answer == nil:
		return nil, errRemoteBarrier
	}
	<-answer.done
	if answer.err != nil {
		return nil, answer.err
	}
	i := slices.IndexFunc(answer.rows, func(r barrier.Row) bool { return r.BranchID == branchID })
	if i < 0 {
		return nil, nil
	}
	return &answer.rows[i], nil
}

func (b *barrierRows) readFrom(db *gorm.DB) *barrierAnswer {
	if b.read[db] == nil {
		// With a limit: if this database does not answer, the rest is still returned.
		ctx, cancel := context.WithTimeout(b.ctx, lookTimeout)
		defer cancel()
		answer := &barrierAnswer{done: make(chan struct{})}
		answer.rows, answer.err = barrier.Look(ctx, db, b.gid)
		close(answer.done)
		b.read[db] = answer
	}
	return b.read[db]
}
