package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// bulks has the methods for acts on many transactions.
type bulks struct {
	log       *txlog.Log
	operators *operators
}

// maxTargets is the most transactions of a bulk action.
const maxTargets = 100_000

// bulkActs are the acts that a bulk action can make.
var bulkActs = []string{actRetry, actPause, actResume, actConfirm, actCancel}

// FreezeBulk makes the list of a bulk action: the unfinished transactions that a query selects,
// in its order. It acts on nothing. A person looks at the Total, and [Operations.RunBulk] then
// acts. The list does not change any more: a transaction that matches the query later is not in
// it.
//
// The act is retry, pause, resume, confirm or cancel. The After and the Limit of the query are
// empty. A list has at most 100,000 transactions. If more match, the error matches
// [saga.ErrInvalid], and if none does, [saga.ErrRefused]; then no list is made. A list that nobody
// runs is removed after a day.
func (b *bulks) FreezeBulk(ctx context.Context, act string, q saga.Query, by saga.Operator) (saga.BulkAction, error) {
	action, err := b.freeze(ctx, act, q, by)
	return action, txn.Wrap("freeze bulk", "", err)
}

func (b *bulks) freeze(ctx context.Context, act string, q saga.Query, by saga.Operator) (saga.BulkAction, error) {
	var none saga.BulkAction
	switch {
	case !slices.Contains(bulkActs, act):
		return none, txn.Invalid("the act is %.40q, it must be one of %s", act, strings.Join(bulkActs, ", "))
	case q.After != "" || q.Limit != 0:
		return none, txn.Invalid("a bulk action acts on all transactions of its query: After and Limit must be empty")
	}
	if err := checkOperator(by); err != nil {
		return none, txn.Invalid("%w", err)
	}
	q.Unfinished = true
	search, err := searchOf(q)
	if err != nil {
		return none, txn.Invalid("%w", err)
	}
	query, err := json.Marshal(q)
	if err != nil {
		return none, txn.Invalid("the query: %w", err)
	}
	gids, err := b.gids(ctx, search)
	if err != nil {
		return none, err
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return none, err
	}
	if err = b.log.WriteBulk(ctx, txlog.Bulk{ID: id.String(), Act: act, Who: by.Who, Why: by.Why, Query: string(query)}, gids); err != nil {
		return none, err
	}
	return b.read(ctx, id.String())
}

// gids returns the transactions that a search finds, each once.
func (b *bulks) gids(ctx context.Context, search txlog.Search) (gids []string, err error) {
	seen := map[string]bool{}
	for search.Limit = 1000; ; {
		found, err := b.log.Find(ctx, search)
		if err != nil {
			return nil, err
		}
		for _, r := range found.Records {
			if !seen[r.GID] {
				seen[r.GID] = true
				gids = append(gids, r.GID)
			}
		}
		if search.After = found.Next; len(gids) > maxTargets {
			return nil, txn.Invalid("more than %d transactions match the query: narrow it, and act on one part after the other", maxTargets)
		}
		if (search.After != txlog.Place{}) {
			continue
		}
		if len(gids) == 0 {
			return nil, fmt.Errorf("no unfinished transaction matches the query: %w", saga.ErrRefused)
		}
		return gids, nil
	}
}

// Bulk returns a bulk action. If no bulk action has the id, the error matches
// [saga.ErrNotFound].
func (b *bulks) Bulk(ctx context.Context, id string) (saga.BulkAction, error) {
	action, err := b.read(ctx, id)
	return action, txn.Wrap("bulk", "", err)
}

func (b *bulks) read(ctx context.Context, id string) (saga.BulkAction, error) {
	if _, err := uuid.Parse(id); err != nil || len(id) != 36 {
		return saga.BulkAction{}, txn.Invalid("%.80q is not the id of a bulk action", id)
	}
	found, err := b.log.Bulk(ctx, id)
	if errors.Is(err, txlog.ErrNotFound) {
		return saga.BulkAction{}, fmt.Errorf("there is no bulk action %s: %w", id, saga.ErrNotFound)
	}
	if err != nil {
		return saga.BulkAction{}, err
	}
	return bulkAction(found)
}

func bulkAction(b txlog.Bulk) (saga.BulkAction, error) {
	action := saga.BulkAction{ID: b.ID, Name: b.Act, Operator: saga.Operator{Who: b.Who, Why: b.Why}, Total: b.Total, Done: b.Done, Refused: b.Refused,
		Failed: b.Failed, CreatedAt: b.CreatedAt, StartedAt: b.StartedAt, FinishedAt: b.FinishedAt}
	if err := json.Unmarshal([]byte(b.Query), &action.Query); err != nil {
		return action, fmt.Errorf("the query of the bulk action %s: %w", b.ID, err)
	}
	return action, nil
}

// Bulks returns bulk actions, the newest first. After is the next of the page before, and empty
// for the first page. The limit defaults to 50, and is at most 1,000. Next is empty at the end.
func (b *bulks) Bulks(ctx context.Context, after string, limit int) (page []saga.BulkAction, next string, err error) {
	page, next, err = b.list(ctx, after, limit)
	return page, next, txn.Wrap("bulks", "", err)
}

func (b *bulks) list(ctx context.Context, after string, limit int) (page []saga.BulkAction, next string, err error) {
	if limit, err = limitOf(limit); err != nil {
		return nil, "", txn.Invalid("%w", err)
	}
	place, err := placeOf(after)
	if err != nil {
		return nil, "", txn.Invalid("%w", err)
	}
	found, nextPlace, err := b.log.Bulks(ctx, place, limit)
	if err != nil {
		return nil, "", err
	}
	page = make([]saga.BulkAction, len(found))
	for i, one := range found {
		if page[i], err = bulkAction(one); err != nil {
			return nil, "", err
		}
	}
	return page, placeText(nextPlace), nil
}

// BulkTargets returns the transactions of a bulk action, and what was done to each, in order,
// from the number that follows after. The limit defaults to 50, and is at most 1,000.
func (b *bulks) BulkTargets(ctx context.Context, id string, after, limit int) ([]saga.BulkTarget, error) {
	targets, err := b.targets(ctx, id, after, limit)
	return targets, txn.Wrap("bulk targets", "", err)
}

func (b *bulks) targets(ctx context.Context, id string, after, limit int) ([]saga.BulkTarget, error) {
	limit, err := limitOf(limit)
	if err != nil {
		return nil, txn.Invalid("%w", err)
	}
	if _, err = b.read(ctx, id); err != nil {
		return nil, err
	}
	found, err := b.log.Targets(ctx, id, max(after, 0), limit, false)
	if err != nil {
		return nil, err
	}
	targets := make([]saga.BulkTarget, len(found))
	for i, t := range found {
		targets[i] = saga.BulkTarget{Number: t.Number, GID: t.GID, Result: t.Result, Error: t.Error, At: t.ActedAt}
	}
	return targets, nil
}

// act makes the act of a bulk action on one of its transactions, as the method for a single
// transaction does. Engines drive a transaction that it decides.
func (b *bulks) act(ctx context.Context, action saga.BulkAction, target txlog.BulkTarget) error {
	act := txlog.Act{GID: target.GID, Name: action.Name, Who: action.Who, Why: action.Why, BulkID: action.ID, Target: target.Number}
	switch action.Name {
	case actConfirm, actCancel:
		_, err := b.operators.decideWith(ctx, extras{act: &act, listed: action.CreatedAt, leave: true})
		if err == nil {
			b.operators.wake.After(0)
		}
		return err
	default:
		return b.operators.record(ctx, act, func(tx *gorm.DB, r txlog.Record) error {
			if begunAfter(r, action.CreatedAt) {
				return errBegunAfter
			}
			return b.operators.change(ctx, tx, act.Name, r)
		})
	}
}

// errBegunAfter refuses an act on a transaction that has only the gid of one in the list.
var errBegunAfter = fmt.Errorf("the transaction in the list is removed, and this one has begun later with the same gid: %w", saga.ErrRefused)

// begunAfter reports whether a transaction has begun after a list was made. Listed is zero if there
// is none.
func begunAfter(r txlog.Record, listed time.Time) bool {
	return !listed.IsZero() && r.CreatedAt.After(listed)
}
