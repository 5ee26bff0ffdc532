package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/internal/test/invariant"
)

// records are what a run has left behind: what every world has, and the messages,
// the quantities and the gateway, which only this one has.
type records struct {
	*invariant.Records
	outbox      map[invariant.Key]string // state of the message, by branch
	published   map[string]int           // messages in the stream, by branch
	handled     map[string]int           // effects of the consumer, by branch
	local       map[string]bool          // gids of the rows of local transactions
	localOf     map[string]string        // gid of each message of a local transaction, by id
	deadLetters uint64
	quantities  []quantity
	payments    map[string]payment // by key
	histories   map[string]*history
}

// quantity is an amount that is conserved: of an article, or on an account.
type quantity struct {
	name              string
	free, held, taken int64
}

func newRecords() *records {
	return &records{Records: invariant.NewRecords(), outbox: map[invariant.Key]string{}, published: map[string]int{}, handled: map[string]int{},
		local: map[string]bool{}, localOf: map[string]string{}, payments: map[string]payment{}, histories: map[string]*history{}}
}

// shapes say where the branches of a kind have their effects. Those of a message are
// in the outbox and the stream, and have rules of their own.
var shapes = map[string]invariant.Shape{StockKind: invariant.InDatabase, PointsKind: invariant.InDatabase, SeatsKind: invariant.InDatabase, TicketsKind: invariant.InDatabase, PaymentKind: invariant.AtService, MessageKind: invariant.NotRecorded,
	XAKind: invariant.Prepared, NestedKind: invariant.InLog, RewardKind: invariant.InDatabase, DecideKind: invariant.InDatabase, ReceiptKind: invariant.InDatabase}

// read reads everything.
func read(ctx context.Context, engine, service, host *sql.DB, js jetstream.JetStream, g *gateway, h *histories) (*records, error) {
	r := newRecords()
	err := errors.Join(r.readLog(ctx, engine), r.readEffects(ctx, engine), r.readEffects(ctx, service), r.readEffects(ctx, host), r.readOutbox(ctx, engine), r.readLocal(ctx, engine),
		r.readHandled(ctx, service), r.readQuantities(ctx, engine, service, host), r.readStream(ctx, js))
	r.readGateway(g)
	r.readHistories(h)
	return r, err
}

func (r *records) readLog(ctx context.Context, db *sql.DB) error {
	err := each(ctx, db, `SELECT gid, state, digest <> '', decided_by = 'caller', created_at, decided_at, finished_at, deadline_at,
		(SELECT COUNT(*) FROM saga_attempts a WHERE a.gid = t.gid AND code = 'conflict'),
		EXISTS (SELECT 1 FROM saga_branches b WHERE b.gid = t.gid AND role = 'decides') OR parent <> '' FROM saga_transactions t`, func(rows *sql.Rows) error {
		var gid string
		var decided, finished sql.NullTime
		t := &invariant.Transaction{}
		err := rows.Scan(&gid, &t.State, &t.Planned, &t.DecidedByCaller, &t.Created, &decided, &finished, &t.Deadline, &t.Conflicts, &t.ByBranch)
		t.Decided, t.Finished = decided.Time, finished.Time
		r.Transactions[gid] = t
		return err
	})
	return errors.Join(err, r.eachBranch(ctx, db, "SELECT gid, branch_id, kind FROM saga_branches", func(b *invariant.Branch, kind string) {
		b.Logged, b.Kind, b.Shape = true, kind, shapes[kind]
	}), r.eachBranch(ctx, db, "SELECT gid, branch_id, role FROM saga_branches", func(b *invariant.Branch, role string) {
		b.Role = invariant.Role(role)
	}))
}

// eachBranch calls add with the value of each row that has a gid, a branch id and a
// value.
func (r *records) eachBranch(ctx context.Context, db *sql.DB, query string, add func(b *invariant.Branch, value string)) error {
	return each(ctx, db, query, func(rows *sql.Rows) error {
		var key invariant.Key
		var value string
		if err := rows.Scan(&key.GID, &key.ID, &value); err != nil {
			return err
		}
		add(r.Branch(key), value)
		return nil
	})
}

// readEffects reads the barrier rows of a database, and which calls of branches had
// effect there.
func (r *records) readEffects(ctx context.Context, db *sql.DB) error {
	return errors.Join(
		r.eachBranch(ctx, db, "SELECT gid, branch_id, state FROM saga_barrier", func(b *invariant.Branch, state string) {
			b.Rows = append(b.Rows, invariant.State(state))
		}),
		r.eachBranch(ctx, db, "SELECT gid, branch_id, operation FROM branch_effects ORDER BY id", func(b *invariant.Branch, operation string) {
			b.Database = append(b.Database, operation)
		}),
	)
}

func (r *records) readOutbox(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, "SELECT gid, branch_id, state FROM saga_outbox", func(rows *sql.Rows) error {
		var key invariant.Key
		var state string
		err := rows.Scan(&key.GID, &key.ID, &state)
		r.Branch(key)
		r.outbox[key] = state
		return err
	})
}

func (r *records) readLocal(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, "SELECT gid FROM local_orders", func(rows *sql.Rows) error {
		var gid string
		err := rows.Scan(&gid)
		r.local[gid] = true
		return err
	})
}

func (r *records) readHandled(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, "SELECT message_id, COUNT(*) FROM handled GROUP BY message_id", func(rows *sql.Rows) error {
		var id string
		var n int
		err := rows.Scan(&id, &n)
		r.handled[branchOf(id)] += n
		return err
	})
}

func (r *records) readQuantities(ctx context.Context, engine, service, host *sql.DB) error {
	read := func(db *sql.DB, query string) error {
		return each(ctx, db, query, func(rows *sql.Rows) error {
			var q quantity
			err := rows.Scan(&q.name, &q.free, &q.held, &q.taken)
			r.quantities = append(r.quantities, q)
			return err
		})
	}
	const accounts = "SELECT id, free, held, spent FROM accounts"
	return errors.Join(read(engine, "SELECT sku, available, locked, sold FROM saga_stock"), read(service, accounts), read(host, accounts))
}

func (r *records) readStream(ctx context.Context, js jetstream.JetStream) error {
	if letters, err := js.Stream(ctx, stream+"_dead"); err != nil {
		return err
	} else {
		r.deadLetters = letters.CachedInfo().State.Msgs
	}
	consumer, err := js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	info, err := js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	last := info.CachedInfo().State.LastSeq
	for read := uint64(0); read < last; {
		batch, err := consumer.Fetch(500, jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			return fmt.Errorf("reading the stream: %w", err)
		}
		before := read
		for msg := range batch.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				return err
			}
			read = meta.Sequence.Stream
			id := msg.Headers().Get(message.HeaderID)
			r.published[branchOf(id)]++
			if msg.Subject() == LocalSubject {
				r.localOf[branchOf(id)] = string(msg.Data())
			}
		}
		if batch.Error() != nil || read == before {
			return fmt.Errorf("reading the stream ended at %d of %d: %w", read, last, batch.Error())
		}
	}
	return nil
}

// branchOf is the branch of a message: its id is the branch, and random characters.
func branchOf(id string) string {
	if i := strings.LastIndexByte(id, '/'); i >= 0 {
		return id[:i]
	}
	return id
}

func (r *records) readGateway(g *gateway) {
	for _, key := range g.keys() {
		gid, id, _ := strings.Cut(key, "/")
		r.payments[key] = g.payment(key)
		r.Branch(invariant.Key{GID: gid, ID: id}).Service = r.payments[key].effects
	}
}

func (r *records) readHistories(h *histories) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for gid, told := range h.byGID {
		r.histories[gid] = told
		r.Clients[gid] = told.client()
		if child := told.order.nested(); child != "" && r.Transactions[child] != nil {
			c := *r.Clients[gid]
			c.Asked, c.Partial = []invariant.Asked{{ID: "01", Kind: PointsKind}, {ID: "02", Kind: XAKind}}, true
			r.Clients[child] = &c
		}
	}
}

// client is the part of the history that every world has.
func (h *history) client() *invariant.Client {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &invariant.Client{Abandoned: h.abandoned, ToldConfirmed: h.counts[Confirmed], ToldCancelled: h.counts[Cancelled]}
	for i, kind := range h.order.kinds() {
		c.Asked = append(c.Asked, invariant.Asked{ID: fmt.Sprintf("%02d", i+1), Kind: kind, Refused: kind == h.refused})
	}
	return c
}

// each calls f for each row.
func each(ctx context.Context, db *sql.DB, query string, f func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(strings.Fields(query), " "), err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
