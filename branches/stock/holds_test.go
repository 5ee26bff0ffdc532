package stock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

var clerk = saga.Operator{Who: "ann", Why: "two are broken"}

// hold reads the only hold of a transaction on an article.
func (s *shop) hold(gid, sku string) stock.Hold {
	s.t.Helper()
	holds, err := s.stock.Holds(s.t.Context(), stock.HoldFilter{GID: gid, SKU: sku}, stock.Hold{}, 10)
	sagatest.Must(s.t, err)
	if len(holds) != 1 {
		s.t.Fatalf("the holds of %s on %s are %+v", gid, sku, holds)
	}
	return holds[0]
}

// pieces checks a hold: quantity, locked, sold, returned.
func (s *shop) pieces(gid, sku string, want ...int64) stock.Hold {
	s.t.Helper()
	h := s.hold(gid, sku)
	if got := []int64{h.Quantity, h.Locked, h.Sold, h.Returned}; !slices.Equal(got, want) {
		s.t.Errorf("the hold of %s on %s: %v, want %v", gid, sku, got, want)
	}
	return h
}

// A person sees which transactions hold an article, since when, and what was sold by
// which.
func TestHolds(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, map[string]int64{"a": 10, "b": 10}, stock.KeepHolds(0))
		open := s.begin(lock("a", 1, "b", 2, "a", 2))
		sold := sagatest.GID()
		_, err := tcc.Execute(t.Context(), s.orch, sold, lock("a", 1))
		sagatest.Must(t, err)
		gone := s.begin(lock("a", 4))
		_, err = gone.Cancel(t.Context(), "")
		sagatest.Must(t, err)
		_, err = tcc.Execute(t.Context(), s.orch, sagatest.GID(), lock("a", 1, "b", 100)) // rejected
		if err == nil {
			t.Fatal("there is no such stock")
		}
		holds, err := s.stock.Holds(t.Context(), stock.HoldFilter{SKU: "a", Open: true}, stock.Hold{}, 10)
		sagatest.Must(t, err)
		if len(holds) != 1 || holds[0].GID != open.GID() || holds[0].BranchID != "01" || holds[0].Locked != 3 || !holds[0].EndedAt.IsZero() || time.Since(holds[0].LockedAt).Abs() > time.Hour {
			t.Errorf("who holds a: %+v", holds)
		}
		s.pieces(open.GID(), "b", 2, 2, 0, 0)
		if h := s.pieces(sold, "a", 1, 0, 1, 0); h.EndedAt.Before(h.LockedAt) {
			t.Errorf("it ended before it began: %+v", h)
		}
		s.pieces(gone.GID(), "a", 4, 0, 0, 0)
		var all []stock.Hold
		for after := (stock.Hold{}); ; after = all[len(all)-1] {
			page, err := s.stock.Holds(t.Context(), stock.HoldFilter{}, after, 1)
			sagatest.Must(t, err)
			if len(page) == 0 {
				break
			}
			all = append(all, page...)
		}
		if len(all) != 4 {
			t.Errorf("page by page: %+v", all)
		}
	})
}

// Fewer are confirmed than were locked, sold ones come back, and it is recorded who
// did it; never more than there is, and never twice.
func TestAdjustAndReturn(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		s := newShop(t, db, map[string]int64{"a": 10, "b": 10}, stock.KeepHolds(0))
		tx := s.begin(lock("a", 5, "b", 2))
		gid := tx.GID()
		for range 2 { // the same again is no change
			sagatest.Must(t, s.stock.Adjust(ctx, db, gid, "01", "a", 3, clerk))
			sagatest.Must(t, s.stock.Adjust(ctx, db, gid, "01", "b", 0, clerk))
			s.holds("a", 7, 3, 0)
			s.holds("b", 10, 0, 0)
		}
		// In a transaction of the caller, with whatever else is done there.
		if err := db.Transaction(func(tx *gorm.DB) error {
			sagatest.Must(t, s.stock.Adjust(ctx, tx, gid, "01", "a", 1, clerk))
			return errBack
		}); !errors.Is(err, errBack) {
			t.Fatal(err)
		}
		s.holds("a", 7, 3, 0)
		refused := func(want error, err error) {
			t.Helper()
			if !errors.Is(err, want) || !strings.Contains(err.Error(), "branch") {
				t.Errorf("%v, want %v", err, want)
			}
		}
		refused(stock.ErrInvalid, s.stock.Adjust(ctx, db, gid, "01", "a", 4, clerk))
		refused(stock.ErrInvalid, s.stock.Adjust(ctx, db, gid, "01", "a", -1, clerk))
		refused(stock.ErrInvalid, s.stock.Adjust(ctx, db, gid, "01", "a", -1<<63, clerk))
		refused(stock.ErrInvalid, s.stock.Adjust(ctx, db, gid, "01", "a", 1<<63-1, clerk))
		refused(stock.ErrInvalid, s.stock.Adjust(ctx, db, gid, "01", "a", 2, saga.Operator{Who: "ann"}))
		refused(stock.ErrInvalid, s.stock.Adjust(ctx, nil, gid, "01", "a", 2, clerk))
		refused(stock.ErrNoHold, s.stock.Adjust(ctx, db, gid, "02", "a", 2, clerk))
		refused(stock.ErrNoHold, s.stock.Adjust(ctx, db, gid, "01", "A", 2, clerk))
		refused(stock.ErrNoHold, s.stock.Return(ctx, db, gid, "01", "a", 1, clerk)) // not sold yet
		_, err := tx.Confirm(ctx)
		sagatest.Must(t, err)
		sagatest.Eventually(t, "it is sold", func() bool { return !s.hold(gid, "a").EndedAt.IsZero() })
		s.holds("a", 7, 0, 3)
		s.holds("b", 10, 0, 0)
		s.pieces(gid, "a", 5, 0, 3, 0)
		s.pieces(gid, "b", 2, 0, 0, 0)
		refused(stock.ErrNoHold, s.stock.Adjust(ctx, db, gid, "01", "a", 1, clerk))
		for range 2 {
			sagatest.Must(t, s.stock.Return(ctx, db, gid, "01", "a", 2, clerk))
			s.holds("a", 9, 0, 1)
		}
		refused(stock.ErrInvalid, s.stock.Return(ctx, db, gid, "01", "a", 1, clerk))
		refused(stock.ErrInvalid, s.stock.Return(ctx, db, gid, "01", "a", 4, clerk))
		sagatest.Must(t, s.stock.Return(ctx, db, gid, "01", "a", 3, clerk))
		s.holds("a", 10, 0, 0)
		s.pieces(gid, "a", 5, 0, 3, 3)
		acts, err := s.stock.Acts(ctx, gid, "01", "a")
		sagatest.Must(t, err)
		var did []string
		for _, a := range acts {
			did = append(did, fmt.Sprint(a.Number, a.Act, a.Pieces, a.Who, a.Why, a.At.IsZero()))
		}
		if want := []string{fmt.Sprint(1, "adjust", 2, "ann", clerk.Why, false), fmt.Sprint(2, "return", 2, "ann", clerk.Why, false), fmt.Sprint(3, "return", 1, "ann", clerk.Why, false)}; !slices.Equal(did, want) {
			t.Errorf("the acts are %q, want %q", did, want)
		}
		cancelled := s.begin(lock("b", 5))
		sagatest.Must(t, s.stock.Adjust(ctx, db, cancelled.GID(), "01", "b", 4, clerk))
		_, err = cancelled.Cancel(ctx, "")
		sagatest.Must(t, err)
		s.holds("b", 10, 0, 0)
		refused(stock.ErrNoHold, s.stock.Return(ctx, db, cancelled.GID(), "01", "b", 1, clerk))
	})
}

// An instance without the option confirms and cancels what one with it has locked,
// as it was adjusted, and the other way round; one by one and in bulk.
func TestHoldsOfOtherInstances(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		with, without := stock.New(db, stock.KeepHolds(0)), stock.New(db)
		s := newShop(t, db, map[string]int64{"a": 1000, "b": 1000}, stock.KeepHolds(0))
		s.begin(lock("a", 20, "b", 20)) // of which more could be sold than was left
		n := 0
		try := func(by *stock.Stock) tcc.Item[stock.Lock] {
			n++
			item := tcc.Item[stock.Lock]{BatchCall: saga.BatchCall{Call: saga.Call{GID: fmt.Sprint("x-", n), BranchID: "01"}}, In: lock("a", 3, "b", 2)}
			sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
				failures, err := by.TryAll(ctx, tx, []tcc.Item[stock.Lock]{item})
				return errors.Join(append(failures, err)...)
			}))
			return item
		}
		var mixed []tcc.Item[stock.Lock]
		for _, by := range []*stock.Stock{with, without, with} {
			mixed = append(mixed, try(by))
		}
		sagatest.Must(t, with.Adjust(ctx, db, "x-3", "01", "a", 1, clerk))
		s.holds("a", 973, 27, 0)
		if err := db.Transaction(func(tx *gorm.DB) error { return without.ConfirmAll(ctx, tx, mixed) }); err == nil {
			t.Error("what was adjusted away was sold")
		}
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error { return with.ConfirmAll(ctx, tx, mixed) }))
		s.holds("a", 973, 20, 7)
		s.holds("b", 974, 20, 6)
		s.pieces("x-3", "a", 3, 0, 1, 0)
		s.pieces("x-1", "a", 3, 0, 3, 0)
		// One by one, by an engine whose stock keeps no holds.
		plain := newShop(t, db, nil)
		tx := s.begin(lock("a", 5, "b", 1))
		sagatest.Must(t, with.Adjust(ctx, db, tx.GID(), "01", "a", 2, clerk))
		back, err := tcc.Join(ctx, plain.orch, tx.GID())
		sagatest.Must(t, err)
		_, err = back.Confirm(ctx)
		sagatest.Must(t, err)
		sagatest.Eventually(t, "it is sold", func() bool { return !s.hold(tx.GID(), "b").EndedAt.IsZero() })
		s.holds("a", 971, 20, 9)
		s.pieces(tx.GID(), "a", 5, 0, 2, 0)
		old := plain.begin(lock("a", 1))
		back, err = tcc.Join(ctx, s.orch, old.GID())
		sagatest.Must(t, err)
		_, err = back.Cancel(ctx, "")
		sagatest.Must(t, err)
		s.holds("a", 971, 20, 9)
	})
}

// Orders, people and the administration work on the same articles at once: the
// books balance, and nobody gets more than there is.
func TestConcurrentAdministration(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, map[string]int64{"a": 500, "b": 500}, stock.KeepHolds(0))
		ctx := context.WithoutCancel(t.Context())
		// What is refused is right; a deadlock is not.
		tolerate := func(err error) {
			var short *stock.ShortError
			if err != nil && !errors.As(err, &short) && !errors.Is(err, stock.ErrNoHold) && !errors.Is(err, stock.ErrInvalid) {
				t.Error(err)
			}
		}
		put := map[string]int64{"a": 500, "b": 500}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for worker := range 6 {
			wg.Go(func() {
				for i := range 15 {
					gid := sagatest.GID()
					switch worker % 3 {
					case 0:
						_, err := tcc.Execute(ctx, s.orch, gid, lock("b", 1+rand.IntN(3), "a", 1+rand.IntN(3)))
						tolerate(err)
						if err == nil {
							tolerate(s.stock.Return(ctx, db, gid, "01", "a", 1, clerk))
						}
					case 1:
						tx, err := tcc.Begin(ctx, s.orch, gid)
						tolerate(err)
						tolerate(tx.Try(ctx, lock("a", 4, "b", 4)))
						var both sync.WaitGroup
						both.Go(func() { tolerate(s.stock.Adjust(ctx, db, gid, "01", "a", int64(rand.IntN(4)), clerk)) })
						if i%2 == 0 {
							_, err = tx.Confirm(ctx)
						} else {
							_, err = tx.Cancel(ctx, "")
						}
						tolerate(err)
						both.Wait()
					case 2:
						sku := []string{"a", "b"}[i%2]
						n, change := int64(3), s.stock.Add
						if i%3 == 0 {
							n, change = -2, func(ctx context.Context, sku string, _ int64) error { return s.stock.Take(ctx, sku, 2) }
						}
						err := change(ctx, sku, n)
						tolerate(err)
						if err == nil {
							mu.Lock()
							put[sku] += n
							mu.Unlock()
						}
					}
				}
			})
		}
		wg.Wait()
		sagatest.Eventually(t, "no transaction is under way", func() bool {
			open, err := s.orch.List(ctx, saga.Filter{Unfinished: true})
			return err == nil && len(open) == 0
		})
		holds, err := s.stock.Holds(ctx, stock.HoldFilter{}, stock.Hold{}, 10000)
		sagatest.Must(t, err)
		sold := map[string]int64{}
		for _, h := range holds {
			sold[h.SKU] += h.Sold - h.Returned
			if h.Locked != 0 || h.EndedAt.IsZero() {
				t.Errorf("still held: %+v", h)
			}
		}
		for sku, pieces := range put {
			s.holds(sku, pieces-sold[sku], 0, sold[sku])
		}
	})
}

// Taking out stops at what is locked.
func TestTake(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newShop(t, db, map[string]int64{"a": 10})
		s.begin(lock("a", 4))
		sagatest.Must(t, s.stock.Take(t.Context(), "a", 2))
		sagatest.Must(t, s.stock.Take(t.Context(), "a", 0))
		s.holds("a", 4, 4, 0)
		var short *stock.ShortError
		if err := s.stock.Take(t.Context(), "a", 5); !errors.As(err, &short) || *short != (stock.ShortError{SKU: "a", Wanted: 5, Available: 4}) {
			t.Error(err)
		}
		for _, n := range []int64{-1, -1 << 63, 1<<63 - 1} {
			if err := s.stock.Take(t.Context(), "a", n); !errors.Is(err, stock.ErrInvalid) {
				t.Errorf("%d: %v", n, err)
			}
		}
		if err := s.stock.Take(t.Context(), "b", 1); !errors.Is(err, stock.ErrUnknownSKU) {
			t.Error(err)
		}
		s.holds("a", 4, 4, 0)
	})
}

// Holds stay after the log's retention, until their own; and a gid that is used again
// meanwhile has a hold of its own.
func TestHoldsOutliveTheLog(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := stock.New(db, stock.KeepHolds(24*time.Hour))
		sagatest.Must(t, s.Put(t.Context(), "a", 100))
		buy := func(gid string) {
			t.Helper()
			items := []tcc.Item[stock.Lock]{{BatchCall: saga.BatchCall{Call: saga.Call{GID: gid, BranchID: "01"}}, In: lock("a", 1)}}
			sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
				if _, err := s.TryAll(t.Context(), tx, items); err != nil {
					return err
				}
				return s.ConfirmAll(t.Context(), tx, items)
			}))
		}
		gids := func() (all []string) {
			holds, err := s.Holds(t.Context(), stock.HoldFilter{}, stock.Hold{}, 10)
			sagatest.Must(t, err)
			for _, h := range holds {
				all = append(all, h.GID)
			}
			return all
		}
		clean := func(s *stock.Stock) {
			t.Helper()
			sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error { return s.Clean(t.Context(), tx, []string{"old", "new"}) }))
		}
		buy("old")
		sagatest.Must(t, s.Return(t.Context(), db, "old", "01", "a", 1, clerk))
		earlier := map[string]string{"mysql": "locked_at - INTERVAL 2 DAY", "postgres": "locked_at - INTERVAL '2 days'", "sqlite": "strftime('%Y-%m-%d %H:%M:%f', locked_at, '-2 days')"}[db.Name()]
		sagatest.Must(t, db.Exec("UPDATE saga_stock_holds SET ended_at = "+earlier+", locked_at = "+earlier).Error)
		buy("old")
		buy("new")
		clean(stock.New(db))
		clean(stock.New(db, stock.KeepHolds(0)))
		clean(stock.New(db, stock.KeepHolds(72*time.Hour)))
		if got := gids(); !slices.Equal(got, []string{"new", "old", "old"}) {
			t.Errorf("holds of %v are left", got)
		}
		clean(s)
		if got := gids(); !slices.Equal(got, []string{"new", "old"}) {
			t.Errorf("holds of %v are left", got)
		}
		if acts, err := s.Acts(t.Context(), "old", "01", "a"); err != nil || len(acts) != 0 {
			t.Errorf("the acts are %+v, %v", acts, err)
		}
	})
}
