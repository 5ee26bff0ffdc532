package txlog

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// labels writes and reads the labels that callers give to transactions.
type labels struct{ *store }

// Label is a row of saga_labels.
type Label struct{ Name, Value string }

type labelQueries struct {
	insert func(rows int) string
	read   func(int) string
	remove func(int) string
}

func labelStatements(d dialect.Dialect) labelQueries {
	return labelQueries{
		// The time is that of the transaction's row, to the microsecond.
		insert: rowsOf(d, `INSERT INTO saga_labels (name, value, created_at, gid) VALUES `,
			`(?, ?, (SELECT created_at FROM saga_transactions WHERE gid = ?), ?)`, ``),
		read:   withList(d, `SELECT gid, name, value FROM saga_labels WHERE gid IN `, ``),
		remove: withList(d, `DELETE FROM saga_labels WHERE gid IN `, ``),
	}
}

// labelRows is the most labels that one statement writes.
const labelRows = 500

// insert writes the labels of new transactions, whose rows tx has written. If they have none, it
// makes no statement.
func (l labels) insert(ctx context.Context, pool gorm.ConnPool, starts []Start) error {
	var arguments []any
	write := func() error {
		if len(arguments) == 0 {
			return nil
		}
		if _, err := pool.ExecContext(ctx, l.sql.labels.insert(len(arguments)/4), arguments...); err != nil {
			return fmt.Errorf("log: writing labels: %w", err)
		}
		arguments = arguments[:0]
		return nil
	}
	for _, s := range starts {
		for _, label := range s.Labels {
			arguments = append(arguments, label.Name, label.Value, s.GID, s.GID)
			if len(arguments) < 4*labelRows {
				continue
			}
			if err := write(); err != nil {
				return err
			}
		}
	}
	return write()
}

// Labels reads the labels of transactions: their values by name. A transaction without labels is
// not in the result. It reads in the local transaction tx; with nil, in none.
func (l labels) Labels(ctx context.Context, tx *gorm.DB, gids ...string) (map[string]map[string]string, error) {
	if tx == nil {
		tx = l.db
	}
	type row struct {
		gid string
		Label
	}
	found, err := byGID(ctx, tx, l.sql.labels.read, gids, func(from scanner) (r row, err error) {
		err = from.Scan(&r.gid, &r.Name, &r.Value)
		return r, err
	})
	if err != nil {
		return nil, err
	}
	all := make(map[string]map[string]string)
	for _, r := range found {
		if all[r.gid] == nil {
			all[r.gid] = make(map[string]string)
		}
		all[r.gid][r.Name] = r.Value
	}
	return all, nil
}
