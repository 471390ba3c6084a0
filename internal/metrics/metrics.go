// Package metrics exposes Calls to Prometheus. Metrics is an observer of the
// call.Recorder: it counts every ended Call in integers, and turns them into
// the exposition formats only when scraped. Start from New.
//
// Labels hold configured or catalogued names and nothing else: a client cannot
// make a series.
package metrics

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sheepgate/sheepgate/internal/call"
)

// Options say what Metrics knows from the start.
type Options struct {
	Models  []Model                           // exist at zero from the start
	Known   func(provider, model string) bool // other names that may be labels; nil means none
	Version string
	Live    func() call.Live
	Pending func() int64
	Lost    func() int64
}

// A Model is a model at a provider.
type Model struct{ Provider, Model string }

// buckets of the latency histograms, in seconds: those the contract names and
// enough between and beyond them that a P95 is within a few per cent.
var buckets = []float64{.05, .1, .175, .25, .35, .5, .7, 1, 1.4, 2, 2.8, 4, 5, 7, 10, 14, 20, 30, 45, 60, 90, 120, 300, 600}

// overheadBuckets are for what the gateway itself adds, in seconds.
var overheadBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}

// histogram counts durations; sum is in nanoseconds.
type histogram struct {
	le    []float64
	n     []atomic.Int64 // one more than le
	sum   atomic.Int64
	count atomic.Int64
}

func newHistogram(le []float64) *histogram {
	return &histogram{le: le, n: make([]atomic.Int64, len(le)+1)}
}

func (h *histogram) add(d time.Duration) {
	s := d.Seconds()
	i := 0
	for i < len(h.le) && s > h.le[i] {
		i++
	}
	h.n[i].Add(1)
	h.sum.Add(int64(d))
	h.count.Add(1)
}

// series are the counts of one model at one provider.
type series struct {
	codes                                     [5]atomic.Int64 // as call.Codes
	input, output, cached, written, reasoning atomic.Int64
	cost                                      atomic.Int64 // nano-USD
	unpriced, fallbacks                       atomic.Int64
	latency, ttft, perToken, overhead         *histogram
}

func newSeries() *series {
	return &series{latency: newHistogram(buckets), ttft: newHistogram(buckets), perToken: newHistogram(perTokenBuckets), overhead: newHistogram(overheadBuckets)}
}

var perTokenBuckets = []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .5, 1}

const (
	other     = "other"
	maxSeries = 1000 // pairs of provider and model; more are other
	maxOwn    = 1000 // keys whose own counts are kept
)

// Metrics counts Calls.
type Metrics struct {
	o       Options
	all     table
	own     sync.Map // key name → *table
	nOwn    atomic.Int64
	denied  atomic.Int64
	attempt sync.Map // [3]string{provider, model, class} → *atomic.Int64
	full    http.Handler
}

// A table holds the series of everything, or of one key.
type table struct {
	m sync.Map // Model → *series
	n atomic.Int64
}

func (t *table) series(m Model) *series {
	if s, ok := t.m.Load(m); ok {
		return s.(*series)
	}
	if t.n.Load() >= maxSeries {
		m = Model{other, other}
	}
	s, loaded := t.m.LoadOrStore(m, newSeries())
	if !loaded {
		t.n.Add(1)
	}
	return s.(*series)
}

// New makes Metrics.
func New(o Options) *Metrics {
	m := &Metrics{o: o}
	for _, model := range o.Models {
		m.all.series(model)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{m, &m.all, true}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.full = handler(reg)
	return m
}

// Unauthenticated counts a request without a valid key.
func (m *Metrics) Unauthenticated() { m.denied.Add(1) }

// label is the pair under which a Call counts.
func (m *Metrics) label(provider, model string) Model {
	l := Model{provider, model}
	if _, ok := m.all.m.Load(l); ok {
		return l
	}
	if provider == "" {
		return Model{other, other} // refused before anybody was asked
	}
	if m.o.Known != nil && m.o.Known(provider, model) {
		return l
	}
	return Model{provider, other}
}

// Observe counts c.
func (m *Metrics) Observe(c *call.Call) {
	l := m.label(c.Provider, c.Model)
	m.all.series(l).add(c)
	if c.Key != "" {
		t, ok := m.own.Load(c.Key)
		if !ok && m.nOwn.Load() < maxOwn {
			var loaded bool
			if t, loaded = m.own.LoadOrStore(c.Key, &table{}); !loaded {
				m.nOwn.Add(1)
			}
			ok = true
		}
		if ok {
			t.(*table).series(l).add(c)
		}
	}
	for _, a := range c.Attempts {
		al := m.label(a.Provider, a.Model)
		class := string(a.ErrorClass)
		if class == "" {
			class = "success"
		}
		k := [3]string{al.Provider, al.Model, class}
		n, ok := m.attempt.Load(k)
		if !ok {
			n, _ = m.attempt.LoadOrStore(k, new(atomic.Int64))
		}
		n.(*atomic.Int64).Add(1)
	}
}

func (s *series) add(c *call.Call) {
	code := c.Code()
	for i, name := range call.Codes {
		if name == code {
			s.codes[i].Add(1)
		}
	}
	u := &c.Usage
	s.input.Add(u.Input)
	s.output.Add(u.Output)
	s.cached.Add(u.CacheRead)
	s.written.Add(u.CacheWrite5m + u.CacheWrite1h)
	s.reasoning.Add(u.Reasoning)
	if c.Unpriced {
		s.unpriced.Add(1)
	} else {
		s.cost.Add(int64(c.Cost))
	}
	if len(c.Attempts) > 1 && c.Attempts[0].Provider+"/"+c.Attempts[0].Model != c.Provider+"/"+c.Model {
		s.fallbacks.Add(1)
	}
	s.latency.add(c.Latency)
	s.overhead.add(c.Overhead)
	if c.TTFT > 0 {
		s.ttft.add(c.TTFT)
		if u.Output > 1 && c.Latency > c.TTFT {
			s.perToken.add((c.Latency - c.TTFT) / time.Duration(u.Output-1))
		}
	}
}

// Handler serves GET /v1/metrics: everything to the admin key and to keys that
// may read metrics, to another key the contract's four metrics of its own Calls.
func (m *Metrics) Handler(auth call.Auth) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := auth(call.Credential(r))
		if !ok {
			m.Unauthenticated()
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":{"message":"no valid key: send one as Authorization: Bearer","type":"authentication_error","param":null,"code":"invalid_api_key"}}`)
			return
		}
		if p.Admin || p.Metrics {
			m.full.ServeHTTP(w, r)
			return
		}
		t, ok := m.own.Load(p.Key)
		if !ok {
			t = &table{}
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(collector{m, t.(*table), false})
		handler(reg).ServeHTTP(w, r)
	})
}

func handler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
}
