package message

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// DeadLetters are the messages of one stream that consumers could not handle, for
// the people and programs that look after them. It is safe for concurrent use.
type DeadLetters struct {
	db           *gorm.DB
	broker       broker.Broker
	stream, dead string
}

// NewDeadLetters returns the dead letters of a stream, which are in the stream dead;
// if that is empty, in STREAM_dead, as [ConsumerConfig.DeadLetters] has it. What is
// done to them is recorded in db, where the schema of package sql is installed: best
// in the database of the consumer's inbox.
func NewDeadLetters(db *gorm.DB, b broker.Broker, stream, dead string) (*DeadLetters, error) {
	if db == nil || b == nil || stream == "" {
		return nil, fmt.Errorf("message: dead letters: the database, the broker or the stream is missing: %w", ErrInvalid)
	}
	return &DeadLetters{db, b, stream, cmp.Or(dead, stream+"_dead")}, nil
}

// Letter is a dead letter.
type Letter struct {
	Number   uint64    // names the letter: its sequence in the stream of the dead letters
	Time     time.Time // when it was put aside, by the broker's clock
	Consumer string    // who could not handle it
	Reason   string    // the last error of its handler
	Attempts int       // how often its handler has failed

	// Message is the message. WithoutData says that the letter is without its data
	// and headers, because it would have been too large with them; [DeadLetters.Get]
	// reads them out of the stream that the message came from, if it has them.
	Message     Received
	WithoutData bool
}

// LetterFilter says which letters are meant. The zero value means all.
type LetterFilter struct {
	Consumer      string    // of this consumer
	Subject       string    // published on this subject
	ID            string    // with this logical id
	Reason        string    // whose reason contains this text
	Since, Before time.Time // put aside at that time or later, and before that time
	After         uint64    // with a higher number
	Limit         int       // at most so many; 0 is no limit
}

func (f LetterFilter) fits(l Letter) bool {
	return (f.Consumer == "" || l.Consumer == f.Consumer) && (f.Subject == "" || l.Message.Subject == f.Subject) &&
		(f.ID == "" || l.Message.ID == f.ID) && strings.Contains(l.Reason, f.Reason) &&
		(f.Since.IsZero() || !l.Time.Before(f.Since)) && (f.Before.IsZero() || l.Time.Before(f.Before))
}

// List returns the letters that are there when it begins, the oldest first. The
// error wraps [ErrNoDeadLetters] if there is no stream of dead letters yet.
func (d *DeadLetters) List(ctx context.Context, filter LetterFilter) (letters []Letter, err error) {
	_, last, err := d.broker.Range(ctx, d.dead)
	if err != nil {
		return nil, d.failed("list", err)
	}
	pattern := deadPrefix + d.stream + ".>"
	if filter.Consumer != "" {
		pattern = letterPrefix(d.stream, filter.Consumer) + ">"
	}
	for next := filter.After + 1; filter.Limit <= 0 || len(letters) < filter.Limit; {
		stored, err := d.broker.First(ctx, d.dead, pattern, next)
		if errors.Is(err, broker.ErrNotFound) || err == nil && stored.Sequence > last {
			return letters, nil
		}
		if err != nil {
			return letters, d.failed("list", err)
		}
		if l, ok := d.letter(stored); ok && filter.fits(l) {
			letters = append(letters, l)
		}
		next = stored.Sequence + 1
	}
	return letters, nil
}

// letter reads a stored message as a letter; false if it is none.
func (d *DeadLetters) letter(stored broker.Stored) (Letter, bool) {
	consumer := header(stored.Headers, HeaderConsumer)
	if consumer == "" || strings.HasPrefix(stored.Subject, resentPrefix(d.stream, consumer)) {
		return Letter{}, false
	}
	m := fromLetter(Received{Headers: stored.Headers, Data: stored.Data}, d.stream)
	m.ID = header(stored.Headers, HeaderID)
	l := Letter{Number: stored.Sequence, Time: stored.Time, Consumer: consumer, Reason: header(stored.Headers, HeaderReason),
		Message: m, WithoutData: header(stored.Headers, HeaderWithout) != ""}
	l.Attempts, _ = strconv.Atoi(header(stored.Headers, HeaderAttempts))
	return l, true
}

func (d *DeadLetters) failed(doing string, err error) error {
	if errors.Is(err, broker.ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrNoDeadLetters, d.dead)
	}
	return fmt.Errorf("message: dead letters: %s: %w", doing, err)
}

// ErrNoLetter is wrapped when there is no letter with a number.
var ErrNoLetter = errors.New("message: there is no such dead letter")

// Get returns a letter with its data.
func (d *DeadLetters) Get(ctx context.Context, number uint64) (Letter, error) {
	l, _, err := d.get(ctx, number)
	if err != nil || !l.WithoutData {
		return l, err
	}
	l.Message, err = complete(ctx, d.broker, l.Message)
	if err != nil {
		return l, fmt.Errorf("message: the data of dead letter %d: %w", number, err)
	}
	return l, nil
}

func (d *DeadLetters) get(ctx context.Context, number uint64) (Letter, broker.Stored, error) {
	stored, err := d.broker.First(ctx, d.dead, ">", number)
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return Letter{}, stored, d.failed("get", err)
	}
	if err == nil && stored.Sequence == number {
		if l, ok := d.letter(stored); ok {
			return l, stored, nil
		}
	}
	return Letter{}, stored, fmt.Errorf("%w: %d in %s", ErrNoLetter, number, d.dead)
}

// By says who acts on dead letters, and why. Both are needed, and recorded.
type By struct{ Who, Why string }

// Resend sends letters again, in the order of their numbers, to the consumers that
// could not handle them, and to no others; they get their attempts anew. It returns
// how many were sent, and the errors of the others, joined: one that cannot be sent
// keeps none behind it. After an error a letter may have been sent and be there
// all the same; the consumer handles it once.
func (d *DeadLetters) Resend(ctx context.Context, by By, numbers ...uint64) (sent int, err error) {
	return d.each(ctx, by, "resend", numbers, func(ctx context.Context, l Letter, stored broker.Stored) error {
		dead, err := d.broker.OpenStream(ctx, broker.StreamConfig{Name: d.dead})
		if err != nil {
			return err
		}
		headers := maps.Clone(stored.Headers)
		maps.DeleteFunc(headers, func(name string, _ []string) bool { return strings.HasPrefix(strings.ToLower(name), "nats-") })
		return publishOne(ctx, dead, broker.Message{ID: fmt.Sprintf("resent/%s/%d/%d", d.dead, l.Number, l.Time.UnixNano()),
			Subject: resentPrefix(d.stream, l.Consumer) + l.Message.Subject, Headers: headers, Data: stored.Data})
	})
}

// Delete removes letters for good. It returns how many, and the errors of the
// others, joined.
func (d *DeadLetters) Delete(ctx context.Context, by By, numbers ...uint64) (deleted int, err error) {
	return d.each(ctx, by, "delete", numbers, func(context.Context, Letter, broker.Stored) error { return nil })
}

// each does one act to letters, records it, and removes them.
func (d *DeadLetters) each(ctx context.Context, by By, act string, numbers []uint64, do func(context.Context, Letter, broker.Stored) error) (done int, err error) {
	if by.Who == "" || by.Why == "" || len(by.Who) > 128 || len(by.Why) > 1024 {
		return 0, fmt.Errorf("message: dead letters: %s: By.Who and By.Why are needed, with at most 128 and 1024 bytes: %w", act, ErrInvalid)
	}
	var failures []error
	for _, number := range numbers {
		if err := d.one(ctx, by, act, number, do); err != nil {
			failures = append(failures, fmt.Errorf("dead letter %d: %s: %w", number, act, err))
			continue
		}
		done++
	}
	return done, errors.Join(failures...)
}

// actTimeout bounds an act on one letter.
const actTimeout = 10 * time.Second

func (d *DeadLetters) one(ctx context.Context, by By, act string, number uint64, do func(context.Context, Letter, broker.Stored) error) error {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	l, stored, err := d.get(ctx, number)
	if err != nil {
		return err
	}
	// An act that is done is recorded, even if the process ends in between; one
	// that is recorded may not have been done.
	if err := d.record(ctx, by, act, l); err != nil {
		return fmt.Errorf("recording it: %w", err)
	}
	if err := do(ctx, l, stored); err != nil {
		return err
	}
	return d.broker.Remove(ctx, d.dead, l.Number)
}

// LetterAct is what somebody did to a dead letter.
type LetterAct struct {
	Stream, Consumer string
	MessageID        string
	Number           int    // of the act on the message, from 1
	Act              string // resend or delete
	Letter           uint64 // the number of the letter
	Who, Why         string
	ActedAt          time.Time
}

// Acts returns what was done to the dead letters of a message, the oldest first; of
// all messages of the stream if id is empty.
func (d *DeadLetters) Acts(ctx context.Context, id string) (acts []LetterAct, err error) {
	db := d.db.WithContext(ctx)
	query := "SELECT stream, consumer, message_id, number, act, letter, who, why, " + micros(db, "acted_at") + " AS at FROM saga_letter_acts WHERE stream = ?"
	arguments := []any{d.stream}
	if id != "" {
		query += " AND message_id = ?"
		arguments = append(arguments, id)
	}
	var rows []struct {
		LetterAct
		At int64
	}
	if err := db.Raw(query+" ORDER BY acted_at, consumer, message_id, number", arguments...).Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("message: dead letters: reading the acts: %w", err)
	}
	for _, r := range rows {
		r.ActedAt = time.UnixMicro(r.At).UTC()
		acts = append(acts, r.LetterAct)
	}
	return acts, nil
}

func (d *DeadLetters) record(ctx context.Context, by By, act string, l Letter) error {
	db := d.db.WithContext(ctx)
	return db.Exec(`INSERT INTO saga_letter_acts (stream, consumer, message_id, number, act, letter, who, why, acted_at)
		SELECT ?, ?, ?, COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, `+now(db)+`
		FROM saga_letter_acts WHERE stream = ? AND consumer = ? AND message_id = ?`,
		d.stream, l.Consumer, l.Message.ID, act, l.Number, by.Who, by.Why, d.stream, l.Consumer, l.Message.ID).Error
}
