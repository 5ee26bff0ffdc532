package stock_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestPutAndAdd(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, nil)
		ctx := t.Context()
		for range 2 { // the same again is no change, and no error
			sagatest.Must(t, s.stock.Put(ctx, "a", 10))
			s.holds("a", 10, 0, 0)
		}
		sagatest.Must(t, s.stock.Add(ctx, "a", 5))
		sagatest.Must(t, s.stock.Add(ctx, "a", 0))
		s.holds("a", 15, 0, 0)
		sagatest.Must(t, s.stock.Add(ctx, "b", 7))
		s.holds("b", 7, 0, 0)

		// What transactions have is not theirs to change.
		_, err := tcc.Execute(ctx, s.orch, sagatest.GID(), lock("a", 3))
		sagatest.Must(t, err)
		tx := s.begin(lock("a", 4))
		sagatest.Must(t, s.stock.Put(ctx, "a", 1))
		s.holds("a", 1, 4, 3)
		sagatest.Must(t, s.stock.Put(ctx, "a", 0))
		sagatest.Must(t, s.stock.Add(ctx, "a", 2))
		s.holds("a", 2, 4, 3)
		_, err = tx.Cancel(ctx, "")
		sagatest.Must(t, err)
		s.holds("a", 6, 0, 3)
	})
}

func TestAddAtOnce(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, nil)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if err := s.stock.Add(t.Context(), "new", 3); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s.holds("new", 48, 0, 0)
	})
}

func TestBadLevelsAreRefused(t *testing.T) {
	cases := map[string]struct {
		sku    string
		pieces int64
		says   string
	}{
		"empty":         {"", 1, `SKU ""`},
		"long":          {strings.Repeat("x", stock.MaxSKU+1), 1, "1 to 64 characters"},
		"spaces":        {" b ", 1, "spaces"},
		"control":       {"b\tb", 1, "control characters"},
		"not UTF-8":     {"b\xff", 1, "the SKU"},
		"negative":      {"b", -1, "-1 of b"},
		"most negative": {"b", math.MinInt64, "are allowed"},
		"huge":          {"b", stock.MaxLevel + 1, "are allowed"},
		"overflow":      {"b", math.MaxInt64, "are allowed"},
		"huge in sum":   {"sold", stock.MaxLevel - 1, "there would be more"},
	}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, map[string]int64{"sold": 2})
		_, err := tcc.Execute(t.Context(), s.orch, sagatest.GID(), lock("sold", 2))
		sagatest.Must(t, err)
		for name, c := range cases {
			for _, err := range []error{s.stock.Put(t.Context(), c.sku, c.pieces), s.stock.Add(t.Context(), c.sku, c.pieces)} {
				if !errors.Is(err, stock.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %v, want %q", name, err, c.says)
				}
			}
		}
		sagatest.Must(t, s.stock.Add(t.Context(), "full", stock.MaxLevel))
		if err := s.stock.Add(t.Context(), "full", 1); !errors.Is(err, stock.ErrInvalid) {
			t.Errorf("more than there can be: %v", err)
		}
		for _, sku := range []string{"", "x\n", strings.Repeat("x", stock.MaxSKU+1)} {
			if _, err := s.stock.Get(t.Context(), sku); !errors.Is(err, stock.ErrInvalid) {
				t.Errorf("get %q: %v", sku, err)
			}
		}
		levels, err := s.stock.List(t.Context(), "", 10)
		sagatest.Must(t, err)
		want := []stock.Level{{SKU: "full", Available: stock.MaxLevel}, {SKU: "sold", Sold: 2}}
		if !slices.Equal(levels, want) {
			t.Errorf("something was changed: %+v", levels)
		}
	})
}

func TestList(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, map[string]int64{"d": 4, "b": 2, "a": 1, "c": 3})
		s.begin(lock("b", 1))
		all := []stock.Level{{SKU: "a", Available: 1}, {SKU: "b", Available: 1, Locked: 1}, {SKU: "c", Available: 3}, {SKU: "d", Available: 4}}
		for _, c := range []struct {
			after string
			limit int
			want  []stock.Level
		}{{"", 10, all}, {"", 2, all[:2]}, {"b", 2, all[2:]}, {"bb", 1, all[2:3]}, {"d", 5, nil}, {"", 0, nil}} {
			levels, err := s.stock.List(t.Context(), c.after, c.limit)
			if err != nil || !slices.Equal(levels, c.want) {
				t.Errorf("%d after %q: %+v, %v", c.limit, c.after, levels, err)
			}
		}
	})
}
