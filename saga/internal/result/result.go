// Package result stores what the Trys of branches return, for later calls of their
// transactions: in the local transaction of the branch, and in the database of the log.
package result

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// Result is what the Try of a branch has returned.
type Result struct {
	barrier.Key
	JSON json.RawMessage
}

type queries struct {
	put      func(rows int) string
	of       func(gids int) string
	remove   func(gids int) string
	ofBranch string
}

var statements = dialect.Each(func(d dialect.Dialect) queries {
	places := func(n int) string { return `(?` + strings.Repeat(`, ?`, n-1) + `)` }
	// A repeated call finds the row of the first one, which counts.
	keep := ` ON CONFLICT (gid, branch_id) DO NOTHING`
	if d == dialect.MySQL {
		keep = ` ON DUPLICATE KEY UPDATE branch_id = VALUES(branch_id)`
	}
	return queries{
		put: dialect.Remembered(func(n int) string {
			return d.SQL(`INSERT INTO saga_results (gid, branch_id, result) VALUES (?, ?, ?)` + strings.Repeat(`, (?, ?, ?)`, n-1) + keep)
		}),
		of: dialect.Remembered(func(n int) string {
			return d.SQL(`SELECT gid, branch_id, result FROM saga_results WHERE gid IN ` + places(n) + ` ORDER BY gid, branch_id`)
		}),
		remove:   dialect.Remembered(func(n int) string { return d.SQL(`DELETE FROM saga_results WHERE gid IN ` + places(n)) }),
		ofBranch: d.SQL(`SELECT gid, branch_id, result FROM saga_results WHERE gid = ? AND branch_id = ?`),
	}
})

// Put stores results in the local transaction tx. A result that is there already stays.
func Put(ctx context.Context, tx *gorm.DB, results ...Result) error {
	if len(results) == 0 {
		return nil
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	arguments := make([]any, 0, 3*len(results))
	for _, r := range results {
		arguments = append(arguments, r.GID, r.BranchID, string(r.JSON))
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].put(len(results)), arguments...); err != nil {
		return fmt.Errorf("store %d results: %w", len(results), err)
	}
	return nil
}

// Of returns the results of the branches of transactions.
func Of(ctx context.Context, db *gorm.DB, gids ...string) ([]Result, error) {
	if len(gids) == 0 {
		return nil, nil
	}
	d, err := dialect.Of(db)
	if err != nil {
		return nil, err
	}
	return read(ctx, db, statements[d].of(len(gids)), anys(gids))
}

// OfBranch returns the result of one branch, or nil if it has none.
func OfBranch(ctx context.Context, db *gorm.DB, key barrier.Key) (json.RawMessage, error) {
	d, err := dialect.Of(db)
	if err != nil {
		return nil, err
	}
	found, err := read(ctx, db, statements[d].ofBranch, []any{key.GID, key.BranchID})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0].JSON, nil
}

func read(ctx context.Context, db *gorm.DB, query string, arguments []any) (found []Result, err error) {
	rows, err := db.Statement.ConnPool.QueryContext(ctx, query, arguments...)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r Result
		var text string
		if err := rows.Scan(&r.GID, &r.BranchID, &text); err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		r.JSON = json.RawMessage(text)
		found = append(found, r)
	}
	return found, rows.Err()
}

// Remove deletes the results of transactions in the local transaction tx.
func Remove(ctx context.Context, tx *gorm.DB, gids ...string) error {
	if len(gids) == 0 {
		return nil
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].remove(len(gids)), anys(gids)...); err != nil {
		return fmt.Errorf("remove results: %w", err)
	}
	return nil
}

func anys(texts []string) []any {
	all := make([]any, len(texts))
	for i, text := range texts {
		all[i] = text
	}
	return all
}
