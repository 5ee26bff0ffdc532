package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// take is the input of the branches of these tests: pieces of a pot, and the fault that
// one of the branches has.
type take struct {
	Pot     int
	N       int
	Fault   fault
	Padding string // makes the input large
}

// fault is what goes wrong in the branch of a kind. The zero fault is none.
type fault struct {
	Kind string
	What faultKind
}

func (f fault) String() string { return strings.TrimSpace(f.Kind + " " + string(f.What)) }

// faultKind is what goes wrong in a call.
type faultKind string

const (
	failingTry               = faultKind(barrier.Try)     // Try returns an error
	failingInBatch faultKind = "batch"                    // Try fails only in a batch
	failingConfirm           = faultKind(barrier.Confirm) // Confirm returns an error
	panicking      faultKind = "panic"                    // Try panics
	slow           faultKind = "slow"                     // Try takes long
	failingSQL     faultKind = "sql"                      // Try returns the error of a statement
	swallowing     faultKind = "swallow"                  // Try keeps the error of a statement to itself
	failingSend    faultKind = "send"                     // the effect of Confirm returns an error
	forgetful      faultKind = "forget"                   // the effects of a batch have no results
)

// pots are branches that hold pieces of pots: "bulk", "plain", and "sent", which has an
// effect before its Confirm.
type pots struct {
	t      *testing.T
	db     *gorm.DB
	orch   *embedded.Engine
	sizes  sync.Map     // by batchOf: the calls of the largest batch
	sent   atomic.Int64 // the calls of the last batch of effects
	faulty atomic.Bool
}

// batchOf tells batches of calls apart.
type batchOf struct {
	op   barrier.Op
	kind string
}

const potCount = 20

func newPots(t *testing.T, db *gorm.DB, config embedded.Config) *pots {
	t.Helper()
	p := idlePots(t, db, config)
	sagatest.Run(t, p.orch)
	return p
}

// idlePots does nothing in the background.
func idlePots(t *testing.T, db *gorm.DB, config embedded.Config) *pots {
	t.Helper()
	p := &pots{t: t, db: db}
	p.faulty.Store(true)
	sagatest.Must(t, db.Exec("CREATE TABLE pots (id INT PRIMARY KEY, free INT NOT NULL, held INT NOT NULL, sold INT NOT NULL)").Error)
	for id := range potCount {
		sagatest.Must(t, db.Exec("INSERT INTO pots VALUES (?, 1000, 0, 0)", id).Error)
	}
	p.orch = p.open(config)
	return p
}

func (p *pots) open(config embedded.Config) *embedded.Engine {
	return p.openWith(config, func(*spec) {})
}

// openWith opens an engine whose branches are changed.
func (p *pots) openWith(config embedded.Config, change func(*spec)) *embedded.Engine {
	orch := sagatest.Open(p.t, p.db, config)
	encode := func(input any) ([]byte, error) { return json.Marshal(input) }
	plain := spec{Kind: "plain", Database: p.db, Encode: encode, Work: p.inside}
	bulk := plain
	bulk.Kind, bulk.WorkBatch = "bulk", p.together
	sent := plain
	sent.Kind = "sent"
	sent.Effects = map[barrier.Op]saga.Effect{
		barrier.Confirm: func(_ context.Context, call saga.Call) (any, error) { return call.GID, p.fails(call, failingSend) },
	}
	sent.EffectBatches = map[barrier.Op]saga.EffectBatch{barrier.Confirm: p.send}
	for _, b := range []spec{plain, bulk, sent} {
		change(&b)
		sagatest.Must(p.t, register(orch, b))
	}
	return orch
}

// away lets the kind "plain" live in another database, with what Clean is to do.
func (p *pots) away(other *gorm.DB, clean func(tx *gorm.DB, gids []string) error) *embedded.Engine {
	return p.openWith(still, func(b *spec) {
		if b.Kind == "plain" {
			b.Database, b.Work = other, func(context.Context, *gorm.DB, saga.Call) error { return nil }
			b.Clean = func(_ context.Context, tx *gorm.DB, gids []string) error { return clean(tx, gids) }
		}
	})
}

func noClean(*gorm.DB, []string) error { return nil }

func (p *pots) inside(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	var t take
	if err := json.Unmarshal(call.Payload, &t); err != nil {
		return err
	}
	err := errors.Join(p.fails(call, faultKind(call.Op)), p.move(tx, call.Op, t))
	if call.Kind == "sent" && call.Op == barrier.Confirm && call.Receipt != call.GID {
		p.t.Errorf("%s has the receipt %v", call.GID, call.Receipt)
	}
	switch {
	case call.Op != barrier.Try:
	case p.fails(call, panicking) != nil:
		panic("on purpose")
	case p.fails(call, slow) != nil:
		timer := time.NewTimer(200 * time.Millisecond) // it is the subject of the test
		defer timer.Stop()
		<-timer.C
	case p.fails(call, failingSQL) != nil:
		return tx.Exec("INSERT INTO pots VALUES (1, 1, 1, 1)").Error
	case p.fails(call, swallowing) != nil:
		tx.Exec("INSERT INTO pots VALUES (1, 1, 1, 1)")
	}
	return err
}

// fails returns an error if the call has the fault.
func (p *pots) fails(call saga.Call, what faultKind) error {
	var t take
	if err := json.Unmarshal(call.Payload, &t); err != nil {
		return err
	}
	if p.faulty.Load() && t.Fault == (fault{call.Kind, what}) {
		return fmt.Errorf("on purpose: %s", t.Fault)
	}
	return nil
}

func (p *pots) move(tx *gorm.DB, op barrier.Op, t take) error {
	columns := map[barrier.Op][2]string{barrier.Try: {"free", "held"}, barrier.Confirm: {"held", "sold"}, barrier.Cancel: {"held", "free"}}[op]
	query := strings.NewReplacer("FROM", columns[0], "TO", columns[1]).Replace("UPDATE pots SET FROM = FROM - ?, TO = TO + ? WHERE id = ? AND FROM >= ?")
	result := tx.Exec(query, t.N, t.N, t.Pot, t.N)
	if result.Error == nil && result.RowsAffected == 0 {
		return fmt.Errorf("pot %d has no %d %s", t.Pot, t.N, columns[0])
	}
	return result.Error
}

func (p *pots) together(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
	key := batchOf{op, calls[0].Kind}
	if most, _ := p.sizes.Load(key); most == nil || most.(int) < len(calls) {
		p.sizes.Store(key, len(calls))
	}
	failures := make([]error, len(calls))
	for i, c := range calls {
		var t take
		if err := json.Unmarshal(c.Payload, &t); err != nil {
			return nil, err
		}
		if failures[i] = p.fails(c.Call, faultKind(op)); failures[i] != nil {
			continue
		}
		if p.fails(c.Call, panicking) != nil {
			panic("on purpose")
		}
		if failures[i] = p.move(tx, op, t); failures[i] != nil && !strings.Contains(failures[i].Error(), "has no") {
			return nil, failures[i]
		}
	}
	return failures, nil
}

func (p *pots) send(_ context.Context, calls []saga.BatchCall) (receipts []any, failures []error) {
	p.sent.Store(int64(len(calls)))
	if p.fails(calls[0].Call, forgetful) != nil {
		return nil, nil
	}
	for _, c := range calls {
		receipts, failures = append(receipts, c.GID), append(failures, p.fails(c.Call, failingSend))
	}
	return receipts, failures
}
