package sim

import (
	"iter"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// PastOptions say what a past was like. The traffic is Traffic's own, and grew
// until it was what Rate says.
type PastOptions struct {
	Until   time.Time
	Span    time.Duration // how long it was
	Calls   int           // about how many there were
	Traffic TrafficOptions
	Targets func(model string) []string // what a name that is asked for means, by names of Models; nil: itself
}

// An Ended is a call of a past that never was: what a gateway would have seen
// of the same clients, and of the same models answering them.
type Ended struct {
	Start         time.Time
	Key           int // of the clients' keys
	User, Session string
	Tags          map[string]string
	Ingress       string // openai.chat, anthropic.messages, gemini.generate
	Asked         string // the model's name as the client wrote it
	Stream        bool

	Tries   []Try
	Status  int  // HTTP status for the client; 499 if it left before there was one
	Left    bool // the client left
	Broken  bool // the stream died after its 200
	Message string
	Latency time.Duration // tries and the waits between them
	TTFT    time.Duration // of a stream

	ResponseID string
	Finish     llm.FinishReason
	Usage      llm.Usage
}

// A Try is one request to a provider.
type Try struct {
	Model   *Model
	Status  int // 0 if the client left first
	Latency time.Duration
}

// spoken is how many tokens a hundred tokens of speak's English are when they
// are read again.
const spoken = 112

// Past makes up a past, newest first. The same options give the same past.
func Past(o PastOptions) iter.Seq[*Ended] {
	t := o.Traffic.filled()
	return func(yield func(*Ended) bool) {
		g := &generator{o: t, r: rand.New(rand.NewPCG(t.Seed, 2)), silent: true}
		p := &past{o: o, g: g, keys: 1 + len(t.Keys), system: make([]int, len(applications))}
		for i := range applications {
			p.system[i] = tokens(applications[i].system)
		}
		half := o.halving(t.Rate)
		for age := time.Duration(0); ; {
			rate := t.wave(-age) / (1 + float64(age)/float64(half)) * calendar(o.Until.Add(-age)) / calendar(o.Until)
			age += time.Duration(g.r.ExpFloat64() / rate * float64(time.Second))
			if age >= o.Span || !yield(p.call(o.Until.Add(-age))) {
				return
			}
		}
	}
}

// halving is the age at which there was half the traffic of today, so that the
// whole past has o.Calls: rate ÷ (1 + age/half) over the span, by bisection.
func (o *PastOptions) halving(rate float64) time.Duration {
	low, high := 1.0, 1e9
	for range 60 {
		mid := math.Sqrt(low * high)
		if rate*mid*math.Log(1+o.Span.Seconds()/mid) < float64(o.Calls) {
			low = mid
		} else {
			high = mid
		}
	}
	return time.Duration(low * float64(time.Second))
}

// calendar is how busy a day of the week is.
func calendar(t time.Time) float64 {
	if d := t.UTC().Weekday(); d == time.Saturday || d == time.Sunday {
		return 0.55
	}
	return 1
}

type past struct {
	o      PastOptions
	g      *generator
	keys   int
	system []int // tokens of each application's system prompt
	n      uint64
}

const (
	retries    = 3 // tries of a call, as the gateway's default
	clientLeft = 499
)

// call makes up the next call, which began at.
func (p *past) call(at time.Time) *Ended {
	pl, r := p.g.plan(), p.g.r
	s := pl.s
	p.n++
	e := &Ended{Start: at, Key: s.key(p.keys), User: s.user, Session: s.id, Ingress: pl.ingress, Asked: pl.model, Stream: pl.stream,
		Tags: map[string]string{"app": pl.app.name, "feature": pl.app.feature, "env": pl.app.env}, Usage: llm.Usage{Source: llm.UsageNone}}
	defer p.g.reply(s)
	if pl.model == noSuchModel {
		e.Status, e.Message, e.Latency = http.StatusNotFound, "model \""+pl.model+"\" is not known", time.Duration(100+r.IntN(300))*time.Microsecond
		return e
	}
	targets := []string{pl.model}
	if p.o.Targets != nil {
		targets = p.o.Targets(pl.model)
	}
	for n := range retries {
		m, ok := find(targets[n%len(targets)], "")
		if !ok {
			panic("sim: no model " + targets[n%len(targets)])
		}
		wait := p.try(e, pl, m, at)
		if e.Status < http.StatusTooManyRequests || e.Left || n == retries-1 {
			break
		}
		if len(targets) == 1 {
			e.Latency += wait
		}
	}
	return e
}

// try asks m once, and says how long to wait before trying it again.
func (p *past) try(e *Ended, pl plan, m *Model, at time.Time) (wait time.Duration) {
	r := p.g.r
	d := m.draw(r, false)
	if s, bad := m.spell(at); bad {
		s.mark(&d, m, r)
	}
	t := Try{Model: m, Status: d.status, Latency: d.latency}
	e.Message = ""
	switch {
	case pl.wrong:
		t.Status, t.Latency, e.Message = http.StatusBadRequest, time.Duration(3+r.IntN(9))*time.Millisecond, "max_tokens: Field required"
		e.Status = t.Status
	case pl.leave > 0 && pl.leave < d.latency:
		t.Status, t.Latency, e.Left, e.Status = 0, pl.leave, true, clientLeft
		if d.status == 0 {
			if pl.stream && d.ttft < pl.leave {
				t.Status, e.Status, e.TTFT = http.StatusOK, http.StatusOK, e.Latency+d.ttft
				p.answer(e, pl, m, d)
				e.part(float64(pl.leave) / float64(d.latency))
			}
		}
	case d.status == 0:
		t.Status, e.Status = http.StatusOK, http.StatusOK
		p.answer(e, pl, m, d)
		if pl.stream {
			e.TTFT = e.Latency + d.ttft
		}
	case pl.stream && d.breaks:
		f := failureOf(d.status, m, r)
		t.Status, t.Latency = http.StatusOK, d.ttft+time.Duration(r.Float64()*float64(d.latency-d.ttft))
		e.Status, e.Broken, e.Message, e.TTFT = http.StatusOK, true, f.msg, e.Latency+d.ttft
		p.answer(e, pl, m, d)
		e.part(float64(t.Latency) / float64(d.latency))
	default:
		f := failureOf(d.status, m, r)
		e.Status, e.Message = d.status, f.msg
		wait = max(time.Duration(f.wait)*time.Second, 100*time.Millisecond)
		if d.status == statusOverloaded {
			e.Status = http.StatusServiceUnavailable
		}
	}
	e.Tries = append(e.Tries, t)
	e.Latency += t.Latency
	return wait
}

// answer is compose's, without its words.
func (p *past) answer(e *Ended, pl plan, m *Model, d draw) {
	r := p.g.r
	limit := pl.limit
	if limit == 0 && pl.ingress == "anthropic.messages" {
		limit = defaultLimit
	}
	a := &answer{q: &ask{maxTokens: limit, cache: pl.ingress == "anthropic.messages" && pl.app.caches()}, m: m, rng: r, n: p.n, created: e.Start.Unix()}
	a.input = p.system[pl.s.app] + pl.s.tokens + 4*(pl.s.said+1) + 3
	if pl.tools {
		a.input += 12 + len(orderSchema)/5
	}
	a.cached(r)
	room := a.think(d)
	out := d.output
	e.Finish = llm.FinishStop
	switch odd := r.Float64(); {
	case pl.tools && r.IntN(4) > 0:
		out, e.Finish = 26, llm.FinishTools
	case odd < 0.004 && !pl.json:
		out, e.Finish = 6, llm.FinishFilter
	case pl.json:
		out = 30 + r.IntN(40)
	}
	if room > 0 && out > room {
		out, e.Finish = room, llm.FinishLength
	}
	a.output = out + a.reasoning
	e.Usage = llm.Usage{Source: llm.UsageUpstream, Input: int64(a.input), Output: int64(a.output), CacheRead: int64(a.cacheRead),
		CacheWrite5m: int64(a.cacheWrite), Reasoning: int64(a.reasoning)}
	prefix := map[string]string{"anthropic": "msg_01", "gemini": ""}
	if x, ok := prefix[m.Vendor]; ok {
		e.ResponseID = a.id(x, 22, 0)
	} else {
		e.ResponseID = a.id("chatcmpl-", 24, 0)
	}
}

// part leaves the share x of an answer: what came before it broke off, as the
// gateway would estimate it.
func (e *Ended) part(x float64) {
	u := &e.Usage
	e.Finish = llm.FinishNone
	u.Output = max(1, int64(x*float64(u.Output)))
	u.Reasoning = min(u.Reasoning, u.Output)
	u.CacheRead, u.CacheWrite5m, u.Source = 0, 0, llm.UsageEstimated
}
