package tcctest

import (
	"context"
	"testing"

	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// What a stack, innermost first, says of a branch.
func TestJudge(t *testing.T) {
	t.Parallel()
	const branch = "example.com/shop.Credit.Try"
	for name, c := range map[string]struct {
		stack []string
		want  sight
		ok    bool
	}{
		"a statement in tx":       {[]string{"internal/poll.(*FD).Read", "net.(*conn).Read", "github.com/go-sql-driver/mysql.(*buffer).fill", "database/sql.(*Tx).ExecContext", thisPackage + "(*connection).ExecContext", branch}, sight{}, false},
		"the helper":              {[]string{"database/sql.(*DB).conn", "database/sql.(*DB).BeginTx", "github.com/tccsaga/tccsaga/tcc/internal/sqltx.Of", "github.com/tccsaga/tccsaga/tcc.SQLTx", branch}, sight{}, false},
		"through the helper":      {[]string{"net.(*conn).Read", "database/sql.(*Tx).ExecContext", thisPackage + "(*connection).ExecContext", "database/sql.(*DB).execDC", "database/sql.(*Tx).ExecContext", branch}, sight{}, false},
		"another connection":      {[]string{"net.(*conn).Read", "database/sql.(*DB).QueryContext", "gorm.io/gorm/callbacks.Query", branch}, sight{place: branch}, true},
		"a connection of a pool":  {[]string{"net.(*Dialer).DialContext", "database/sql.(*DB).conn", "database/sql.(*DB).BeginTx", branch}, sight{place: branch}, true},
		"the network":             {[]string{"runtime.gopark", "example.com/unknown.Wait", "net/http.(*persistConn).roundTrip", "net/http.(*Client).do", branch}, sight{network: true, place: branch}, true},
		"nothing":                 {[]string{"time.Sleep", branch}, sight{}, false},
		"a new connection's dial": {[]string{"net.(*Dialer).DialContext", "database/sql.(*Tx).Stmt", branch}, sight{}, false},
	} {
		var stack []frame
		for _, name := range c.stack {
			stack = append(stack, frame{name, name})
		}
		got, ok := judge(stack)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %+v, %t, want %+v, %t", name, got, ok, c.want, c.ok)
		}
	}
}

// A context sees who uses it, however little time that takes.
func TestWatchful(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	var seen []sight
	ctx := watchful{t.Context(), func(s sight) { seen = append(seen, s) }}
	type key struct{}
	for _, ctx := range []context.Context{ctx, context.WithValue(ctx, key{}, "value")} {
		seen = nil
		var n int
		if err := db.WithContext(ctx).Raw("SELECT 1").Scan(&n).Error; err != nil {
			t.Fatal(err)
		}
		if len(seen) == 0 {
			t.Error("a query was not seen")
		}
	}
	tx := db.Begin()
	defer tx.Rollback()
	seen = nil
	var n int
	h := &how{}
	if err := h.watch(ctx, tx).Raw("SELECT 1").Scan(&n).Error; err != nil || len(seen) > 0 {
		t.Errorf("a query in tx was seen: %v, %v", seen, err)
	}
}
