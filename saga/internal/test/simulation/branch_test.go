package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/test/invariant"
)

// input is what every branch is called with.
type input struct {
	Refuse bool // Try says no
}

func encode(in any) ([]byte, error) { return json.Marshal(in) }

// service is what branches act on that have no database: it knows each
// idempotency key, and remembers what was done to it.
type service struct {
	mu   sync.Mutex
	done map[string][]barrier.Op // by key, each operation once in a row
}

func (s *service) act(key string, op barrier.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if did := s.done[key]; len(did) == 0 || did[len(did)-1] != op {
		s.done[key] = append(did, op)
	}
}

var errOnPurpose = errors.New("failed on purpose")

// shapes say where the branches of a kind have their effects.
var shapes = map[string]invariant.Shape{"here": invariant.InDatabase, "away": invariant.InDatabase, "out": invariant.AtService, "send": invariant.ServiceThenDatabase}

// branches are the kinds: in the log's database, in another one, without one,
// and one that acts on a service and then on its database.
func (w *world) branches(p *process, away *gorm.DB) []saga.Branch {
	inside := func(ctx context.Context, tx *gorm.DB, c saga.Call) error {
		return w.work(ctx, p, c, func() error {
			// A statement that may fail, as the author believes.
			_ = tx.Exec("UPDATE remarks SET n = n + 1").Error
			return tx.Exec("INSERT INTO effects (gid, branch, op) VALUES (?, ?, ?)", c.GID, c.BranchID, string(c.Op)).Error
		})
	}
	outside := func(ctx context.Context, c saga.Call) (any, error) {
		return "receipt", w.work(ctx, p, c, func() error {
			w.service.act(c.Key().String(), c.Op)
			return nil
		})
	}
	type outsides = map[barrier.Op]func(context.Context, saga.Call) (any, error)
	return []saga.Branch{
		{Kind: "here", Encode: encode, Inside: inside},
		{Kind: "away", Encode: encode, Inside: inside, Database: away},
		{Kind: "out", Encode: encode, Outside: outsides{barrier.Try: outside, barrier.Confirm: outside, barrier.Cancel: outside}},
		{Kind: "send", Encode: encode, Inside: func(ctx context.Context, tx *gorm.DB, c saga.Call) error {
			if c.Op == barrier.Confirm && c.Receipt != "receipt" {
				return fmt.Errorf("the receipt is %v", c.Receipt)
			}
			return inside(ctx, tx, c)
		}, Outside: outsides{barrier.Confirm: outside}},
	}
}

// work is one call of a branch: it waits at the gate, fails on purpose, or acts.
func (w *world) work(ctx context.Context, p *process, c saga.Call, act func() error) error {
	var in input
	if err := json.Unmarshal(c.Payload, &in); err != nil {
		return err
	}
	waiting := &call{process: p, what: fmt.Sprintf("%s of %s, %s", c.Op, c.Key(), c.Kind)}
	f, err := w.gate.pass(ctx, waiting)
	if err != nil {
		return err
	}
	switch {
	case p.dead():
		return errors.New("the process is gone")
	case f == failBefore && waiting.dice < 3:
		panic("on purpose")
	case f == failBefore, f == rolledBack:
		return errOnPurpose
	case in.Refuse && c.Op == barrier.Try:
		return saga.Reject(errors.New("refused"))
	}
	err = act()
	switch f {
	case failAfter:
		return errOnPurpose
	case dieAfter:
		p.die()
	}
	return err
}
