package txlog

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// heldStatements count the branches that are called only in an order, those of paused kinds,
// and the results. They take the gid three times.
var heldStatements = dialect.Each(func(d dialect.Dialect) string {
	return d.SQL(`SELECT (SELECT COUNT(*) FROM saga_branches WHERE gid = ? AND stage <> 0),
		(SELECT COUNT(*) FROM saga_branches WHERE gid = ? AND kind IN (SELECT kind FROM saga_kinds)),
		(SELECT COUNT(*) FROM saga_results WHERE gid = ?)`)
})

// Held says what keeps the branches of a transaction from being called by others than the
// engine.
type Held struct {
	Ordered bool // Cancels have an order
	Paused  bool // a kind of branch is paused
	Results bool // calls get results of Trys
}

// Held reads what keeps the branches of a transaction from being called by others, in the
// local transaction tx.
func (l reader) Held(ctx context.Context, tx *gorm.DB, gid string) (held Held, err error) {
	_, err = scan(ctx, tx, heldStatements[l.sql.dialect], []any{gid, gid, gid}, func(row scanner) (none struct{}, err error) {
		var stages, kinds, results int
		err = row.Scan(&stages, &kinds, &results)
		held = Held{Ordered: stages > 0, Paused: kinds > 0, Results: results > 0}
		return none, err
	})
	return held, err
}
