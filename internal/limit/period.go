package limit

import (
	"math"
	"slices"
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
// to the period in which it begins. What every call looks at stands first.
type period struct {
	amount   llm.Nano
	spent    llm.Nano
	reserved llm.Nano
	to       int64   // Unix nanoseconds; never, for Total
	rate     float64 // nano-USD a second, averaged over rateTime …
	rateAt   int64   // … as of these Unix nanoseconds; it goes on from one period to the next
	serial   uint32  // of the counter: which of its periods this is; from 1 on
	reached  int8    // of Marks: how many have been told
	kind     kind
	young    bool // it may not know yet what calls came to that began before it did
}

// A kind is a Period by its number.
type kind int8

var periods = [...]Period{Day, Week, Month, Total}

func (k kind) name() Period { return periods[k] }

// kindOf is the number of a Period: one that is none has no end.
func kindOf(p Period) kind {
	if i := slices.Index(periods[:], p); i >= 0 {
		return kind(i)
	}
	return kind(len(periods) - 1)
}

const never = math.MaxInt64

// begin is the period of a kind that holds now.
func begin(kind kind, serial uint32, amount llm.Nano, now time.Time, zone *time.Location) period {
	p := period{amount: amount, serial: serial, kind: kind, to: never}
	if _, to := kind.name().Bounds(now, zone); !to.IsZero() {
		p.to = to.UnixNano()
	}
	return p
}

// rateTime is the time over which spending is averaged to tell how long a
// budget lasts.
const rateTime = time.Hour

// spend takes a cost into the average.
func (p *period) spend(cost llm.Nano, now int64) {
	p.rate = p.decay(now) + float64(cost)/rateTime.Seconds()
	p.rateAt = now
}

// decay is the average as it is now: it forgets by half in rateTime × ln 2.
func (p *period) decay(now int64) float64 {
	age := now - p.rateAt
	if p.rate == 0 || age <= 0 {
		return p.rate
	}
	return p.rate * math.Exp(-float64(age)/float64(rateTime))
}

// left is what may still be reserved; negative if too much is spent.
func (p *period) left() llm.Nano { return p.amount - p.spent - p.reserved }

// mark appends the marks that spending has just passed.
func (p *period) mark(to []Mark, c *counter, now time.Time) []Mark {
	for int(p.reached) < len(Marks) && p.share() >= float64(Marks[p.reached]) {
		to = append(to, Mark{Rule: c.rule.Name, Budget: Budget{p.amount, p.kind.name()}, Percent: Marks[p.reached], Spent: p.spent, At: now})
		p.reached++
	}
	return to
}

// share is the part that is spent, in per cent.
func (p *period) share() float64 { return float64(p.spent) / float64(p.amount) * 100 }
