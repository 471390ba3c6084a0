package limit

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// A counter is what one rule has counted.
//
// With thousands of keys each call meets another counter, of which nothing is in
// the processor's cache: what every call needs stands together at the front.
type counter struct {
	windows    [rates]*window // nil without a limit
	periods    []*period      // one a budget, in its order
	concurrent int64
	most       int64       // at a time; 0: no limit
	money      atomic.Bool // it has a budget; read without the lock

	rule     Rule
	refused  int64
	over     [rates]int64 // what calls came to beyond their reservations, summed
	overCost llm.Nano
}

// rates is how many things are counted by the minute: requests, tokens, input
// and output, in this order.
const rates = 4

var kinds = [rates]Kind{Requests, Tokens, InputTokens, OutputTokens}

func (b *Bounds) perMinute() [rates]int64 {
	return [rates]int64{b.Requests, b.Tokens, b.Input, b.Output}
}

// counted is what a call has in a window, which the rule may have lost since.
type counted struct {
	w *window
	n int64
}

// set gives the counter its rule, and returns the periods that it did not count
// before.
func (c *counter) set(r *Rule, zone *time.Location, now time.Time) (fresh []Period) {
	c.rule, c.most = *r, r.Concurrent
	for i, limit := range r.perMinute() {
		w := &c.windows[i]
		switch {
		case limit <= 0:
			*w = nil
			continue
		case *w == nil:
			*w = &window{}
		}
		(*w).limit = limit
	}
	old := c.periods
	c.periods = nil
	for _, b := range r.Budgets {
		if i := slices.IndexFunc(c.periods, func(p *period) bool { return p.kind == b.Period }); i >= 0 {
			c.periods[i].amount = min(c.periods[i].amount, b.Amount)
			continue
		}
		i := slices.IndexFunc(old, func(p *period) bool { return p.kind == b.Period })
		if i < 0 {
			from, to := b.Period.Bounds(now, zone)
			c.periods = append(c.periods, &period{from: from, to: to, kind: b.Period, amount: b.Amount})
			fresh = append(fresh, b.Period)
			continue
		}
		p := old[i]
		p.amount = b.Amount
		for p.reached > 0 && p.share() < float64(Marks[p.reached-1]) { // more money: it can be used up again
			p.reached--
		}
		c.periods = append(c.periods, p)
	}
	c.money.Store(len(r.Budgets) > 0)
	return fresh
}

// period is the running period of the budget for kind, nil if there is none.
func (c *counter) period(kind Period, now time.Time, zone *time.Location) *period {
	for i, p := range c.periods {
		if p.kind == kind {
			return c.current(i, now, zone)
		}
	}
	return nil
}

// current is the i-th budget's period. One that is over makes room for the next:
// what is reserved in it stays with the calls that reserved it.
func (c *counter) current(i int, now time.Time, zone *time.Location) *period {
	p := c.periods[i]
	if p.over(now) {
		from, to := p.kind.Bounds(now, zone)
		p = &period{from: from, to: to, kind: p.kind, amount: p.amount, rate: p.rate, rateAt: p.rateAt}
		c.periods[i] = p
	}
	return p
}

// wants is what a call needs of each window.
func (c *counter) wants(need *Need) [rates]int64 {
	n := [rates]int64{1, need.Input + need.Output, need.Input, need.Output}
	if need.Soft {
		for i, least := range [rates]int64{1, need.Input, need.Input, 0} {
			if w := c.windows[i]; w != nil {
				n[i] = max(min(n[i], w.limit), least)
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
	wants := c.wants(need)
	for i, w := range c.windows {
		if w == nil {
			continue
		}
		w.advance(second)
		if n := wants[i]; w.sum+n > w.limit {
			refuse(Refusal{Kind: kinds[i], Limit: w.limit, Used: w.sum, Need: n, Wait: w.wait(second, n)})
		}
	}
	if n := c.most; n > 0 && c.concurrent >= n {
		refuse(Refusal{Kind: Concurrent, Limit: n, Used: c.concurrent, Need: 1, Wait: time.Second})
	}
	for i := range c.periods {
		p := c.current(i, now, zone)
		left := p.left()
		if left >= need.Cost && p.spent < p.amount || need.Soft && left > 0 {
			continue
		}
		r := Refusal{Kind: Money, Period: p.kind, Limit: int64(p.amount), Used: int64(p.spent + p.reserved), Need: int64(need.Cost), Wait: -1}
		switch {
		case p.reserved > 0 && p.amount-p.spent >= need.Cost: // calls under way may come to less
			r.Wait = time.Second
		case !p.to.IsZero() && need.Cost <= p.amount:
			r.Wait = p.to.Sub(now)
		}
		refuse(r)
	}
	return worst
}

// take counts what check has found room for.
func (c *counter) take(h *hold, need *Need, second int64) {
	wants := c.wants(need)
	for i, w := range c.windows {
		if w != nil {
			w.add(second, wants[i])
			h.rates[i] = counted{w, wants[i]}
		}
	}
	c.concurrent++
	for i, p := range c.periods {
		cost := need.Cost
		if need.Soft {
			cost = max(min(cost, p.left()), 0)
		}
		p.reserved += cost
		h.periods[i], h.costs[i] = p, cost
	}
}

func (c *counter) replay(second, age int64, p *Past) {
	for i, n := range [rates]int64{1, p.Input + p.Output, p.Input, p.Output} {
		if w := c.windows[i]; w != nil {
			w.advance(second)
			w.add(second-age, n)
		}
	}
}

// leave notes what is left, where it is the least.
func (c *counter) leave(l *Left, second int64) {
	less := func(s *Share, w *window) {
		if w == nil {
			return
		}
		if left := max(w.limit-w.sum, 0); s.Limit == 0 || left < s.Remaining {
			*s = Share{Limit: w.limit, Remaining: left, Reset: w.reset(second)}
		}
	}
	less(&l.Requests, c.windows[0])
	less(&l.Tokens, c.windows[1])
	if c.windows[1] == nil { // clients know one number for tokens
		less(&l.Tokens, c.windows[2])
		less(&l.Tokens, c.windows[3])
	}
}

// settle replaces what was reserved by what was used, where it was reserved.
func (h *hold) settle(v *Reservation, u *Used, second int64, now time.Time, marks []Mark) []Mark {
	c := h.c
	for i, n := range [rates]int64{1, u.Input + u.Output, u.Input, u.Output} {
		r := &h.rates[i]
		if r.w == nil {
			continue
		}
		r.w.advance(second)
		r.w.add(v.at, n-r.n)
		if n > r.n {
			c.over[i] += n - r.n
		}
	}
	c.concurrent--
	for i, p := range h.periods {
		if p == nil {
			continue
		}
		p.reserved -= h.costs[i]
		p.spent += u.Cost
		marks = p.mark(marks, c, now)
		p.spend(u.Cost, now)
		if i == 0 && u.Cost > h.costs[i] {
			c.overCost += u.Cost - h.costs[i]
		}
	}
	return marks
}

func (c *counter) live(second int64, now time.Time, zone *time.Location) call.LiveLimit {
	r := &c.rule
	l := call.LiveLimit{Rule: r.Name, Key: r.Match.Key, Team: r.Match.Team, Requested: r.Match.Requested, Provider: r.Match.Provider, Model: r.Match.Model,
		Concurrent: call.LiveRate{Limit: r.Concurrent, Used: c.concurrent}, Refused: c.refused, OverTokens: max(c.over[1], c.over[2], c.over[3]), OverCost: c.overCost}
	for i, to := range [rates]*call.LiveRate{&l.Requests, &l.Tokens, &l.Input, &l.Output} {
		if w := c.windows[i]; w != nil {
			w.advance(second)
			*to = call.LiveRate{Limit: w.limit, Used: w.sum}
		}
	}
	for i := range c.periods {
		p := c.current(i, now, zone)
		b := call.LiveBudget{Amount: p.amount, Period: string(p.kind), From: p.from, To: p.to, Spent: p.spent, Reserved: p.reserved}
		if left := p.amount - p.spent; left <= 0 {
			b.Exhausted = now
		} else if rate := p.decay(now); rate > 0 {
			if s := float64(left) / rate; s < 100*365*86400 {
				b.Exhausted = now.Add(time.Duration(s) * time.Second)
			}
		}
		l.Budgets = append(l.Budgets, b)
	}
	return l
}
