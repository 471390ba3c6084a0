package limit

import (
	"math"
	"slices"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// A counter is what one rule has counted.
//
// With thousands of keys each call meets another counter, of which nothing is in
// the processor's cache: what every call needs are three lines of it, one after
// another, and the rest is elsewhere.
type counter struct {
	limits     amounts // 0: none
	minute     minute
	most       int32 // at a time; 0: no limit
	concurrent int32
	budgets    int32  // how many there are
	first      period // of the first budget
	*record
}

// A record is what only people ask for, and what seldom is.
type record struct {
	rule     Rule
	more     []period // of the other budgets
	refused  int64
	over     amounts              // what calls came to beyond their reservations, summed
	overCost llm.Nano             // the same
	serial   uint32               // of the latest period
	since    map[uint32]time.Time // by serial: when a period began to count that does not know its past
}

func newCounter() *counter {
	return &counter{minute: minute{past: new([buckets]amounts)}, record: new(record)}
}

func (b *Bounds) perMinute() amounts {
	return amounts{b.Requests, b.Tokens, b.Input, b.Output}
}

// set gives the counter its rule, and returns the budgets that it did not count
// before since.
func (c *counter) set(r *Rule, zone *time.Location, now, since time.Time) (fresh []Account) {
	c.rule, c.most = *r, int32(max(0, min(r.Concurrent, math.MaxInt32)))
	for i, limit := range r.perMinute() {
		c.limits[i] = max(limit, 0)
	}
	var list []period
	young := map[uint32]time.Time{}
	for _, b := range r.Budgets {
		if i := slices.IndexFunc(list, func(p period) bool { return p.kind.name() == b.Period }); i >= 0 {
			list[i].amount = min(list[i].amount, b.Amount)
			continue
		}
		p := c.period(b.Period)
		if p == nil {
			c.serial++
			p := begin(kindOf(b.Period), c.serial, b.Amount, now, zone)
			p.young = true
			young[p.serial] = since
			list = append(list, p)
			fresh = append(fresh, c.account(&p, now, zone))
			continue
		}
		p.amount = b.Amount
		for p.reached > 0 && p.share() < float64(Marks[p.reached-1]) { // more money: it can be used up again
			p.reached--
		}
		if p.young {
			young[p.serial] = c.since[p.serial]
		}
		list = append(list, *p)
	}
	c.since = young
	c.first, c.more, c.budgets = period{}, nil, int32(len(list))
	if len(list) > 0 {
		c.first, c.more = list[0], list[1:]
	}
	return fresh
}

// account names a budget's period.
func (c *counter) account(p *period, now time.Time, zone *time.Location) Account {
	from, _ := p.kind.name().Bounds(now, zone)
	return Account{Rule: c.rule.Name, Match: c.rule.Match, Period: p.kind.name(), From: from, serial: p.serial}
}

// period is the budget's for a kind, nil if there is none.
func (c *counter) period(kind Period) *period {
	for i := range c.budgets {
		if p := c.budget(i); p.kind.name() == kind {
			return p
		}
	}
	return nil
}

// budget is the i-th budget's period, which may be over.
func (c *counter) budget(i int32) *period {
	if i == 0 {
		return &c.first
	}
	return &c.more[i-1]
}

// current is the i-th budget's period. One that is over makes room for the next:
// what was reserved in it is nothing to this one.
func (c *counter) current(i int32, now time.Time, zone *time.Location) *period {
	p := c.budget(i)
	if now.UnixNano() >= p.to {
		c.serial++
		next := begin(p.kind, c.serial, p.amount, now, zone)
		next.rate, next.rateAt = p.rate, p.rateAt
		*p = next
	}
	return p
}

// wants is what a call needs of each rate.
func (c *counter) wants(need *Need) amounts {
	n := amounts{1, need.Input + need.Output, need.Input, need.Output}
	if need.Soft {
		for i, least := range (amounts{1, need.Input, need.Input, 0}) {
			if limit := c.limits[i]; limit > 0 {
				n[i] = max(min(n[i], limit), least)
			}
		}
	}
	return n
}

// check says what there is no room for, and counts nothing. Of several things it
// is the one to wait for the longest.
func (c *counter) check(need *Need, second int64, now time.Time, zone *time.Location) (worst *Refusal) {
	refuse := func(r Refusal) {
		r.Rule, r.At = c.rule.Name, now
		worst = worse(worst, &r)
	}
	c.minute.advance(second)
	wants := c.wants(need)
	for i, limit := range c.limits {
		if used, n := c.minute.sums[i], wants[i]; limit > 0 && used+n > limit {
			refuse(Refusal{Kind: kinds[i], Limit: limit, Used: used, Need: n, Wait: c.minute.wait(i, second, limit, n)})
		}
	}
	if n := c.most; n > 0 && c.concurrent >= n {
		refuse(Refusal{Kind: Concurrent, Limit: int64(n), Used: int64(c.concurrent), Need: 1, Wait: time.Second})
	}
	for i := range c.budgets {
		p := c.current(i, now, zone)
		left := p.left()
		if left >= need.Cost && p.spent < p.amount || need.Soft && left > 0 {
			continue
		}
		r := Refusal{Kind: Money, Period: p.kind.name(), Limit: int64(p.amount), Used: int64(p.spent + p.reserved), Need: int64(need.Cost), Wait: -1}
		switch {
		case p.reserved > 0 && p.amount-p.spent >= need.Cost: // calls under way may come to less
			r.Wait = time.Second
		case p.to != never && need.Cost <= p.amount:
			r.Wait = time.Unix(0, p.to).Sub(now)
		}
		refuse(r)
	}
	return worst
}

// take counts what check has found room for.
func (c *counter) take(h *hold, need *Need, second int64) {
	h.rates = c.wants(need)
	c.minute.add(second, &h.rates)
	c.concurrent++
	for i := range c.budgets {
		p := c.budget(i)
		if p.young && !need.At.IsZero() && need.At.Before(c.since[p.serial]) {
			continue // it is of the past that Restore tells
		}
		cost := need.Cost
		if need.Soft {
			cost = max(min(cost, p.left()), 0)
		}
		p.reserved += cost
		h.serials[i], h.costs[i] = p.serial, cost
	}
}

func (c *counter) replay(second, age int64, p *Past) {
	c.minute.advance(second)
	c.minute.add(second-age, &amounts{1, p.Input + p.Output, p.Input, p.Output})
}

// leave notes what is left, where it is the least.
func (c *counter) leave(l *Left, second int64) {
	less := func(s *Share, rate int) {
		limit := c.limits[rate]
		if limit == 0 {
			return
		}
		if left := max(limit-c.minute.sums[rate], 0); s.Limit == 0 || left < s.Remaining {
			*s = Share{Limit: limit, Remaining: left, Reset: c.minute.reset(rate, second)}
		}
	}
	less(&l.Requests, 0)
	less(&l.Tokens, 1)
	if c.limits[1] == 0 { // clients know one number for tokens
		less(&l.Tokens, 2)
		less(&l.Tokens, 3)
	}
}

// settle replaces what was reserved by what was used, where it was reserved.
func (h *hold) settle(at int64, u *Used, second int64, now time.Time, marks []Mark) []Mark {
	c := h.c
	c.minute.advance(second)
	more := amounts{1, u.Input + u.Output, u.Input, u.Output}
	for i, n := range h.rates {
		if more[i] -= n; more[i] > 0 && c.limits[i] > 0 {
			c.over[i] += more[i]
		}
	}
	c.minute.add(at, &more)
	c.concurrent--
	for i := range c.budgets {
		p := c.budget(i)
		k := slices.Index(h.serials[:], p.serial)
		if k < 0 { // it has begun since, or was set since
			continue
		}
		p.reserved -= h.costs[k]
		p.spent += u.Cost
		marks = p.mark(marks, c, now)
		p.spend(u.Cost, now.UnixNano())
		if k == 0 && u.Cost > h.costs[k] {
			c.overCost += u.Cost - h.costs[k]
		}
	}
	return marks
}

func (c *counter) live(second int64, now time.Time, zone *time.Location) call.LiveLimit {
	r := &c.rule
	l := call.LiveLimit{Rule: r.Name, Key: r.Match.Key, Team: r.Match.Team, Requested: r.Match.Requested, Provider: r.Match.Provider, Model: r.Match.Model,
		Concurrent: call.LiveRate{Limit: r.Concurrent, Used: int64(c.concurrent)}, Refused: c.refused, OverTokens: max(c.over[1], c.over[2], c.over[3]), OverCost: c.overCost}
	c.minute.advance(second)
	for i, to := range [rates]*call.LiveRate{&l.Requests, &l.Tokens, &l.Input, &l.Output} {
		if limit := c.limits[i]; limit > 0 {
			*to = call.LiveRate{Limit: limit, Used: c.minute.sums[i]}
		}
	}
	for i := range c.budgets {
		p := c.current(i, now, zone)
		from, to := p.kind.name().Bounds(now, zone)
		b := call.LiveBudget{Amount: p.amount, Period: string(p.kind.name()), From: from, To: to, Spent: p.spent, Reserved: p.reserved}
		if left := p.amount - p.spent; left <= 0 {
			b.Exhausted = now
		} else if rate := p.decay(now.UnixNano()); rate > 0 {
			if s := float64(left) / rate; s < 100*365*86400 && (to.IsZero() || s < to.Sub(now).Seconds()) { // a period that ends before begins anew
				b.Exhausted = now.Add(time.Duration(s) * time.Second)
			}
		}
		l.Budgets = append(l.Budgets, b)
	}
	return l
}
