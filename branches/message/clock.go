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

// later is the database's clock in UTC, after a while.
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
