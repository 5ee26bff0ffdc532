package call

import (
	"context"
	"fmt"

	"gorm.io/gorm"
)

const savepoint = "SAVEPOINT tccsaga_member"

// Savepoint sets the savepoint of the n-th member of a batch. It replaces that of the member
// before.
func Savepoint(ctx context.Context, tx *gorm.DB, n int) error {
	if n == 0 || tx.Name() == "mysql" { // MySQL replaces a savepoint of the same name; the others do not
		return execSavepoint(ctx, tx, savepoint)
	}
	return execSavepoint(ctx, tx, "RELEASE "+savepoint+"; "+savepoint)
}

// RollBackTo undoes what was done after the last savepoint.
func RollBackTo(ctx context.Context, tx *gorm.DB) error {
	return execSavepoint(ctx, tx, "ROLLBACK TO "+savepoint)
}

func execSavepoint(ctx context.Context, tx *gorm.DB, statement string) error {
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("a savepoint of a batch: %w", err)
	}
	return nil
}
