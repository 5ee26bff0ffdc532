// Package stock is a ready-made branch that locks stock.
//
// Try moves quantities from available to locked, Confirm from locked to sold,
// and Cancel from locked back to available, in the table saga_stock. So
// available + locked + sold is always what was put in; none of the three is
// ever negative, which the statements ensure and a check constraint enforces.
//
// The articles of one lock are taken in the order of their SKUs, so that two
// locks on the same articles wait for each other and do not deadlock.
package stock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// Lock asks for articles: all of them, or none.
type Lock struct {
	Items []Item `json:"items"` // 1 to MaxItems; the same SKU twice is added up
}

// Item is a quantity of an article.
type Item struct {
	SKU      string `json:"sku"`      // 1 to MaxSKU characters
	Quantity int64  `json:"quantity"` // 1 to MaxQuantity pieces
}

// Limits of a [Lock].
const (
	MaxItems    = 1000
	MaxSKU      = 64
	MaxQuantity = math.MaxInt32
)

// Branch returns "stock.lock".
func (Lock) Branch() string { return "stock.lock" }

// ShortError rejects a Lock of more than there is. No article of it is locked.
type ShortError struct {
	SKU               string
	Wanted, Available int64
}

func (e *ShortError) Error() string {
	return fmt.Sprintf("stock of %s is short: %d wanted, %d available", e.SKU, e.Wanted, e.Available)
}

// ErrUnknownSKU is wrapped when an article does not exist.
var ErrUnknownSKU = errors.New("no such article in stock")

// ErrInvalid is wrapped when a quantity or a SKU is out of its limits.
var ErrInvalid = errors.New("invalid stock")

// Stock is the branch, and the administration of what it locks. It is safe for
// concurrent use.
type Stock struct {
	db      *gorm.DB
	careful atomic.Int64 // until when, in Unix nanoseconds, TryAll looks first
}

var (
	_ tcc.Branch[Lock] = (*Stock)(nil)
	_ tcc.Located      = (*Stock)(nil)
	_ tcc.Bulk[Lock]   = (*Stock)(nil)
)

// New returns the stock in db, where the schema of package sql is installed.
func New(db *gorm.DB) *Stock { return &Stock{db: db} }

// Database returns the database that the stock is in.
func (s *Stock) Database() *gorm.DB { return s.db }

// Try locks the articles, or rejects with a [*ShortError] or [ErrUnknownSKU].
func (s *Stock) Try(ctx context.Context, tx *gorm.DB, in Lock) error {
	items, err := in.merged()
	if err != nil {
		return tcc.Reject(err)
	}
	for _, item := range items {
		locked, err := move(tx, "UPDATE saga_stock SET available = available - ?, locked = locked + ? WHERE sku = ? AND available >= ?",
			item.Quantity, item.Quantity, item.SKU, item.Quantity)
		if err != nil {
			return fmt.Errorf("locking %s: %w", item.SKU, err)
		}
		if !locked {
			return s.whyNot(tx, item)
		}
	}
	return nil
}

func (s *Stock) whyNot(tx *gorm.DB, item Item) error {
	level, err := get(tx, item.SKU)
	switch {
	case errors.Is(err, ErrUnknownSKU):
		return tcc.Reject(err)
	case err != nil:
		return err
	default:
		return tcc.Reject(&ShortError{SKU: item.SKU, Wanted: item.Quantity, Available: level.Available})
	}
}

// Confirm turns what is locked into sold.
func (s *Stock) Confirm(ctx context.Context, tx *gorm.DB, in Lock) error {
	return s.release(tx, in, "UPDATE saga_stock SET locked = locked - ?, sold = sold + ? WHERE sku = ? AND locked >= ?")
}

// Cancel makes what is locked available again.
func (s *Stock) Cancel(ctx context.Context, tx *gorm.DB, in Lock) error {
	return s.release(tx, in, "UPDATE saga_stock SET locked = locked - ?, available = available + ? WHERE sku = ? AND locked >= ?")
}

func (s *Stock) release(tx *gorm.DB, in Lock, statement string) error {
	items, err := in.merged()
	if err != nil {
		return err
	}
	for _, item := range items {
		released, err := move(tx, statement, item.Quantity, item.Quantity, item.SKU, item.Quantity)
		if err != nil {
			return fmt.Errorf("releasing %s: %w", item.SKU, err)
		}
		if !released {
			return fmt.Errorf("releasing %s: %d are not locked: was saga_stock changed by hand?", item.SKU, item.Quantity)
		}
	}
	return nil
}

func move(tx *gorm.DB, statement string, arguments ...any) (bool, error) {
	result := tx.Exec(statement, arguments...)
	return result.RowsAffected == 1, result.Error
}

// merged returns the items by SKU, each once.
func (l Lock) merged() ([]Item, error) {
	if len(l.Items) == 0 || len(l.Items) > MaxItems {
		return nil, fmt.Errorf("%w: %d items, 1 to %d are allowed", ErrInvalid, len(l.Items), MaxItems)
	}
	items := slices.Clone(l.Items)
	for _, item := range items {
		if err := checkSKU(item.SKU); err != nil {
			return nil, err
		}
		if item.Quantity < 1 || item.Quantity > MaxQuantity {
			return nil, fmt.Errorf("%w: %d of %s, 1 to %d are allowed", ErrInvalid, item.Quantity, item.SKU, MaxQuantity)
		}
	}
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.SKU, b.SKU) })
	merged := items[:1]
	for _, item := range items[1:] {
		if last := &merged[len(merged)-1]; last.SKU == item.SKU {
			last.Quantity += item.Quantity
		} else {
			merged = append(merged, item)
		}
	}
	return merged, nil
}

func checkSKU(sku string) error {
	if n := utf8.RuneCountInString(sku); n == 0 || n > MaxSKU || !utf8.ValidString(sku) ||
		strings.ContainsFunc(sku, unicode.IsControl) || strings.TrimSpace(sku) != sku {
		return fmt.Errorf("%w: the SKU %.80q must have 1 to %d characters, without control characters or spaces at its ends", ErrInvalid, sku, MaxSKU)
	}
	return nil
}
