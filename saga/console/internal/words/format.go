package words

import (
	"strconv"
	"time"
)

// Number writes a number with separators of thousands.
func (p *Printer) Number(n int) string {
	digits := strconv.Itoa(n)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// AtLeast writes a number that was counted up to a bound: with a plus if there may be more.
func (p *Printer) AtLeast(n int, more bool) string {
	if more {
		return p.T("number.more", p.Number(n))
	}
	return p.Number(n)
}

// Percent writes a share from 0 to 1.
func (p *Printer) Percent(share float64) string {
	switch {
	case share == 0:
		return "0 %"
	case share < 0.001:
		return "<0.1 %"
	case share < 0.1:
		return strconv.FormatFloat(share*100, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(share*100, 'f', 0, 64) + " %"
}

// Rate writes a number per second.
func (p *Printer) Rate(perSecond float64) string {
	places := 0
	switch {
	case perSecond == 0 || perSecond >= 100:
	case perSecond >= 10:
		places = 1
	default:
		places = 2
	}
	return p.T("number.rate", strconv.FormatFloat(perSecond, 'f', places, 64))
}

// Duration writes a duration with its two largest units, or with three digits below a second.
// A negative one is written as less than a millisecond.
func (p *Printer) Duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return p.T("duration.ms", "<1")
	case d < time.Second:
		return p.T("duration.ms", strconv.FormatInt(d.Milliseconds(), 10))
	case d < 10*time.Second:
		return p.T("duration.s", strconv.FormatFloat(d.Seconds(), 'f', 1, 64))
	}
	return p.units(d, time.Second)
}

// units writes a duration of a second or more with its two largest units that are not smaller
// than least.
func (p *Printer) units(d, least time.Duration) string {
	text, written := "", 0
	for _, unit := range []struct {
		key string
		of  time.Duration
	}{{"duration.d", 24 * time.Hour}, {"duration.h", time.Hour}, {"duration.min", time.Minute}, {"duration.s", time.Second}} {
		if unit.of < least || written == 2 {
			break
		}
		n := d / unit.of
		d -= n * unit.of
		if n == 0 {
			if written > 0 {
				break
			}
			continue
		}
		if written > 0 {
			text += " "
		}
		text += p.T(unit.key, strconv.FormatInt(int64(n), 10))
		written++
	}
	return text
}

// Ago writes how long ago, or how far ahead, a time is.
func (p *Printer) Ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d > -time.Second && d < time.Second:
		return p.T("time.now")
	case d < 0:
		return p.T("time.in", p.largest(-d))
	}
	return p.T("time.ago", p.largest(d))
}

// largest writes a duration of a second or more with its largest unit only.
func (p *Printer) largest(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		d = d.Truncate(24 * time.Hour)
	case d >= time.Hour:
		return p.units(d, time.Minute)
	case d >= 2*time.Minute:
		d = d.Truncate(time.Minute)
	default:
		d = d.Truncate(time.Second)
	}
	return p.units(d, time.Second)
}

// UTC writes a time to the second.
func UTC(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// Clock writes a time to the millisecond, without its zone, which is UTC.
func Clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

// Exact writes a time to the millisecond.
func Exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") + " UTC" }
