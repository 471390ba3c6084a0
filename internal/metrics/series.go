package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// classes are what an attempt may come to; the last is for what we do not know.
var classes = [...]llm.ErrorClass{"success", llm.InvalidRequest, llm.Unauthenticated, llm.Forbidden, llm.NotFound, llm.TooLarge,
	llm.LimitExceeded, llm.BudgetExceeded, llm.RateLimited, llm.ProviderAuth, llm.UpstreamError, llm.Overloaded, llm.BadUpstream,
	llm.Timeout, llm.Connect, llm.StreamBroken, llm.Canceled, llm.Internal, other}

func classIndex(c llm.ErrorClass) int {
	if c == "" {
		return 0
	}
	for i := 1; i < len(classes)-1; i++ {
		if classes[i] == c {
			return i
		}
	}
	return len(classes) - 1
}

// series are the counts of one model at one provider.
type series struct {
	codes                                     [5]atomic.Int64 // as call.Codes
	input, output, cached, written, reasoning atomic.Int64
	cost                                      atomic.Int64 // nano-USD
	latency                                   *histogram

	*extra // nil in the series of a key
}

// extra is what only the full set of metrics shows.
type extra struct {
	unpriced, fallbacks      atomic.Int64
	badUsage                 atomic.Int64
	attempts                 [len(classes)]atomic.Int64
	ttft, perToken, overhead *histogram
}

func newSeries(full bool) *series {
	if !full {
		return &series{latency: newHistogram(latencyBounds, nil)}
	}
	return &series{latency: newHistogram(latencyBounds, &native{}), extra: &extra{
		ttft: newHistogram(latencyBounds, &native{}), perToken: newHistogram(perTokenBounds, nil), overhead: newHistogram(overheadBounds, nil),
	}}
}

func (s *series) add(c *call.Call) {
	s.codes[codeIndex(c)].Add(1)
	u := &c.Usage
	add := func(to *atomic.Int64, n int64) {
		if n > 0 { // a counter never falls, whatever is imported
			to.Add(n)
		}
	}
	add(&s.input, u.Input)
	add(&s.output, u.Output)
	if !c.Unpriced {
		add(&s.cost, int64(c.Cost))
	}
	s.latency.add(c.Latency)
	if s.extra == nil {
		return
	}
	add(&s.cached, u.CacheRead)
	add(&s.written, u.CacheWrite5m+u.CacheWrite1h)
	add(&s.reasoning, u.Reasoning)
	if c.Unpriced {
		s.unpriced.Add(1)
	}
	if len(c.Attempts) > 1 && (c.Attempts[0].Provider != c.Provider || c.Attempts[0].Model != c.Model) {
		s.fallbacks.Add(1)
	}
	if c.BadUsage() {
		s.badUsage.Add(1)
	}
	s.overhead.add(c.Overhead)
	if c.TTFT > 0 {
		s.ttft.add(c.TTFT)
		if u.Output > 1 && c.Latency > c.TTFT {
			s.perToken.add((c.Latency - c.TTFT) / time.Duration(u.Output-1))
		}
	}
}

func codeIndex(c *call.Call) int {
	code := c.Code()
	for i, name := range call.Codes {
		if name == code {
			return i
		}
	}
	return 3 // 5xx; Code knows no other
}

// A table holds the series of everything, or of one key. Reading takes no lock:
// the map is replaced, never changed.
type table struct {
	full bool
	m    atomic.Pointer[map[Model]*series]
	mu   sync.Mutex // for replacing it
}

func newTable(full bool) *table {
	t := &table{full: full}
	t.m.Store(&map[Model]*series{})
	return t
}

// series gives m's, and makes it if there is none. A full table sums the rest
// as other.
func (t *table) series(m Model) *series {
	if s, ok := (*t.m.Load())[m]; ok {
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.m.Load()
	if len(old) >= maxSeries {
		m = Model{other, other}
	}
	if s, ok := old[m]; ok {
		return s
	}
	s := newSeries(t.full)
	now := maps.Clone(old)
	now[m] = s
	t.m.Store(&now)
	return s
}
