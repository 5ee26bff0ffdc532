package xa_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// An xid has at most 128 bytes on MySQL and 199 on PostgreSQL, and names its branch.
func TestXID(t *testing.T) {
	t.Parallel()
	const log = "4b1b8f4e-2f3c-11ef-9a53-0242ac120002"
	seen := map[string]bool{}
	for _, gid := range []string{"g", `it's\a:gid~`, strings.Repeat("g", 94), strings.Repeat("g", 95), strings.Repeat("g", 127) + "1", strings.Repeat("g", 127) + "2"} {
		for _, branch := range []string{"01", strings.Repeat("b", 32)} {
			for _, other := range []string{log, "", "another"} {
				for dialect, most := range map[string]int{"mysql": 128, "postgres": 199} {
					id := xa.XID(xa.Dialect(dialect), other, gid, branch)
					p, ok := xa.Parse(id)
					whole := p.GID == gid && p.Digest == "" || dialect == "mysql" && len(p.Digest) == 22 && strings.HasPrefix(gid, p.GID)
					if len(id) > most || !ok || !whole || p.BranchID != branch || p.XID != id {
						t.Errorf("%s: %q is %+v, %v", dialect, id, p, ok)
					}
					if seen[dialect+id] {
						t.Errorf("%q twice", id)
					}
					seen[dialect+id] = true
				}
			}
		}
	}
	for _, foreign := range []string{"", "tccsaga", "tccsaga:", "tccsaga:short:g/01", "other:1234567890123456789012:g/01", "tccsaga:1234567890123456789012:g", "tccsaga:1234567890123456789012:/01",
		"tccsaga:1234567890123456789012:a/b/c/d"} {
		if p, ok := xa.Parse(foreign); ok {
			t.Errorf("%q is %+v", foreign, p)
		}
	}
}

// Sweep ends what the log has decided, and what it does not have any more. It leaves the
// transactions that are undecided, and those of other engines and programs.
func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		ctx, begin := t.Context(), beginOf(t, db)
		d := open(t, db)
		e := sagatest.Open(t, sqltest.Open(t, "sqlite"), embedded.Config{MinBackoff: time.Minute, MaxBackoff: time.Minute})
		// The engine cannot end its branches, as if they were in a database without network.
		sagatest.Must(t, xa.Register(onlyTries{e}, d, adder{}))
		sagatest.Run(t, e)
		id := 200
		prepare := func(gid string) (n int) {
			id++
			sqltest.Exec(t, db, "INSERT INTO numbers VALUES (?, 0)", id)
			tx, err := tcc.Begin(ctx, e, gid)
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(ctx, add{id, 5}))
			return id
		}
		long := begin + strings.Repeat("x", 120-len(begin))
		cases := map[string]struct {
			n     int
			state saga.State
			ended string
		}{
			begin + "-trying": {prepare(begin + "-trying"), saga.Trying, ""},
			begin + "-yes":    {prepare(begin + "-yes"), saga.Confirming, "COMMIT"},
			begin + "-no":     {prepare(begin + "-no"), saga.Cancelling, "ROLLBACK"},
			long + "-yes":     {prepare(long + "-yes"), saga.Confirming, "COMMIT"},
			long + "-no":      {prepare(long + "-no"), saga.Cancelling, "ROLLBACK"},
		}
		for gid, c := range cases {
			tx, err := tcc.Join(ctx, e, gid)
			sagatest.Must(t, err)
			switch c.state {
			case saga.Confirming:
				_, err = tx.Confirm(ctx)
			case saga.Cancelling:
				_, err = tx.Cancel(ctx, "on purpose")
			}
			sagatest.Must(t, err)
		}
		// One that the log does not have, and one of another log.
		orphan, foreign := newCaller(t, d, adder{}, begin+"-orphan"), newCaller(t, d, adder{}, begin+"-foreign")
		orphan.in, orphan.log, foreign.in = add{1, 5}, e.LogID(), add{2, 5}
		orphan.must(try)
		foreign.must(try)
		// One of another program.
		other := "tccsaga-" + begin
		t.Cleanup(byHand(t, db, other))
		d.Close()

		mine := func(all []xa.InDoubt) map[string]xa.InDoubt {
			found := map[string]xa.InDoubt{}
			for _, p := range all {
				if strings.HasPrefix(p.GID, begin) {
					found[p.XID] = p
				}
			}
			return found
		}
		listed, err := d.InDoubt(ctx, e)
		sagatest.Must(t, err)
		// Operations list the same, in pages.
		var paged []xa.InDoubt
		for after := ""; ; {
			page, pageErr := d.InDoubtPage(ctx, e.Operations(), after, 2)
			sagatest.Must(t, pageErr)
			if len(page.InDoubt) > 2 || page.Total < len(page.InDoubt) {
				t.Errorf("%+v", page)
			}
			if paged = append(paged, page.InDoubt...); page.Next == "" {
				break
			}
			after = page.Next
		}
		for id, p := range mine(listed) {
			if got := mine(paged)[id]; got != p {
				t.Errorf("%+v, want %+v", got, p)
			}
		}
		for _, limit := range []int{-1, 1001} {
			if _, limitErr := d.InDoubtPage(ctx, e, "", limit); !errors.Is(limitErr, saga.ErrInvalid) {
				t.Errorf("%v", limitErr)
			}
		}
		swept, err := d.Sweep(ctx, e)
		sagatest.Must(t, err)
		before, after := mine(listed), mine(swept)
		if len(before) != 7 || len(after) != 7 {
			t.Errorf("%d are in doubt, %d were swept", len(before), len(after))
		}
		check := func(log, gid string, state saga.State, ended string, isForeign bool) {
			t.Helper()
			id := xa.XID(xa.Dialect(db.Name()), log, gid, "01")
			if p := before[id]; p.State != state || p.Ended != "" || p.Foreign != isForeign || p.At.IsZero() != (db.Name() == "mysql") {
				t.Errorf("%s: %+v", gid, p)
			}
			if p := after[id]; p.State != state || p.Ended != ended || p.Err != nil {
				t.Errorf("%s: %+v", gid, p)
			}
		}
		for gid, c := range cases {
			check(e.LogID(), gid, c.state, c.ended, false)
			want := 0
			if c.ended == "COMMIT" {
				want = 5
			}
			if got := number(t, db, c.n); got != want || locked(db, c.n) != (c.ended == "") {
				t.Errorf("%s: %d, want %d", gid, got, want)
			}
		}
		check(e.LogID(), begin+"-orphan", "", "ROLLBACK", false)
		check("log", begin+"-foreign", "", "", true)
		if locked(db, 1) || !locked(db, 2) || !locked(db, 3) {
			t.Error("the orphan is left, or others were ended")
		}
	})
}

// onlyTries is an engine whose branches only try.
type onlyTries struct{ *embedded.Engine }

func (o onlyTries) Register(b saga.Branch) error {
	return pausing{o.Engine, func(call saga.Call, make func() error) error {
		if call.Op != barrier.Try {
			return saga.ErrOngoing
		}
		return make()
	}}.Register(b)
}

// byHand prepares a transaction that locks the third number, and returns how to end it.
func byHand(t *testing.T, db *gorm.DB, id string) (end func()) {
	t.Helper()
	const work = "UPDATE numbers SET n = n + 1 WHERE id = 3"
	statements, rollback := []string{"XA START '" + id + "'", work, "XA END '" + id + "'", "XA PREPARE '" + id + "'"}, "XA ROLLBACK '"+id+"'"
	if db.Name() == "postgres" {
		statements, rollback = []string{"BEGIN", work, "PREPARE TRANSACTION '" + id + "'"}, "ROLLBACK PREPARED '"+id+"'"
	}
	pool, err := db.DB()
	sagatest.Must(t, err)
	conn, err := pool.Conn(t.Context())
	sagatest.Must(t, err)
	for _, s := range statements {
		_, err := conn.ExecContext(t.Context(), s)
		sagatest.Must(t, err)
	}
	return func() {
		_, err := conn.ExecContext(context.WithoutCancel(t.Context()), rollback)
		sagatest.Must(t, err)
		sagatest.Must(t, conn.Close())
	}
}
