package embedded_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// server makes connections to a database, and disturbs them.
type server struct {
	driver driver.Driver
	dsn    string

	readOnly atomic.Bool                 // new connections are of a server that takes no writes
	commit   atomic.Pointer[commitFault] // of the next COMMIT
}

// commitFault is an answer to a COMMIT, which is made, or not.
type commitFault struct {
	err  error
	made bool
	then func() // called before the answer, if it is not nil
}

// sqlState is an error of PostgreSQL.
type sqlState string

func (s sqlState) Error() string    { return "on purpose: SQLSTATE " + string(s) }
func (s sqlState) SQLState() string { return string(s) }

func newServer(t *testing.T, dialect string, config *gorm.Config) (*server, *gorm.DB) {
	t.Helper()
	database := sqltest.Create(t, dialect)
	sagatest.Must(t, schema.Migrate(t.Context(), sqltest.Connect(t, database, &gorm.Config{})))
	plain, err := sql.Open(map[string]string{"mysql": "mysql", "postgres": "pgx"}[dialect], database.DSN)
	sagatest.Must(t, err)
	s := &server{driver: plain.Driver(), dsn: database.DSN}
	sagatest.Must(t, plain.Close())
	pool := sql.OpenDB(s)
	pool.SetMaxOpenConns(10)
	pool.SetMaxIdleConns(10)
	t.Cleanup(func() { pool.Close() })
	var dialector gorm.Dialector = mysql.New(mysql.Config{Conn: pool})
	if dialect == "postgres" {
		dialector = postgres.New(postgres.Config{Conn: pool})
	}
	config.Logger = logger.Discard
	db, err := gorm.Open(dialector, config)
	sagatest.Must(t, err)
	return s, db
}

func (s *server) Driver() driver.Driver { return s.driver }

func (s *server) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := s.driver.Open(s.dsn)
	if err != nil {
		return nil, err
	}
	c := &disturbed{able: conn.(able), server: s}
	if s.readOnly.Load() {
		statement := "SET SESSION TRANSACTION READ ONLY"
		if strings.HasPrefix(s.dsn, "postgres") {
			statement = "SET default_transaction_read_only = on"
		}
		_, err = c.ExecContext(ctx, statement, nil)
	}
	return c, err
}

// able is what the connections of both drivers can do.
type able interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.SessionResetter
}

type disturbed struct {
	able
	server *server
}

func (c *disturbed) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.able.BeginTx(ctx, options)
	return disturbedTx{tx, c.server}, err
}

type disturbedTx struct {
	driver.Tx
	server *server
}

func (t disturbedTx) Commit() error {
	fault := t.server.commit.Swap(nil)
	if fault == nil {
		return t.Tx.Commit()
	}
	end := t.Tx.Rollback
	if fault.made {
		end = t.Tx.Commit
	}
	err := end()
	if fault.then != nil {
		fault.then()
	}
	return errors.Join(err, fault.err)
}
