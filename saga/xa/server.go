package xa

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// phases returns the statements of the local transaction of an xid. PostgreSQL would wait for
// the barrier row of a prepared transaction with the same xid, and so it looks for one first.
// It refuses with the code of its own refusal. After a failed statement it answers PREPARE
// TRANSACTION with success and rolls back, and so another statement comes first, which it
// refuses then.
func phases(d dialect.Dialect, id string, mark uint32) local.TwoPhase {
	name := literal(d, id, mark)
	if d == dialect.MySQL {
		return local.TwoPhase{Begin: "XA START " + name, End: "XA END " + name, Prepare: "XA PREPARE " + name,
			Rollback: []string{"XA END " + name, "XA ROLLBACK " + name}}
	}
	look := "DO $tccsaga$ BEGIN IF EXISTS (SELECT FROM pg_prepared_xacts WHERE gid = " + name + ") THEN " +
		"RAISE EXCEPTION 'the transaction is prepared' USING ERRCODE = '42710'; END IF; END $tccsaga$"
	return local.TwoPhase{Begin: "BEGIN ISOLATION LEVEL READ COMMITTED; " + look, NotBegun: "ROLLBACK", End: "SELECT 1", Prepare: "PREPARE TRANSACTION " + name,
		Rollback: []string{"ROLLBACK"}}
}

// ending is how a prepared transaction ends.
type ending string

const (
	commit   ending = "COMMIT"
	rollback ending = "ROLLBACK"
)

// statement returns the statement that ends a prepared transaction.
func (e ending) statement(d dialect.Dialect, id string, format uint32) string {
	if d == dialect.MySQL {
		return "XA " + string(e) + " " + literal(d, id, format)
	}
	return string(e) + " PREPARED " + literal(d, id, format)
}

// unknownXID reports whether the server knows no prepared transaction of the xid, or knows it
// only for another connection: MySQL's XAER_NOTA, and PostgreSQL's undefined_object.
func unknownXID(err error) bool { return answered(err, 1397, "42704") }

// duplicateXID reports whether the xid is in use: MySQL's XAER_DUPID, and PostgreSQL's
// duplicate_object.
func duplicateXID(err error) bool { return answered(err, 1440, "42710") }

func answered(err error, number uint16, state string) bool {
	var byMySQL *mysql.MySQLError
	if errors.As(err, &byMySQL) {
		return byMySQL.Number == number
	}
	var byPostgres interface{ SQLState() string }
	return errors.As(err, &byPostgres) && byPostgres.SQLState() == state
}

// recovered lists the prepared transactions of this package: of the whole server on MySQL and
// MariaDB, and of the database on PostgreSQL.
func recovered(ctx context.Context, db *gorm.DB) (found []Prepared, err error) {
	direct, err := local.Direct(db)
	if err != nil {
		return nil, err
	}
	query, d := "XA RECOVER", dialect.Dialect(db.Dialector.Name())
	if d == dialect.Postgres {
		query = "SELECT gid, prepared FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE '" + prefix + "%' ORDER BY prepared"
	}
	rows, err := direct.Statement.ConnPool.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var at time.Time
		var format uint32
		if d == dialect.Postgres {
			err = rows.Scan(&id, &at)
		} else {
			var global, branch int
			err = rows.Scan(&format, &global, &branch, &id)
		}
		if err != nil {
			return nil, err
		}
		if p, ours := parse(id); ours {
			p.At, p.format = at, format
			found = append(found, p)
		}
	}
	return found, rows.Err()
}

// check returns an error if the server cannot prepare transactions that survive. It also
// returns whether only the connection that has prepared a transaction can end it.
func check(ctx context.Context, db *gorm.DB) (attached bool, err error) {
	d, err := dialect.Of(db)
	if err != nil {
		return false, refuse("%w", err)
	}
	switch d {
	case dialect.MySQL:
		attached, err = checkMySQL(ctx, db)
	case dialect.Postgres:
		err = checkPostgres(ctx, db)
	default:
		return false, refuse("SQLite cannot prepare a transaction: use package tcc there")
	}
	if err != nil {
		return false, err
	}
	if _, err := recovered(ctx, db); err != nil {
		return false, refuse("list the prepared transactions (MySQL needs the privilege XA_RECOVER_ADMIN): %w", err)
	}
	return attached, nil
}

func refuse(format string, arguments ...any) error {
	return fmt.Errorf(format+": %w", append(arguments, saga.ErrInvalid)...)
}

func checkPostgres(ctx context.Context, db *gorm.DB) error {
	most, err := setting(ctx, db, "SHOW max_prepared_transactions")
	if err != nil {
		return fmt.Errorf("read max_prepared_transactions: %w", err)
	}
	if most == "0" {
		return refuse("PostgreSQL has max_prepared_transactions = 0: set it to at least max_connections in its configuration, and restart it")
	}
	return nil
}

var version = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)`)

// The oldest versions with XA that survives: before, MariaDB rolled a prepared transaction
// back when its connection ended, and MySQL's log of prepared transactions was not crash-safe.
var (
	oldestMariaDB = [3]int{10, 5, 2}
	oldestMySQL   = [3]int{8, 0, 0}
)

func checkMySQL(ctx context.Context, db *gorm.DB) (attached bool, err error) {
	text, err := setting(ctx, db, "SELECT VERSION()")
	if err != nil {
		return false, fmt.Errorf("read the version: %w", err)
	}
	if err = checkVersion(text); err != nil {
		return false, err
	}
	cluster, err := setting(ctx, db, "SHOW VARIABLES LIKE 'wsrep_on'")
	if err != nil {
		return false, fmt.Errorf("read wsrep_on: %w", err)
	}
	if cluster == "ON" || cluster == "1" {
		return false, refuse("the server is a node of a Galera cluster (wsrep_on), which does not replicate XA transactions: use package tcc there")
	}
	detach, err := setting(ctx, db, "SHOW VARIABLES LIKE 'xa_detach_on_prepare'")
	if err != nil {
		return false, fmt.Errorf("read xa_detach_on_prepare: %w", err)
	}
	return detach != "ON", nil
}

// checkVersion refuses versions before the oldest.
func checkVersion(text string) error {
	parts := version.FindStringSubmatch(text)
	if parts == nil {
		return refuse("the server's version %q is not known", text)
	}
	var have [3]int
	for i := range have {
		have[i], _ = strconv.Atoi(parts[i+1])
	}
	name, oldest := "MySQL", oldestMySQL
	if strings.Contains(strings.ToLower(text), "mariadb") {
		name, oldest = "MariaDB", oldestMariaDB
	}
	for i := range have {
		if have[i] > oldest[i] {
			break
		}
		if have[i] < oldest[i] {
			return refuse("%s %s is too old, at least %d.%d.%d is needed: in older versions a prepared transaction may be lost", name, parts[0], oldest[0], oldest[1], oldest[2])
		}
	}
	return nil
}

// setting reads the last column of the first row of a query; empty if there is no row.
func setting(ctx context.Context, db *gorm.DB, query string) (value string, err error) {
	direct, err := local.Direct(db)
	if err != nil {
		return "", err
	}
	rows, err := direct.Statement.ConnPool.QueryContext(ctx, query)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return "", errors.Join(err, rows.Err())
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(sql.NullString)
	}
	err = rows.Scan(values...)
	return values[len(values)-1].(*sql.NullString).String, errors.Join(err, rows.Close())
}
