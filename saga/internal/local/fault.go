package local

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// Passing says whether err is a fault of the database that passes when the
// local transaction is run again: a deadlock, a lock wait that took too long, a
// serialization failure, a busy SQLite file, a lost connection. What a branch
// rejected, whatever it wrapped, is no fault.
func Passing(err error) bool {
	var no interface{ Rejected() bool }
	if err == nil || errors.As(err, &no) {
		return false
	}
	if number, ok := mysqlNumber(err); ok {
		// 1213 deadlock, 1205 lock wait timeout, 1020 record changed under a
		// snapshot (MariaDB), 1053 shutdown, 1927 connection killed (MariaDB),
		// 1040 too many connections.
		return slices.Contains([]uint16{1213, 1205, 1020, 1053, 1927, 1040}, number)
	}
	if state, ok := sqlState(err); ok {
		// 40001 serialization failure, 40P01 deadlock, 55P03 lock not
		// available, 53300 too many connections, 57P01-57P03 shutdown.
		return slices.Contains([]string{"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"}, state)
	}
	return busySQLite(err) || lost(err)
}

// Duplicate says whether err is the violation of a primary key or unique index.
func Duplicate(err error) bool {
	if number, ok := mysqlNumber(err); ok {
		return number == 1062
	}
	if state, ok := sqlState(err); ok {
		return state == "23505"
	}
	// 1555 is SQLITE_CONSTRAINT_PRIMARYKEY, 2067 SQLITE_CONSTRAINT_UNIQUE.
	code, ok := sqliteCode(err)
	return ok && (code == 1555 || code == 2067)
}

// Poisoned says whether err only follows from a statement that had failed in
// the same transaction before, so that it says nothing of who made it:
// PostgreSQL's 25P02, in_failed_sql_transaction.
func Poisoned(err error) bool {
	state, ok := sqlState(err)
	return ok && state == "25P02"
}

// answered says whether the server itself sent err, so that what it says of a
// COMMIT is certain.
func answered(err error) bool {
	if _, ok := mysqlNumber(err); ok {
		return true
	}
	if _, ok := sqlState(err); ok {
		return true
	}
	if _, ok := sqliteCode(err); ok {
		return true
	}
	// The last is pgx's, for a transaction in which a statement had failed and
	// nobody had noticed; it carries no code.
	return errors.Is(err, sql.ErrTxDone) || strings.Contains(err.Error(), "commit unexpectedly resulted in rollback")
}

func mysqlNumber(err error) (uint16, bool) {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number, true
	}
	return 0, false
}

// sqlState reads the code of a PostgreSQL error without importing its driver.
func sqlState(err error) (string, bool) {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState(), true
	}
	return "", false
}

// sqliteCode reads the extended result code of a SQLite error without importing
// its driver.
func sqliteCode(err error) (int, bool) {
	var e interface{ Code() int }
	if errors.As(err, &e) {
		return e.Code(), true
	}
	return 0, false
}

func busySQLite(err error) bool {
	if code, ok := sqliteCode(err); ok {
		// The low byte of an extended code is the primary one: 5 is
		// SQLITE_BUSY, 6 SQLITE_LOCKED.
		return code&0xff == 5 || code&0xff == 6
	}
	return strings.Contains(err.Error(), "database is locked")
}

// lost says whether the connection went away.
func lost(err error) bool {
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.As(err, &network) && !network.Timeout() || strings.Contains(err.Error(), "conn closed")
}
