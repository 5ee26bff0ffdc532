package xa

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// What the tests look at.
var (
	XID               = xid
	Parse             = parse
	Literal           = literal
	CheckVersion      = checkVersion
	CommitStatement   = commitStatement
	RollbackStatement = rollbackStatement
)

// Recovered lists the prepared transactions of this package.
func Recovered(ctx context.Context, db *gorm.DB) ([]Prepared, error) { return recovered(ctx, db) }

// Places returns how many places of the gate are taken, and how many connections are held.
func (d *Database) Places() (taken, held int) {
	d.gate.mu.Lock()
	defer d.gate.mu.Unlock()
	return len(d.gate.places), len(d.gate.held)
}

// Dialect returns the dialect of db.
func Dialect(db *gorm.DB) dialect.Dialect { return dialect.Dialect(db.Dialector.Name()) }
