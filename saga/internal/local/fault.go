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

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// Transient reports whether a server answered with a fault that may not happen if the
// local transaction runs again: a deadlock, a lock wait that took too long, a
// serialization failure, a busy SQLite file, a shutdown, or a server that became
// read-only in a failover. A rejection of a branch is not a fault, whatever it wraps.
//
// A lost connection is not an answer. Only the [Tx] can find out whether it was its own.
func Transient(err error) bool {
	if err == nil || rejected(err) {
		return false
	}
	if number, ok := mysqlNumber(err); ok {
		// 1213 deadlock, 1205 lock wait timeout, 1206 too many locks, 1020
		// record changed under a snapshot (MariaDB), 1053 shutdown, 1927
		// connection killed (MariaDB), 1040 too many connections, 3101 rolled
		// back by group replication.
		return slices.Contains([]uint16{1213, 1205, 1206, 1020, 1053, 1927, 1040, 3101}, number) || readOnly(err)
	}
	if state, ok := sqlState(err); ok {
		// 40001 serialization failure, 40P01 deadlock, 55P03 lock not
		// available, 53300 too many connections, 57P01-57P03 shutdown.
		return slices.Contains([]string{"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"}, state) || readOnly(err)
	}
	return busySQLite(err)
}

// rejected reports whether err is a rejection of a branch.
func rejected(err error) bool {
	var no interface{ Rejected() bool }
	return errors.As(err, &no)
}

// readOnly reports whether the server refuses writes, as an old primary does after a
// failover. The connection must not be used again.
func readOnly(err error) bool {
	if number, ok := mysqlNumber(err); ok {
		// 1290 --read-only, 1792 read-only transaction, 1836 read-only mode.
		return number == 1290 || number == 1792 || number == 1836
	}
	state, ok := sqlState(err)
	return ok && state == "25006"
}

// unavailable reports whether a server cannot serve now: it shuts down, has no connection
// left, or has become read-only.
func unavailable(err error) bool {
	if number, ok := mysqlNumber(err); ok {
		return number == 1053 || number == 1927 || number == 1040 || readOnly(err)
	}
	state, ok := sqlState(err)
	return ok && (state == "53300" || strings.HasPrefix(state, "57P") || readOnly(err))
}

// Unseen reports whether err is the conflict of a write with a row that the snapshot of its
// local transaction does not show.
func Unseen(err error) bool {
	state, ok := sqlState(err)
	return ok && state == "40001"
}

// Duplicate reports whether err is the violation of a primary key or unique index.
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

// Aborted reports whether err only follows from an earlier failure in the same local
// transaction: PostgreSQL's 25P02, in_failed_sql_transaction, or the error of a [Tx] that
// is over. Such an error is not the fault of the statement that got it.
func Aborted(err error) bool {
	state, ok := sqlState(err)
	return ok && state == "25P02" || errors.Is(err, ErrAborted)
}

// rolledBack reports whether the server has rolled back the whole local transaction
// because of err. MySQL's and MariaDB's manuals, InnoDB error handling: 1213 deadlock,
// 1206 lock table full; MariaDB also for 1020, a record changed under a snapshot.
// SQLite's C interface, sqlite3_get_autocommit: any error may roll back, so the Tx asks.
// PostgreSQL refuses later statements by itself.
func rolledBack(d dialect.Dialect, err error) bool {
	number, ok := mysqlNumber(err)
	return ok && d == dialect.MySQL && slices.Contains([]uint16{1213, 1206, 1020, 1180, 3101}, number)
}

// mayHaveRolledBack reports whether the server may have rolled back, and has to be asked:
// with innodb_rollback_on_timeout, MySQL rolls back after 1205.
func mayHaveRolledBack(d dialect.Dialect, err error) bool {
	number, ok := mysqlNumber(err)
	return d == dialect.SQLite || ok && number == 1205
}

// commitAnswer is the meaning of an error of COMMIT.
type commitAnswer int

const (
	commitUnknown   commitAnswer = iota // it may have happened
	commitRefused                       // it has not happened, for a permanent reason
	commitTransient                     // it has not happened, and another run may succeed
)

// commitFailed returns the meaning of an error of COMMIT. Only an answer of the server is
// certain. Even an answer is not certain if the server was shutting down, or reports that
// the result is unknown: PostgreSQL's 40003 and 08007, and its class 57P; MySQL's 1053,
// 1180, 1317 and 1927.
func commitFailed(err error) commitAnswer {
	if number, ok := mysqlNumber(err); ok {
		switch {
		case slices.Contains([]uint16{1053, 1180, 1317, 1927}, number):
			return commitUnknown
		case Transient(err):
			return commitTransient
		}
		return commitRefused
	}
	if state, ok := sqlState(err); ok {
		switch {
		case state == "40003" || strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57P"):
			return commitUnknown
		case Transient(err):
			return commitTransient
		}
		return commitRefused
	}
	if _, ok := sqliteCode(err); ok {
		if Transient(err) {
			return commitTransient
		}
		return commitRefused
	}
	// The text is from pgx, which has no code for it: a statement had failed, and its
	// error was ignored.
	if errors.Is(err, sql.ErrTxDone) || strings.Contains(err.Error(), "commit unexpectedly resulted in rollback") {
		return commitRefused
	}
	return commitUnknown
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

// looksLost reports whether err is from a lost connection: that of the database, or
// another one of user code.
func looksLost(err error) bool {
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.As(err, &network) && !network.Timeout() || strings.Contains(err.Error(), "conn closed")
}
