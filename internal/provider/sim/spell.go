package sim

import (
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"time"
)

// A spell is a bad time of a model: a few minutes in which it refuses, fails or
// is slow more often than it should.
type spell struct {
	limited float64 // chance of a 429, 0 to 1
	failing float64 // chance of an error of the server
	slow    float64 // what latency is multiplied by
}

const (
	spellSlot = 10 * time.Minute // holds at most one spell of a model
	spellOdds = 25               // one slot in so many has one
)

// spell is the one that m has at t, if it has one. It depends on nothing else,
// so that the past has the spells that were.
func (m *Model) spell(t time.Time) (s spell, bad bool) {
	slot := t.Unix() / int64(spellSlot/time.Second)
	h := fnv.New64a()
	h.Write([]byte(m.Name))
	r := rand.New(rand.NewPCG(h.Sum64(), uint64(slot)))
	if r.IntN(spellOdds) != 0 {
		return s, false
	}
	begin := time.Unix(slot*int64(spellSlot/time.Second), 0).Add(time.Duration(r.IntN(240)) * time.Second)
	end := begin.Add(time.Duration(90+r.IntN(240)) * time.Second)
	if t.Before(begin) || !t.Before(end) {
		return s, false
	}
	switch p := r.Float64(); {
	case p < 0.5:
		return spell{limited: 0.45 + 0.4*r.Float64(), slow: 1}, true
	case p < 0.8:
		return spell{failing: 0.4 + 0.4*r.Float64(), slow: 1.4}, true
	}
	return spell{slow: 2.5 + 2*r.Float64()}, true
}

// mark changes what chance decided of a request during s.
func (s spell) mark(d *draw, m *Model, r *rand.Rand) {
	d.latency, d.ttft = time.Duration(float64(d.latency)*s.slow), time.Duration(float64(d.ttft)*s.slow)
	if d.status != 0 {
		return
	}
	switch p := r.Float64(); {
	case p < s.limited:
		d.status = http.StatusTooManyRequests
		d.latency = min(d.latency, time.Duration(20+r.IntN(60))*time.Millisecond)
	case p < s.limited+s.failing:
		for d.status = m.failure(r); d.status == http.StatusTooManyRequests; {
			d.status = m.failure(r)
		}
		d.breaks = r.IntN(4) == 0
	}
}
