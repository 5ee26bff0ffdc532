package tcc

import (
	"database/sql"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc/internal/sqltx"
)

// SQLTx returns the local transaction of tx as a *sql.Tx, for plain SQL, sqlx and sqlc.
// Call it with the tx that a method of a [Branch] got, or with the tx of your own gorm
// transaction. It also works with gorm's PrepareStmt.
//
// Do not commit the *sql.Tx or roll it back. In a branch both are refused: the framework
// commits or rolls back after the method has returned. The *sql.Tx ends with the context
// of tx. SQLTx returns an error if tx is not in a transaction, or if its context never
// ends.
//
// A statement that you prepare with it is sent as an ordinary statement each time. An
// error in its text is returned when you execute it. Statements that you prepared outside
// of the *sql.Tx cannot be used in it. If sqlc generates your code with
// emit_prepared_queries, use New(tx), not WithTx.
func SQLTx(tx *gorm.DB) (*sql.Tx, error) {
	found, err := sqltx.Of(tx)
	if err != nil {
		return nil, fmt.Errorf("tcc: SQLTx: %w", err)
	}
	return found, nil
}
