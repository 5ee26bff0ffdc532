package message

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// LetterPage is a part of the dead letters of a stream, the newest first.
type LetterPage struct {
	Letters []Letter
	Next    uint64 // for the next call of Newest; 0 if nothing is left to look at
}

// maxLettersLooked is the most letters that one call of Newest looks at.
const maxLettersLooked = 1000

// Newest returns letters with a lower number than before, the newest first. If before is 0, it
// begins with the last letter; for the next page, set it to the Next of the page before. The
// Limit of the filter defaults to 50, and is at most 1,000.
//
// Newest looks at no more than 1,000 letters. So a page may have fewer letters than the limit,
// or none, and a Next. The error wraps [ErrNoDeadLetters] if there is no dead-letter stream yet,
// and [ErrInvalid] if the limit is not valid.
func (d *DeadLetters) Newest(ctx context.Context, filter LetterFilter, before uint64) (LetterPage, error) {
	if filter.Limit < 0 || filter.Limit > 1000 {
		return LetterPage{}, fmt.Errorf("message: list dead letters: %w: the limit is %d, it must be between 0 and 1,000", ErrInvalid, filter.Limit)
	}
	if filter.Limit == 0 {
		filter.Limit = 50
	}
	first, last, err := d.broker.Range(ctx, d.dead)
	if err != nil {
		return LetterPage{}, d.listFailed(err)
	}
	w := letterWindow{d: d, pattern: d.pattern(filter), first: max(first, filter.After+1, 1), end: last + 1}
	if before != 0 && before < w.end {
		w.end = before
	}
	var page LetterPage
	for looked := 0; looked < maxLettersLooked; {
		found, err := w.back(ctx)
		if err != nil {
			return page, d.listFailed(err)
		}
		if len(found) == 0 {
			return page, nil
		}
		looked += len(found)
		for _, stored := range slices.Backward(found) {
			if l, ok := d.letter(stored); ok && filter.fits(l) {
				page.Letters = append(page.Letters, l)
				if len(page.Letters) == filter.Limit {
					page.Next = stored.Sequence
					return page, nil
				}
			}
		}
	}
	page.Next = w.end
	return page, nil
}

// windowSize is how many sequences of the dead-letter stream are looked at at once.
const windowSize = 50

// letterWindow reads a dead-letter stream backwards. A broker only finds the next message after
// a sequence.
type letterWindow struct {
	d          *DeadLetters
	pattern    string
	first, end uint64 // what is left is in [first, end)
}

// back returns the messages of the last window that has some, in their order, and takes them
// off; none if nothing is left. It takes a number of requests that grows with the logarithm of
// the gaps between messages.
func (w *letterWindow) back(ctx context.Context) (found []broker.Stored, err error) {
	// Larger and larger windows, until one has a message.
	begin := w.end
	var m broker.Stored
	for size := uint64(windowSize); ; size *= 2 {
		if begin <= w.first {
			return nil, nil
		}
		end := begin
		begin = end - min(size, end-w.first)
		var in bool
		if m, in, err = w.next(ctx, begin, end); err != nil {
			return nil, err
		}
		if w.end = end; in {
			break
		}
	}
	// The last part of this window that has one.
	for begin = m.Sequence; w.end-begin > windowSize; {
		middle := begin + (w.end-begin)/2
		later, in, nextErr := w.next(ctx, middle, w.end)
		switch {
		case nextErr != nil:
			return nil, nextErr
		case in:
			begin, m = later.Sequence, later
		default:
			w.end = middle
		}
	}
	end := w.end
	w.end = begin
	for in := true; in; {
		found = append(found, m)
		if m, in, err = w.next(ctx, m.Sequence+1, end); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// next returns the first message in [from, end); false if there is none.
func (w *letterWindow) next(ctx context.Context, from, end uint64) (m broker.Stored, in bool, err error) {
	if from >= end {
		return m, false, nil
	}
	m, err = w.d.broker.First(ctx, w.d.dead, w.pattern, from)
	if errors.Is(err, broker.ErrNotFound) {
		return m, false, nil
	}
	return m, err == nil && m.Sequence < end, err
}

// LatestActs returns recorded acts on the dead letters of the stream, the newest first, and the
// value of after for the next page, which is empty at the end. after is empty for the first
// page. The limit defaults to 50, and is at most 1,000. The error wraps [ErrInvalid] if one of
// them is not valid.
func (d *DeadLetters) LatestActs(ctx context.Context, after string, limit int) (acts []LetterAct, next string, err error) {
	if limit < 0 || limit > 1000 {
		return nil, "", fmt.Errorf("message: acts on dead letters: %w: the limit is %d, it must be between 0 and 1,000", ErrInvalid, limit)
	}
	if limit == 0 {
		limit = 50
	}
	where, arguments := "", []any(nil)
	if after != "" {
		p, placeErr := placeOf[actPlace](after)
		if placeErr != nil {
			return nil, "", fmt.Errorf("message: acts on dead letters: %w", placeErr)
		}
		db := d.db.WithContext(ctx)
		where = " AND acted_at <= " + at(db) + " AND (acted_at < " + at(db) + " OR consumer > ? OR consumer = ? AND (message_id > ? OR message_id = ? AND number > ?))"
		arguments = []any{p.Micros, p.Micros, p.Consumer, p.Consumer, p.ID, p.ID, p.Number}
	}
	acts, err = d.readActs(ctx, where+" ORDER BY acted_at DESC, consumer, message_id, number LIMIT ?", append(arguments, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	if len(acts) > limit {
		acts = acts[:limit]
		last := acts[limit-1]
		next = placeText(actPlace{last.ActedAt.UnixMicro(), last.Consumer, last.MessageID, last.Number})
	}
	return acts, next, nil
}

// actPlace is a place in the order of LatestActs.
type actPlace struct {
	Micros   int64  `json:"t"`
	Consumer string `json:"c"`
	ID       string `json:"i"`
	Number   int    `json:"n"`
}

// readActs reads the acts on dead letters of the stream that where selects.
func (d *DeadLetters) readActs(ctx context.Context, where string, arguments ...any) (acts []LetterAct, err error) {
	db := d.db.WithContext(ctx)
	var rows []struct {
		LetterAct
		At int64
	}
	err = db.Raw("SELECT stream, consumer, message_id, number, act, letter, who, why, "+micros(db, "acted_at")+" AS at FROM saga_letter_acts WHERE stream = ?"+where,
		append([]any{d.stream}, arguments...)...).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("message: acts on dead letters: %w", err)
	}
	for _, r := range rows {
		r.ActedAt = time.UnixMicro(r.At).UTC()
		acts = append(acts, r.LetterAct)
	}
	return acts, nil
}
