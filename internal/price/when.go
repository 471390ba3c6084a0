package price

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// When limits a row to a part of the day in UTC, [From, To), on some days.
type When struct {
	From     string   `json:"utc_from"` // 00:30:00Z
	To       string   `json:"utc_to"`
	Weekdays []string `json:"weekdays,omitempty"` // mon … sun; empty means all
	Except   string   `json:"except,omitempty"`   // not on the days of this calendar: cn_public_holidays

	from, to time.Duration
	days     [7]bool  // by time.Weekday
	except   []string // the calendar's days
}

// A calendar is a list of days on which a window does not hold, each a date or
// two, "2026-10-01/2026-10-07", both included. Beyond the years that it lists a
// window holds on holidays too: what is booked then is too much, not too little.
type calendar struct {
	Source string   `json:"source,omitempty"`
	Days   []string `json:"days"`
}

// chineseHolidays may be named by a user's file that does not define it: the
// catalogue does.
const chineseHolidays = "cn_public_holidays"

var weekdays = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (w *When) parse(calendars map[string]calendar) error {
	for _, p := range []struct {
		s string
		d *time.Duration
	}{{w.From, &w.from}, {w.To, &w.to}} {
		t, err := time.Parse("15:04:05Z", p.s)
		if err != nil {
			return fmt.Errorf("when: time of day %.30q is not like 00:30:00Z", p.s)
		}
		*p.d = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	}
	if w.from == w.to {
		return errors.New("when: it ends as it begins")
	}
	for _, d := range w.Weekdays {
		i := slices.Index(weekdays[:], d)
		if i < 0 {
			return fmt.Errorf("when: weekday %.30q is none of %s", d, strings.Join(weekdays[:], ", "))
		}
		w.days[i] = true
	}
	if len(w.Weekdays) == 0 {
		w.days = [7]bool{true, true, true, true, true, true, true}
	}
	if _, ok := calendars[w.Except]; !ok && w.Except != "" && w.Except != chineseHolidays {
		return fmt.Errorf("when: there is no calendar %.40q", w.Except)
	}
	w.except = calendars[w.Except].Days
	return nil
}

// isSpan reports whether s is a day of a calendar, or several.
func isSpan(s string) bool {
	first, last := span(s)
	_, err1 := time.Parse(time.DateOnly, first)
	_, err2 := time.Parse(time.DateOnly, last)
	return err1 == nil && err2 == nil && first <= last
}

func span(s string) (first, last string) {
	first, last, two := strings.Cut(s, "/")
	if !two {
		last = first
	}
	return first, last
}

// holds reports whether the window contains t. A window that goes past midnight
// belongs to the days that it touches.
func (w *When) holds(t time.Time) bool {
	t = t.UTC()
	if !w.days[t.Weekday()] {
		return false
	}
	d := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	in := d >= w.from && d < w.to
	if w.from > w.to {
		in = d >= w.from || d < w.to
	}
	if !in || len(w.except) == 0 {
		return in
	}
	day := t.Format(time.DateOnly)
	for _, s := range w.except {
		if first, last := span(s); first <= day && day <= last {
			return false
		}
	}
	return true
}
