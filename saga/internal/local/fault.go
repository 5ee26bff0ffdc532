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

// Transient says whether a server answered with a fault that passes when the
// local transaction is run again: a deadlock, a lock wait that took too long, a
// serialization failure, a busy SQLite file, a shutdown, or a server that became
// read-only in a failover. A rejection of a branch is no fault, whatever it wraps.
//
// A lost connection is no answer. Only the [Tx] can say whether it was its own.
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

// rejected says whether a branch said no for a reason of business.
func rejected(err error) bool {
	var no interface{ Rejected() bool }
	return errors.As(err, &no)
}

// readOnly says whether the server refuses writes, as an old primary does after
// a failover. The connection is of no use any more.
func readOnly(err error) bool {
	if number, ok := mysqlNumber(err); ok {
		// 1290 --read-only, 1792 read-only transaction, 1836 read-only mode.
		return number == 1290 || number == 1792 || number == 1836
	}
	state, ok := sqlState(err)
	return ok && state == "25006"
}

// unavailable says whether a server answered that it serves nobody now: it shuts
// down, has no connection left, or has become read-only.
func unavailable(err error) bool {
	if number, ok := mysqlNumber(err); ok {
		return number == 1053 || number == 1927 || number == 1040 || readOnly(err)
	}
	state, ok := sqlState(err)
	return ok && (state == "53300" || strings.HasPrefix(state, "57P") || readOnly(err))
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

// Aborted says whether err only follows from a statement that had failed in the
// same local transaction before, so that it says nothing of the call that got it:
// PostgreSQL's 25P02, in_failed_sql_transaction, or a [Tx] that sends no more.
func Aborted(err error) bool {
	state, ok := sqlState(err)
	return ok && state == "25P02" || errors.Is(err, ErrAborted)
}

// rolledBack says whether the server has rolled back the whole local transaction
// with err. MySQL's and MariaDB's manuals, InnoDB error handling: 1213 deadlock,
// 1206 lock table full; MariaDB also for 1020, a record changed under a snapshot.
// SQLite's C interface, sqlite3_get_autocommit: it may have for any error, and
// has to be asked. PostgreSQL lets nothing further run by itself.
func rolledBack(d dialect.Dialect, err error) bool {
	number, ok := mysqlNumber(err)
	return ok && d == dialect.MySQL && slices.Contains([]uint16{1213, 1206, 1020, 1180, 3101}, number)
}

// mayHaveRolledBack says whether the server has to be asked whether it has rolled
// back: with innodb_rollback_on_timeout, MySQL does so after 1205.
func mayHaveRolledBack(d dialect.Dialect, err error) bool {
	number, ok := mysqlNumber(err)
	return d == dialect.SQLite || ok && number == 1205
}

// commitAnswer is what an error of COMMIT says.
type commitAnswer int

const (
	commitUnknown   commitAnswer = iota // it may have happened
	commitRefused                       // it has not, and would not another time
	commitTransient                     // it has not, and may another time
)

// commitFailed tells what became of a COMMIT. Only a server's own no is certain;
// and not even that if the server was about to go away, or says that it does not
// know: PostgreSQL's 40003 and 08007, and its class 57P; MySQL's 1053, 1180, 1317
// and 1927.
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
	// The last is pgx's, for a transaction in which a statement had failed and
	// nobody had noticed; it carries no code.
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

// looksLost says whether err is of a connection that went away: the database's,
// or another one that the user's code has.
func looksLost(err error) bool {
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.As(err, &network) && !network.Timeout() || strings.Contains(err.Error(), "conn closed")
}
