package txlog

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// heldStatements count the branches that are called only in an order, and those of paused
// kinds. They take the gid twice.
var heldStatements = dialect.Each(func(d dialect.Dialect) string {
	return d.SQL(`SELECT (SELECT COUNT(*) FROM saga_branches WHERE gid = ? AND stage <> 0),
		(SELECT COUNT(*) FROM saga_branches WHERE gid = ? AND kind IN (SELECT kind FROM saga_kinds))`)
})

// Held reports what keeps the branches of a transaction from being called on their own, in
// the local transaction tx: their calls have an order, or a kind is paused.
func (l reader) Held(ctx context.Context, tx *gorm.DB, gid string) (ordered, paused bool, err error) {
	_, err = scan(ctx, tx, heldStatements[l.sql.dialect], []any{gid, gid}, func(row scanner) (none struct{}, err error) {
		var stages, kinds int
		err = row.Scan(&stages, &kinds)
		ordered, paused = stages > 0, kinds > 0
		return none, err
	})
	return ordered, paused, err
}
