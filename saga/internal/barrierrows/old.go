package barrierrows

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// oldPage is the number of rows that one call of Old reads.
const oldPage = 4000

// Cursor is a position in the barrier rows for [Old], which reads them in the order of
// gid and branch id. The zero Cursor is the beginning.
type Cursor struct {
	last barrier.Key // of the last row that was read
	old  bool        // all rows of its transaction so far are old
	done bool        // there are no more rows
}

// Done reports whether all rows are read.
func (c Cursor) Done() bool { return c.done }

// oldQueries are the statements of cleaning in one dialect.
type oldQueries struct {
	page string // takes gid, gid, branch id and a number of rows
	lock func(gids int) string
	// remove takes gids, and an age in microseconds. It leaves rows that are not
	// old: a row may be newer than the read that locked the others.
	remove func(gids int) string
	kinds  func(gids int) string // takes gids
}

// oldColumns are whether a row is final, and for how many microseconds.
const oldColumns = `CASE WHEN state IN ('confirmed', 'cancelled', 'suspended') THEN 1 ELSE 0 END,
	{micros now} - COALESCE({micros confirmed_at}, {micros cancelled_at})`

var oldStatements = dialect.Each(func(d dialect.Dialect) oldQueries {
	places := func(n int) string { return `(?` + strings.Repeat(`, ?`, n-1) + `)` }
	after := `(gid, branch_id) > (?, ?)`
	if d == dialect.MySQL { // it does not use an index for a comparison of rows
		after = `(gid > ? OR gid = ? AND branch_id > ?)`
	}
	return oldQueries{
		page: d.SQL(`SELECT gid, branch_id, ` + oldColumns + ` FROM saga_barrier WHERE ` + after + ` ORDER BY gid, branch_id LIMIT ?`),
		lock: dialect.Remembered(func(n int) string {
			return d.SQL(`SELECT gid, branch_id, ` + oldColumns + ` FROM saga_barrier WHERE gid IN ` + places(n) + ` ORDER BY gid, branch_id {lock}`)
		}),
		kinds: dialect.Remembered(func(n int) string {
			return d.SQL(`SELECT DISTINCT gid, kind FROM saga_barrier WHERE gid IN ` + places(n))
		}),
		remove: dialect.Remembered(func(n int) string {
			return d.SQL(`DELETE FROM saga_barrier WHERE gid IN ` + places(n) + ` AND state IN ('confirmed', 'cancelled', 'suspended')
				AND {micros now} - COALESCE({micros confirmed_at}, {micros cancelled_at}) > ?`)
		}),
	}
})

// Old returns old transactions: all their rows in db are final, and have been final for
// longer than age by the database's clock. It reads one page of rows after the cursor
// and returns the cursor of the next page. A page may end within a transaction. Old
// locks nothing: call [LockOld] before you remove rows.
func Old(ctx context.Context, db *gorm.DB, from Cursor, age time.Duration) (gids []string, next Cursor, err error) {
	d, err := dialect.Of(db)
	if err != nil {
		return nil, from, err
	}
	arguments := []any{from.last.GID, from.last.BranchID, oldPage}
	if d == dialect.MySQL {
		arguments = append([]any{from.last.GID}, arguments...)
	}
	read := 0
	next = from
	err = eachOld(ctx, db, oldStatements[d].page, arguments, age, func(key barrier.Key, old bool) {
		if key.GID != next.last.GID {
			if next.old {
				gids = append(gids, next.last.GID)
			}
			next.old = true
		}
		next.last, next.old = key, next.old && old
		read++
	})
	if err != nil {
		return nil, from, fmt.Errorf("find old barrier rows: %w", err)
	}
	if read < oldPage {
		if next.old {
			gids = append(gids, next.last.GID)
		}
		next = Cursor{done: true}
	}
	return gids, next, nil
}

// LockOld locks the rows of transactions in the local transaction tx. It returns the
// old ones, as [Old] does, and the young ones, which have other rows. On SQLite, a
// writing transaction has locked everything.
func LockOld(ctx context.Context, tx *gorm.DB, gids []string, age time.Duration) (old, young []string, err error) {
	if len(gids) == 0 {
		return nil, nil, nil
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return nil, nil, err
	}
	all := map[string]bool{}
	err = eachOld(ctx, tx, oldStatements[d].lock(len(gids)), anys(gids), age, func(key barrier.Key, isOld bool) {
		sofar, seen := all[key.GID]
		all[key.GID] = isOld && (sofar || !seen)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("lock old barrier rows: %w", err)
	}
	for _, gid := range gids {
		switch isOld, there := all[gid]; {
		case isOld:
			old = append(old, gid)
		case there:
			young = append(young, gid)
		}
	}
	return old, young, nil
}

// Kinds returns the kinds of branches in the rows of each transaction, in the local
// transaction tx. The kind of a row of version 1 of the schema is empty.
func Kinds(ctx context.Context, tx *gorm.DB, gids []string) (map[string][]string, error) {
	if len(gids) == 0 {
		return nil, nil
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, oldStatements[d].kinds(len(gids)), anys(gids)...)
	if err != nil {
		return nil, fmt.Errorf("read the kinds of barrier rows: %w", err)
	}
	defer rows.Close()
	kinds := make(map[string][]string, len(gids))
	for rows.Next() {
		var gid, kind string
		if err := rows.Scan(&gid, &kind); err != nil {
			return nil, fmt.Errorf("read the kinds of barrier rows: %w", err)
		}
		kinds[gid] = append(kinds[gid], kind)
	}
	return kinds, rows.Err()
}

// RemoveOld deletes the rows of old transactions that [LockOld] has returned in the same
// local transaction. It leaves a row that was inserted later and is not final.
func RemoveOld(ctx context.Context, tx *gorm.DB, gids []string, age time.Duration) error {
	if len(gids) == 0 {
		return nil
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	arguments := append(anys(gids), age.Microseconds())
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, oldStatements[d].remove(len(gids)), arguments...); err != nil {
		return fmt.Errorf("remove old barrier rows: %w", err)
	}
	return nil
}

// eachOld reads rows. For each it calls see with whether the row has been final for
// longer than age.
func eachOld(ctx context.Context, db *gorm.DB, query string, arguments []any, age time.Duration, see func(key barrier.Key, old bool)) error {
	rows, err := db.Statement.ConnPool.QueryContext(ctx, query, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key barrier.Key
		var final int
		var since sql.NullInt64
		if err := rows.Scan(&key.GID, &key.BranchID, &final, &since); err != nil {
			return err
		}
		see(key, final == 1 && since.Int64 > age.Microseconds())
	}
	return rows.Err()
}
