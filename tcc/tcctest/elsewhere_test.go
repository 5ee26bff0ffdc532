package tcctest_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// A branch that does anything but with its tx is found, whatever it does it with.
func TestWorkElsewhere(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "yes") }))
	t.Cleanup(server.Close)
	read := func(response *http.Response, err error) error {
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	all, servers := sqltest.Dialects, []string{"mysql"}
	const network, database = "uses the network at elsewhere_test.go:", "uses another database connection than its tx at elsewhere_test.go:"
	for name, c := range map[string]struct {
		act      func(t testing.TB, db *gorm.DB) func(ctx context.Context, tx *gorm.DB) error
		says     string
		dialects []string // without ctx, what takes microseconds is not seen for sure
	}{
		"http.Get": {func(testing.TB, *gorm.DB) func(context.Context, *gorm.DB) error {
			return func(context.Context, *gorm.DB) error { return read(http.Get(server.URL)) }
		}, network, servers},
		"an http.Client with ctx": {func(testing.TB, *gorm.DB) func(context.Context, *gorm.DB) error {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			return func(ctx context.Context, _ *gorm.DB) error {
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader("x"))
				if err != nil {
					return err
				}
				return read(client.Do(r))
			}
		}, network, all},
		"an http.Client without ctx": {func(testing.TB, *gorm.DB) func(context.Context, *gorm.DB) error {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			return func(context.Context, *gorm.DB) error { return read(client.Get(server.URL)) }
		}, network, servers},
		"in a goroutine": {func(testing.TB, *gorm.DB) func(context.Context, *gorm.DB) error {
			return func(context.Context, *gorm.DB) error {
				done := make(chan error)
				go func() { done <- read(http.Get(server.URL)) }()
				return <-done
			}
		}, network, servers},
		"net.Dial": {func(testing.TB, *gorm.DB) func(context.Context, *gorm.DB) error {
			return func(context.Context, *gorm.DB) error {
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					return err
				}
				defer conn.Close()
				io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
				_, err = io.Copy(io.Discard, conn)
				return err
			}
		}, network, servers},
		"the gorm handle of the branch": {func(_ testing.TB, db *gorm.DB) func(context.Context, *gorm.DB) error {
			return func(ctx context.Context, _ *gorm.DB) error {
				return db.WithContext(ctx).Raw("SELECT free FROM account").Scan(&account{}).Error
			}
		}, database, all},
		"database/sql without ctx": {func(t testing.TB, db *gorm.DB) func(context.Context, *gorm.DB) error {
			pool, err := db.DB()
			if err != nil {
				t.Fatal(err)
			}
			return func(context.Context, *gorm.DB) error {
				var free int
				return pool.QueryRow("SELECT free FROM account").Scan(&free)
			}
		}, database, servers},
		"a replica, in the first call": {func(t testing.TB, _ *gorm.DB) func(context.Context, *gorm.DB) error {
			replica, first := sqltest.Open(t, "sqlite"), sync.Once{}
			return func(ctx context.Context, _ *gorm.DB) (err error) {
				var n int
				first.Do(func() { err = replica.WithContext(ctx).Raw("SELECT 1").Scan(&n).Error })
				return err
			}
		}, database, all},
		"a replica": {func(t testing.TB, _ *gorm.DB) func(context.Context, *gorm.DB) error {
			replica := sqltest.Open(t, "sqlite")
			open(t, replica)
			return func(ctx context.Context, _ *gorm.DB) error {
				return replica.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					return tx.Raw("SELECT free FROM account").Scan(&account{}).Error
				}, &sql.TxOptions{ReadOnly: true})
			}
		}, database, all},
	} {
		for i, dialect := range c.dialects {
			for _, op := range []string{"Try", "Confirm", "Cancel"}[i : i+1] {
				t.Run(name+"/"+op+"/"+dialect, func(t *testing.T) {
					t.Parallel()
					after := map[string]string{"Try": "Try"}[op]
					if after == "" {
						after = "Try, " + op
					}
					planted{plant: func(t testing.TB, db *gorm.DB, credit *credit) {
						act := c.act(t, db)
						method := map[string]*func(context.Context, *gorm.DB, hold) error{"Try": &credit.try, "Confirm": &credit.confirm, "Cancel": &credit.cancel}[op]
						whole := *method
						*method = func(ctx context.Context, tx *gorm.DB, in hold) error {
							if err := act(ctx, tx); err != nil {
								return err
							}
							return whole(ctx, tx, in)
						}
					}, says: []string{"credit.hold, after " + after + ": " + op + " " + c.says}}.check(t, sqltest.Open(t, dialect))
				})
			}
		}
	}
}

// A type of connection that a branch relies on is complained of; it is no crash.
func TestConnectionTypes(t *testing.T) {
	t.Parallel()
	planted{plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
		confirm := c.confirm
		c.confirm = func(ctx context.Context, tx *gorm.DB, in hold) error {
			_ = tx.Statement.ConnPool.(*sql.Tx)
			return confirm(ctx, tx, in)
		}
	}, says: []string{"credit.hold, after Try, Confirm: Confirm panicked at elsewhere_test.go:"}}.check(t, sqltest.Open(t, "sqlite"))
	planted{plant: func(t testing.TB, _ *gorm.DB, c *credit) {
		c.cancel = func(ctx context.Context, tx *gorm.DB, in hold) error {
			var nothing *account
			return must(tx, "UPDATE account SET free = ?", nothing.Free)
		}
	}, says: []string{"credit.hold, after Try, Cancel: Cancel panicked at elsewhere_test.go:"}}.check(t, sqltest.Open(t, "sqlite"))
}

// The connection of a branch can all that one of gorm can.
func TestConnectionIsWhole(t *testing.T) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		for _, prepare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/prepare=%t", dialect, prepare), func(t *testing.T) {
				t.Parallel()
				db := sqltest.Connect(t, sqltest.Create(t, dialect), &gorm.Config{PrepareStmt: prepare})
				migrate(t, db)
				open(t, db)
				branch := newCredit()
				whole := branch.try
				branch.try = func(ctx context.Context, tx *gorm.DB, in hold) error {
					if err := readPlainly(ctx, tx.Statement.ConnPool); err != nil {
						return err
					}
					return whole(ctx, tx, in)
				}
				tcctest.Exercise(t, db, branch, thirty())
			})
		}
	}
}

// readPlainly reads in all ways that there are without gorm.
func readPlainly(ctx context.Context, pool gorm.ConnPool) error {
	var free int
	if err := pool.QueryRowContext(ctx, "SELECT free FROM account").Scan(&free); err != nil {
		return err
	}
	stmt, err := pool.PrepareContext(ctx, "SELECT free FROM account")
	if err != nil {
		return err
	}
	defer stmt.Close()
	if err := stmt.QueryRowContext(ctx).Scan(&free); err != nil {
		return err
	}
	rows, err := pool.QueryContext(ctx, "SELECT free FROM account")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&free); err != nil {
			return err
		}
	}
	return rows.Err()
}
