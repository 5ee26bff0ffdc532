package tcc_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// entry is the payload of a branch that works with plain SQL only.
type entry struct {
	Name  string
	Cents int64
	At    time.Time
	Bytes []byte
}

func (entry) Branch() string { return "test.entry" }

// entries keeps entries. It rejects negative ones after it has written them.
type entries struct{ dialect string }

// sql writes a query with question marks for the dialect.
func (e entries) sql(query string) string {
	if e.dialect == "postgres" {
		return sqlx.Rebind(sqlx.DOLLAR, query)
	}
	return query
}

func (e entries) Try(ctx context.Context, tx *gorm.DB, in entry) error {
	plain, err := tcc.SQLTx(tx)
	if err != nil {
		return err
	}
	prepared, err := plain.PrepareContext(ctx, e.sql("INSERT INTO entries (name, cents, at, bytes, note) VALUES (?, ?, ?, ?, ?)"))
	if err != nil {
		return err
	}
	defer prepared.Close()
	if _, err := prepared.ExecContext(ctx, in.Name, in.Cents, in.At, in.Bytes, nil); err != nil {
		return err
	}
	var back entry
	var note sql.NullString
	row := plain.QueryRowContext(ctx, e.sql("SELECT name, cents, bytes, note FROM entries WHERE name = ?"), in.Name)
	if err := row.Scan(&back.Name, &back.Cents, &back.Bytes, &note); err != nil {
		return err
	}
	if back.Name != in.Name || back.Cents != in.Cents || string(back.Bytes) != string(in.Bytes) || note.Valid {
		return fmt.Errorf("wrote %+v and read %+v, %+v", in, back, note)
	}
	if in.Cents < 0 {
		return tcc.Reject(errShort)
	}
	return nil
}

func (e entries) Confirm(ctx context.Context, tx *gorm.DB, in entry) error {
	return e.mark(ctx, tx, in, "confirmed")
}
func (e entries) Cancel(ctx context.Context, tx *gorm.DB, in entry) error {
	return e.mark(ctx, tx, in, "cancelled")
}

// mark works with sqlx.
func (e entries) mark(ctx context.Context, tx *gorm.DB, in entry, note string) error {
	x, err := sqlxTx(tx)
	if err != nil {
		return err
	}
	query, arguments, err := sqlx.Named("UPDATE entries SET note = :note WHERE name = :name", map[string]any{"name": in.Name, "note": note})
	if err != nil {
		return err
	}
	if _, err := x.ExecContext(ctx, e.sql(query), arguments...); err != nil {
		return err
	}
	var names []string
	if err := x.SelectContext(ctx, &names, e.sql("SELECT name FROM entries WHERE note = ? ORDER BY name"), note); err != nil {
		return err
	}
	if !strings.Contains(fmt.Sprint(names), in.Name) {
		return fmt.Errorf("%s is not in %v", in.Name, names)
	}
	return nil
}

var entryTables = map[string]string{
	"sqlite":   "CREATE TABLE entries (name VARCHAR(40) PRIMARY KEY, cents BIGINT, at DATETIME, bytes BLOB, note VARCHAR(20))",
	"mysql":    "CREATE TABLE entries (name VARCHAR(40) PRIMARY KEY, cents BIGINT, at DATETIME(6), bytes BLOB, note VARCHAR(20))",
	"postgres": "CREATE TABLE entries (name VARCHAR(40) PRIMARY KEY, cents BIGINT, at TIMESTAMPTZ, bytes BYTEA, note VARCHAR(20))",
}

// watching is a pool whose transactions count the statements of the branch.
type watching struct {
	*sql.DB
	statements atomic.Int64
}

func (w *watching) note(query string) {
	if strings.Contains(query, "entries") {
		w.statements.Add(1)
	}
}

func (w *watching) GetDBConn() (*sql.DB, error) { return w.DB, nil }

func (w *watching) BeginTx(ctx context.Context, options *sql.TxOptions) (gorm.ConnPool, error) {
	tx, err := w.DB.BeginTx(ctx, options)
	if err != nil {
		return nil, err
	}
	return &watched{tx, w}, nil
}

type watched struct {
	*sql.Tx
	pool *watching
}

func (w *watched) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	w.pool.note(query)
	return w.Tx.ExecContext(ctx, query, arguments...)
}

func (w *watched) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	w.pool.note(query)
	return w.Tx.QueryContext(ctx, query, arguments...)
}
