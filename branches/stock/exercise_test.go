package stock_test

import (
	"context"
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// books are the levels and the holds, without times and gids.
type books struct {
	Levels []stock.Level
	Holds  map[string][4]int64 // by article: quantity, locked, sold, and how many holds are open
}

// The stock, with holds and without, stands every dangerous order of calls, one by
// one and in bulk.
func TestExercise(t *testing.T) {
	none := map[string][4]int64{}
	cases := map[string]struct {
		options                     []stock.Option
		tried, confirmed, cancelled map[string][4]int64
	}{
		"sums":  {nil, none, none, none},
		"holds": {[]stock.Option{stock.KeepHolds(0)}, map[string][4]int64{"cable": {1, 1, 0, 1}, "phone": {3, 3, 0, 1}}, map[string][4]int64{"cable": {1, 0, 1, 0}, "phone": {3, 0, 3, 0}}, map[string][4]int64{"cable": {1, 0, 0, 0}, "phone": {3, 0, 0, 0}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
				s := stock.New(db, c.options...)
				tcctest.Exercise(t, db, s, tcctest.Case[stock.Lock]{
					Name:    "several articles",
					Payload: lock("phone", 2, "cable", 1, "phone", 1),
					Reset: func(ctx context.Context, db *gorm.DB) error {
						return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
							for _, statement := range []string{"DELETE FROM saga_stock_holds", "DELETE FROM saga_stock", "INSERT INTO saga_stock (sku, available, locked, sold) VALUES ('cable', 100, 0, 0), ('phone', 10, 0, 0)"} {
								if err := tx.Exec(statement).Error; err != nil {
									return err
								}
							}
							return nil
						})
					},
					State:     func(ctx context.Context, db *gorm.DB) (any, error) { return read(ctx, s) },
					Holds:     func(ctx context.Context, db *gorm.DB) error { return balanced(ctx, s, len(c.options) > 0) },
					Tried:     books{[]stock.Level{{SKU: "cable", Available: 99, Locked: 1}, {SKU: "phone", Available: 7, Locked: 3}}, c.tried},
					Confirmed: books{[]stock.Level{{SKU: "cable", Available: 99, Sold: 1}, {SKU: "phone", Available: 7, Sold: 3}}, c.confirmed},
					Cancelled: books{[]stock.Level{{SKU: "cable", Available: 100}, {SKU: "phone", Available: 10}}, c.cancelled},
					Capacity:  3,
				})
			})
		})
	}
}

func read(ctx context.Context, s *stock.Stock) (b books, err error) {
	b.Holds = map[string][4]int64{}
	if b.Levels, err = s.List(ctx, "", 10); err != nil {
		return b, err
	}
	holds, err := s.Holds(ctx, stock.HoldFilter{}, stock.Hold{}, 1000)
	for _, h := range holds {
		sum := b.Holds[h.SKU]
		for i, n := range []int64{h.Quantity, h.Locked, h.Sold} {
			sum[i] += n
		}
		if h.EndedAt.IsZero() {
			sum[3]++
		}
		b.Holds[h.SKU] = sum
	}
	return b, err
}

// balanced checks that nothing is lost or made, and that the holds are the sums.
func balanced(ctx context.Context, s *stock.Stock, held bool) error {
	b, err := read(ctx, s)
	if err != nil {
		return err
	}
	for _, level := range b.Levels {
		if total := level.Available + level.Locked + level.Sold; total != map[string]int64{"cable": 100, "phone": 10}[level.SKU] || level.Available < 0 {
			return fmt.Errorf("%+v does not add up", level)
		}
		if sum := b.Holds[level.SKU]; held && (sum[1] != level.Locked || sum[2] != level.Sold) {
			return fmt.Errorf("%+v, but the holds are %v", level, sum)
		}
	}
	return nil
}
