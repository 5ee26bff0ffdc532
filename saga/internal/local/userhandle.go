package local

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// userTx is a Tx for user code, which may send any statement. It refuses statements that
// would end the local transaction. A statement may also end it without an error that the
// Tx sees; after such a statement, the Tx asks the server before the next one.
type userTx struct{ *Tx }

// UserHandle returns the handle of user code on the local transaction tx of [Run]: a
// session of db, which is the user's own, with its naming, hooks, plugins and settings.
// If tx is not from Run, it is returned as it is.
func UserHandle(ctx context.Context, db, tx *gorm.DB) *gorm.DB {
	own, ok := tx.Statement.ConnPool.(*Tx)
	if !ok {
		return tx.WithContext(ctx)
	}
	session := db.Session(&gorm.Session{Context: ctx, SkipDefaultTransaction: true})
	session.Statement.ConnPool = &userTx{own}
	return session
}

func (t *userTx) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	if err := checkEnding(query); err != nil {
		return nil, err
	}
	result, err := t.Tx.ExecContext(ctx, query, arguments...)
	if !plainWrite(query) {
		t.askBeforeNext(false)
	}
	return result, err
}

func (t *userTx) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	if err := checkEnding(query); err != nil {
		return nil, err
	}
	rows, err := t.Tx.QueryContext(ctx, query, arguments...)
	if !plainRead(query) {
		t.askBeforeNext(true)
	}
	return rows, err
}

func (t *userTx) QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row {
	if err := checkEnding(query); err != nil {
		return t.failedRow(ctx, query, err)
	}
	row := t.Tx.QueryRowContext(ctx, query, arguments...)
	if !plainRead(query) {
		t.askBeforeNext(true)
	}
	return row
}

func (t *userTx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := checkEnding(query); err != nil {
		return nil, err
	}
	return t.Tx.PrepareContext(ctx, query)
}

// plainWrite reports whether query is a single statement with a complete answer.
func plainWrite(query string) bool {
	switch firstWord(query) {
	case "insert", "update", "delete", "replace", "savepoint", "release", "rollback":
		return single(query)
	}
	return false
}

// plainRead reports whether query is a single read without locks, which cannot deadlock.
// The error of another query may come with its rows, where the Tx does not see it.
func plainRead(query string) bool {
	return firstWord(query) == "select" && single(query) && !locking.MatchString(query)
}

var locking = regexp.MustCompile(`(?i)\b(for\s+update|for\s+share|for\s+no\s+key|for\s+key|lock\s+in\s+share|into)\b`)

// firstWord returns the first word of a statement, after comments, in lower case.
func firstWord(query string) string {
	query = query[len(comment.FindString(query)):]
	end := strings.IndexFunc(query, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
	if end < 0 {
		end = len(query)
	}
	return strings.ToLower(query[:end])
}

var comment = regexp.MustCompile(`^(\s+|--[^\n]*\n|#[^\n]*\n|/\*[^!+](?s:.*?)\*/)*`)

// single reports whether query has no second statement. A semicolon in a string counts as
// the start of one, which costs only a question to the server.
func single(query string) bool {
	_, rest, more := strings.Cut(query, ";")
	return !more || strings.TrimSpace(rest) == ""
}

// ending matches a statement that ends a local transaction, or begins one.
var ending = regexp.MustCompile(`(?is)^((commit|rollback|abort|end)(\s+(work|transaction))?(\s+and\s.*|\s+(no\s+)?release)?` +
	`|begin(\s.*)?|start\s+transaction.*|(prepare|commit|rollback)\s+(transaction|prepared)\s.*|xa\s.*` +
	`|set\s+(session\s+|local\s+|@@session\.|@@local\.|@@)?autocommit\b.*)\s*$`)

// checkEnding refuses a statement that would end the local transaction.
func checkEnding(query string) error {
	for statement := range strings.SplitSeq(query, ";") {
		switch firstWord(statement) {
		case "commit", "rollback", "abort", "end", "begin", "start", "prepare", "xa", "set":
			if text := statement[len(comment.FindString(statement)):]; ending.MatchString(text) {
				return fmt.Errorf("the statement %.40q is refused: %w", text, errOwned)
			}
		}
	}
	return nil
}

// InTransaction reports whether db is a handle in a local transaction. An engine cannot
// commit with such a handle.
func InTransaction(db *gorm.DB) bool {
	_, in := db.Statement.ConnPool.(gorm.TxCommitter)
	return in
}

// raw returns a session of db that sends its statements to pool directly, without the
// user's callbacks and error translation. It does not use a resolver that splits reads
// from writes. It does not use gorm's prepared statements, which can deadlock: preparing
// needs a connection, and the holder of the last connection waits for the preparing.
func raw(ctx context.Context, db *gorm.DB, pool gorm.ConnPool) *gorm.DB {
	session := db.Session(&gorm.Session{NewDB: true, Context: ctx, SkipHooks: true, SkipDefaultTransaction: true})
	session.Statement.ConnPool = pool
	return session
}

// Pool returns the connection pool of db, below gorm's prepared statements.
func Pool(db *gorm.DB) (*sql.DB, error) {
	pool, err := db.DB()
	if err != nil {
		return nil, fmt.Errorf("get the connection pool of the database: %w", err)
	}
	return pool, nil
}

// Direct returns a session of db that sends its statements to its pool directly; see raw.
func Direct(db *gorm.DB) (*gorm.DB, error) {
	pool, err := Pool(db)
	if err != nil {
		return nil, err
	}
	return raw(context.Background(), db, pool), nil
}

func dialectOf(db *gorm.DB) dialect.Dialect { return dialect.Dialect(db.Dialector.Name()) }

// IsFrameworks reports whether db is the handle that [Run] passes to work, and not a
// handle of user code.
func IsFrameworks(db *gorm.DB) bool {
	_, own := db.Statement.ConnPool.(*Tx)
	return own
}

// TxOf returns the Tx of the handle that [Run] passes to work, so that another goroutine
// can abort it.
func TxOf(tx *gorm.DB) *Tx { return tx.Statement.ConnPool.(*Tx) }
