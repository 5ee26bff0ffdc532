package stock_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// linguistic returns a new PostgreSQL database that sorts as people do, whose
// planner reads tables in the order of an index, or in that of the rows.
func linguistic(t *testing.T, planner string) *gorm.DB {
	t.Helper()
	database := sqltest.Create(t, "postgres")
	admin := sqltest.Connect(t, database, &gorm.Config{})
	name := database.DSN[strings.LastIndex(database.DSN, "/")+1:]
	name = strings.Split(name, "?")[0] + "_icu"
	sagatest.Must(t, admin.Exec("CREATE DATABASE "+name+" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'").Error)
	t.Cleanup(func() { admin.Exec("DROP DATABASE " + name + " WITH (FORCE)") })
	location, err := url.Parse(database.DSN)
	sagatest.Must(t, err)
	location.Path = "/" + name
	location.RawQuery += "&options=" + strings.ReplaceAll(url.QueryEscape(planner), "+", "%20")
	db := sqltest.Connect(t, sqltest.Database{Dialect: "postgres", DSN: location.String()}, &gorm.Config{})
	sagatest.Must(t, schema.Migrate(t.Context(), db))
	var first string
	sagatest.Must(t, db.Raw("SELECT MIN(x) FROM (VALUES ('a'), ('B')) v (x)").Scan(&first).Error)
	if first != "a" {
		t.Fatalf("the database does not sort as people do: %q is first", first)
	}
	return db
}

// waiting is how many transactions of the database wait for a lock.
func waiting(db *gorm.DB) (n int, err error) {
	query := "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = CURRENT_DATABASE() AND wait_event_type = 'Lock'"
	if db.Name() == "mysql" {
		query = "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()"
	}
	err = db.WithContext(context.Background()).Raw(query).Scan(&n).Error
	return n, err
}

// until polls less often than sagatest.Eventually: MySQL keeps the answer to waiting for
// 100 milliseconds after the last time that it was asked.
func until(t testing.TB, what string, every time.Duration, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	limit := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("never came: %s", what)
		}
	}
}

// Every operation locks its articles in one order, the bytewise one, whatever the
// database's own order and the plans of its queries are: any two wait for each
// other, wherever they meet, and never deadlock.
func TestOneOrderOfLocks(t *testing.T) {
	databases := map[string]func(t *testing.T) *gorm.DB{
		"mysql":                       func(t *testing.T) *gorm.DB { return sqltest.Open(t, "mysql") },
		"postgres":                    func(t *testing.T) *gorm.DB { return sqltest.Open(t, "postgres") },
		"postgres linguistic, index":  func(t *testing.T) *gorm.DB { return linguistic(t, "-c enable_seqscan=off -c enable_bitmapscan=off") },
		"postgres linguistic, rows":   func(t *testing.T) *gorm.DB { return linguistic(t, "-c enable_indexscan=off -c enable_bitmapscan=off") },
		"postgres linguistic, bitmap": func(t *testing.T) *gorm.DB { return linguistic(t, "-c enable_indexscan=off -c enable_seqscan=off") },
	}
	for name, open := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			s := stock.New(db)
			for _, sku := range []string{"a", "B"} { // the rows are in this order, too
				sagatest.Must(t, s.Put(t.Context(), sku, 1000))
			}
			both := lock("B", 1, "a", 2)
			many := []tcc.Item[stock.Lock]{{In: both}, {In: lock("a", 1, "B", 1)}}
			// So much is locked that every operation finds enough.
			sagatest.Must(t, db.Exec("UPDATE saga_stock SET available = 500, locked = 500").Error)
			operations := map[string]func(tx *gorm.DB) error{
				"Try":     func(tx *gorm.DB) error { return s.Try(t.Context(), tx, both) },
				"Confirm": func(tx *gorm.DB) error { return s.Confirm(t.Context(), tx, both) },
				"Cancel":  func(tx *gorm.DB) error { return s.Cancel(t.Context(), tx, both) },
				"TryAll": func(tx *gorm.DB) error {
					_, err := s.TryAll(t.Context(), tx, many)
					return err
				},
				"careful TryAll": func(tx *gorm.DB) error { // which has found too little before
					_, err := s.TryAll(t.Context(), tx, append(many, tcc.Item[stock.Lock]{In: lock("a", 100000)}))
					return err
				},
				"ConfirmAll": func(tx *gorm.DB) error { return s.ConfirmAll(t.Context(), tx, many) },
			}
			if db.Name() == "mysql" { // where each question takes a while
				delete(operations, "Confirm")
				delete(operations, "Cancel")
			}
			for first, one := range operations {
				for second, other := range operations {
					for _, at := range []string{"a", "B"} {
						if err := meet(t, db, at, one, other); err != nil {
							t.Errorf("%s, then %s, which meet at %s: %v", first, second, at, err)
						}
					}
				}
			}
		})
	}
}

// meet lets two operations wait for an article that a third transaction holds, one
// after the other, and then run.
func meet(t *testing.T, db *gorm.DB, sku string, first, second func(tx *gorm.DB) error) error {
	t.Helper()
	ended := make(chan error, 2)
	every := 2 * time.Millisecond
	if db.Name() == "mysql" {
		every = 120 * time.Millisecond // more often, it always says the same
	}
	blocker := db.Begin()
	sagatest.Must(t, blocker.Error)
	defer blocker.Rollback()
	sagatest.Must(t, blocker.Exec("UPDATE saga_stock SET sold = sold + 1 WHERE sku = ?", sku).Error)
	for i, operation := range []func(tx *gorm.DB) error{first, second} {
		go func() { ended <- db.Transaction(operation) }()
		until(t, "it waits", every, func() bool { n, err := waiting(db); return err == nil && n > i })
	}
	sagatest.Must(t, blocker.Commit().Error)
	if err := <-ended; err != nil {
		<-ended
		return fmt.Errorf("one failed: %w", err)
	}
	return <-ended
}
