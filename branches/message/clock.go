package message

import (
	"fmt"
	"time"

	"gorm.io/gorm"
)

// now is the SQL expression for the database's clock in UTC.
func now(db *gorm.DB) string {
	switch db.Dialector.Name() {
	case "mysql":
		return "UTC_TIMESTAMP(6)"
	case "postgres":
		return "clock_timestamp()"
	default:
		return "strftime('%Y-%m-%d %H:%M:%f', 'now')"
	}
}

// ago is the SQL expression for a time before now.
func ago(db *gorm.DB, while time.Duration) string {
	switch micros := while.Microseconds(); db.Dialector.Name() {
	case "mysql":
		return fmt.Sprintf("UTC_TIMESTAMP(6) - INTERVAL %d MICROSECOND", micros)
	case "postgres":
		return fmt.Sprintf("clock_timestamp() - CAST(%d AS BIGINT) * INTERVAL '1 microsecond'", micros)
	default:
		return fmt.Sprintf("strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-%.3f seconds')", while.Seconds())
	}
}

// laterBy is the SQL expression for a time after now. micros is the expression for a
// number of microseconds.
func laterBy(db *gorm.DB, micros string) string {
	switch db.Dialector.Name() {
	case "mysql":
		return "UTC_TIMESTAMP(6) + INTERVAL " + micros + " MICROSECOND"
	case "postgres":
		return "clock_timestamp() + " + micros + " * INTERVAL '1 microsecond'"
	default:
		return "strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%.6f seconds', " + micros + " / 1000000.0))"
	}
}

// later is the SQL expression for a time after now.
func later(db *gorm.DB, while time.Duration) string {
	switch micros := while.Microseconds(); db.Dialector.Name() {
	case "mysql":
		return fmt.Sprintf("UTC_TIMESTAMP(6) + INTERVAL %d MICROSECOND", micros)
	case "postgres":
		return fmt.Sprintf("clock_timestamp() + CAST(%d AS BIGINT) * INTERVAL '1 microsecond'", micros)
	default:
		return fmt.Sprintf("strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '+%.3f seconds')", while.Seconds())
	}
}

// micros is the SQL expression for a time column in microseconds since 1970.
func micros(db *gorm.DB, column string) string {
	switch db.Dialector.Name() {
	case "mysql":
		return "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', " + column + ")"
	case "postgres":
		return "CAST(EXTRACT(EPOCH FROM " + column + ") * 1000000 AS BIGINT)"
	default:
		return "(CAST(strftime('%s', " + column + ") AS INTEGER) * 1000000 + CAST(substr(" + column + ", 21, 3) AS INTEGER) * 1000)"
	}
}

// started is the SQL expression for the database's clock at the start of the statement. Unlike
// now, a comparison with it uses an index, also on PostgreSQL.
func started(db *gorm.DB) string {
	if db.Dialector.Name() == "postgres" {
		return "statement_timestamp()"
	}
	return now(db)
}

// at is the SQL expression for a time that is a parameter, in microseconds since 1970.
func at(db *gorm.DB) string {
	switch db.Dialector.Name() {
	case "mysql":
		return "(TIMESTAMP'1970-01-01 00:00:00' + INTERVAL ? MICROSECOND)"
	case "postgres":
		return "(TIMESTAMPTZ 'epoch' + CAST(? AS BIGINT) * INTERVAL '1 microsecond')"
	default:
		return "strftime('%Y-%m-%d %H:%M:%f', ? / 1000000.0, 'unixepoch')"
	}
}

// timeOf returns a time of the database; zero for 0.
func timeOf(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// bytesOf is the SQL expression for the number of bytes in a column.
func bytesOf(db *gorm.DB, column string) string {
	if db.Dialector.Name() == "sqlite" {
		return "LENGTH(CAST(" + column + " AS BLOB))"
	}
	return "OCTET_LENGTH(" + column + ")"
}
