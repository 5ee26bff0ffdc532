package render

import (
	"fmt"
	"time"
)

// Times formats times for people. Now is by the database's clock.
type Times struct {
	Now   time.Time
	Local bool // in the local time zone, and not in UTC
}

func (t Times) in(at time.Time) time.Time {
	if t.Local {
		return at.Local()
	}
	return at.UTC()
}

// At returns a time with its date, and how far it is from now.
func (t Times) At(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return t.Stamp(at) + " (" + t.Distance(at) + ")"
}

// Stamp returns a time with its date and zone.
func (t Times) Stamp(at time.Time) string {
	if t.Local {
		return t.in(at).Format("2006-01-02 15:04:05 MST")
	}
	return t.in(at).Format("2006-01-02 15:04:05Z")
}

// Short returns a time of today without its date.
func (t Times) Short(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	a, now := t.in(at), t.in(t.Now)
	if a.YearDay() == now.YearDay() && a.Year() == now.Year() {
		return a.Format("15:04:05") + map[bool]string{false: "Z"}[t.Local]
	}
	return t.Stamp(at)
}

// Distance returns how far a time is from now, such as "5m ago" or "in 12s".
func (t Times) Distance(at time.Time) string {
	switch d := t.Now.Sub(at); {
	case at.IsZero():
		return "-"
	case d >= time.Second:
		return Duration(d) + " ago"
	case d <= -time.Second:
		return "in " + Duration(-d)
	default:
		return "now"
	}
}

// Age returns how old a time is.
func (t Times) Age(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return Duration(max(0, t.Now.Sub(at)))
}

// Duration returns a duration in its two largest units.
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < day:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", d/day, int(d.Hours())%24)
	}
}
