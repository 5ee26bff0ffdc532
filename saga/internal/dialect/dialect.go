// Package dialect writes SQL for MySQL, PostgreSQL and SQLite from one template. It covers
// the differences in time arithmetic, locks and placeholders.
package dialect

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
)

// Dialect is a database dialect.
type Dialect string

// The dialects have the names of their gorm drivers. MySQL is for MariaDB too.
const (
	MySQL    Dialect = "mysql"
	Postgres Dialect = "postgres"
	SQLite   Dialect = "sqlite"
)

// Of returns the dialect of db. The error says if it is not supported.
func Of(db *gorm.DB) (Dialect, error) {
	if db == nil || db.Config == nil || db.Dialector == nil {
		return "", errors.New("the database is nil: open it with gorm.Open first")
	}
	switch d := Dialect(db.Dialector.Name()); d {
	case MySQL, Postgres, SQLite:
		return d, nil
	default:
		return "", fmt.Errorf("the database dialect %q is not supported: use mysql, postgres or sqlite", d)
	}
}

var (
	placeholder = regexp.MustCompile(`\?`)
	micros      = regexp.MustCompile(`\{micros ([\w.]+)\}`)
)

// SQL completes a template:
//
//	{now}         the database's clock
//	{start}       the same at the start of the statement, for comparisons that use an index
//	{after ?}     the database's clock plus a parameter in microseconds
//	{at ?}        a parameter in microseconds since 1970 as a time
//	{micros col}  a time column as microseconds since 1970
//	{micros now}  the database's clock likewise
//	{lock}        the clause that locks the rows of a SELECT
//	?             a parameter
//
// All times are by the database's clock, so the clocks of the processes do not matter.
func (d Dialect) SQL(template string) string {
	text := strings.NewReplacer("{now}", d.now(), "{start}", d.start(), "{after ?}", d.after(), "{at ?}", d.at(), "{lock}", d.lock()).Replace(template)
	text = strings.ReplaceAll(text, "{micros now}", strings.ReplaceAll(d.micros(), "$1", d.now()))
	text = micros.ReplaceAllString(text, d.micros())
	if d == Postgres {
		n := 0
		text = placeholder.ReplaceAllStringFunc(text, func(string) string { n++; return "$" + strconv.Itoa(n) })
	}
	return text
}

func (d Dialect) now() string {
	switch d {
	case MySQL:
		return "UTC_TIMESTAMP(6)"
	case Postgres:
		return "clock_timestamp()"
	default:
		return "strftime('%Y-%m-%d %H:%M:%f', 'now')"
	}
}

// start is a separate expression for PostgreSQL, which calls clock_timestamp for each row
// and so cannot use an index.
func (d Dialect) start() string {
	if d == Postgres {
		return "statement_timestamp()"
	}
	return d.now()
}

func (d Dialect) after() string {
	switch d {
	case MySQL:
		return "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND"
	case Postgres:
		return "clock_timestamp() + CAST(? AS BIGINT) * INTERVAL '1 microsecond'"
	default:
		return "strftime('%Y-%m-%d %H:%M:%f', 'now', (? / 1000000.0) || ' seconds')"
	}
}

func (d Dialect) at() string {
	switch d {
	case MySQL:
		return "TIMESTAMP'1970-01-01 00:00:00' + INTERVAL ? MICROSECOND"
	case Postgres:
		return "TIMESTAMPTZ 'epoch' + CAST(? AS BIGINT) * INTERVAL '1 microsecond'"
	default:
		return "strftime('%Y-%m-%d %H:%M:%f', ? / 1000000.0, 'unixepoch')"
	}
}

func (d Dialect) micros() string {
	switch d {
	case MySQL:
		return "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', $1)"
	case Postgres:
		return "CAST(EXTRACT(EPOCH FROM $1) * 1000000 AS BIGINT)"
	default:
		return "(CAST(strftime('%s', $1) AS INTEGER) * 1000000 + CAST(substr($1, 21, 3) AS INTEGER) * 1000)"
	}
}

// lock is empty on SQLite: a writing transaction has locked everything.
func (d Dialect) lock() string {
	if d == SQLite {
		return ""
	}
	return "FOR UPDATE"
}

// Each builds a value for each dialect. Call it once, at start-up.
func Each[T any](build func(Dialect) T) map[Dialect]T {
	all := make(map[Dialect]T)
	for _, d := range []Dialect{MySQL, Postgres, SQLite} {
		all[d] = build(d)
	}
	return all
}

// Remembered returns a function that builds the text of a statement once for each size. The
// size is the number of placeholders or rows. It keeps at most a thousand texts.
func Remembered[Size comparable](build func(Size) string) func(Size) string {
	const most = 1000
	var texts sync.Map
	var count atomic.Int32
	return func(size Size) string {
		if text, known := texts.Load(size); known {
			return text.(string)
		}
		text := build(size)
		if count.Add(1) <= most {
			texts.Store(size, text)
		}
		return text
	}
}

// Time converts the result of {micros}; 0 is NULL.
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
