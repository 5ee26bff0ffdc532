package xa

import (
	"context"
	"errors"
	"slices"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

const (
	// mostStates is the most gids in one question to the log.
	mostStates = 1000

	// mostSearches is the most searches for shortened gids for a page.
	mostSearches = 20

	noLimit = -1
)

var errShortened = errors.New("the gid is shortened in the XID, and too many transactions of the log begin like it: search for it in the log")

// statesOf returns prepared transactions with their states in the log. It searches for the gids
// that are shortened, at most searches times; those that are not found then have an error.
func statesOf(ctx context.Context, log Log, all []Prepared, searches int) ([]InDoubt, error) {
	found := make([]InDoubt, len(all))
	var whole []*InDoubt
	shortened := map[string][]*InDoubt{} // by the begin of the gid
	own := digest(log.LogID())
	for i, p := range all {
		found[i] = InDoubt{Prepared: p, Foreign: p.Log != own}
		switch at := &found[i]; {
		case at.Foreign:
		case barrier.ValidateGID(p.GID) != nil:
			at.Err = barrier.ValidateGID(p.GID) // the engine has not made it
		case p.Digest == "":
			whole = append(whole, at)
		default:
			shortened[p.GID] = append(shortened[p.GID], at)
		}
	}
	for some := range slices.Chunk(whole, mostStates) {
		var gids []string
		for _, p := range some {
			gids = append(gids, p.GID)
		}
		states, err := log.States(ctx, gids...)
		if err != nil {
			return nil, err
		}
		for _, p := range some {
			p.State = states[p.GID]
		}
	}
	for begin, same := range shortened {
		if err := search(ctx, log, begin, same, &searches); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// search sets the states of prepared transactions whose gids have the same begin.
func search(ctx context.Context, log Log, begin string, all []*InDoubt, searches *int) error {
	open := map[string][]*InDoubt{} // by the digest of the gid
	for _, p := range all {
		open[p.Digest] = append(open[p.Digest], p)
	}
	for query := (saga.Query{Prefix: begin, OldestFirst: true, Limit: mostStates}); len(open) > 0; {
		if *searches == 0 {
			for _, same := range open {
				for _, p := range same {
					p.Err = errShortened
				}
			}
			return nil
		}
		*searches--
		page, err := log.Find(ctx, query)
		if err != nil {
			return err
		}
		for _, t := range page.Transactions {
			for _, p := range open[digest(t.GID)] {
				p.State = t.State
			}
			delete(open, digest(t.GID))
		}
		if query.After = page.Next; query.After == "" {
			return nil
		}
	}
	return nil
}
