package gateway

import (
	"cmp"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sheepgate/sheepgate/internal/provider"
)

// A Strategy says which target of an alias is asked first. The others follow if
// it fails.
type Strategy string

// The strategies. Fallback is the order of the configuration.
const (
	Fallback Strategy = "fallback"
	Weights  Strategy = "weights"  // by chance
	Latency  Strategy = "latency"  // the soonest first token, or answer
	Cheapest Strategy = "price"    // for this request
	Headroom Strategy = "headroom" // the most left of the provider's limits
)

// A Route is a name that clients use and who can answer it.
type Route struct {
	Alias    string // "" for a model that is named as it is
	Targets  []Target
	Strategy Strategy // "" is Fallback
	Weights  []float64
	Sticky   bool          // requests of one session keep their target while it works
	Hedge    time.Duration // a plain request that is not answered by then goes to the next target too; 0: never
}

// A candidate is a target with one key of its provider, and what the request
// may come to there.
type candidate struct {
	Target
	key    *ProviderKey
	model  string // canonical
	d      *deployment
	expect expectation
	needs  needs

	weight float64       // by strategy weights, else 1
	rank   float64       // by strategy: the lowest first
	wait   time.Duration // until it has room
	cool   bool          // because it refused somebody
	open   bool          // its breaker is
}

// candidates are those who can answer, in the order in which they are asked:
// who works and has room, by the strategy; then who is said to have none or to
// fail. The last one is never left out.
func (x *exchange) candidates(r *Route) []candidate {
	list := make([]candidate, 0, len(r.Targets))
	now := time.Now()
	for i, t := range r.Targets {
		model, known := x.c.canonical(t)
		m, _ := x.c.Prices.Find(t.Provider.Name, t.Model)
		e := x.expect(model, m)
		n := needs{provider.LimitRequests: 1, provider.LimitTokens: float64(e.input + e.output), provider.LimitInputTokens: float64(e.input), provider.LimitOutputTokens: float64(min(e.output, firstOutput))} // what is allowed is no forecast
		for k := range t.Provider.Keys {
			c := candidate{Target: t, key: &t.Provider.Keys[k], model: model, expect: e, needs: n}
			c.d = x.g.deployments.of(deploymentID{t.Provider.Name, c.key.Name, model}, known)
			list = append(list, c)
		}
		x.rank(r, i, list[len(list)-len(t.Provider.Keys):], now)
	}
	if len(list) == 1 {
		list[0].look(now)
		return list
	}
	if r.Sticky {
		x.stick(list)
	}
	for i := range list {
		list[i].look(now)
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		if a.out() != b.out() {
			if a.out() {
				return 1
			}
			return -1
		}
		if a.out() {
			return cmp.Compare(a.wait, b.wait)
		}
		return cmp.Compare(a.rank, b.rank)
	})
	return list
}

// out reports whether nobody should be sent there who could go elsewhere.
func (c *candidate) out() bool { return c.wait > 0 || c.open }

// look asks the deployment how it is. One that fails is due for a try when its
// time has come and nobody else is trying.
func (c *candidate) look(now time.Time) {
	d := c.d
	d.mu.Lock()
	defer d.mu.Unlock()
	c.wait, c.cool = d.wait(&c.needs, now), d.cool.After(now)
	state := d.health.state(now)
	c.open = state == "open" || state == "half_open" && d.health.probing && now.Sub(d.health.probedAt) < maxOpen
}

// rank sets the rank of target i's candidates, one a key.
func (x *exchange) rank(r *Route, i int, keys []candidate, now time.Time) {
	rank, weight := float64(i), 1.0
	switch r.Strategy {
	case Weights:
		if weight = 0; i < len(r.Weights) {
			weight = r.Weights[i]
		}
		rank = byChance(rand.Float64(), weight)
	case Cheapest:
		rank = float64(x.worst(keys[0].Target, keys[0].expect))
		if rank == 0 {
			rank = math.MaxFloat64 // no price is no low price
		}
	}
	for k := range keys {
		c := &keys[k]
		c.rank, c.weight = rank, weight
		if r.Strategy != Latency && r.Strategy != Headroom && len(keys) == 1 {
			continue
		}
		c.d.mu.Lock()
		switch r.Strategy {
		case Latency:
			c.rank = c.d.pace(x.in.stream, now)
		case Headroom:
			c.rank = -c.d.headroom(now)
		}
		share := c.d.headroom(now)
		c.d.mu.Unlock()
		if len(keys) > 1 { // among keys of one target: the most room, then the least under way
			c.rank += 1e-6*(1-share) + 1e-9*float64(min(c.d.inFlight.Load(), 999))
		}
	}
}

// byChance is a rank out of a number between 0 and 1: sorted by it, targets come
// first as often as their weights say, and those of weight 0 last.
func byChance(u, weight float64) float64 {
	if weight <= 0 {
		return math.Inf(1)
	}
	return -math.Log(1-u) / weight
}

// remeasure is the age at which a measure of one who is not asked is taken anew.
const remeasure = 10 * time.Second

// pace is how long the deployment takes, in milliseconds: 0 for one of which it
// is not known, and for one that nobody has asked for a while: a single request
// then finds out.
func (d *deployment) pace(stream bool, now time.Time) float64 {
	a := &d.latency
	if stream {
		a = &d.ttft
	}
	if a.at.IsZero() && d.inFlight.Load() > 0 {
		return math.Inf(1) // somebody is finding out
	}
	if now.Sub(a.at) > remeasure && d.inFlight.Load() == 0 {
		if !a.at.IsZero() {
			a.at = now // the others go on as before
		}
		return 0
	}
	return a.ms
}

// stick gives a session's requests the same order of targets each time: those of
// other sessions are spread.
func (x *exchange) stick(list []candidate) {
	session := x.call.Session
	if session == "" {
		return
	}
	for i := range list {
		c := &list[i]
		h := fnv.New64a() // the same in every process
		for _, s := range [...]string{session, c.d.id.provider, c.d.id.model, c.d.id.key} {
			_, _ = h.Write([]byte(s + "\x00"))
		}
		c.rank = byChance(float64(h.Sum64()>>11)/(1<<53), c.weight)
	}
}
