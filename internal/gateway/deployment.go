package gateway

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// A deployment is a model at a provider with one of its keys: what fails, is
// slow, or has no room left, together and apart from any other. It learns from
// live answers alone, and survives a change of the configuration.
type deployment struct {
	id       deploymentID
	known    bool // the catalogue or the configuration names the model
	inFlight atomic.Int64
	used     atomic.Int64 // Unix seconds, about

	mu      sync.Mutex
	health  breaker
	ttft    average // until the first content of a stream
	latency average // of a plain answer
	cool    time.Time
	denied  int // times in a row that the provider refused the key
	room    [provider.LimitKinds]room
	sent    [provider.LimitKinds]float64 // in all, as far as it is known
	seq     uint64                       // of the attempts
}

type deploymentID struct{ provider, key, model string }

// maxDeployments bounds the table: a client may name any model of a provider.
const maxDeployments = 4096

// deployments is the table of all that have been asked.
type deployments struct {
	mu sync.RWMutex
	m  map[deploymentID]*deployment
}

// of is the deployment with id. When the table is full those that nobody asks
// make room; if there are none, id has one for this request alone.
func (t *deployments) of(id deploymentID, known bool) *deployment {
	t.mu.RLock()
	d := t.m[id]
	t.mu.RUnlock()
	if d != nil {
		return d
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if d = t.m[id]; d != nil {
		return d
	}
	d = &deployment{id: id, known: known}
	if len(t.m) >= maxDeployments {
		old := time.Now().Unix() - 60
		for k, other := range t.m {
			if !other.known && other.inFlight.Load() == 0 && other.used.Load() < old {
				delete(t.m, k)
			}
		}
		if len(t.m) >= maxDeployments {
			return d
		}
	}
	if t.m == nil {
		t.m = map[deploymentID]*deployment{}
	}
	t.m[id] = d
	return d
}

func (t *deployments) each(f func(*deployment)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, d := range t.m {
		f(d)
	}
}

// A breaker keeps requests from who fails. It opens after some failures in a row
// or when half of the last ten seconds failed, and lets one request through to
// see: at first after a second, at the latest after maxOpen.
type breaker struct {
	row      int // failures since the last success
	ok, bad  [2]int
	slot     int64 // that ok[0] and bad[0] are of
	opened   time.Time
	openFor  time.Duration
	probing  bool // somebody is seeing
	probedAt time.Time
}

const (
	rowOpens   = 5 // failures in a row
	shareOpens = 10
	firstOpen  = time.Second
	maxOpen    = 15 * time.Second
	slotLength = 5 // seconds
)

func (b *breaker) roll(now time.Time) {
	slot := now.Unix() / slotLength
	switch slot - b.slot {
	case 0:
		return
	case 1:
		b.ok[1], b.bad[1] = b.ok[0], b.bad[0]
	default:
		b.ok[1], b.bad[1] = 0, 0
	}
	b.ok[0], b.bad[0], b.slot = 0, 0, slot
}

// note takes how an attempt went.
func (b *breaker) note(good bool, now time.Time) {
	b.roll(now)
	b.probing = false
	if good {
		b.ok[0]++
		b.row = 0
		if b.openFor > 0 {
			*b = breaker{ok: [2]int{1}, slot: b.slot}
		}
		return
	}
	b.bad[0]++
	b.row++
	bad, ok := b.bad[0]+b.bad[1], b.ok[0]+b.ok[1]
	if b.openFor > 0 && now.Before(b.opened.Add(b.openFor)) {
		return // it was on its way when the others failed
	}
	if b.openFor == 0 && b.row < rowOpens && (bad < shareOpens || bad < ok) {
		return
	}
	b.opened = now
	b.openFor = min(max(2*b.openFor, firstOpen), maxOpen)
}

// state is how the breaker stands: closed, open, or half_open when it is time to
// see.
func (b *breaker) state(now time.Time) string {
	switch {
	case b.openFor == 0:
		return "closed"
	case now.Before(b.opened.Add(b.openFor)):
		return "open"
	}
	return "half_open"
}

// An average forgets by half in about ten values.
type average struct {
	ms float64
	at time.Time // of the last value
}

func (a *average) add(d time.Duration, now time.Time) {
	ms := float64(d) / float64(time.Millisecond)
	if a.at.IsZero() {
		a.ms = ms
	} else {
		a.ms += (ms - a.ms) * 0.07
	}
	a.at = now
}

// A room is what a provider has left of one of its limits. What it said counts
// down with each request and up with time: most refill evenly, and where one
// does not its next answer says so.
type room struct {
	limit float64
	left  float64
	rate  float64 // that comes back in a second
	at    time.Time
	until time.Time // that is believed
	seq   uint64    // of the attempt that was told
	base  float64   // sent when that attempt was
}

// minTrust is how long at least what a provider says is believed.
const minTrust = 5 * time.Second

// estimate is what is left now. ok is false if it is not known.
func (r *room) estimate(sent float64, now time.Time) (left float64, ok bool) {
	if r.until.IsZero() || now.After(r.until) {
		return 0, false
	}
	left = r.left + r.rate*now.Sub(r.at).Seconds() - max(sent-r.base, 0)
	if r.limit > 0 {
		left = min(left, r.limit)
	}
	return left, true
}

// needs are what a request takes of each kind of limit.
type needs [provider.LimitKinds]float64

// wait is the time until the deployment has room, 0 if it has or nothing is
// known against it.
func (d *deployment) wait(n *needs, now time.Time) time.Duration {
	wait := max(d.cool.Sub(now), 0)
	for k := range d.room {
		r := &d.room[k]
		left, ok := r.estimate(d.sent[k], now)
		if !ok || n[k] <= 0 {
			continue
		}
		want := n[k]
		if r.limit > 0 {
			want = min(want, r.limit) // what is more than all of it is the provider's to refuse
		}
		if left >= want {
			continue
		}
		w := r.until.Sub(now)
		if r.rate > 0 {
			w = min(w, time.Duration((want-left)/r.rate*float64(time.Second)))
		}
		wait = max(wait, w)
	}
	return wait
}

// headroom is the least share that is left of any limit; 1 if none is known.
func (d *deployment) headroom(now time.Time) float64 {
	least := 1.0
	for k := range d.room {
		if left, ok := d.room[k].estimate(d.sent[k], now); ok && d.room[k].limit > 0 {
			least = min(least, max(left, 0)/d.room[k].limit)
		}
	}
	return least
}

// A ticket is an attempt's place in the order in which they were made.
type ticket struct {
	seq  uint64
	base [provider.LimitKinds]float64 // sent by then
	took needs                        // of that, by itself
	told bool                         // the provider has said what is left
}

// begin counts an attempt that is about to be made.
func (d *deployment) begin(n *needs) ticket {
	now := time.Now()
	d.inFlight.Add(1)
	d.used.Store(now.Unix())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.health.state(now) == "half_open" {
		d.health.probing, d.health.probedAt = true, now
	}
	d.seq++
	t := ticket{seq: d.seq}
	for k := range n {
		t.took[k] = n[k]
		if most := d.room[k].limit; most > 0 { // what is more than all of it is the provider's to refuse
			t.took[k] = min(n[k], most)
		}
		d.sent[k] += t.took[k]
	}
	t.base = d.sent
	return t
}

// told takes what the provider said of its limits with the answer to an attempt.
// Answers overtake one another: the one to the later attempt counts.
func (d *deployment) told(t *ticket, limits []provider.RateLimit, now time.Time) {
	if len(limits) == 0 {
		return
	}
	t.told = true
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range limits {
		r := &d.room[l.Kind]
		if t.seq < r.seq && now.Before(r.until) {
			continue
		}
		next := room{limit: float64(l.Limit), left: float64(l.Remaining), at: now, until: now.Add(max(l.Reset, minTrust)), seq: t.seq, base: t.base[l.Kind]}
		if gone := next.limit - next.left; gone > 0 {
			if l.Reset > 0 {
				next.rate = gone / l.Reset.Seconds()
			} else {
				next.rate = next.limit / 60
			}
		}
		*r = next
	}
}

const (
	maxCool     = time.Minute
	defaultCool = time.Second
	authCool    = 30 * time.Second // for a key that the provider refuses
)

// end takes how an attempt went. e is nil for one that succeeded.
func (d *deployment) end(e *llm.Error, a *attempt, now time.Time) {
	d.inFlight.Add(-1)
	d.mu.Lock()
	defer d.mu.Unlock()
	class := llm.ErrorClass("")
	if e != nil {
		class = e.Class
		if !a.ticket.told { // it has not counted what it does not speak of
			for k := range d.sent {
				d.sent[k] -= a.ticket.took[k]
			}
		}
	}
	if a.late { // slower than who was asked after it
		d.latency.add(now.Sub(a.began), now)
		d.health.note(false, now)
		return
	}
	switch class {
	case "":
		d.health.note(true, now)
		d.denied = 0
		if !a.x.in.stream {
			d.latency.add(now.Sub(a.began), now)
		}
	case llm.RateLimited:
		d.health.probing = false
		wait := e.RetryAfter
		if wait <= 0 {
			wait = defaultCool
		}
		if until := now.Add(min(wait, maxCool)); until.After(d.cool) {
			d.cool = until
		}
	case llm.ProviderAuth:
		// A key that is refused is so again. What is forbidden, or to be paid for,
		// may be this request's matter alone, until it happens to all.
		d.health.probing = false
		if d.denied++; e.Upstream == http.StatusUnauthorized || d.denied >= rowOpens {
			d.cool = now.Add(authCool)
		}
	case llm.UpstreamError, llm.Overloaded, llm.BadUpstream, llm.Timeout, llm.Connect, llm.StreamBroken:
		if e.Code == "shutting_down" || e.Code == call.ShedCode {
			d.health.probing = false
			break
		}
		d.health.note(false, now)
	case llm.Canceled, llm.LimitExceeded, llm.BudgetExceeded, llm.Internal:
		d.health.probing = false // says nothing of the provider
	default: // the request's own fault: the provider is there
		d.health.note(true, now)
	}
}

// spoke takes the time until the first content of a stream, as it comes.
func (d *deployment) spoke(after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ttft.add(after, time.Now())
}

// prune forgets who is no longer configured and not being asked.
func (t *deployments) prune(c *Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, d := range t.m {
		keep := d.inFlight.Load() > 0
		for i := range c.Providers {
			if p := &c.Providers[i]; p.Name == id.provider {
				keep = keep || slices.ContainsFunc(p.Keys, func(k ProviderKey) bool { return k.Name == id.key })
			}
		}
		if !keep {
			delete(t.m, id)
		}
	}
}

// live is the deployment as others see it.
func (d *deployment) live(now time.Time) call.LiveModel {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := call.LiveModel{Provider: d.id.provider, ProviderKey: d.id.key, Model: d.id.model, InFlight: d.inFlight.Load(),
		State: d.health.state(now), TTFT: round(d.ttft.ms), Latency: round(d.latency.ms)}
	if d.cool.After(now) {
		m.CoolUntil = d.cool
	}
	for k := range d.room {
		r := &d.room[k]
		left, ok := r.estimate(d.sent[k], now)
		if !ok {
			continue
		}
		l := call.LiveRoom{Kind: provider.LimitKind(k).String(), Limit: int64(r.limit), Remaining: int64(max(left, 0))}
		if left < r.limit && r.rate > 0 {
			l.Full = now.Add(time.Duration((r.limit - left) / r.rate * float64(time.Second)))
		}
		m.Rooms = append(m.Rooms, l)
	}
	return m
}

func round(ms float64) float64 { return math.Round(ms*100) / 100 }

// InFlight is how many requests are under way.
func (g *Gateway) InFlight() int64 { return g.total.Load() }

// Live is a snapshot of what is under way and what is known of those who are
// asked. Models that nobody configured are one a provider.
func (g *Gateway) Live() call.Live {
	now := time.Now()
	l := call.Live{InFlight: g.total.Load()}
	l.Limits, l.Marks = g.limits.Live()
	others := map[[2]string]int64{}
	g.deployments.each(func(d *deployment) {
		if !d.known {
			others[[2]string{d.id.provider, d.id.key}] += d.inFlight.Load()
			return
		}
		l.Models = append(l.Models, d.live(now))
	})
	for id, n := range others {
		l.Models = append(l.Models, call.LiveModel{Provider: id[0], ProviderKey: id[1], Model: "other", InFlight: n})
	}
	slices.SortFunc(l.Models, compareLive)
	l.Forecasts = g.forecasts.live()
	return l
}

func compareLive(a, b call.LiveModel) int {
	return strings.Compare(a.Provider+"/"+a.Model+"/"+a.ProviderKey, b.Provider+"/"+b.Model+"/"+b.ProviderKey)
}
