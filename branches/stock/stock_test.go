package stock_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestLock(t *testing.T) {
	type levels map[string][3]int64 // available, locked, sold
	cases := map[string]struct {
		lock   stock.Lock
		locked levels
		sold   levels
	}{
		"one":     {lock("a", 3), levels{"a": {7, 3, 0}, "b": {10, 0, 0}}, levels{"a": {7, 0, 3}, "b": {10, 0, 0}}},
		"many":    {lock("b", 2, "a", 3), levels{"a": {7, 3, 0}, "b": {8, 2, 0}}, levels{"a": {7, 0, 3}, "b": {8, 0, 2}}},
		"all":     {lock("a", 10), levels{"a": {0, 10, 0}}, levels{"a": {0, 0, 10}}},
		"twice":   {lock("a", 1, "b", 4, "a", 2), levels{"a": {7, 3, 0}, "b": {6, 4, 0}}, levels{"a": {7, 0, 3}, "b": {6, 0, 4}}},
		"unicode": {lock("é 漢字", 1), levels{"é 漢字": {9, 1, 0}}, levels{"é 漢字": {9, 0, 1}}},
	}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, nil)
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				s := &shop{t: t, db: db, stock: s.stock, orch: s.orch}
				reset := func() {
					sagatest.Must(t, db.Exec("DELETE FROM saga_stock").Error)
					for _, sku := range []string{"a", "b", "é 漢字"} {
						sagatest.Must(t, s.stock.Put(t.Context(), sku, 10))
					}
				}
				reset()
				tx := s.begin(c.lock)
				for sku, l := range c.locked {
					s.holds(sku, l[0], l[1], l[2])
				}
				outcome, err := tx.Confirm(t.Context())
				if err != nil || outcome.State != saga.Confirmed {
					t.Fatalf("confirm: %+v, %v", outcome, err)
				}
				for sku, l := range c.sold {
					s.holds(sku, l[0], l[1], l[2])
				}

				reset()
				tx = s.begin(c.lock)
				outcome, err = tx.Cancel(t.Context(), "the customer left")
				if err != nil || outcome.State != saga.Cancelled {
					t.Fatalf("cancel: %+v, %v", outcome, err)
				}
				for sku := range c.locked {
					s.holds(sku, 10, 0, 0)
				}

				_, err = tcc.Execute(t.Context(), s.orch, sagatest.GID(), c.lock)
				sagatest.Must(t, err)
				for sku, l := range c.sold {
					s.holds(sku, l[0], l[1], l[2])
				}
			})
		}
	})
}

func TestShortStockLocksNothing(t *testing.T) {
	cases := map[string]struct {
		lock stock.Lock
		want stock.ShortError
	}{
		"one":         {lock("b", 11), stock.ShortError{SKU: "b", Wanted: 11, Available: 10}},
		"first":       {lock("a", 11, "b", 1, "c", 1), stock.ShortError{SKU: "a", Wanted: 11, Available: 10}},
		"last":        {lock("a", 1, "b", 1, "c", 11), stock.ShortError{SKU: "c", Wanted: 11, Available: 10}},
		"in sum only": {lock("a", 1, "b", 6, "b", 5), stock.ShortError{SKU: "b", Wanted: 11, Available: 10}},
		"none left":   {lock("a", 1, "empty", 1), stock.ShortError{SKU: "empty", Wanted: 1, Available: 0}},
	}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, map[string]int64{"a": 10, "b": 10, "c": 10, "empty": 0})
		untouched := func(name string) {
			t.Helper()
			for _, sku := range []string{"a", "b", "c"} {
				s.holds(sku, 10, 0, 0)
			}
			if t.Failed() {
				t.Fatal(name)
			}
		}
		for name, c := range cases {
			outcome, err := tcc.Execute(t.Context(), s.orch, sagatest.GID(), c.lock)
			var short *stock.ShortError
			if !errors.Is(err, saga.ErrCancelled) || !errors.As(err, &short) || *short != c.want || outcome.State != saga.Cancelled {
				t.Errorf("%s: %+v, %v", name, outcome, err)
			}
			untouched(name)

			tx, err := tcc.Begin(t.Context(), s.orch, sagatest.GID())
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(t.Context(), lock("a", 1)))
			if err := tx.Try(t.Context(), c.lock); !errors.As(err, &short) {
				t.Errorf("%s, open: %v", name, err)
			}
			_, err = tx.Cancel(t.Context(), "short")
			sagatest.Must(t, err)
			untouched(name)
		}
		// What is locked is not available to anybody else.
		s.begin(lock("a", 8))
		_, err := tcc.Execute(t.Context(), s.orch, sagatest.GID(), lock("a", 3))
		if err == nil || !strings.Contains(err.Error(), "stock of a is short: 3 wanted, 2 available") {
			t.Error(err)
		}
	})
}

func TestUnknownSKU(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, map[string]int64{"a": 10})
		for _, sku := range []string{"b", "A", "á", "a b"} { // SKUs are compared exactly
			_, err := tcc.Execute(t.Context(), s.orch, sagatest.GID(), lock("a", 1, sku, 1))
			if !errors.Is(err, stock.ErrUnknownSKU) || !strings.Contains(err.Error(), sku) {
				t.Errorf("%q: %v", sku, err)
			}
			if _, err := s.stock.Get(t.Context(), sku); !errors.Is(err, stock.ErrUnknownSKU) {
				t.Errorf("get %q: %v", sku, err)
			}
		}
		s.holds("a", 10, 0, 0)
	})
}

func TestBadLockIsRejected(t *testing.T) {
	t.Parallel()
	many := stock.Lock{Items: make([]stock.Item, stock.MaxItems+1)}
	for i := range many.Items {
		many.Items[i] = stock.Item{SKU: "a", Quantity: 1}
	}
	cases := map[string]struct {
		lock stock.Lock
		says string
	}{
		"no items":        {stock.Lock{}, "0 items"},
		"too many":        {many, "1001 items"},
		"empty SKU":       {lock("", 1), `SKU ""`},
		"long SKU":        {lock(strings.Repeat("x", stock.MaxSKU+1), 1), "1 to 64 characters"},
		"space before":    {lock(" a", 1), "spaces"},
		"space after":     {lock("a ", 1), "spaces"},
		"only spaces":     {lock("  ", 1), "spaces"},
		"line break":      {lock("a\nb", 1), "control characters"},
		"NUL":             {lock("a\x00", 1), "control characters"},
		"delete":          {lock("a\x7fb", 1), "control characters"},
		"zero":            {lock("a", 0), "0 of a"},
		"negative":        {lock("a", -1), "-1 of a"},
		"huge":            {lock("a", math.MaxInt32+1), "2147483648 of a"},
		"overflow":        {lock("a", math.MaxInt64), "9223372036854775807 of a"},
		"most negative":   {lock("a", math.MinInt64), "-9223372036854775808 of a"},
		"one bad of many": {lock("a", 1, "b", 0), "0 of b"},
		"negative in sum": {lock("a", 5, "a", -5), "-5 of a"},
	}
	s := newShop(t, sqltest.Open(t, "sqlite"), map[string]int64{"a": 10, "b": 10})
	for name, c := range cases {
		outcome, err := tcc.Execute(t.Context(), s.orch, sagatest.GID(), c.lock)
		if !errors.Is(err, stock.ErrInvalid) || !errors.Is(err, saga.ErrCancelled) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v, want %q", name, outcome, err, c.says)
		}
	}
	s.holds("a", 10, 0, 0)
	s.holds("b", 10, 0, 0)
}

// The largest lock that is allowed must also go through: it is no use to allow
// what the database then refuses.
func TestLargestLock(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		sku := strings.Repeat("漢", stock.MaxSKU)
		largest := stock.Lock{Items: make([]stock.Item, stock.MaxItems)}
		for i := range largest.Items {
			largest.Items[i] = stock.Item{SKU: sku, Quantity: stock.MaxQuantity}
		}
		s := newShop(t, db, map[string]int64{sku: stock.MaxLevel})
		_, err := tcc.Execute(t.Context(), s.orch, sagatest.GID(), largest)
		sagatest.Must(t, err)
		sum := int64(stock.MaxItems) * stock.MaxQuantity
		s.holds(sku, stock.MaxLevel-sum, 0, sum)
	})
}

// The constraint is the last line of defence, also against other programs.
func TestDatabaseRefusesNegativeStock(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, map[string]int64{"a": 10})
		s.begin(lock("a", 4))
		for _, column := range []string{"available", "locked", "sold"} {
			err := db.Exec("UPDATE saga_stock SET " + column + " = -1 WHERE sku = 'a'").Error
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), "constraint") {
				t.Errorf("%s = -1: %v", column, err)
			}
		}
		if err := db.Exec("INSERT INTO saga_stock (sku, available, locked, sold) VALUES ('b', -1, 0, 0)").Error; err == nil {
			t.Error("a negative row was inserted")
		}
		s.holds("a", 6, 4, 0)
	})
}

// A lock that somebody has taken away by hand is not sold out of nothing: the
// Confirm is retried until the stock is put right.
func TestConfirmOfWhatIsNotLocked(t *testing.T) {
	t.Parallel()
	s := newShop(t, sqltest.Open(t, "sqlite"), map[string]int64{"a": 10, "b": 10})
	tx := s.begin(lock("a", 4, "b", 4))
	sagatest.Must(t, s.db.Exec("UPDATE saga_stock SET locked = 3 WHERE sku = 'b'").Error)
	outcome, err := tx.Confirm(t.Context())
	if err != nil || outcome.State != saga.Confirming {
		t.Fatalf("%+v, %v", outcome, err)
	}
	s.holds("a", 6, 4, 0) // all articles of a lock, or none
	found, err := s.orch.Lookup(t.Context(), tx.GID())
	sagatest.Must(t, err)
	if attempts := found.Branches[0].Attempts; len(attempts) == 0 || !strings.Contains(attempts[0].Error, "releasing b: 4 are not locked") {
		t.Errorf("attempts %+v", attempts)
	}
	sagatest.Must(t, s.db.Exec("UPDATE saga_stock SET locked = 4 WHERE sku = 'b'").Error)
	sagatest.Eventually(t, "it is confirmed", func() bool {
		found, err := s.orch.Lookup(t.Context(), tx.GID())
		return err == nil && found.State == saga.Confirmed
	})
	s.holds("a", 6, 0, 4)
	s.holds("b", 6, 0, 4)
}

// Many callers buy random articles until nothing is left that anybody wants.
// Their articles come in random order, which must not deadlock them for good.
func TestNeverOversold(t *testing.T) {
	const callers, articles = 16, 5
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		put := map[string]int64{}
		for i := range articles {
			put[fmt.Sprintf("article %d", i)] = int64(20 + 5*i)
		}
		s := newShop(t, db, put)
		var sold [articles]atomic.Int64
		var empty atomic.Int32 // as a set of bits, the articles of which not one piece is left
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for empty.Load() != 1<<articles-1 {
					order := map[int]int64{}
					var l stock.Lock
					for _, i := range rand.Perm(articles)[:1+rand.IntN(articles)] {
						order[i] = 1 + rand.Int64N(3)
						l.Items = append(l.Items, stock.Item{SKU: fmt.Sprintf("article %d", i), Quantity: order[i]})
					}
					outcome, err := tcc.Execute(t.Context(), s.orch, sagatest.GID(), l)
					var short *stock.ShortError
					switch {
					case err == nil && outcome.State == saga.Confirmed || err == nil && outcome.State == saga.Confirming:
						for i, quantity := range order {
							sold[i].Add(quantity)
						}
					case errors.As(err, &short):
						if short.Available == 0 {
							var i int
							_, err := fmt.Sscanf(short.SKU, "article %d", &i)
							if err != nil {
								t.Error(err)
								return
							}
							empty.Or(1 << i)
						}
					default:
						t.Errorf("%+v, %v", outcome, err)
						return
					}
				}
			})
		}
		wg.Wait()
		sagatest.Eventually(t, "no transaction is under way", func() bool {
			open, err := s.orch.List(context.WithoutCancel(t.Context()), saga.Filter{Unfinished: true})
			return err == nil && len(open) == 0
		})
		for i := range articles {
			sku := fmt.Sprintf("article %d", i)
			s.holds(sku, 0, 0, put[sku])
			if got := sold[i].Load(); got != put[sku] {
				t.Errorf("%s: %d pieces in confirmed orders, %d were put in", sku, got, put[sku])
			}
		}
	})
}
