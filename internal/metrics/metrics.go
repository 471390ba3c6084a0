// Package metrics exposes Calls to Prometheus. Metrics is an observer of the
// call.Recorder: it counts every ended Call in integers, and turns them into
// the exposition formats only when scraped. Start from New.
//
// Labels hold configured or catalogued names and nothing else: a client cannot
// make a series.
package metrics

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sheepgate/sheepgate/internal/call"
)

// Options say what Metrics knows from the start.
type Options struct {
	Models    []Model                           // exist at zero from the start
	Providers []string                          // further configured providers, beside those of Models
	Known     func(provider, model string) bool // other names that may be labels; asked for configured providers only; nil means none
	Version   string
	Live      func() call.Live
	Pending   func() int64
	Lost      func() int64
	Bare      func() int64
	Reloads   func() (good, bad int64, failing bool) // of the configuration; nil: it is never read again
}

// A Model is a model at a provider.
type Model struct{ Provider, Model string }

const (
	other     = "other"
	maxSeries = 1000 // pairs of provider and model, one of them other
	maxOwn    = 1000 // keys whose own counts are kept; a later key sees none
	maxChecks = 50   // quality checks, and results
)

// Metrics counts Calls. Nothing is locked on the way of one that ended.
type Metrics struct {
	o      Options
	labels atomic.Pointer[labels]
	all    *table
	own    atomic.Pointer[map[string]*table] // by key; replaced, never changed
	denied atomic.Int64
	shed   atomic.Int64
	full   http.Handler

	mu      sync.Mutex // for replacing own, and for checks
	checks  map[[3]string]int64
	names   map[string]bool // of checks
	results map[string]bool
}

// New makes Metrics.
func New(o Options) *Metrics {
	m := &Metrics{o: o, all: newTable(true), checks: map[[3]string]int64{}, names: map[string]bool{}, results: map[string]bool{}}
	m.Configure(o.Models, o.Providers)
	m.own.Store(&map[string]*table{})
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{m, m.all}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.full = handler(reg)
	return m
}

// labels are the names that may be labels.
type labels struct {
	configured []Model
	providers  map[string]bool
	models     map[string]bool
}

// Configure sets Options.Models and Providers anew. What has been counted stays
// under its name.
func (m *Metrics) Configure(models []Model, providers []string) {
	l := &labels{configured: models, providers: map[string]bool{}, models: map[string]bool{}}
	for _, p := range providers {
		l.providers[p] = true
	}
	for _, model := range models {
		l.providers[model.Provider] = true
		l.models[model.Model] = true
		m.all.series(model)
	}
	m.labels.Store(l)
}

// Unauthenticated counts a request without a valid key.
func (m *Metrics) Unauthenticated() { m.denied.Add(1) }

// label is the pair under which a Call counts. The names of a Call that was
// imported, or refused before anybody was asked, may be anything.
func (m *Metrics) label(provider, model string) Model {
	l := Model{provider, model}
	if _, ok := (*m.all.m.Load())[l]; ok {
		return l
	}
	names := m.labels.Load()
	if !names.providers[provider] {
		if !names.models[model] {
			model = other
		}
		return Model{other, model}
	}
	if m.o.Known != nil && m.o.Known(provider, model) {
		return l
	}
	return Model{provider, other}
}

// Observe counts c.
func (m *Metrics) Observe(c *call.Call) {
	l := m.label(c.Provider, c.Model)
	s := m.all.series(l)
	s.add(c)
	if c.Shed() {
		m.shed.Add(1)
	}
	if t := m.ownTable(c.Key); t != nil {
		t.series(l).add(c)
	}
	for i := range c.Attempts {
		a := &c.Attempts[i]
		at := s
		if a.Provider != c.Provider || a.Model != c.Model {
			at = m.all.series(m.label(a.Provider, a.Model))
		}
		at.attempts[classIndex(a.ErrorClass)].Add(1)
	}
}

// ownTable holds the counts of a key, nil if it has none.
func (m *Metrics) ownTable(key string) *table {
	if key == "" {
		return nil
	}
	if t, ok := (*m.own.Load())[key]; ok {
		return t
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.own.Load()
	if t, ok := old[key]; ok || len(old) >= maxOwn {
		return t
	}
	now := maps.Clone(old)
	now[key] = newTable(false)
	m.own.Store(&now)
	return now[key]
}

// Write implements call.Sink: it counts the results of the quality checks, which
// are made after a Call has ended. It belongs after the checks in the list of
// sinks.
func (m *Metrics) Write(_ context.Context, batch []call.Entry) error {
	for _, e := range batch {
		if len(e.Quality) == 0 {
			continue
		}
		model := m.label(e.Provider, e.Model).Model
		m.mu.Lock()
		for check, result := range e.Quality {
			m.checks[[3]string{sticky(m.names, check), sticky(m.results, result), model}]++
		}
		m.mu.Unlock()
	}
	return nil
}

// sticky is s while there is room among the seen, else other.
func sticky(seen map[string]bool, s string) string {
	if seen[s] {
		return s
	}
	if len(seen) >= maxChecks || s == "" || len(s) > 64 {
		return other
	}
	seen[s] = true
	return s
}
