package barrier

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// oldPage is how many rows one call of Old looks at, more than any transaction has.
const oldPage = 4000

// Old returns transactions, by gid and after the given one, all of whose rows in db
// are final and have been for longer than age, by the database's clock. It looks at
// one page of rows and returns the last gid that it has looked at, which is empty
// after the last page. It locks nothing.
func Old(ctx context.Context, db *gorm.DB, after string, age time.Duration) (gids []string, last string, err error) {
	d, err := dialect.Of(db)
	if err != nil {
		return nil, "", fmt.Errorf("barrier: %w", err)
	}
	rows, err := db.Statement.ConnPool.QueryContext(ctx, statements[d].page, after, oldPage)
	if err != nil {
		return nil, "", fmt.Errorf("barrier: looking for old rows: %w", err)
	}
	defer rows.Close()
	var read int
	var complete string // the last gid whose rows are all read
	old := false        // all rows of last, which is being read
	for rows.Next() {
		var gid string
		var state State
		var confirmedAt, cancelledAt, now int64
		if err := rows.Scan(&gid, &state, &confirmedAt, &cancelledAt, &now); err != nil {
			return nil, "", fmt.Errorf("barrier: looking for old rows: %w", err)
		}
		if gid != last {
			if old {
				gids = append(gids, last)
			}
			complete, last, old = last, gid, true
		}
		old = old && state != StateTried && now-max(confirmedAt, cancelledAt) > age.Microseconds()
		read++
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("barrier: looking for old rows: %w", err)
	}
	if read == oldPage {
		return gids, complete, nil // the last one may go on
	}
	if old {
		gids = append(gids, last)
	}
	return gids, "", nil
}
