package txlog

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/gorm"
)

// store is shared by all parts of the log.
type store struct {
	db  *gorm.DB // without gorm's prepared statements and plugins
	sql queries
}

func (s *store) guarded(gid, doing string, result interface{ RowsAffected() (int64, error) }, err error) error {
	ok, err := changed(result, err)
	if err != nil {
		return fmt.Errorf("log: %s %s: %w", doing, gid, err)
	}
	if !ok {
		return ErrStale
	}
	return nil
}

func changed(result interface{ RowsAffected() (int64, error) }, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// in returns "(?, ?, ...)" with n placeholders.
func in(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }

func byGID[T any](ctx context.Context, db *gorm.DB, query func(n int) string, gids []string, each func(scanner) (T, error)) ([]T, error) {
	if len(gids) == 0 {
		return nil, nil
	}
	arguments := make([]any, len(gids))
	for i, gid := range gids {
		arguments[i] = gid
	}
	return scan(ctx, db, query(len(gids)), arguments, each)
}

type scanner interface{ Scan(...any) error }

func scan[T any](ctx context.Context, db *gorm.DB, query string, arguments []any, each func(scanner) (T, error)) ([]T, error) {
	rows, err := db.Statement.ConnPool.QueryContext(ctx, query, arguments...)
	if err != nil {
		return nil, fmt.Errorf("log: reading: %w", err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := each(rows)
		if err != nil {
			return nil, fmt.Errorf("log: reading: %w", err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("log: reading: %w", err)
	}
	return all, nil
}

func (s *store) removeFrom(ctx context.Context, tx *gorm.DB, statements []func(int) string, gids []string) error {
	if len(gids) == 0 {
		return nil
	}
	arguments := make([]any, len(gids))
	for i, gid := range gids {
		arguments[i] = gid
	}
	for _, remove := range statements {
		if _, err := tx.Statement.ConnPool.ExecContext(ctx, remove(len(gids)), arguments...); err != nil {
			return fmt.Errorf("log: removing transactions: %w", err)
		}
	}
	return nil
}
