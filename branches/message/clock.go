package message

import (
	"fmt"
	"time"

	"gorm.io/gorm"
)

// now is the database's clock in UTC.
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

// ago is the database's clock in UTC, a while ago.
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

// laterBy is the database's clock in UTC, a while later: micros is an expression
// for a number of microseconds.
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
