package store

import (
	"fmt"
	"strconv"
	"time"
)

// A Step is the width of a point: a fixed duration below a day, else whole
// calendar days or months of the query's zone (a day of a change to summer
// time has 23 or 25 hours). The zero Step is the whole range.
type Step struct {
	Fixed  time.Duration // divides a day; 0 if Days or Months is set
	Days   int           // 7 starts on Mondays
	Months int
}

// ParseStep reads "10s", "1m", "15m", "1h", "1d", "7d", "1w" or "1mo"; "" is
// the zero Step.
func ParseStep(s string) (Step, error) {
	if s == "" {
		return Step{}, nil
	}
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	n, err := strconv.Atoi(s[:i])
	if err != nil || n <= 0 {
		return Step{}, stepError(s)
	}
	var unit time.Duration
	switch s[i:] {
	case "s":
		unit = time.Second
	case "m":
		unit = time.Minute
	case "h":
		unit = time.Hour
	case "d":
		return Step{Days: n}, limitStep(s, n, 366)
	case "w":
		return Step{Days: 7 * n}, limitStep(s, n, 53)
	case "mo":
		return Step{Months: n}, limitStep(s, n, 12)
	default:
		return Step{}, stepError(s)
	}
	const day = 24 * time.Hour
	if n > int(day/unit) {
		return Step{}, stepError(s)
	}
	d := time.Duration(n) * unit
	if d == day {
		return Step{Days: 1}, nil
	}
	if day%d != 0 {
		return Step{}, fmt.Errorf("step %q does not divide a day", s)
	}
	return Step{Fixed: d}, nil
}

func limitStep(s string, n, most int) error {
	if n > most {
		return stepError(s)
	}
	return nil
}

func stepError(s string) error {
	return fmt.Errorf("step %.20q is not like 10s, 1m, 1h, 1d, 1w or 1mo", s)
}

// IsZero reports whether s is the whole range.
func (s Step) IsZero() bool { return s == Step{} }

// Start is the beginning of the step that holds t, on the wall clock of zone.
func (s Step) Start(t time.Time, zone *time.Location) time.Time {
	t = t.In(zone)
	y, m, d := t.Date()
	switch {
	case s.Months > 0:
		n := y*12 + int(m) - 1
		n -= n % s.Months
		return time.Date(n/12, time.Month(n%12+1), 1, 0, 0, 0, 0, zone)
	case s.Days > 0:
		// Days are counted from a Monday, so that weeks begin on one.
		epoch := time.Date(1970, 1, 5, 0, 0, 0, 0, time.UTC)
		n := int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Sub(epoch) / (24 * time.Hour))
		back := ((n % s.Days) + s.Days) % s.Days
		return time.Date(y, m, d-back, 0, 0, 0, 0, zone)
	case s.Fixed > 0:
		// Within an hour whatever the zone; else by the wall clock of the day.
		if s.Fixed <= time.Hour {
			_, offset := t.Zone()
			o := time.Duration(offset) * time.Second
			return t.Add(o).Truncate(s.Fixed).Add(-o)
		}
		wall := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
		at := wall - wall%s.Fixed
		start := time.Date(y, m, d, int(at/time.Hour), int(at%time.Hour/time.Minute), int(at%time.Minute/time.Second), 0, zone)
		if start.After(t) { // it comes twice, as a change of the clock repeats it: t is behind the first
			_, now := t.Zone()
			_, then := start.Zone()
			start = start.Add(time.Duration(then-now) * time.Second)
		}
		return start
	}
	return t
}
