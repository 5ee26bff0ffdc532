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

// DeadLetters lists, sends again and deletes the dead letters of one stream: the messages
// that consumers could not handle. It is safe for concurrent use.
type DeadLetters struct {
	db           *gorm.DB
	broker       broker.Broker
	stream, dead string
}

// NewDeadLetters returns the dead letters of a stream. dead is the dead-letter stream. If
// it is empty, it is STREAM_dead, the default of [ConsumerConfig.DeadLetters]. Acts on dead
// letters are recorded in db, preferably the database of the consumer's inbox. Install the
// schema there with package schema.
func NewDeadLetters(db *gorm.DB, b broker.Broker, stream, dead string) (*DeadLetters, error) {
	if db == nil || b == nil || stream == "" {
		return nil, fmt.Errorf("message: new dead letters: the database, the broker or the stream is missing: %w", ErrInvalid)
	}
	return &DeadLetters{db, b, stream, cmp.Or(dead, stream+"_dead")}, nil
}

// Letter is a dead letter.
type Letter struct {
	Number   uint64    // names the letter: its sequence in the dead-letter stream
	Time     time.Time // when it became a dead letter, by the broker's clock
	Consumer string    // the consumer that could not handle it
	Reason   string    // the last error of its handler
	Attempts int       // how often its handler has failed

	// Message is the message. If WithoutData is true, the letter has no data and
	// headers, because it would have been too large with them. [DeadLetters.Get]
	// reads them from the stream of the message, if that still has the message.
	Message     Received
	WithoutData bool
}

// LetterFilter selects letters. The zero value selects all.
type LetterFilter struct {
	Consumer      string    // of this consumer
	Subject       string    // published on this subject
	ID            string    // with this logical id
	Reason        string    // with this text in the reason
	Since, Before time.Time // dead since this time or later, and before this time
	After         uint64    // with a higher number
	Limit         int       // the most letters; 0 is no limit
}

func (f LetterFilter) fits(l Letter) bool {
	return (f.Consumer == "" || l.Consumer == f.Consumer) && (f.Subject == "" || l.Message.Subject == f.Subject) &&
		(f.ID == "" || l.Message.ID == f.ID) && strings.Contains(l.Reason, f.Reason) &&
		(f.Since.IsZero() || !l.Time.Before(f.Since)) && (f.Before.IsZero() || l.Time.Before(f.Before))
}

// List returns the letters that exist when it begins, the oldest first. The error wraps
// [ErrNoDeadLetters] if there is no dead-letter stream yet.
func (d *DeadLetters) List(ctx context.Context, filter LetterFilter) (letters []Letter, err error) {
	_, last, err := d.broker.Range(ctx, d.dead)
	if err != nil {
		return nil, d.listFailed(err)
	}
	pattern := d.pattern(filter)
	for next := filter.After + 1; filter.Limit <= 0 || len(letters) < filter.Limit; {
		stored, err := d.broker.First(ctx, d.dead, pattern, next)
		if errors.Is(err, broker.ErrNotFound) || err == nil && stored.Sequence > last {
			return letters, nil
		}
		if err != nil {
			return letters, d.listFailed(err)
		}
		if l, ok := d.letter(stored); ok && filter.fits(l) {
			letters = append(letters, l)
		}
		next = stored.Sequence + 1
	}
	return letters, nil
}

// pattern returns the subjects of the letters that a filter may select.
func (d *DeadLetters) pattern(f LetterFilter) string {
	if f.Consumer != "" {
		return letterPrefix(d.stream, f.Consumer) + ">"
	}
	return deadPrefix + d.stream + ".>"
}

// letter returns a stored message as a letter, or false if it is none.
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

func (d *DeadLetters) listFailed(err error) error {
	if errors.Is(err, broker.ErrNotFound) {
		err = fmt.Errorf("%w: %s", ErrNoDeadLetters, d.dead)
	}
	return fmt.Errorf("message: list dead letters: %w", err)
}

var (
	// ErrNoDeadLetters is wrapped if the dead-letter stream does not exist.
	ErrNoDeadLetters = errors.New("no such dead-letter stream")

	// ErrNoLetter is wrapped if there is no letter with a number.
	ErrNoLetter = errors.New("no such dead letter")
)

// Get returns a letter with its data. The error wraps [ErrNoLetter] if there is no letter
// with this number.
func (d *DeadLetters) Get(ctx context.Context, number uint64) (Letter, error) {
	l, _, err := d.get(ctx, number)
	if err == nil && l.WithoutData {
		l.Message, err = complete(ctx, d.broker, l.Message)
	}
	if err != nil {
		return l, fmt.Errorf("message: get dead letter %d of %s: %w", number, d.dead, err)
	}
	return l, nil
}

func (d *DeadLetters) get(ctx context.Context, number uint64) (Letter, broker.Stored, error) {
	stored, err := d.broker.First(ctx, d.dead, ">", number)
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return Letter{}, stored, err
	}
	if err == nil && stored.Sequence == number {
		if l, ok := d.letter(stored); ok {
			return l, stored, nil
		}
	}
	return Letter{}, stored, ErrNoLetter
}

// By names the person or program that acts on dead letters, and the reason. Both fields
// are required, and are recorded.
type By struct{ Who, Why string }

// Resend sends letters again, in the given order, to the consumer that could not handle
// them. Other consumers do not get them. The attempts of the messages begin again. Resend
// returns how many letters were sent, and the joined errors of the others. A letter that
// cannot be sent does not stop the others. After an error a letter may have been sent, and
// still be in the stream. The consumer handles its message once.
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

// Delete removes letters for good. It returns how many were removed, and the joined errors
// of the others.
func (d *DeadLetters) Delete(ctx context.Context, by By, numbers ...uint64) (deleted int, err error) {
	return d.each(ctx, by, "delete", numbers, func(context.Context, Letter, broker.Stored) error { return nil })
}

// each records an act on each letter, does it, and removes the letter.
func (d *DeadLetters) each(ctx context.Context, by By, act string, numbers []uint64, do func(context.Context, Letter, broker.Stored) error) (done int, err error) {
	if by.Who == "" || by.Why == "" || len(by.Who) > 128 || len(by.Why) > 1024 {
		return 0, fmt.Errorf("message: %s dead letters: By.Who and By.Why are required, with at most 128 and 1024 bytes: %w", act, ErrInvalid)
	}
	var failures []error
	for _, number := range numbers {
		if err := d.one(ctx, by, act, number, do); err != nil {
			failures = append(failures, fmt.Errorf("message: %s dead letter %d of %s: %w", act, number, d.dead, err))
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
	// The record comes first, so that no act is without one if the process ends. An act
	// with a record may not have been done.
	if err := d.record(ctx, by, act, l); err != nil {
		return fmt.Errorf("recording the act: %w", err)
	}
	if err := do(ctx, l, stored); err != nil {
		return err
	}
	return d.broker.Remove(ctx, d.dead, l.Number)
}

// LetterAct is the record of a Resend or Delete of a dead letter.
type LetterAct struct {
	Stream, Consumer string
	MessageID        string
	Number           int    // of the act on the message, from 1
	Act              string // resend or delete
	Letter           uint64 // the number of the letter
	Who, Why         string
	ActedAt          time.Time
}

// Acts returns the recorded acts on the dead letters of a message, the oldest first. If id
// is empty, it returns the acts of all messages of the stream; [DeadLetters.LatestActs] returns
// these in pages.
func (d *DeadLetters) Acts(ctx context.Context, id string) ([]LetterAct, error) {
	const order = " ORDER BY acted_at, consumer, message_id, number"
	if id == "" {
		return d.readActs(ctx, order)
	}
	return d.readActs(ctx, " AND message_id = ?"+order, id)
}

func (d *DeadLetters) record(ctx context.Context, by By, act string, l Letter) error {
	db := d.db.WithContext(ctx)
	return db.Exec(`INSERT INTO saga_letter_acts (stream, consumer, message_id, number, act, letter, who, why, acted_at)
		SELECT ?, ?, ?, COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, `+now(db)+`
		FROM saga_letter_acts WHERE stream = ? AND consumer = ? AND message_id = ?`,
		d.stream, l.Consumer, l.Message.ID, act, l.Number, by.Who, by.Why, d.stream, l.Consumer, l.Message.ID).Error
}
