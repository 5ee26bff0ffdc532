package call

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

const savepoint = "SAVEPOINT tccsaga_member"

// Savepoint is the savepoint of a batch whose members are called one after the other.
type Savepoint struct {
	tx   *gorm.DB // a handle of package local
	set  bool
	sent int // statements of the local transaction, when it had the state of the savepoint
}

// NewSavepoint returns a savepoint of the local transaction tx, which is not set.
func NewSavepoint(tx *gorm.DB) *Savepoint { return &Savepoint{tx: tx} }

// Set sets the savepoint of the next member. It replaces that of the member before. It makes no
// statement if that member has left none.
func (s *Savepoint) Set(ctx context.Context) error {
	if s.set && s.isCurrent() {
		return nil
	}
	statement := savepoint
	if s.set && s.tx.Name() != "mysql" { // MySQL replaces a savepoint of the same name; the others do not
		statement = "RELEASE " + savepoint + "; " + savepoint
	}
	s.set = true
	return s.exec(ctx, statement)
}

// RollBack undoes what was done since Set. It makes no statement if nothing was.
func (s *Savepoint) RollBack(ctx context.Context) error {
	if s.isCurrent() {
		return nil
	}
	return s.exec(ctx, "ROLLBACK TO "+savepoint)
}

func (s *Savepoint) isCurrent() bool { return local.TxOf(s.tx).Sent() == s.sent }

func (s *Savepoint) exec(ctx context.Context, statement string) error {
	if _, err := s.tx.Statement.ConnPool.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("a savepoint of a batch: %w", err)
	}
	s.sent = local.TxOf(s.tx).Sent()
	return nil
}
