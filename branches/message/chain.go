package message

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gorm.io/gorm"
)

// findEarlier sets an error at each row whose earlier message is not published and not among
// the rows.
func findEarlier(tx *gorm.DB, rows []*outboxRow) error {
	here := map[string]bool{}
	for _, r := range rows {
		here[r.MessageID] = true
	}
	var elsewhere []string
	for _, r := range rows {
		if r.AfterID != "" && !here[r.AfterID] {
			elsewhere = append(elsewhere, r.AfterID)
		}
	}
	if len(elsewhere) == 0 {
		return nil
	}
	var left []string
	if err := tx.Raw("SELECT message_id FROM saga_outbox_delayed WHERE message_id IN ?", elsewhere).Scan(&left).Error; err != nil {
		return err
	}
	for _, r := range rows {
		if slices.Contains(left, r.AfterID) {
			r.err = behind(&outboxRow{MessageID: r.AfterID, err: errElsewhere})
		}
	}
	return nil
}

var errElsewhere = errors.New("another attempt publishes it")

// errLater is the error of a row that was not published, because the time of the attempt is
// over.
var errLater = errors.New("the time of this attempt is over")

// publishChains publishes rows of saga_outbox_delayed, each after its earlier message is
// stored. Rows without an earlier message are published at once.
func (p *Publisher) publishChains(ctx context.Context, rows []*outboxRow) {
	steps := map[string]int{}
	earlier := map[string]*outboxRow{}
	var inSteps [][]*outboxRow
	for _, r := range rows { // a row comes after its earlier one
		n := 0
		if before, here := steps[r.AfterID]; here {
			n = before + 1
		}
		steps[r.MessageID], earlier[r.MessageID] = n, r
		if n == len(inSteps) {
			inSteps = append(inSteps, nil)
		}
		inSteps[n] = append(inSteps[n], r)
	}
	for _, step := range inSteps {
		var free []*outboxRow
		for _, r := range step {
			before := earlier[r.AfterID]
			switch {
			case r.err != nil:
			case before != nil && !before.done:
				r.err = behind(before)
			case ctx.Err() != nil:
				r.err = errLater
			default:
				free = append(free, r)
			}
		}
		p.publish(ctx, free)
	}
}

// waits reports whether a row was not tried.
func (r *outboxRow) waits() bool {
	var before *behindError
	return errors.Is(r.err, errLater) || errors.As(r.err, &before)
}

// failure is what rows with the same error and the same pause have in common.
type failure struct {
	pause time.Duration
	text  string // empty if the rows were not tried
}

// failures groups the rows that are not published.
func failures(rows []*outboxRow) map[failure][]*outboxRow {
	groups := map[failure][]*outboxRow{}
	for _, r := range rows {
		switch {
		case r.done:
		case r.waits():
			f := failure{pause: time.Second}
			groups[f] = append(groups[f], r)
		default:
			f := failure{r.pause(), oneLine(r.err.Error())}
			groups[f] = append(groups[f], r)
		}
	}
	return groups
}

// logFailures logs how many rows could not be published, and the first of them.
func (p *Publisher) logFailures(rows []*outboxRow) {
	var failed []*outboxRow
	for _, r := range rows {
		if !r.done && !r.waits() {
			failed = append(failed, r)
		}
	}
	if len(failed) > 0 {
		r := failed[0]
		p.config.Logger.Warn("message: messages of the outbox could not be published, which will be repeated", slog.String("stream", p.config.Stream),
			slog.Int("messages", len(failed)), slog.String("message", r.MessageID), slog.String("gid", r.GID), slog.String("subject", r.Subject), slog.Int("attempt", r.Failures+1),
			slog.Duration("next", r.pause()), slog.Any("error", r.err))
	}
}

// pause is how long a row is left alone after a failure.
func (r *outboxRow) pause() time.Duration {
	return min(maxRelayPause, time.Second<<min(r.Failures, 10))
}

// mostNamed is the most messages that one statement names.
const mostNamed = 500

// settle writes the results of rows that claimant has published, or could not publish. The
// claimant of the rows of PublishIn is empty.
func settle(tx *gorm.DB, claimant string, rows []*outboxRow) error {
	var done []*outboxRow
	for _, r := range rows {
		if r.done {
			done = append(done, r)
		}
	}
	for some := range slices.Chunk(done, mostNamed) {
		if err := remove(tx, idsOf(some)); err != nil {
			return fmt.Errorf("removing published messages from the outbox: %w", err)
		}
	}
	for _, r := range done {
		if r.GID == "" {
			continue
		}
		// After the retention of the transaction, its row does not exist.
		err := tx.Exec("UPDATE saga_outbox SET state = 'published', published_at = "+now(tx)+
			", stream = ?, sequence = ? WHERE gid = ? AND branch_id = ? AND message_id = ?", r.Stream, r.Sequence, r.GID, r.BranchID, r.MessageID).Error
		if err != nil {
			return err
		}
	}
	for f, failed := range failures(rows) {
		set, values := "claimed_until = "+later(tx, f.pause), []any{}
		if f.text != "" {
			set, values = set+", failures = failures + 1, error = ?", []any{f.text}
		}
		for some := range slices.Chunk(failed, mostNamed) {
			err := tx.Exec("UPDATE "+byID(tx)+" SET "+set+" WHERE message_id IN ? AND claimed_by = ?", append(values[:len(values):len(values)], idsOf(some), claimant)...).Error
			if err != nil {
				return fmt.Errorf("noting messages that could not be published: %w", err)
			}
		}
	}
	return nil
}

func remove(tx *gorm.DB, ids []string) error {
	if tx.Name() == "mysql" { // only this form of DELETE takes an index
		return tx.Exec("DELETE d FROM saga_outbox_delayed AS d FORCE INDEX (PRIMARY) WHERE d.message_id IN ?", ids).Error
	}
	return tx.Exec("DELETE FROM saga_outbox_delayed WHERE message_id IN ?", ids).Error
}
