package txlog

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"
)

// firstChunk is the number of transactions whose branches the first statement reads, before
// their size is known. Each further statement reads twice as many.
const firstChunk = 8

// branchesWithin reads the branches of transactions until they have more bytes than are
// allowed, and returns which transactions it left out. It always reads the first one. It
// begins with few, because the driver reads a result to its end even if it is not used.
func (l claimer) branchesWithin(ctx context.Context, tx *gorm.DB, most int, gids []string) (all map[string][]Branch, leftOut map[string]bool, err error) {
	within := budget{most: most, all: make(map[string][]Branch, len(gids))}
	for rest, chunk := gids, firstChunk; len(rest) > 0; chunk *= 2 {
		part := rest[:min(chunk, len(rest))]
		rest = rest[len(part):]
		if err := l.readWithin(ctx, tx, part, &within); err != nil {
			return nil, nil, fmt.Errorf("log: reading branches: %w", err)
		}
		if !within.exceeded {
			continue
		}
		leftOut = map[string]bool{}
		for _, gid := range append(slices.Clone(part), rest...) {
			if _, read := within.all[gid]; !read {
				leftOut[gid] = true
			}
		}
		break
	}
	return within.all, leftOut, nil
}

// budget counts the bytes of the branches that have been read.
type budget struct {
	most, bytes int
	first       string // gid of the transaction that is always read
	all         map[string][]Branch
	exceeded    bool
}

func (l claimer) readWithin(ctx context.Context, tx *gorm.DB, gids []string, within *budget) error {
	arguments := make([]any, len(gids))
	for i, gid := range gids {
		arguments[i] = gid
	}
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, l.sql.lockedBranches(len(gids)), arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		b, err := scanBranch(rows)
		if err != nil {
			return err
		}
		if within.first == "" {
			within.first = b.GID
		}
		if within.bytes += len(b.Payload); within.bytes > within.most && b.GID != within.first {
			delete(within.all, b.GID)
			within.exceeded = true
			break
		}
		within.all[b.GID] = append(within.all[b.GID], b)
	}
	within.exceeded = within.exceeded || within.bytes > within.most
	return rows.Err()
}
