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

// guest is a Tx in the hands of user code, whose statements are not known. It
// refuses those that would end the local transaction. After those that may have
// ended it without an error that is seen here, the server is asked before the next
// statement is sent.
type guest struct{ *Tx }

// Guest returns the handle that user code gets to work in the local transaction
// tx of [Run]: a session of db, which is the user's own, with its naming, hooks,
// plugins and settings. If tx is not of Run, it is returned as it is.
func Guest(ctx context.Context, db, tx *gorm.DB) *gorm.DB {
	own, ok := tx.Statement.ConnPool.(*Tx)
	if !ok {
		return tx.WithContext(ctx)
	}
	session := db.Session(&gorm.Session{Context: ctx, SkipDefaultTransaction: true})
	session.Statement.ConnPool = &guest{own}
	return session
}

func (g *guest) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	if err := check(query); err != nil {
		return nil, err
	}
	result, err := g.Tx.ExecContext(ctx, query, arguments...)
	if !plainWrite(query) {
		g.doubt(false)
	}
	return result, err
}

func (g *guest) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	if err := check(query); err != nil {
		return nil, err
	}
	rows, err := g.Tx.QueryContext(ctx, query, arguments...)
	if !plainRead(query) {
		g.doubt(true)
	}
	return rows, err
}

func (g *guest) QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row {
	if err := check(query); err != nil {
		return g.failedRow(ctx, query, err)
	}
	row := g.Tx.QueryRowContext(ctx, query, arguments...)
	if !plainRead(query) {
		g.doubt(true)
	}
	return row
}

func (g *guest) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := check(query); err != nil {
		return nil, err
	}
	return g.Tx.PrepareContext(ctx, query)
}

// plainWrite says whether query is one statement whose answer tells how all of it
// went.
func plainWrite(query string) bool {
	switch firstWord(query) {
	case "insert", "update", "delete", "replace", "savepoint", "release", "rollback":
		return single(query)
	}
	return false
}

// plainRead says whether query is one read that locks nothing, and so cannot
// deadlock. The error of another query may come with its rows, where it is not
// seen here.
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

// single says whether query has no second statement. A semicolon in a text counts
// as one, which costs no more than a question to the server.
func single(query string) bool {
	_, rest, more := strings.Cut(query, ";")
	return !more || strings.TrimSpace(rest) == ""
}

// ending matches a statement that ends a local transaction, or begins one.
var ending = regexp.MustCompile(`(?is)^((commit|rollback|abort|end)(\s+(work|transaction))?(\s+and\s.*|\s+(no\s+)?release)?` +
	`|begin(\s.*)?|start\s+transaction.*|(prepare|commit|rollback)\s+(transaction|prepared)\s.*|xa\s.*` +
	`|set\s+(session\s+|local\s+|@@session\.|@@local\.|@@)?autocommit\b.*)\s*$`)

// check refuses a statement that would end the local transaction.
func check(query string) error {
	for statement := range strings.SplitSeq(query, ";") {
		switch firstWord(statement) {
		case "commit", "rollback", "abort", "end", "begin", "start", "prepare", "xa", "set":
			if text := statement[len(comment.FindString(statement)):]; ending.MatchString(text) {
				return fmt.Errorf("the statement %.40q is refused: %w", text, errReserved)
			}
		}
	}
	return nil
}

// InTransaction reports whether db is a handle in a local transaction, which is
// not where a framework that commits can live.
func InTransaction(db *gorm.DB) bool {
	_, in := db.Statement.ConnPool.(gorm.TxCommitter)
	return in
}

// raw returns a session of db that talks to its pool directly: not through gorm's
// prepared statements, which can wait for a connection that whoever holds one
// waits for them to prepare, nor through a resolver that splits reads from
// writes, nor with the user's callbacks and error translation.
func raw(ctx context.Context, db *gorm.DB, pool gorm.ConnPool) *gorm.DB {
	session := db.Session(&gorm.Session{NewDB: true, Context: ctx, SkipHooks: true, SkipDefaultTransaction: true})
	session.Statement.ConnPool = pool
	return session
}

// Pool returns the connection pool of db, below gorm's prepared statements.
func Pool(db *gorm.DB) (*sql.DB, error) {
	pool, err := db.DB()
	if err != nil {
		return nil, fmt.Errorf("the pool of the database: %w", err)
	}
	return pool, nil
}

// Direct returns a session of db whose statements go to its pool directly; see
// raw.
func Direct(db *gorm.DB) (*gorm.DB, error) {
	pool, err := Pool(db)
	if err != nil {
		return nil, err
	}
	return raw(context.Background(), db, pool), nil
}

func dialectOf(db *gorm.DB) dialect.Dialect { return dialect.Dialect(db.Dialector.Name()) }

// IsFrameworks reports whether db is the handle that [Run] gives away, and not
// one of user code.
func IsFrameworks(db *gorm.DB) bool {
	_, own := db.Statement.ConnPool.(*Tx)
	return own
}

// TxOf returns the Tx behind the handle that [Run] gives away, so that somebody
// else can abort it.
func TxOf(tx *gorm.DB) *Tx { return tx.Statement.ConnPool.(*Tx) }
