package tcctest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// bulk is the branch with a bulk interface, without fault unless one is planted.
type bulk struct {
	*credit
	tryAll     func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error)
	confirmAll func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error
}

func newBulk() *bulk {
	b := &bulk{credit: newCredit()}
	b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
		a := account{}
		if err := tx.Raw("SELECT free FROM account").Scan(&a).Error; err != nil {
			return nil, err
		}
		failures, sum := make([]error, len(items)), 0
		for i, item := range items {
			if sum+item.In.Cents > a.Free {
				failures[i] = tcc.Reject(errors.New("credit is short"))
				continue
			}
			sum += item.In.Cents
		}
		if sum == 0 {
			return failures, nil
		}
		return failures, must(tx, "UPDATE account SET free = free - ?, held = held + ? WHERE free >= ?", sum, sum, sum)
	}
	b.confirmAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error {
		sum := 0
		for _, item := range items {
			sum += item.In.Cents
		}
		return must(tx, "UPDATE account SET held = held - ?, spent = spent + ?", sum, sum)
	}
	return b
}

func (b *bulk) TryAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
	return b.tryAll(ctx, tx, items)
}

func (b *bulk) ConfirmAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error {
	return b.confirmAll(ctx, tx, items)
}

func TestBulkBranches(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	open(t, db)
	tcctest.Exercise(t, db, newBulk(), thirty())
	for name, c := range map[string]struct {
		plant func(*bulk)
		says  string
	}{
		"TryAll takes the first only": {func(b *bulk) {
			all := b.tryAll
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				return all(ctx, tx, items[:1])
			}
		}, "credit.hold, after TryAll of 3 transactions: TryAll returned 1 failures, want 3: return one failure for each item, or nil if there is none"},
		"ConfirmAll takes the first only": {func(b *bulk) {
			all := b.confirmAll
			b.confirmAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error { return all(ctx, tx, items[:1]) }
		}, "ConfirmAll of 3 transactions: the state is {Free:10 Held:60 Spent:30}, want {Free:10 Held:0 Spent:90}"},
		"TryAll oversells": {func(b *bulk) {
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				sum := len(items) * 30
				return nil, tx.Exec("UPDATE account SET free = free - ?, held = held + ?", sum, sum).Error
			}
		}, "TryAll of 5 transactions: what must hold does not: {Free:-50 Held:150 Spent:0}"},
		"TryAll rejects all if one is too much": {func(b *bulk) {
			all := b.tryAll
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				if len(items) > 3 {
					return slices.Repeat([]error{tcc.Reject(errors.New("credit is short"))}, len(items)), nil
				}
				return all(ctx, tx, items)
			}
		}, "5 were rejected, want 2, because Case.Capacity is 3"},
		"TryAll is refused by the database": {func(b *bulk) {
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				return nil, errors.New("no such column")
			}
		}, "TryAll failed: no such column"},
		"TryAll ignores an error of the database": {func(b *bulk) {
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				failures := make([]error, len(items))
				for i, item := range items {
					failures[i] = b.try(ctx, tx, item.In)
				}
				return failures, nil
			}
		}, "credit.hold, after TryAll of 3 transactions, of which statement 1 fails: TryAll returned no error of its own, want that of statement 1 (UPDATE account SET free = free - ?, held = held + ? WHERE free >= ?): return the error of every statement as the error of all"},
		"ConfirmAll does not look at the rows affected": {func(b *bulk) {
			b.confirmAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error {
				sum := len(items) * 30
				return tx.Exec("UPDATE account SET held = held - ?, spent = spent + ?", sum, sum).Error
			}
		}, "credit.hold, after TryAll of 3 transactions, ConfirmAll of 3 transactions, of which statement 1 changes no row: ConfirmAll returned nil although statement 1 (UPDATE account SET held = held - ?, spent = spent + ?) changed no row, and the state is {Free:10 Held:90 Spent:0}, want {Free:10 Held:0 Spent:90}: look at the rows affected"},
		"ConfirmAll reads elsewhere": {func(b *bulk) {
			all, replica := b.confirmAll, sqltest.Open(t, "sqlite")
			b.confirmAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error {
				var n int
				return errors.Join(replica.WithContext(ctx).Raw("SELECT 1").Scan(&n).Error, all(ctx, tx, items))
			}
		}, "credit.hold, after TryAll, ConfirmAll: ConfirmAll uses another database connection than its tx at bulk_test.go:"},
		"TryAll commits": {func(b *bulk) {
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				return nil, errors.Join(tx.Exec("UPDATE account SET free = free - 90, held = held + 90").Error, tx.Commit().Error)
			}
		}, "credit.hold, after TryAll of 3 transactions: TryAll commits or rolls back its tx"},
	} {
		t.Run(name, func(t *testing.T) {
			db := sqltest.Open(t, "sqlite")
			open(t, db)
			branch := newBulk()
			c.plant(branch)
			got := record(t, func(t testing.TB) { tcctest.Exercise(t, db, branch, thirty()) })
			if !strings.Contains(got, c.says) {
				t.Errorf("said:\n%s\nwant:\n%s", got, c.says)
			}
		})
	}
}
