package tcc

import (
	"database/sql"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc/internal/sqltx"
)

// SQLTx returns the local transaction that tx is in as a *sql.Tx, for plain SQL,
// sqlx and sqlc. Call it with the tx that a method of a [Branch] got, or with that
// of a gorm transaction of one's own; it works with gorm's PrepareStmt, too.
//
// Neither commit nor roll it back: in a branch both are refused, and the framework
// does it when the method has returned. It is over when the context of tx ends. An
// error means that tx is not in a transaction, or that its context never ends.
//
// A statement that is prepared with it is sent as an ordinary statement each time,
// and an error in its text appears when it is executed. Statements that were
// prepared elsewhere cannot be used in it: of sqlc's code, take New(tx), not
// WithTx, if it is generated with emit_prepared_queries.
func SQLTx(tx *gorm.DB) (*sql.Tx, error) {
	found, err := sqltx.Of(tx)
	if err != nil {
		return nil, fmt.Errorf("tcc: SQLTx: %w", err)
	}
	return found, nil
}
