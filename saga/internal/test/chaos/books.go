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
)

// books are everything that is written down in the end, read from the tables,
// the stream and the gateway.
type books struct {
	log       map[string]*entry
	marks     map[branch]*mark
	messages  map[string]int // in the stream, by id
	effects   map[string]int // of the consumer, by id of the message
	dead      uint64         // dead letters
	levels    []level
	conflicts map[string]int // failed calls of that kind, by gid
	gateway   *gateway
	told      *told
}

// entry is a transaction as the log has it.
type entry struct {
	gid, state, reason, attention string
	planned                       bool // executed with a plan
	byCaller                      bool // decided by its own execution, or by its caller
	created, decided, finished    time.Time
	late                          bool // confirmed after its deadline
	branches                      []branch
	kinds                         map[string]string // by branch id
}

type branch struct{ gid, id string }

func (b branch) String() string { return b.gid + "/" + b.id }

// mark is what is known of a branch outside the log.
type mark struct {
	barriers []string // states, one per database that has a row
	notes    []string // operations that had effect
	outbox   string   // state of the message
}

// level is a quantity that must be conserved: an article's, or an account's.
type level struct {
	name             string
	free, held, gone int64
}

// errUnfinished says that something is still under way.
var errUnfinished = errors.New("unfinished")

// settled says whether everything has come to its end.
func settled(ctx context.Context, db *sql.DB, js jetstream.JetStream) error {
	var open int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM saga_transactions WHERE state NOT IN ('confirmed', 'cancelled')").Scan(&open); err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, stream, "effects")
	if err != nil {
		return err
	}
	info := consumer.CachedInfo()
	if open > 0 || info.NumPending > 0 || info.NumAckPending > 0 {
		return fmt.Errorf("%w: %d transactions, %d messages, %d acknowledgements", errUnfinished, open, info.NumPending, info.NumAckPending)
	}
	return nil
}

func read(ctx context.Context, homeDB, awayDB *sql.DB, js jetstream.JetStream, g *gateway, t *told) (*books, error) {
	b := &books{log: map[string]*entry{}, marks: map[branch]*mark{}, messages: map[string]int{}, effects: map[string]int{},
		conflicts: map[string]int{}, gateway: g, told: t}
	return b, errors.Join(b.readLog(ctx, homeDB), b.readMarks(ctx, homeDB), b.readMarks(ctx, awayDB), b.readOutbox(ctx, homeDB),
		b.readEffects(ctx, awayDB), b.readLevels(ctx, homeDB, awayDB), b.readStream(ctx, js))
}

func (b *books) readLog(ctx context.Context, db *sql.DB) error {
	err := each(ctx, db, `SELECT gid, state, reason, attention, digest <> '', decided_by = 'caller', created_at, decided_at, finished_at,
		state = 'confirmed' AND decided_at > deadline_at FROM saga_transactions`, func(rows *sql.Rows) error {
		e := &entry{kinds: map[string]string{}}
		var decided, finished sql.NullTime
		if err := rows.Scan(&e.gid, &e.state, &e.reason, &e.attention, &e.planned, &e.byCaller, &e.created, &decided, &finished, &e.late); err != nil {
			return err
		}
		e.decided, e.finished = decided.Time, finished.Time
		b.log[e.gid] = e
		return nil
	})
	if err != nil {
		return err
	}
	err = each(ctx, db, "SELECT gid, branch_id, kind FROM saga_branches ORDER BY gid, branch_id", func(rows *sql.Rows) error {
		var key branch
		var kind string
		if err := rows.Scan(&key.gid, &key.id, &kind); err != nil {
			return err
		}
		e := b.log[key.gid]
		if e == nil {
			return fmt.Errorf("%s is in saga_branches, but its transaction is not in the log", key)
		}
		e.branches = append(e.branches, key)
		e.kinds[key.id] = kind
		return nil
	})
	if err != nil {
		return err
	}
	return each(ctx, db, "SELECT gid FROM saga_attempts WHERE error LIKE '%contradicts what the branch has done%'", func(rows *sql.Rows) error {
		var gid string
		if err := rows.Scan(&gid); err != nil {
			return err
		}
		b.conflicts[gid]++
		return nil
	})
}

func (b *books) mark(key branch) *mark {
	m := b.marks[key]
	if m == nil {
		m = &mark{}
		b.marks[key] = m
	}
	return m
}

// readMarks reads what each database has of barrier rows, and of effects that
// branches have noted.
func (b *books) readMarks(ctx context.Context, db *sql.DB) error {
	read := func(query string, add func(m *mark, what string)) error {
		return each(ctx, db, query, func(rows *sql.Rows) error {
			var key branch
			var what string
			err := rows.Scan(&key.gid, &key.id, &what)
			if err == nil {
				add(b.mark(key), what)
			}
			return err
		})
	}
	return errors.Join(
		read("SELECT gid, branch_id, state FROM saga_barrier", func(m *mark, state string) { m.barriers = append(m.barriers, state) }),
		read("SELECT gid, branch_id, operation FROM notes ORDER BY id", func(m *mark, operation string) { m.notes = append(m.notes, operation) }),
	)
}

func (b *books) readOutbox(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, "SELECT gid, branch_id, state FROM saga_outbox", func(rows *sql.Rows) error {
		var key branch
		var state string
		err := rows.Scan(&key.gid, &key.id, &state)
		if err == nil {
			b.mark(key).outbox = state
		}
		return err
	})
}

func (b *books) readEffects(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, "SELECT message_id, COUNT(*) FROM effects GROUP BY message_id", func(rows *sql.Rows) error {
		var id string
		var n int
		err := rows.Scan(&id, &n)
		b.effects[branchOf(id)] += n
		return err
	})
}

func (b *books) readLevels(ctx context.Context, homeDB, awayDB *sql.DB) error {
	read := func(db *sql.DB, query string) error {
		return each(ctx, db, query, func(rows *sql.Rows) error {
			var l level
			err := rows.Scan(&l.name, &l.free, &l.held, &l.gone)
			b.levels = append(b.levels, l)
			return err
		})
	}
	return errors.Join(read(homeDB, "SELECT sku, available, locked, sold FROM saga_stock"), read(awayDB, "SELECT id, free, held, spent FROM accounts"))
}

func (b *books) readStream(ctx context.Context, js jetstream.JetStream) error {
	if letters, err := js.Stream(ctx, stream+"_dead"); err != nil {
		return err
	} else {
		b.dead = letters.CachedInfo().State.Msgs
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
			b.messages[branchOf(msg.Headers().Get(message.HeaderID))]++
		}
		if batch.Error() != nil || read == before {
			return fmt.Errorf("reading the stream ended at %d of %d: %w", read, last, batch.Error())
		}
	}
	return nil
}

// branchOf is the branch of a message: its id is that, and random characters.
func branchOf(id string) string {
	if i := strings.LastIndexByte(id, '/'); i >= 0 {
		return id[:i]
	}
	return id
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
