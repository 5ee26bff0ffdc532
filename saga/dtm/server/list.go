package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tccsaga/tccsaga/saga"
)

// listView is the answer of all.
type listView struct {
	Transactions []*transactionView `json:"transactions"`
	Next         string             `json:"next_position"` // empty on the last page
}

// list answers with a page of transactions, in the order of their gids.
func (v viewer) list(ctx context.Context, in *request) (any, error) {
	answer := listView{Transactions: []*transactionView{}}
	if in.gid != "" {
		found, t, err := v.lookup(ctx, in.gid)
		if errors.Is(err, saga.ErrNotFound) {
			return answer, nil
		}
		if err == nil {
			answer.Transactions = append(answer.Transactions, viewOf(t, found.Summary))
		}
		return answer, err
	}
	var found []listed
	full := false // there may be more of a type
	for _, t := range in.listing.types {
		filter := in.listing.filter
		filter.Pattern = t.pattern()
		if in.listing.status != "" {
			if filter.States = t.states(in.listing.status); len(filter.States) == 0 {
				continue
			}
		}
		page, err := v.whole.List(ctx, filter)
		if err != nil {
			return nil, err
		}
		full = full || len(page) == filter.Limit
		for _, s := range page {
			found = append(found, listed{t, s})
		}
	}
	slices.SortFunc(found, func(x, y listed) int { return cmp.Compare(x.summary.GID, y.summary.GID) })
	if limit := in.listing.filter.Limit; full || len(found) > limit {
		found = found[:min(limit, len(found))]
		answer.Next = found[len(found)-1].summary.GID
	}
	for _, l := range found {
		answer.Transactions = append(answer.Transactions, viewOf(l.transType, l.summary))
	}
	return answer, nil
}

type listed struct {
	transType transType
	summary   saga.Summary
}

// retry makes the next calls of a transaction due now.
func (v viewer) retry(ctx context.Context, in *request) (any, error) {
	if _, _, err := v.lookup(ctx, in.gid); err != nil {
		return nil, err
	}
	err := v.whole.Retry(ctx, in.gid, saga.Operator{Who: "a client of the DTM API", Why: "resetNextCronTime"})
	if errors.Is(err, saga.ErrRefused) {
		return nil, &refusal{409, fmt.Sprintf("%s: nothing is due for a retry: %s", in.gid, err)}
	}
	return nil, err
}
