package render_test

import (
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga/ctl/internal/render"
)

func TestTimes(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	at := render.Times{Now: now}
	for _, c := range []struct {
		at    time.Time
		which func(time.Time) string
		want  string
	}{
		{now.Add(-90 * time.Second), at.Distance, "1m30s ago"},
		{now.Add(12 * time.Second), at.Distance, "in 12s"},
		{now.Add(-300 * time.Millisecond), at.Distance, "now"},
		{time.Time{}, at.Distance, "-"},
		{now.Add(-26 * time.Hour), at.At, "2026-02-28 08:00:00Z (1d02h ago)"},
		{time.Time{}, at.At, "-"},
		{now.Add(-time.Hour), at.Short, "09:00:00Z"},
		{now.Add(-26 * time.Hour), at.Short, "2026-02-28 08:00:00Z"},
		{now.AddDate(-1, 0, 0), at.Short, "2025-03-01 10:00:00Z"},
		{now.Add(-2500 * time.Millisecond), at.Age, "2.5s"},
		{now.Add(time.Second), at.Age, "0µs"}, // another clock
	} {
		if got := c.which(c.at); got != c.want {
			t.Errorf("%s: got %q, want %q", c.at, got, c.want)
		}
	}
	for d, want := range map[time.Duration]string{90 * time.Minute: "1h30m", 49 * time.Hour: "2d01h", 12 * time.Millisecond: "12ms", 59 * time.Second: "59s"} {
		if got := render.Duration(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}
