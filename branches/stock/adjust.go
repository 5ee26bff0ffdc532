package stock

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

// ErrNoHold is wrapped by [Stock.Adjust] and [Stock.Return] if they find no hold to
// change. There was no lock with [KeepHolds], or the hold has ended and cannot be
// adjusted, or it was not sold and cannot be returned.
var ErrNoHold = errors.New("no such hold in stock")

func adjust(tx *gorm.DB, key Hold, quantity int64) (pieces int64, err error) {
	h, err := lockHold(tx, key, "ended_at IS NULL")
	switch {
	case err != nil:
		return 0, err
	case quantity > h.Locked:
		return 0, fmt.Errorf("%w: %d are locked, and a hold cannot grow: lock more with another branch", ErrInvalid, h.Locked)
	case quantity == h.Locked:
		return 0, nil
	}
	pieces = h.Locked - quantity
	return pieces, freePieces(tx, h, pieces, "locked", "locked = ?", quantity, "ended_at IS NULL")
}

func takeReturned(tx *gorm.DB, key Hold, returned int64) (pieces int64, err error) {
	h, err := lockHold(tx, key, "sold > 0")
	switch {
	case err != nil:
		return 0, err
	case returned > h.Sold:
		return 0, fmt.Errorf("%w: %d were sold", ErrInvalid, h.Sold)
	case returned < h.Returned:
		return 0, fmt.Errorf("%w: %d were returned already", ErrInvalid, h.Returned)
	case returned == h.Returned:
		return 0, nil
	}
	pieces = returned - h.Returned
	return pieces, freePieces(tx, h, pieces, "sold", "returned = ?", returned, "sold > 0")
}

// lockHold reads and locks the last hold of a branch that meets the condition. All
// operations lock holds before articles.
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

// freePieces makes pieces of a hold available again, and changes the hold.
func freePieces(tx *gorm.DB, h Hold, pieces int64, from, set string, to int64, condition string) error {
	moved, err := move(tx, "UPDATE saga_stock SET "+from+" = "+from+" - ?, available = available + ? WHERE sku = ? AND "+from+" >= ?", pieces, pieces, h.SKU, pieces)
	if err == nil && moved {
		moved, err = move(tx, "UPDATE "+byKey(tx)+" SET "+set+" WHERE gid = ? AND branch_id = ? AND sku = ? AND locked = ? AND returned = ? AND "+condition,
			to, h.GID, h.BranchID, h.SKU, h.Locked, h.Returned)
	}
	if err == nil && !moved {
		err = errors.New("the stock has fewer pieces than the hold: was saga_stock changed by hand?")
	}
	return err
}

// Act is one change of a hold by an operator.
type Act struct {
	Number int64  `json:"number"` // on this hold, from 1
	Act    string `json:"act"`    // adjust or return
	Pieces int64  `json:"pieces"` // how many pieces became available
	saga.Operator
	At time.Time `json:"at"`
}

// isolation is the isolation level that branches use. MySQL's own default locks the gaps
// between rows, so that two operators deadlock who change different holds.
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
