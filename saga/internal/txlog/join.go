package txlog

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"
)

// Joining is a branch that JoinAll adds, and the pattern of its transaction, which JoinAll sets.
type Joining struct {
	Branch
	Pattern string
}

// JoinAll is Join for branches of different transactions, which have the same id and need no
// order. It marks them as tried: the caller tries them in the same local transaction. If one of
// them cannot be added like that, JoinAll returns its index and adds none; Join says why. The
// index is -1 if all were added.
func (l starter) JoinAll(ctx context.Context, tx *gorm.DB, all []Joining, room Room) (unfit int, err error) {
	if unfit, err = l.holdAll(ctx, tx, all); err != nil || unfit >= 0 {
		return unfit, err
	}
	if unfit, err = l.fitAll(ctx, tx, all, room); err != nil || unfit >= 0 {
		return unfit, err
	}
	arguments := make([]any, 0, 4*len(all))
	for _, b := range all {
		arguments = append(arguments, b.GID, b.ID, b.Kind, b.Payload)
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.insertTried(len(all)), arguments...); err != nil {
		return -1, fmt.Errorf("log: naming %d branches: %w", len(all), err)
	}
	return -1, nil
}

// holdAll locks the transactions, in the order of their gids. It returns the index of one that
// is not open, or that has two of the branches.
func (l starter) holdAll(ctx context.Context, tx *gorm.DB, all []Joining) (unfit int, err error) {
	gids := gidsOf(all)
	patterns := make(map[string]string, len(all))
	_, err = byGID(ctx, tx, l.sql.lockAllOpen, gids, func(row scanner) (struct{}, error) {
		var gid, pattern string
		scanErr := row.Scan(&gid, &pattern)
		patterns[gid] = pattern
		return struct{}{}, scanErr
	})
	if err != nil {
		return -1, err
	}
	for i := range all {
		pattern, open := patterns[all[i].GID]
		if !open || slices.Contains(gids[:i], all[i].GID) {
			return i, nil
		}
		all[i].Pattern = pattern
	}
	return -1, nil
}

// fitAll returns the index of a branch that its transaction has already, or has no room for.
func (l starter) fitAll(ctx context.Context, tx *gorm.DB, all []Joining, room Room) (unfit int, err error) {
	type held struct {
		Room
		named int
	}
	arguments := []any{all[0].ID}
	for _, gid := range gidsOf(all) {
		arguments = append(arguments, gid)
	}
	rooms := make(map[string]held, len(all))
	_, err = scan(ctx, tx, l.sql.rooms(len(all)), arguments, func(row scanner) (struct{}, error) {
		var gid string
		var h held
		scanErr := row.Scan(&gid, &h.Branches, &h.Bytes, &h.named)
		rooms[gid] = h
		return struct{}{}, scanErr
	})
	if err != nil {
		return -1, err
	}
	return slices.IndexFunc(all, func(b Joining) bool {
		h := rooms[b.GID]
		return h.named > 0 || h.Branches >= room.Branches || h.Bytes+len(b.Payload) > room.Bytes
	}), nil
}

func gidsOf(all []Joining) []string {
	gids := make([]string, len(all))
	for i, b := range all {
		gids[i] = b.GID
	}
	return gids
}

// Leave deletes branches with the same id that tx has added with JoinAll.
func (l starter) Leave(ctx context.Context, tx *gorm.DB, branchID string, gids []string) error {
	arguments := []any{branchID}
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.removeBranches(len(gids)), arguments...); err != nil {
		return fmt.Errorf("log: removing %d branches: %w", len(gids), err)
	}
	return nil
}
