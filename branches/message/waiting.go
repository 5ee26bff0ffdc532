package message

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"
)

// Outbox shows the messages in one database that wait to be published. It is for people and for
// monitoring: it locks nothing, changes nothing, and shows no data and headers of messages.
//
// A message waits in one of two places. A message of a transaction that is not finished is in
// the table saga_outbox. An Outbox finds it by the transaction, so the log of the engine has to
// be in the same database; if it is not, look at the transaction in the engine. All others wait
// in saga_outbox_delayed: those of finished transactions that are not due yet or could not be
// published, and those of [Publisher.PublishIn].
//
// All its reads are bounded, also if the outbox has millions of messages. It is safe for
// concurrent use.
type Outbox struct{ db *gorm.DB }

// NewOutbox returns the outbox in db, the database that [NewPublisher] got. It needs no broker.
// Package schema installs the schema there. The error wraps [ErrInvalid] if db is nil.
func NewOutbox(db *gorm.DB) (*Outbox, error) {
	if db == nil || db.Config == nil || db.Dialector == nil {
		return nil, fmt.Errorf("message: new outbox: the database is nil: %w", ErrInvalid)
	}
	return &Outbox{db}, nil
}

// OutboxState says what a message waits for.
type OutboxState string

// The states of a message that waits.
const (
	OutboxUndecided OutboxState = "undecided" // its transaction is not decided yet
	OutboxDelayed   OutboxState = "delayed"   // it is not due yet; see Publish.After
	OutboxDue       OutboxState = "due"       // it is to be published now, and no attempt has failed
	OutboxFailing   OutboxState = "failing"   // it is to be published now, and an attempt has failed
)

// OutboxFilter selects messages that wait. All conditions must hold. The zero value selects all.
type OutboxFilter struct {
	State  OutboxState // OutboxDue selects those that are failing, too
	Stream string      // the stream to publish on
	After  string      // Next of the page before; empty for the first page
	Limit  int         // the most messages; defaults to 50, at most 1,000
}

// OutboxMessage is a message that waits. Times are by the database's clock.
type OutboxMessage struct {
	ID       string      `json:"id"`
	State    OutboxState `json:"state"`
	Stream   string      `json:"stream"` // that it will be published on
	Subject  string      `json:"subject"`
	Key      string      `json:"key,omitempty"`       // of its order; see Publish.Key
	GID      string      `json:"gid,omitempty"`       // its transaction; empty for one of PublishIn
	BranchID string      `json:"branch_id,omitempty"` // its branch; empty for one of PublishIn
	After    string      `json:"after,omitempty"`     // id of the message of the same call of PublishIn that is published before it
	Bytes    int64       `json:"bytes"`               // of its data
	Headers  int64       `json:"header_bytes"`        // of its headers, as JSON
	DueAt    time.Time   `json:"due_at,omitzero"`     // when it was or is to be published; zero if it is undecided
	Failures int         `json:"failures"`            // failed attempts
	Error    string      `json:"error,omitempty"`     // of the last attempt
	NextAt   time.Time   `json:"next_at,omitzero"`    // earliest time of the next attempt; zero if that is now
	Paused   bool        `json:"paused,omitempty"`    // an operator has paused its transaction
}

// OutboxPage is a part of the messages that wait.
type OutboxPage struct {
	Messages []OutboxMessage `json:"messages"`
	Next     string          `json:"next,omitempty"` // for OutboxFilter.After; empty if nothing is left to look at
}

const (
	// outboxWindow is the most rows of saga_outbox_delayed that one call looks at.
	outboxWindow = 10_000

	// outboxStep is how many transactions one statement looks at, and outboxSteps the most
	// such statements of a call. So a call stops soon if many messages wait.
	outboxStep, outboxSteps = 1000, 10
)

// outboxStreams is the most streams that one call looks at.
const outboxStreams = 100

// outboxPlace is a place in the order of a List: first the messages of unfinished transactions
// in the order of their begins, then the others by stream and due time.
type outboxPlace struct {
	Others bool   `json:"o,omitempty"` // it is among the others
	Micros int64  `json:"t,omitempty"` // begin of the transaction, or due time
	GID    string `json:"g,omitempty"`
	ID     string `json:"i,omitempty"` // of the branch, or of the message
	Stream string `json:"s,omitempty"`
}

// List returns messages that wait: first those of transactions that are not finished, the
// oldest transaction first; then the others, by stream, and the one that is due first first. It
// looks at a bounded number of them. So a page may have fewer messages than the limit, or none,
// and a Next. Messages of transactions that are cancelled are left out: nobody publishes them.
//
// The error wraps [ErrInvalid] if the filter is not valid.
func (o *Outbox) List(ctx context.Context, filter OutboxFilter) (OutboxPage, error) {
	page, err := o.list(ctx, filter)
	if err != nil {
		return OutboxPage{}, fmt.Errorf("message: list the outbox: %w", err)
	}
	return page, nil
}

func (o *Outbox) list(ctx context.Context, f OutboxFilter) (page OutboxPage, err error) {
	page.Messages = []OutboxMessage{}
	switch f.State {
	case "", OutboxUndecided, OutboxDelayed, OutboxDue, OutboxFailing:
	default:
		return page, fmt.Errorf("%w: the state is %.40q, it must be undecided, delayed, due or failing", ErrInvalid, f.State)
	}
	if f.Limit < 0 || f.Limit > 1000 {
		return page, fmt.Errorf("%w: the limit is %d, it must be between 0 and 1,000", ErrInvalid, f.Limit)
	}
	if f.Limit == 0 {
		f.Limit = 50
	}
	var place outboxPlace
	if f.After != "" {
		if place, err = placeOf[outboxPlace](f.After); err != nil {
			return page, err
		}
	}
	r := waitingReader{db: o.db.WithContext(ctx), filter: f}
	next := &place
	if !place.Others {
		if f.State != OutboxDelayed {
			if page.Messages, next, err = r.ofTransactions(place); err != nil {
				return page, err
			}
		}
		if next == nil || f.State == OutboxDelayed {
			next = &outboxPlace{Others: true}
		}
	}
	if next.Others && f.State != OutboxUndecided {
		others, after, err := r.others(*next, f.Limit-len(page.Messages))
		if err != nil {
			return page, err
		}
		page.Messages, next = append(page.Messages, others...), after
	} else if next.Others {
		next = nil
	}
	if next != nil {
		page.Next = placeText(*next)
	}
	return page, nil
}
