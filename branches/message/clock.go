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
