// Package sqltest gives each test its own database, on every dialect: SQLite in a file, and
// MariaDB and PostgreSQL on the servers of two environment variables.
//
//	TCCSAGA_TEST_MYSQL     tcc:tcc@tcp(127.0.0.1:3306)/
//	TCCSAGA_TEST_POSTGRES  postgres://tcc@127.0.0.1:5432/postgres?sslmode=disable
//
// A test without its server is skipped and says so. If CI is set in the environment, it
// fails, because nobody would notice that it is skipped.
package sqltest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glebarez/sqlite"
	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga/schema"
)

// Dialects are the dialects of Each.
var Dialects = []string{"sqlite", "mysql", "postgres"}

// Each runs test for every dialect, in parallel, with a new migrated database.
func Each(t *testing.T, test func(t *testing.T, db *gorm.DB)) {
	t.Helper()
	for _, dialect := range Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			test(t, Open(t, dialect))
		})
	}
}

// Open returns a new migrated database of the dialect.
func Open(t testing.TB, dialect string) *gorm.DB {
	t.Helper()
	db := Connect(t, Create(t, dialect), &gorm.Config{})
	if err := schema.Migrate(t.Context(), db); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return db
}

// Database is the address of a database, which several processes or pools can open.
type Database struct{ Dialect, DSN string }

// Create makes a new empty database of the dialect. It is dropped after the test.
func Create(t testing.TB, dialect string) Database {
	t.Helper()
	name := "tccsaga_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	switch dialect {
	case "sqlite":
		file := filepath.Join(t.TempDir(), "test.db")
		return Database{dialect, file + "?_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"}
	case "mysql":
		config, err := mysqldriver.ParseDSN(server(t, "TCCSAGA_TEST_MYSQL"))
		if err != nil {
			t.Fatalf("TCCSAGA_TEST_MYSQL: %v", err)
		}
		admin := Connect(t, Database{dialect, config.FormatDSN()}, &gorm.Config{})
		createDatabase(t, admin, name, "")
		config.DBName = name
		return Database{dialect, config.FormatDSN()}
	case "postgres":
		dsn := server(t, "TCCSAGA_TEST_POSTGRES")
		admin := Connect(t, Database{dialect, dsn}, &gorm.Config{})
		createDatabase(t, admin, name, " WITH (FORCE)")
		location, err := url.Parse(dsn)
		if err != nil {
			t.Fatalf("TCCSAGA_TEST_POSTGRES: %v", err)
		}
		location.Path = "/" + name
		return Database{dialect, location.String()}
	}
	t.Fatalf("unknown dialect %q", dialect)
	return Database{}
}

func createDatabase(t testing.TB, admin *gorm.DB, name, dropOptions string) {
	t.Helper()
	if err := admin.Exec("CREATE DATABASE " + name).Error; err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		if err := admin.Exec("DROP DATABASE " + name + dropOptions).Error; err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
}

// Connect opens a pool of connections to the database. It is closed after the test.
func Connect(t testing.TB, database Database, config *gorm.Config) *gorm.DB {
	t.Helper()
	config.Logger = logger.Discard
	db, err := gorm.Open(Dialector(database), config)
	if err != nil {
		t.Fatalf("open %s: %v", database.Dialect, err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	t.Cleanup(func() { pool.Close() })
	return db
}

// Dialector returns the gorm driver for the database.
func Dialector(database Database) gorm.Dialector {
	switch database.Dialect {
	case "mysql":
		return mysql.Open(database.DSN)
	case "postgres":
		return postgres.Open(database.DSN)
	default:
		return sqlite.Open(database.DSN)
	}
}

func server(t testing.TB, variable string) string {
	t.Helper()
	address := os.Getenv(variable)
	if address == "" {
		message := fmt.Sprintf("%s is not set: run the tests with make test, which starts the servers", variable)
		if os.Getenv("CI") != "" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	return address
}

// Exec executes a statement, and ends the test if it fails.
func Exec(t testing.TB, db *gorm.DB, statement string, arguments ...any) {
	t.Helper()
	if err := db.Exec(statement, arguments...).Error; err != nil {
		t.Fatal(err)
	}
}
