package message

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// inbox has the rows of one consumer and stream in the table saga_inbox. A row is written
// when the message comes, without handled_at. The local transaction of the handler sets
// handled_at.
//
// begun_by names the process in which the handler has begun and not ended. If that process
// has died, this was an attempt. A plus sign after the name means that the message shares
// its local transaction: perhaps the handler of another message was running when the
// process died.
type inbox struct {
	db               *gorm.DB // of the user
	consumer, stream string
	process          string
	shared           bool // messages may share a local transaction
	old              bool // there are rows of schema version 1
}

func newInbox(ctx context.Context, db *gorm.DB, config ConsumerConfig) (*inbox, error) {
	b := &inbox{db: db, consumer: config.Name, stream: config.Stream, process: uuid.NewString(), shared: config.Batch != 1}
	direct, err := b.direct(ctx)
	if err != nil {
		return nil, err
	}
	var n int
	err = direct.Raw("SELECT COUNT(*) FROM (SELECT 1 FROM saga_inbox WHERE consumer = ? AND stream = '' LIMIT 1) AS old", b.consumer).Scan(&n).Error
	b.old = n > 0
	return b, err
}

// direct returns a handle on the pool itself. It bypasses a resolver that reads from
// replicas.
func (b *inbox) direct(ctx context.Context) (*gorm.DB, error) {
	pool, err := b.db.DB()
	if err != nil {
		return nil, fmt.Errorf("the pool of the database: %w", err)
	}
	session := b.db.Session(&gorm.Session{NewDB: true, Context: ctx, SkipHooks: true, SkipDefaultTransaction: true})
	session.Statement.ConnPool = pool
	return session, nil
}

// writeTimeout bounds one statement on the inbox outside a handler.
const writeTimeout = 10 * time.Second

// exec runs one statement in its own local transaction.
func (b *inbox) exec(ctx context.Context, statement string, arguments ...any) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	db, err := b.direct(ctx)
	if err != nil {
		return err
	}
	return db.Exec(statement, arguments...).Error
}

// ofMessages is the condition that a row belongs to one of the messages of inbox.of.
const ofMessages = " consumer = ? AND stream = ? AND message_id IN ?"

func (b *inbox) of(entries []*entry) []any { return []any{b.consumer, b.stream, ids(entries)} }

func ids(entries []*entry) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.m.ID
	}
	return all
}

// row is the inbox row of a message that came before.
type row struct {
	MessageID       string
	Handled, Buried bool
	Attempts        int
	Error, BegunBy  string
	Resent          uint64
}

// mark is the begun_by of messages whose handlers begin in this process.
func (b *inbox) mark(entries []*entry) string {
	if !b.shared || len(entries) == 1 && entries[0].alone {
		return b.process
	}
	return b.process + "+"
}

// ours reports whether a mark is of this process.
func (b *inbox) ours(mark string) bool { return strings.TrimSuffix(mark, "+") == b.process }

// receive writes rows for new messages, and returns the rows that existed before. The
// handlers of the first messages begin at once; beginning is their number.
func (b *inbox) receive(ctx context.Context, entries []*entry, beginning int) (map[string]row, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	db, err := b.direct(ctx)
	if err != nil {
		return nil, err
	}
	insert, end := "INSERT INTO", " ON CONFLICT DO NOTHING"
	if db.Name() == "mysql" {
		insert, end = "INSERT IGNORE INTO", ""
	}
	var arguments []any
	for i, e := range entries {
		by := ""
		if i < beginning {
			by = b.mark(entries)
		}
		arguments = append(arguments, b.consumer, b.stream, e.m.ID, e.sequence(), by)
	}
	values := strings.Repeat(", (?, ?, ?, ?, ?, "+now(db)+")", len(entries))[2:]
	result := db.Exec(insert+" saga_inbox (consumer, stream, message_id, sequence, begun_by, received_at) VALUES "+values+end, arguments...)
	if result.Error != nil {
		return nil, result.Error
	}
	if result.RowsAffected == int64(len(entries)) && !b.old {
		return nil, nil
	}
	return b.read(db, entries)
}

// sequence is the sequence in the inbox row: the row stays as long as the stream has the
// message.
func (e *entry) sequence() uint64 {
	if e.resent > 0 {
		return 0
	}
	return e.m.Sequence
}

func (b *inbox) read(db *gorm.DB, entries []*entry) (map[string]row, error) {
	var rows []row
	err := db.Raw(`SELECT message_id, handled_at IS NOT NULL AS handled, buried_at IS NOT NULL AS buried, attempts, error, begun_by, resent
		FROM saga_inbox WHERE`+ofMessages, b.of(entries)...).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	found := make(map[string]row, len(rows))
	for _, r := range rows {
		found[r.MessageID] = r
	}
	return found, b.readOld(db, entries, found)
}

// readOld adds the rows of schema version 1, which have no stream.
func (b *inbox) readOld(db *gorm.DB, entries []*entry, found map[string]row) error {
	if !b.old {
		return nil
	}
	names := map[string]string{}
	var asked []string
	for _, e := range entries {
		for _, name := range []string{e.m.ID, fmt.Sprintf("%s/%d", e.m.Stream, e.m.Sequence)} {
			names[name] = e.m.ID
			asked = append(asked, name)
		}
	}
	var handled []string
	err := db.Raw("SELECT message_id FROM saga_inbox WHERE consumer = ? AND stream = '' AND message_id IN ?", b.consumer, asked).Scan(&handled).Error
	for _, name := range handled {
		found[names[name]] = row{MessageID: names[name], Handled: true}
	}
	return err
}

// begin marks messages as begun.
func (b *inbox) begin(ctx context.Context, entries []*entry) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET begun_by = ? WHERE"+ofMessages, append([]any{b.mark(entries)}, b.of(entries)...)...)
	return err
}

// unbegin removes the mark of messages whose handlers have not begun.
func (b *inbox) unbegin(ctx context.Context, entries []*entry) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET begun_by = '' WHERE"+ofMessages+" AND begun_by IN ?", append(b.of(entries), []string{b.process, b.process + "+"})...)
	return err
}

// errRowsChanged says that rows have changed since the messages came: another process has
// handled a message, or a row was removed.
var errRowsChanged = errors.New("the inbox rows have changed meanwhile")

// handle marks messages as handled in the local transaction tx. It also marks the next
// messages as begun: their handlers begin after tx is committed.
func (b *inbox) handle(tx *gorm.DB, entries, next []*entry) error {
	var result *gorm.DB
	if len(next) == 0 {
		result = tx.Exec("UPDATE saga_inbox SET handled_at = "+now(tx)+", begun_by = '' WHERE"+ofMessages+" AND handled_at IS NULL", b.of(entries)...)
	} else {
		these := ids(entries)
		both := append(these[:len(these):len(these)], ids(next)...)
		result = tx.Exec("UPDATE saga_inbox SET handled_at = CASE WHEN message_id IN ? THEN "+now(tx)+" ELSE NULL END,"+
			" begun_by = CASE WHEN message_id IN ? THEN '' ELSE ? END WHERE"+ofMessages+" AND handled_at IS NULL",
			these, these, b.mark(next), b.consumer, b.stream, both)
	}
	if result.Error == nil && result.RowsAffected != int64(len(entries)+len(next)) {
		return errRowsChanged
	}
	return result.Error
}

// unhandle undoes handle for messages in the same local transaction.
func (b *inbox) unhandle(tx *gorm.DB, entries []*entry) error {
	return tx.Exec("UPDATE saga_inbox SET handled_at = NULL, begun_by = ? WHERE"+ofMessages, append([]any{b.mark(entries)}, b.of(entries)...)...).Error
}

// fail writes a failure of the handler, and the number of attempts.
func (b *inbox) fail(ctx context.Context, e *entry, reason string, attempts int) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET attempts = ?, error = ?, begun_by = '' WHERE"+ofMessages+" AND handled_at IS NULL",
		append([]any{attempts, reason}, b.of([]*entry{e})...)...)
	return err
}

// setDead marks a message as a dead letter.
func (b *inbox) setDead(ctx context.Context, e *entry) error {
	db, err := b.direct(ctx)
	if err != nil {
		return err
	}
	err = b.exec(ctx, "UPDATE saga_inbox SET buried_at = "+now(db)+", begun_by = '' WHERE"+ofMessages+" AND handled_at IS NULL", b.of([]*entry{e})...)
	return err
}

// resetAttempts gives new attempts to a dead letter that was sent again.
func (b *inbox) resetAttempts(ctx context.Context, e *entry) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET attempts = 0, error = '', buried_at = NULL, begun_by = '', resent = ? WHERE"+ofMessages+" AND handled_at IS NULL AND resent < ?",
		append(append([]any{e.resent}, b.of([]*entry{e})...), e.resent)...)
	return err
}

// keepRow keeps the row as long as the stream has this copy of the message.
func (b *inbox) keepRow(ctx context.Context, e *entry) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET sequence = ? WHERE"+ofMessages+" AND sequence < ?",
		append(append([]any{e.sequence()}, b.of([]*entry{e})...), e.sequence())...)
	return err
}

const (
	// killed is the reason of an attempt in which the process ended.
	killed = "the process ended while the handler ran"

	// suspected is the reason if the handler of another message may have ended the
	// process. From then on, the message is handled alone. If its process ends again,
	// both count as attempts.
	suspected = "the process ended while the handler ran for this message or for one that shared its local transaction"
)

// countOrphans counts an attempt for each message whose handler has begun in a process that
// is gone. It returns the messages whose handlers still run in another process: there, the
// local transaction holds the lock of the row.
func (b *inbox) countOrphans(ctx context.Context, entries []*entry) (running map[string]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	running = map[string]bool{}
	err = barrier.Transaction(ctx, b.db, func(tx *gorm.DB) error {
		var free []string
		query := "SELECT message_id FROM saga_inbox WHERE" + ofMessages
		if tx.Name() != "sqlite" {
			query += " FOR UPDATE SKIP LOCKED"
		}
		if readErr := tx.Raw(query, b.of(entries)...).Scan(&free).Error; readErr != nil {
			return readErr
		}
		clear(running)
		for _, e := range entries {
			running[e.m.ID] = true
		}
		for _, id := range free {
			delete(running, id)
		}
		if len(free) == 0 {
			return nil
		}
		return tx.Exec("UPDATE saga_inbox SET attempts = CASE WHEN begun_by LIKE '%+' THEN attempts WHEN error = ? THEN attempts + 2 ELSE attempts + 1 END,"+
			" error = CASE WHEN begun_by LIKE '%+' THEN ? ELSE ? END, begun_by = '' WHERE"+ofMessages+" AND handled_at IS NULL AND begun_by <> '' AND begun_by NOT IN ?",
			suspected, suspected, killed, b.consumer, b.stream, free, []string{b.process, b.process + "+"}).Error
	})
	return running, err
}

// ping checks whether the database accepts writes.
func (b *inbox) ping(ctx context.Context) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET attempts = 0 WHERE consumer = ? AND stream = ? AND message_id = ''", b.consumer, b.stream)
	return err
}
