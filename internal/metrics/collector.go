package metrics

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

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
	descBadUsage  = desc("usage_invalid_total", "Calls whose provider reported a usage that could not be believed: it was estimated instead.", "model", "provider")
	descFallbacks = desc("fallbacks_total", "Calls answered by another target than the first.", "model", "provider")
	descAttempts  = desc("attempts_total", "Tries at an upstream, by what became of them.", "model", "provider", "class")
	descInFlight  = desc("in_flight", "Requests under way.", "model", "provider")
	descChecks    = desc("quality_checks_total", "Results of the quality checks.", "check", "result", "model")
	descDenied    = desc("unauthenticated_total", "Requests without a valid key.")
	descShed      = desc("shed_total", "Requests that were refused because the gateway itself was overloaded.")
	descLost      = desc("calls_lost_total", "Calls that could not be kept.")
	descBare      = desc("bodies_lost_total", "Bodies that should have been kept and were not: the store was too slow for them.")
	descPending   = desc("calls_pending", "Calls that ended and are not stored yet.")
	descReloads   = desc("config_reloads_total", "Times that the configuration was read again, by result.", "result")
	descReloadBad = desc("config_reload_failed", "1 if the configuration could not be read when it last changed: the one before is in force.")

	descLimit      = desc("limit", "What a rule allows: a minute, at the same time, or of a budget in its period, in USD.", "rule", "kind")
	descLimitUsed  = desc("limit_used", "What of it is used or reserved.", "rule", "kind")
	descRefused    = desc("limit_refused_total", "Requests and attempts that a rule refused.", "rule")
	descOver       = desc("limit_overshoot_total", "What calls came to beyond what was reserved for them.", "rule", "unit")
	descBudgetEnds = desc("budget_seconds_left", "Time until a budget is used up if spending goes on as in the last hour.", "rule", "period")
	descUpLimit    = desc("provider_limit", "What a provider allows, as it says itself.", "provider", "provider_key", "model", "kind")
	descUpLeft     = desc("provider_limit_remaining", "What a provider has left of it, as far as it says and that is fresh.", "provider", "provider_key", "model", "kind")
	descHealth     = desc("provider_up", "1 if requests go there, 0.5 if one is trying whether they may again, 0 if they go elsewhere.", "provider", "provider_key", "model")
	descUpTTFT     = desc("provider_ttft_seconds", "Moving average until the first content of a stream.", "provider", "provider_key", "model")
	descForecast   = desc("forecast_output_tokens", "How long answers are, by quantile.", "model", "quantile")

	descBuild = desc("build_info", "The running version.", "version")
)

// A collector writes a table at scrape time: a full one with all that m knows.
type collector struct {
	m *Metrics
	t *table
}

// Describe implements prometheus.Collector. The set is not known beforehand.
func (c collector) Describe(chan<- *prometheus.Desc) {}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, n int64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for l, s := range *c.t.m.Load() {
		s.collect(ch, l)
	}
	if !c.t.full {
		return
	}
	c.m.collectChecks(ch)
	counter(ch, descDenied, c.m.denied.Load())
	counter(ch, descShed, c.m.shed.Load())
	gauge(ch, descBuild, 1, cmp.Or(c.m.o.Version, "unknown"))
	if c.m.o.Reloads != nil {
		good, bad, failing := c.m.o.Reloads()
		counter(ch, descReloads, good, "success")
		counter(ch, descReloads, bad, "error")
		gauge(ch, descReloadBad, map[bool]float64{true: 1}[failing])
	}
	if c.m.o.Lost != nil {
		counter(ch, descLost, c.m.o.Lost())
	}
	if c.m.o.Bare != nil {
		counter(ch, descBare, c.m.o.Bare())
	}
	if c.m.o.Pending != nil {
		gauge(ch, descPending, float64(c.m.o.Pending()))
	}
	if c.m.o.Live != nil {
		c.m.collectLive(ch, c.m.o.Live())
	}
}

func (s *series) collect(ch chan<- prometheus.Metric, l Model) {
	at := []string{l.Model, l.Provider}
	pairs := []*dto.LabelPair{pair("model", l.Model), pair("provider", l.Provider)}
	for i, code := range call.Codes {
		counter(ch, descRequests, s.codes[i].Load(), l.Model, l.Provider, code)
	}
	counter(ch, descTokens, s.input.Load(), "input", l.Model, l.Provider)
	counter(ch, descTokens, s.output.Load(), "output", l.Model, l.Provider)
	ch <- prometheus.MustNewConstMetric(descCost, prometheus.CounterValue, float64(s.cost.Load())/1e9, "usd", l.Model, l.Provider)
	ch <- sample{descLatency, s.latency, pairs}
	if s.extra == nil {
		return
	}
	counter(ch, descCached, s.cached.Load(), at...)
	counter(ch, descWritten, s.written.Load(), at...)
	counter(ch, descReasoning, s.reasoning.Load(), at...)
	counter(ch, descUnpriced, s.unpriced.Load(), at...)
	counter(ch, descBadUsage, s.badUsage.Load(), at...)
	counter(ch, descFallbacks, s.fallbacks.Load(), at...)
	for d, h := range map[*prometheus.Desc]*histogram{descTTFT: s.ttft, descPerToken: s.perToken, descOverhead: s.overhead} {
		if h.used() { // fifty lines a model, most of whose models are never called
			ch <- sample{d, h, pairs}
		}
	}
	for i, class := range classes {
		if n := s.attempts[i].Load(); n > 0 || i == 0 {
			counter(ch, descAttempts, n, l.Model, l.Provider, string(class))
		}
	}
}

func pair(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

func (m *Metrics) collectChecks(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	checks := maps.Clone(m.checks)
	m.mu.Unlock()
	for k, n := range checks {
		counter(ch, descChecks, n, k[0], k[1], k[2])
	}
}

// collectLive writes what the data plane publishes, summed where two deployments
// share a label.
func (m *Metrics) collectLive(ch chan<- prometheus.Metric, live call.Live) {
	inFlight := map[Model]int64{}
	for _, l := range live.Models {
		inFlight[m.label(l.Provider, l.Model)] += l.InFlight
	}
	for l, n := range inFlight {
		gauge(ch, descInFlight, float64(n), l.Model, l.Provider)
	}
	m.collectRules(ch, live.Limits)
	collectProviders(ch, live.Models)
	for _, f := range live.Forecasts {
		if f.Key == "" {
			model := m.label("", f.Model).Model
			if model == other {
				continue
			}
			gauge(ch, descForecast, float64(f.P50), model, "0.5")
			gauge(ch, descForecast, float64(f.P95), model, "0.95")
		}
	}
}

// collectRules writes what rules bound: as many as have room under maxSeries,
// in the order of the configuration.
func (m *Metrics) collectRules(ch chan<- prometheus.Metric, rules []call.LiveLimit) {
	now := time.Now()
	for _, r := range rules[:min(len(rules), maxSeries)] {
		for kind, v := range map[string]call.LiveRate{"requests": r.Requests, "tokens": r.Tokens, "input_tokens": r.Input, "output_tokens": r.Output, "concurrent": r.Concurrent} {
			if v.Limit > 0 {
				gauge(ch, descLimit, float64(v.Limit), r.Rule, kind)
				gauge(ch, descLimitUsed, float64(v.Used), r.Rule, kind)
			}
		}
		counter(ch, descRefused, r.Refused, r.Rule)
		if r.OverTokens > 0 {
			counter(ch, descOver, r.OverTokens, r.Rule, "tokens")
		}
		if r.OverCost > 0 {
			ch <- prometheus.MustNewConstMetric(descOver, prometheus.CounterValue, float64(r.OverCost)/1e9, r.Rule, "usd")
		}
		for _, b := range r.Budgets {
			gauge(ch, descLimit, float64(b.Amount)/1e9, r.Rule, "usd_"+b.Period)
			gauge(ch, descLimitUsed, float64(b.Spent+b.Reserved)/1e9, r.Rule, "usd_"+b.Period)
			if !b.Exhausted.IsZero() {
				gauge(ch, descBudgetEnds, max(b.Exhausted.Sub(now).Seconds(), 0), r.Rule, b.Period)
			}
		}
	}
}

// collectProviders writes how those are who have been asked.
func collectProviders(ch chan<- prometheus.Metric, models []call.LiveModel) {
	for _, l := range models[:min(len(models), maxSeries)] {
		if l.State == "" { // several, of which nothing is kept apart
			continue
		}
		at := []string{l.Provider, l.ProviderKey, l.Model}
		gauge(ch, descHealth, map[string]float64{"closed": 1, "half_open": 0.5}[l.State], at...)
		if l.TTFT > 0 {
			gauge(ch, descUpTTFT, l.TTFT/1e3, at...)
		}
		for _, room := range l.Rooms {
			labels := append(at[:3:3], room.Kind)
			if room.Limit > 0 {
				gauge(ch, descUpLimit, float64(room.Limit), labels...)
			}
			gauge(ch, descUpLeft, float64(room.Remaining), labels...)
		}
	}
}

// zeros makes the series of the configured models, for a key that may use any.
func (t *table) zeros(models []Model) *table {
	all := maps.Clone(*t.m.Load())
	for _, l := range models[:min(len(models), maxSeries)] {
		if _, ok := all[l]; !ok {
			all[l] = newSeries(false)
		}
	}
	z := newTable(false)
	z.m.Store(&all)
	return z
}

// uses is p's models as the metrics name them: those of its list that are
// configured by that very name, or all.
func (m *Metrics) uses(p *call.Principal) []Model {
	if len(p.Models) == 0 {
		return m.labels.Load().configured
	}
	var list []Model
	for _, l := range m.labels.Load().configured {
		if slices.Contains(p.Models, l.Model) || slices.Contains(p.Models, l.Provider+"/"+l.Model) {
			list = append(list, l)
		}
	}
	return list
}
