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

// input is the payload of every branch.
type input struct {
	Refuse bool // its Try is rejected
}

func encode(in any) ([]byte, error) { return json.Marshal(in) }

// service is a service without a database of ours: it keeps, for each idempotency
// key, what it was asked to do.
type service struct {
	mu   sync.Mutex
	done map[string][]barrier.Op // by key; an operation that is repeated counts once
}

func (s *service) act(key string, op barrier.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if did := s.done[key]; len(did) == 0 || did[len(did)-1] != op {
		s.done[key] = append(did, op)
	}
}

var errOnPurpose = errors.New("failed on purpose")

// The kinds of branches.
const (
	here = "here" // in the log's database
	away = "away" // in the other database
	out  = "out"  // without a database
	send = "send" // in the log's database; its Confirm calls the service before
)

// The kinds of actions.
const (
	actHere = "act-here" // in the log's database
	actAway = "act-away" // in the other database
	actOut  = "act-out"  // without a database
)

// The kinds that the host has; see host_test.go.
const (
	far     = "far"      // in its database
	farBulk = "far-bulk" // the same; many at once
	farOut  = "far-out"  // without a database
	actFar  = "act-far"  // an action in its database
)

// kinds are the kinds with Try, Confirm and Cancel, and actions those without Confirm, in the
// order in which they are drawn from; see world.branches.
var (
	kinds   = []string{here, away, out, send}
	actions = []string{actHere, actAway, actOut}

	farKinds = []string{far, farBulk, far, farBulk, farOut}
)

// shapes say where the branches of a kind have their effects.
var shapes = map[string]invariant.Shape{here: invariant.InDatabase, away: invariant.InDatabase, out: invariant.AtService, send: invariant.ServiceThenDatabase,
	far: invariant.InDatabase, farBulk: invariant.InDatabase, farOut: invariant.AtService, actFar: invariant.InDatabase,
	actHere: invariant.InDatabase, actAway: invariant.InDatabase, actOut: invariant.AtService}

// works are what the branches of a process do.
type works struct {
	world   *world
	process *process
}

func (k works) inside(ctx context.Context, tx *gorm.DB, c saga.Call) error {
	return k.world.work(ctx, k.process, c, func() error {
		// The branch ignores an error of this statement. If the server has rolled
		// back with it, the local transaction must not commit the rest.
		_ = tx.Exec("UPDATE remarks SET n = n + 1").Error
		if err := tx.Exec("INSERT INTO effects (gid, branch, op) VALUES (?, ?, ?)", c.GID, c.BranchID, string(c.Op)).Error; err != nil {
			return err
		}
		return refusal(c) // so late that there is something to undo
	})
}

func (k works) outside(ctx context.Context, c saga.Call) (any, error) {
	return "receipt", k.world.work(ctx, k.process, c, func() error {
		if err := refusal(c); err != nil {
			return err
		}
		k.world.service.act(c.Key().String(), c.Op)
		return nil
	})
}

func (k works) send(ctx context.Context, tx *gorm.DB, c saga.Call) error {
	if c.Op == barrier.Confirm && c.Receipt != "receipt" {
		return fmt.Errorf("the receipt is %v", c.Receipt)
	}
	return k.inside(ctx, tx, c)
}

func (k works) act(ctx context.Context, tx *gorm.DB, c saga.Call) error {
	if err := k.world.checkAction(c); err != nil {
		return err
	}
	return k.inside(ctx, tx, c)
}

func (k works) actOutside(ctx context.Context, c saga.Call) (any, error) {
	if err := k.world.checkAction(c); err != nil {
		return nil, err
	}
	return k.outside(ctx, c)
}

// branches are the branches that a process registers, one of each kind.
func (w *world) branches(p *process, other *gorm.DB) []saga.Branch {
	k := works{w, p}
	return []saga.Branch{
		saga.NewLocal(actHere, encode, saga.Local{Work: k.act}).AsAction(),
		saga.NewLocal(actAway, encode, saga.Local{Work: k.act, Database: other}).AsAction(),
		saga.NewExternal(actOut, encode, saga.External{Try: k.actOutside, Cancel: k.actOutside}).AsAction(),
		saga.NewLocal(here, encode, saga.Local{Work: k.inside}),
		saga.NewLocal(away, encode, saga.Local{Work: k.inside, Database: other}),
		saga.NewExternal(out, encode, saga.External{Try: k.outside, Confirm: k.outside, Cancel: k.outside}),
		saga.NewLocal(send, encode, saga.Local{Work: k.send, Effects: map[barrier.Op]saga.Effect{barrier.Confirm: k.outside}}),
	}
}

// work is one call of a branch: it passes the gate, and then does what its fault
// leaves of act.
func (w *world) work(ctx context.Context, p *process, c saga.Call, act func() error) error {
	return w.pass(ctx, p, fmt.Sprintf("%s of %s, %s", c.Op, c.Key(), c.Kind), act)
}

// refusal is the error of a call that is a Try and refused.
func refusal(c saga.Call) error {
	var in input
	if err := json.Unmarshal(c.Payload, &in); err != nil {
		return err
	}
	if in.Refuse && c.Op == barrier.Try {
		return saga.Reject(errors.New("refused"))
	}
	return nil
}

// pass passes the gate, and then does what its fault leaves of act.
func (w *world) pass(ctx context.Context, p *process, what string, act func() error) error {
	waiting := &call{process: p, what: what}
	f, err := w.gate.pass(ctx, waiting)
	if err != nil {
		return err
	}
	switch {
	case p.dead():
		return errors.New("the process is dead")
	case f == failBefore && waiting.dice < 3:
		panic("on purpose")
	case f == failBefore, f == rolledBack:
		return errOnPurpose
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
