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

// inbox is what the database knows of the messages of one consumer and stream: the
// table saga_inbox. A row is written when the message comes, without handled_at;
// the local transaction of the handler sets it. begun_by names the process whose
// handler has begun and not ended: if that process has died, it was an attempt. A plus
// behind it says that the message shares its local transaction, so that perhaps another
// one was at work when the process died.
type inbox struct {
	db               *gorm.DB // of the user
	consumer, stream string
	process          string
	shared           bool // several messages may share a local transaction
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

// direct returns a handle on the pool itself, past a resolver that reads from
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

// exec runs one statement, which is a local transaction by itself.
func (b *inbox) exec(ctx context.Context, statement string, arguments ...any) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	db, err := b.direct(ctx)
	if err != nil {
		return err
	}
	return db.Exec(statement, arguments...).Error
}

// mine is the condition that a row belongs to one of some messages.
const mine = " consumer = ? AND stream = ? AND message_id IN ?"

func (b *inbox) of(entries []*entry) []any { return []any{b.consumer, b.stream, ids(entries)} }

func ids(entries []*entry) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.m.ID
	}
	return all
}

// row is what the inbox says about a message that has come before.
type row struct {
	MessageID       string
	Handled, Buried bool
	Attempts        int
	Error, BegunBy  string
	Resent          uint64
}

// mark is what begun_by says of messages whose handlers begin here.
func (b *inbox) mark(entries []*entry) string {
	if !b.shared || len(entries) == 1 && entries[0].alone {
		return b.process
	}
	return b.process + "+"
}

// ours says whether a mark is of this process.
func (b *inbox) ours(mark string) bool { return strings.TrimSuffix(mark, "+") == b.process }

// receive writes rows for new messages, of which the handlers of the first begin
// at once, and returns the rows that were there.
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

// sequence is what the row keeps, so that it stays for as long as the stream has
// the message.
func (e *entry) sequence() uint64 {
	if e.resent > 0 {
		return 0
	}
	return e.m.Sequence
}

func (b *inbox) read(db *gorm.DB, entries []*entry) (map[string]row, error) {
	var rows []row
	err := db.Raw(`SELECT message_id, handled_at IS NOT NULL AS handled, buried_at IS NOT NULL AS buried, attempts, error, begun_by, resent
		FROM saga_inbox WHERE`+mine, b.of(entries)...).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	found := make(map[string]row, len(rows))
	for _, r := range rows {
		found[r.MessageID] = r
	}
	return found, b.readOld(db, entries, found)
}

// readOld adds what rows of schema version 1 say, which did not have the stream.
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

// begin says that the handlers of messages begin.
func (b *inbox) begin(ctx context.Context, entries []*entry) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET begun_by = ? WHERE"+mine, append([]any{b.mark(entries)}, b.of(entries)...)...)
	return err
}

// rest says that the handlers of messages have not begun after all.
func (b *inbox) rest(ctx context.Context, entries []*entry) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET begun_by = '' WHERE"+mine+" AND begun_by IN ?", append(b.of(entries), []string{b.process, b.process + "+"})...)
	return err
}

// errMoved says that rows are not as they were when the messages came: another
// process has handled one, or it was removed.
var errMoved = errors.New("the inbox rows have changed meanwhile")

// handle says in the local transaction tx that messages are handled, and that the
// handlers of the next ones begin, which they do once tx is committed.
func (b *inbox) handle(tx *gorm.DB, entries, next []*entry) error {
	var result *gorm.DB
	if len(next) == 0 {
		result = tx.Exec("UPDATE saga_inbox SET handled_at = "+now(tx)+", begun_by = '' WHERE"+mine+" AND handled_at IS NULL", b.of(entries)...)
	} else {
		these := ids(entries)
		both := append(these[:len(these):len(these)], ids(next)...)
		result = tx.Exec("UPDATE saga_inbox SET handled_at = CASE WHEN message_id IN ? THEN "+now(tx)+" ELSE NULL END,"+
			" begun_by = CASE WHEN message_id IN ? THEN '' ELSE ? END WHERE"+mine+" AND handled_at IS NULL",
			these, these, b.mark(next), b.consumer, b.stream, both)
	}
	if result.Error == nil && result.RowsAffected != int64(len(entries)+len(next)) {
		return errMoved
	}
	return result.Error
}

// leave says in the local transaction of handle that messages are not handled after
// all.
func (b *inbox) leave(tx *gorm.DB, entries []*entry) error {
	return tx.Exec("UPDATE saga_inbox SET handled_at = NULL, begun_by = ? WHERE"+mine, append([]any{b.mark(entries)}, b.of(entries)...)...).Error
}

// fail writes a failure of the handler, and how many there are with it.
func (b *inbox) fail(ctx context.Context, e *entry, reason string, attempts int) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET attempts = ?, error = ?, begun_by = '' WHERE"+mine+" AND handled_at IS NULL",
		append([]any{attempts, reason}, b.of([]*entry{e})...)...)
	return err
}

// buried says that a message is a dead letter.
func (b *inbox) buried(ctx context.Context, e *entry) error {
	db, err := b.direct(ctx)
	if err != nil {
		return err
	}
	err = b.exec(ctx, "UPDATE saga_inbox SET buried_at = "+now(db)+", begun_by = '' WHERE"+mine+" AND handled_at IS NULL", b.of([]*entry{e})...)
	return err
}

// revive gives a message that was sent again from the dead letters its attempts
// back.
func (b *inbox) revive(ctx context.Context, e *entry) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET attempts = 0, error = '', buried_at = NULL, begun_by = '', resent = ? WHERE"+mine+" AND handled_at IS NULL AND resent < ?",
		append(append([]any{e.resent}, b.of([]*entry{e})...), e.resent)...)
	return err
}

// seen lets the row stay for as long as the stream has this copy of the message.
func (b *inbox) seen(ctx context.Context, e *entry) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET sequence = ? WHERE"+mine+" AND sequence < ?",
		append(append([]any{e.sequence()}, b.of([]*entry{e})...), e.sequence())...)
	return err
}

const (
	// killed is the reason of an attempt whose process ended.
	killed = "the process ended while the handler ran"

	// suspected is the reason if that may also have been another one's attempt. The
	// message is handled alone from then on, and if its process ends once more, both
	// were its own.
	suspected = "the process ended while the handler ran for this message or for one that shared its local transaction"
)

// orphaned counts an attempt for each message whose handler has begun in another
// process that is gone, and returns those whose handler still runs. Where it runs,
// its local transaction holds the lock of the row.
func (b *inbox) orphaned(ctx context.Context, entries []*entry) (atWork map[string]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	atWork = map[string]bool{}
	err = barrier.Transaction(ctx, b.db, func(tx *gorm.DB) (err error) {
		var free []string
		query := "SELECT message_id FROM saga_inbox WHERE" + mine
		if tx.Name() != "sqlite" {
			query += " FOR UPDATE SKIP LOCKED"
		}
		if err = tx.Raw(query, b.of(entries)...).Scan(&free).Error; err != nil {
			return err
		}
		clear(atWork)
		for _, e := range entries {
			atWork[e.m.ID] = true
		}
		for _, id := range free {
			delete(atWork, id)
		}
		if len(free) == 0 {
			return nil
		}
		return tx.Exec("UPDATE saga_inbox SET attempts = CASE WHEN begun_by LIKE '%+' THEN attempts WHEN error = ? THEN attempts + 2 ELSE attempts + 1 END,"+
			" error = CASE WHEN begun_by LIKE '%+' THEN ? ELSE ? END, begun_by = '' WHERE"+mine+" AND handled_at IS NULL AND begun_by <> '' AND begun_by NOT IN ?",
			suspected, suspected, killed, b.consumer, b.stream, free, []string{b.process, b.process + "+"}).Error
	})
	return atWork, err
}

// ask looks whether the database takes writes.
func (b *inbox) ask(ctx context.Context) error {
	err := b.exec(ctx, "UPDATE saga_inbox SET attempts = 0 WHERE consumer = ? AND stream = ? AND message_id = ''", b.consumer, b.stream)
	return err
}
