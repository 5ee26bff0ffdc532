package stock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

// ErrNoHold is wrapped by [Stock.Adjust] and [Stock.Return] when there is no hold
// that they could change: nothing was locked there with [KeepHolds], or the hold has
// ended, or it has not been sold.
var ErrNoHold = errors.New("no such hold in stock")

// Adjust lowers what a branch has locked of an article to quantity, 0 included,
// before its Confirm, which then sells so many. The other pieces are available at
// once. It is guarded: a hold that was confirmed or cancelled is [ErrNoHold], and
// more than is locked is [ErrInvalid]. Repeating it with the same quantity changes
// nothing and succeeds.
//
// It works in the transaction tx, or in one of its own if tx is a handle of the
// stock's database that is in none; use READ COMMITTED on MySQL, where REPEATABLE
// READ deadlocks with other holds. The operator is recorded; see [Stock.Acts].
//
// Call it while the transaction is undecided. After the decision it takes effect
// only if it comes before the Confirm does.
func (s *Stock) Adjust(ctx context.Context, tx *gorm.DB, gid, branchID, sku string, quantity int64, by saga.Operator) error {
	return s.act(ctx, tx, Hold{GID: gid, BranchID: branchID, SKU: sku}, Act{Act: "adjust", Operator: by}, quantity, adjust)
}

func adjust(tx *gorm.DB, key Hold, quantity int64) (pieces int64, err error) {
	h, err := lockHold(tx, key, "ended_at IS NULL")
	switch {
	case err != nil:
		return 0, err
	case quantity > h.Locked:
		return 0, fmt.Errorf("%w: %d are locked, and a hold cannot be raised: lock more with another branch", ErrInvalid, h.Locked)
	case quantity == h.Locked:
		return 0, nil
	}
	pieces = h.Locked - quantity
	return pieces, free(tx, h, pieces, "locked", "locked = ?", quantity, "ended_at IS NULL")
}

// Return takes sold pieces of an article back, which are available at once:
// returned is how many of those that the branch has bought are back in all, so that
// repeating it changes nothing and succeeds. More than were sold, or fewer than are
// back already, is [ErrInvalid]; a hold that is not sold is [ErrNoHold]. Of several
// transactions that have used the gid one after the other, it is the last one.
//
// It works in the transaction tx, or in one of its own if tx is a handle of the
// stock's database that is in none. The operator is recorded; see [Stock.Acts].
func (s *Stock) Return(ctx context.Context, tx *gorm.DB, gid, branchID, sku string, returned int64, by saga.Operator) error {
	return s.act(ctx, tx, Hold{GID: gid, BranchID: branchID, SKU: sku}, Act{Act: "return", Operator: by}, returned, takeBack)
}

func takeBack(tx *gorm.DB, key Hold, returned int64) (pieces int64, err error) {
	h, err := lockHold(tx, key, "sold > 0")
	switch {
	case err != nil:
		return 0, err
	case returned > h.Sold:
		return 0, fmt.Errorf("%w: %d were sold", ErrInvalid, h.Sold)
	case returned < h.Returned:
		return 0, fmt.Errorf("%w: %d are back already", ErrInvalid, h.Returned)
	case returned == h.Returned:
		return 0, nil
	}
	pieces = returned - h.Returned
	return pieces, free(tx, h, pieces, "sold", "returned = ?", returned, "sold > 0")
}

// lockHold reads the last hold of a branch for which the condition holds, and locks
// it. Holds are locked before articles, as everywhere.
func lockHold(tx *gorm.DB, key Hold, condition string) (Hold, error) {
	holds, err := readHolds(tx, "gid = ? AND branch_id = ? AND sku = ? AND "+condition+" ORDER BY locked_at DESC LIMIT 1"+lockRows(tx), key.GID, key.BranchID, key.SKU)
	if err != nil {
		return Hold{}, err
	}
	if len(holds) == 0 {
		return Hold{}, ErrNoHold
	}
	return holds[0], nil
}

// free makes pieces of a hold available again, and changes the hold.
func free(tx *gorm.DB, h Hold, pieces int64, from, set string, to int64, condition string) error {
	moved, err := move(tx, "UPDATE saga_stock SET "+from+" = "+from+" - ?, available = available + ? WHERE sku = ? AND "+from+" >= ?", pieces, pieces, h.SKU, pieces)
	if err == nil && moved {
		moved, err = move(tx, "UPDATE "+byKey(tx)+" SET "+set+" WHERE gid = ? AND branch_id = ? AND sku = ? AND locked = ? AND returned = ? AND "+condition,
			to, h.GID, h.BranchID, h.SKU, h.Locked, h.Returned)
	}
	if err == nil && !moved {
		err = errors.New("there is less than the hold says: was saga_stock changed by hand?")
	}
	return err
}

// Act is what a person has done to a hold, and why.
type Act struct {
	Number int64  `json:"number"` // on this hold, from 1
	Act    string `json:"act"`    // adjust or return
	Pieces int64  `json:"pieces"` // how many became available by it
	saga.Operator
	At time.Time `json:"at"`
}

// act changes a hold and records it, unless nothing was to change.
func (s *Stock) act(ctx context.Context, tx *gorm.DB, key Hold, a Act, n int64, change func(*gorm.DB, Hold, int64) (int64, error)) error {
	err := checkAct(key, a, n)
	if err == nil && tx == nil {
		err = fmt.Errorf("%w: the database handle is nil", ErrInvalid)
	}
	if err == nil {
		err = tx.WithContext(ctx).Transaction(func(tx *gorm.DB) (err error) {
			pieces, err := change(tx, key, n)
			if err != nil || pieces == 0 {
				return err
			}
			return tx.Exec("INSERT INTO saga_stock_acts (gid, branch_id, sku, number, act, pieces, who, why, acted_at) SELECT ?, ?, ?, COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, "+
				clockOf(tx).now+" FROM saga_stock_acts WHERE gid = ? AND branch_id = ? AND sku = ?",
				key.GID, key.BranchID, key.SKU, a.Act, pieces, a.Who, a.Why, key.GID, key.BranchID, key.SKU).Error
		}, isolation(tx)...)
	}
	if err != nil {
		return fmt.Errorf("stock: %s of %s, transaction %s, branch %s, to %d: %w", a.Act, key.SKU, key.GID, key.BranchID, n, err)
	}
	return nil
}

// isolation is what the branches run at. At MySQL's own default, gaps between rows
// are locked, and two people deadlock who change different holds.
func isolation(db *gorm.DB) []*sql.TxOptions {
	if db.Dialector.Name() == "sqlite" {
		return nil
	}
	return []*sql.TxOptions{{Isolation: sql.LevelReadCommitted}}
}

func checkAct(key Hold, a Act, n int64) error {
	for _, text := range []struct {
		name, value string
		most        int
	}{{"gid", key.GID, 128}, {"branch id", key.BranchID, 32}, {"who", a.Who, 128}, {"why", a.Why, 1024}} {
		if c := utf8.RuneCountInString(text.value); c == 0 || c > text.most || !utf8.ValidString(text.value) || strings.Contains(text.value, "\x00") {
			return fmt.Errorf("%w: %s must have 1 to %d characters", ErrInvalid, text.name, text.most)
		}
	}
	if n < 0 || n > MaxLevel {
		return fmt.Errorf("%w: 0 to %d pieces are allowed", ErrInvalid, MaxLevel)
	}
	return checkSKU(key.SKU)
}

// Acts returns what people have done to a hold, in order.
func (s *Stock) Acts(ctx context.Context, gid, branchID, sku string) ([]Act, error) {
	db := s.db.WithContext(ctx)
	rows, err := db.Raw("SELECT number, act, pieces, who, why, "+clockOf(db).micros("acted_at")+" FROM saga_stock_acts WHERE gid = ? AND branch_id = ? AND sku = ? ORDER BY number", gid, branchID, sku).Rows()
	if err != nil {
		return nil, fmt.Errorf("stock: reading the acts on transaction %s, branch %s: %w", gid, branchID, err)
	}
	defer rows.Close()
	var acts []Act
	for rows.Next() {
		var a Act
		var at int64
		if err := rows.Scan(&a.Number, &a.Act, &a.Pieces, &a.Who, &a.Why, &at); err != nil {
			return nil, fmt.Errorf("stock: reading the acts on transaction %s, branch %s: %w", gid, branchID, err)
		}
		a.At = time.UnixMicro(at).UTC()
		acts = append(acts, a)
	}
	return acts, rows.Err()
}
