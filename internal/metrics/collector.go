package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheepgate/sheepgate/internal/call"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holysheep_"+name, help, labels, nil)
}

var (
	descRequests  = desc("request_total", "Calls that ended, by outcome; 429 is apart from 4xx.", "model", "provider", "code")
	descTokens    = desc("tokens_total", "Tokens used; input holds cache reads and writes, output holds reasoning.", "type", "model", "provider")
	descLatency   = desc("latency_seconds", "Time from a request's first byte to its answer's last.", "model", "provider")
	descCost      = desc("cost_total", "Cost of the Calls that have a price.", "currency", "model", "provider")
	descCached    = desc("cached_tokens_total", "Input tokens read from a provider's cache: a part of input.", "model", "provider")
	descWritten   = desc("cache_write_tokens_total", "Input tokens written to a provider's cache: a part of input.", "model", "provider")
	descReasoning = desc("reasoning_tokens_total", "Output tokens spent on reasoning: a part of output.", "model", "provider")
	descTTFT      = desc("ttft_seconds", "Time to the first content, reasoning or tool-call delta of a stream.", "model", "provider")
	descPerToken  = desc("time_per_output_token_seconds", "Time a token after the first one.", "model", "provider")
	descOverhead  = desc("overhead_seconds", "Time that the gateway itself added.", "model", "provider")
	descUnpriced  = desc("unpriced_requests_total", "Calls whose cost is unknown.", "model", "provider")
	descFallbacks = desc("fallbacks_total", "Calls answered by another target than the first.", "model", "provider")
	descAttempts  = desc("attempts_total", "Tries at an upstream, by what became of them.", "model", "provider", "class")
	descInFlight  = desc("in_flight", "Requests under way.", "model", "provider")
	descDenied    = desc("unauthenticated_total", "Requests without a valid key.")
	descLost      = desc("calls_lost_total", "Calls that could not be kept.")
	descPending   = desc("calls_pending", "Calls that ended and are not stored yet.")
	descBuild     = desc("build_info", "The running version.", "version")
)

// A collector writes a table at scrape time.
type collector struct {
	m    *Metrics
	t    *table
	full bool
}

// Describe implements prometheus.Collector. The set is not known beforehand.
func (c collector) Describe(chan<- *prometheus.Desc) {}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (h *histogram) collect(ch chan<- prometheus.Metric, d *prometheus.Desc, labels ...string) {
	sum := h.sum.Load()
	cumulative := make(map[float64]uint64, len(h.le))
	var n uint64
	for i, le := range h.le {
		n += uint64(h.n[i].Load())
		cumulative[le] = n
	}
	n += uint64(h.n[len(h.le)].Load())
	ch <- prometheus.MustNewConstHistogram(d, n, float64(sum)/1e9, cumulative, labels...)
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	c.t.m.Range(func(k, v any) bool {
		m, s := k.(Model), v.(*series)
		at := []string{m.Model, m.Provider}
		for i, code := range call.Codes {
			counter(ch, descRequests, float64(s.codes[i].Load()), m.Model, m.Provider, code)
		}
		counter(ch, descTokens, float64(s.input.Load()), "input", m.Model, m.Provider)
		counter(ch, descTokens, float64(s.output.Load()), "output", m.Model, m.Provider)
		counter(ch, descCost, float64(s.cost.Load())/1e9, "usd", m.Model, m.Provider)
		s.latency.collect(ch, descLatency, at...)
		if !c.full {
			return true
		}
		counter(ch, descCached, float64(s.cached.Load()), at...)
		counter(ch, descWritten, float64(s.written.Load()), at...)
		counter(ch, descReasoning, float64(s.reasoning.Load()), at...)
		counter(ch, descUnpriced, float64(s.unpriced.Load()), at...)
		counter(ch, descFallbacks, float64(s.fallbacks.Load()), at...)
		s.ttft.collect(ch, descTTFT, at...)
		s.perToken.collect(ch, descPerToken, at...)
		s.overhead.collect(ch, descOverhead, at...)
		return true
	})
	if !c.full {
		return
	}
	c.m.attempt.Range(func(k, v any) bool {
		l := k.([3]string)
		counter(ch, descAttempts, float64(v.(*atomic.Int64).Load()), l[1], l[0], l[2])
		return true
	})
	counter(ch, descDenied, float64(c.m.denied.Load()))
	gauge(ch, descBuild, 1, c.m.o.Version)
	if c.m.o.Lost != nil {
		counter(ch, descLost, float64(c.m.o.Lost()))
	}
	if c.m.o.Pending != nil {
		gauge(ch, descPending, float64(c.m.o.Pending()))
	}
	if c.m.o.Live != nil {
		for _, l := range c.m.o.Live().Models {
			gauge(ch, descInFlight, float64(l.InFlight), l.Model, l.Provider)
		}
	}
}
