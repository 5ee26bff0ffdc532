package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	naming "gorm.io/gorm/schema"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// resolver sends reads that are not in a transaction to another pool, as
// gorm.io/plugin/dbresolver does.
type resolver struct{ reads gorm.ConnPool }

func (resolver) Name() string { return "resolver" }

func (r resolver) Initialize(db *gorm.DB) error {
	choose := func(db *gorm.DB) {
		_, inTx := db.Statement.ConnPool.(gorm.TxCommitter)
		query := strings.ToLower(strings.TrimSpace(db.Statement.SQL.String()))
		if !inTx && (query == "" || strings.HasPrefix(query, "select")) {
			db.Statement.ConnPool = r.reads
		}
	}
	return errors.Join(db.Callback().Query().Before("*").Register("resolve:query", choose),
		db.Callback().Row().Before("*").Register("resolve:row", choose))
}

// configured returns a migrated database with a handle as a user may have it. It
// has at most so many connections; 0 is no limit. The other handle has its own pool.
func configured(t *testing.T, dialect string, config gorm.Config, resolved bool, connections int) (db, plain *gorm.DB) {
	t.Helper()
	database := sqltest.Create(t, dialect)
	plain = sqltest.Connect(t, database, &gorm.Config{})
	sagatest.Must(t, schema.Migrate(t.Context(), plain))
	db = sqltest.Connect(t, database, &config)
	if resolved {
		reads, err := plain.DB()
		sagatest.Must(t, err)
		sagatest.Must(t, db.Use(resolver{reads}))
	}
	pool, err := db.DB()
	sagatest.Must(t, err)
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	if connections == 0 {
		pool.SetMaxIdleConns(2) // the default
	}
	return db, plain
}

// unchanged checks one connection of the pool.
func unchanged(db *gorm.DB) error {
	query, want := "SELECT CONCAT(@@innodb_lock_wait_timeout = @@global.innodb_lock_wait_timeout, @@tx_isolation)", "1REPEATABLE-READ"
	if db.Name() == "postgres" {
		query, want = "SELECT current_setting('lock_timeout') || current_setting('transaction_isolation')", "0read committed"
	}
	var got string
	if err := db.Raw(query).Scan(&got).Error; err != nil || got != want {
		return fmt.Errorf("a connection has %q, want %q: %v", got, want, err)
	}
	return nil
}

// unlimited checks every connection of the pool.
func unlimited(db *gorm.DB) error {
	query, want := "SELECT CAST(@@innodb_lock_wait_timeout = @@global.innodb_lock_wait_timeout AS CHAR)", "1"
	if db.Name() == "postgres" {
		query, want = "SHOW lock_timeout", "0"
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	var errs []error
	for range pool.Stats().OpenConnections {
		conn, err := pool.Conn(context.Background())
		if err != nil {
			return err
		}
		defer conn.Close()
		var got string
		if err := conn.QueryRowContext(context.Background(), query).Scan(&got); err != nil || got != want {
			errs = append(errs, fmt.Errorf("a connection has the limit %q: %v", got, err))
		}
	}
	return errors.Join(errs...)
}

// Thing is a row of a branch that keeps its tables under a prefix.
type Thing struct {
	GID    string `gorm:"column:gid"`
	Op     string
	Tenant string
}

// ownHandle returns another handle on the pool of db, as a user sets it up: with a
// table prefix, a callback and a setting.
func ownHandle(t *testing.T, db *gorm.DB, creates *atomic.Int64) *gorm.DB {
	t.Helper()
	pool, err := db.DB()
	sagatest.Must(t, err)
	prefix := "app_"
	var dialector gorm.Dialector = &sqlite.Dialector{Conn: pool}
	switch db.Name() {
	case "mysql":
		dialector = mysql.New(mysql.Config{Conn: pool})
	case "postgres":
		prefix = "app." // a schema
		sagatest.Must(t, db.Exec("CREATE SCHEMA app").Error)
		dialector = postgres.New(postgres.Config{Conn: pool})
	}
	own, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard, NamingStrategy: naming.NamingStrategy{TablePrefix: prefix}})
	sagatest.Must(t, err)
	sagatest.Must(t, own.AutoMigrate(&Thing{}))
	sagatest.Must(t, own.Callback().Create().Before("gorm:create").Register("test:tenant", func(tx *gorm.DB) {
		creates.Add(1)
		if tenant, set := tx.Get("tenant"); set {
			tx.Statement.SetColumn("Tenant", tenant, true)
		}
	}))
	return own.Set("tenant", "acme").Session(&gorm.Session{})
}
