package stock_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Whatever is put and locked: it is refused, or available, locked and sold add
// up.
func FuzzLock(f *testing.F) {
	s := newShop(f, sqltest.Open(f, "sqlite"), nil)
	for _, sku := range []string{"", "phone", " phone", "ü", "\x00", "\xff", "a\nb", "'--", strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("ü", 64)} {
		f.Add(sku, int64(10), int64(1), int64(2))
	}
	for _, n := range []int64{0, 1, -1, 1 << 31, 1 << 62, -1 << 63, 1<<63 - 1} {
		f.Add("phone", n, int64(1), int64(1))
		f.Add("phone", int64(10), n, int64(1))
		f.Add("phone", int64(10), n, n)
	}
	f.Fuzz(func(t *testing.T, sku string, pieces, first, second int64) {
		if err := s.stock.Put(t.Context(), sku, pieces); err != nil {
			if !errors.Is(err, stock.ErrInvalid) {
				t.Errorf("Put: %v", err)
			}
			return
		}
		before, err := s.stock.Get(t.Context(), sku)
		sagatest.Must(t, err)
		_, err = tcc.Execute(t.Context(), s.orch, sagatest.GID(), stock.Lock{Items: []stock.Item{{SKU: sku, Quantity: first}, {SKU: sku, Quantity: second}}})
		after, getErr := s.stock.Get(t.Context(), sku)
		sagatest.Must(t, getErr)
		var short *stock.ShortError
		switch {
		case err == nil:
			if sold := first + second; after.Sold != before.Sold+sold || after.Available != before.Available-sold || after.Locked != before.Locked {
				t.Errorf("sold %d and %d: %+v, before: %+v", first, second, after, before)
			}
		case errors.Is(err, stock.ErrInvalid), errors.Is(err, saga.ErrInvalid), errors.As(err, &short):
			if after != before {
				t.Errorf("refused with %v: %+v, before: %+v", err, after, before)
			}
		default:
			t.Errorf("Execute: %v", err)
		}
	})
}
