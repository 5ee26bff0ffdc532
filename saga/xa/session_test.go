package xa_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// MariaDB answers an XA COMMIT with success and does not commit, if the connection that has
// prepared the transaction ends at this moment. Confirm waits until it is gone. Without this
// wait, about one of a hundred Confirms here fails: the row is not there, and locked until a
// restart of the server.
func TestEndedWhileTheConnectionCloses(t *testing.T) {
	t.Parallel()
	db := numbers(t, sqltest.Open(t, "mysql"))
	pool, err := db.DB()
	sagatest.Must(t, err)
	pool.SetMaxOpenConns(64)
	d := open(t, db)
	d.Close() // connections are closed after PREPARE
	const branches = 512
	for id := range branches {
		sqltest.Exec(t, db, "INSERT INTO numbers VALUES (?, 0)", 1000+id)
	}
	var all sync.WaitGroup
	for id := range branches {
		c := newCaller(t, d, adder{}, gidOf(t, db))
		c.in = add{1000 + id, 5}
		all.Go(func() {
			if err := errors.Join(c.call(t.Context(), try), c.call(t.Context(), confirm)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var sum int
	sagatest.Must(t, db.Raw("SELECT SUM(n) FROM numbers").Scan(&sum).Error)
	if sum != 5*branches {
		t.Errorf("the sum is %d, want %d", sum, 5*branches)
	}
}

// Only the connection that has prepared a transaction can end it, on MariaDB. Another process
// gets an error that says so, until the connection is closed.
func TestAffinity(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		first, second := open(t, db), open(t, db)
		c := newCaller(t, first, adder{}, gidOf(t, db))
		c.must(try)
		other := newCaller(t, second, adder{}, c.gid)
		attached := db.Name() == "mysql"
		if _, held := first.Places(); attached != (held == 1) {
			t.Errorf("%d connections are held", held)
		}
		if attached {
			if err := other.call(t.Context(), confirm); !errors.Is(err, saga.ErrOngoing) || number(t, db, 1) != 0 {
				t.Errorf("while the connection is open: %v", err)
			}
			first.Close()
			if taken, held := first.Places(); taken != 0 || held != 0 || len(prepared(t, db, c.gid)) != 1 || !locked(db, 1) {
				t.Errorf("after Close: %d places, %d connections, %v", taken, held, prepared(t, db, c.gid))
			}
		}
		other.must(confirm)
		if number(t, db, 1) != 5 {
			t.Error("not done")
		}
	})
}

// A transaction that waits for its decision holds its connection for a second only. Otherwise
// a few of them would keep all others from being tried.
func TestManyThatWait(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		for _, size := range []int{1, 2, 3, 6} {
			small := sqltest.Connect(t, addressOf(t, db), &gorm.Config{})
			pool, err := small.DB()
			sagatest.Must(t, err)
			pool.SetMaxOpenConns(size)
			d := open(t, small)
			var waiting []*caller
			for i := range 2*size + 2 {
				id := 1000*size + i
				sqltest.Exec(t, db, "INSERT INTO numbers VALUES (?, 0)", id)
				c := newCaller(t, d, adder{}, gidOf(t, db))
				c.in = add{id, 5}
				c.must(try)
				waiting = append(waiting, c)
			}
			for i, c := range waiting {
				if i%2 == 0 {
					c.must(confirm)
				} else {
					c.must(cancel)
				}
				if got := number(t, db, c.in.ID); got != 5*(1-i%2) {
					t.Errorf("a pool of %d: %d is %d", size, i, got)
				}
			}
			d.Close()
		}
	})
}

// Many transactions with branches in the databases A and B, in both orders, some of them on
// the same rows, while a pool has few connections.
func TestManyAtOnce(t *testing.T) {
	each(t, func(t *testing.T, a *gorm.DB) {
		b := numbers(t, sqltest.Open(t, a.Name()))
		for _, db := range []*gorm.DB{a, b} {
			pool, err := db.DB()
			sagatest.Must(t, err)
			pool.SetMaxOpenConns(8)
		}
		e := engine(t, a, open(t, a), adder{})
		sagatest.Must(t, xa.Register(e, open(t, b), xa.Func[addB](func(ctx context.Context, tx *gorm.DB, in addB) error {
			return adder{}.Work(ctx, tx, add(in))
		})))
		var all sync.WaitGroup
		var mu sync.Mutex
		confirmed := 0
		for i := range 48 {
			all.Go(func() {
				gid := gidOf(t, a)
				plan := []tcc.Payload{add{1 + i%3, 1}, addB{1 + i%3, 1}}
				if i%2 == 0 {
					slices.Reverse(plan)
				}
				_, err := tcc.Execute(t.Context(), e, gid, plan...)
				if err != nil && !errors.Is(err, saga.ErrCancelled) {
					t.Error(err)
				}
				if err == nil {
					sagatest.Reach(t, e, gid, saga.Confirmed)
					mu.Lock()
					confirmed++
					mu.Unlock()
				} else {
					sagatest.Reach(t, e, gid, saga.Cancelled)
				}
			})
		}
		all.Wait()
		// Two plans in both orders can block each other until their time is over, so perhaps
		// all are cancelled. Afterwards nothing is locked.
		gid := gidOf(t, a)
		if _, err := tcc.Execute(t.Context(), e, gid, add{1, 1}, addB{1, 1}); err != nil {
			t.Error(err)
		}
		sagatest.Reach(t, e, gid, saga.Confirmed)
		confirmed++
		for name, db := range map[string]*gorm.DB{"A": a, "B": b} {
			if sum := number(t, db, 1) + number(t, db, 2) + number(t, db, 3); sum != confirmed {
				t.Errorf("%s: the sum is %d, %d are confirmed", name, sum, confirmed)
			}
		}
	})
}

// addB is add in the database B.
type addB add

func (addB) Branch() string { return "number.add.b" }
