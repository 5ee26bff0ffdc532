package xa

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// What the tests look at.
var (
	XID          = xid
	Parse        = parse
	CheckVersion = checkVersion
	StatesOf     = statesOf
)

// RollbackStatement returns the statement that rolls a prepared transaction back.
func RollbackStatement(db *gorm.DB, p Prepared) string {
	return rollback.statement(dialect.Dialect(db.Dialector.Name()), p.XID, p.format)
}

// Recovered lists the prepared transactions of this package.
func Recovered(ctx context.Context, db *gorm.DB) ([]Prepared, error) { return recovered(ctx, db) }

// Places returns how many places of the gate are taken, and how many connections are held.
func (d *Database) Places() (taken, held int) {
	d.gate.mu.Lock()
	defer d.gate.mu.Unlock()
	return len(d.gate.places), len(d.gate.held)
}

// Gone waits until the connection that has prepared a transaction is gone.
func (d *Database) Gone(ctx context.Context, p Prepared) error {
	if !d.gate.attached {
		return nil
	}
	return d.awaitEnd(ctx, p.format)
}

// Dialect is the type of the first parameter of XID.
type Dialect = dialect.Dialect
