package limit

import (
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// A Period is what a budget is for.
type Period string

// The periods. They begin at midnight in the Limiter's zone, a week on Monday;
// Total has no end.
const (
	Day   Period = "day"
	Week  Period = "week"
	Month Period = "month"
	Total Period = "total"
)

// Bounds are the period that holds t: [from, to). Both are zero for Total.
func (p Period) Bounds(t time.Time, zone *time.Location) (from, to time.Time) {
	t = t.In(zone)
	y, m, d := t.Date()
	switch p {
	case Day:
		return time.Date(y, m, d, 0, 0, 0, 0, zone), time.Date(y, m, d+1, 0, 0, 0, 0, zone)
	case Week:
		d -= (int(t.Weekday()) + 6) % 7
		return time.Date(y, m, d, 0, 0, 0, 0, zone), time.Date(y, m, d+7, 0, 0, 0, 0, zone)
	case Month:
		return time.Date(y, m, 1, 0, 0, 0, 0, zone), time.Date(y, m+1, 1, 0, 0, 0, 0, zone)
	}
	return time.Time{}, time.Time{}
}

// A period is what is spent of a budget in one of its periods. A call belongs
// to the period in which it begins.
type period struct {
	from, to time.Time
	amount   llm.Nano
	kind     Period
	spent    llm.Nano
	reserved llm.Nano
	reached  int // of Marks: how many have been told
}

func (p *period) over(now time.Time) bool { return !p.to.IsZero() && !now.Before(p.to) }

// left is what may still be reserved; negative if too much is spent.
func (p *period) left() llm.Nano { return p.amount - p.spent - p.reserved }

// mark appends the marks that spending has just passed.
func (p *period) mark(to []Mark, c *counter, now time.Time) []Mark {
	for p.reached < len(Marks) && p.share() >= float64(Marks[p.reached]) {
		to = append(to, Mark{Rule: c.rule.Name, Budget: Budget{p.amount, p.kind}, Percent: Marks[p.reached], Spent: p.spent, At: now})
		p.reached++
	}
	return to
}

// share is the part that is spent, in per cent.
func (p *period) share() float64 { return float64(p.spent) / float64(p.amount) * 100 }
