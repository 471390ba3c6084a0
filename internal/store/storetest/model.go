package storetest

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// A model keeps Calls in a map and answers by looking at each: what an engine
// says must be what it says. It shares no code with the engines.
type model struct {
	calls  map[string]*call.Call
	bodies map[string]*call.Exchange
}

func (m *model) add(c *call.Call) bool {
	if m.calls[c.ID] != nil {
		return false
	}
	m.calls[c.ID] = c
	return true
}

// list is everything that matches, newest first.
func (m *model) list(q store.List) []*call.Call {
	var out []*call.Call
	for _, c := range m.calls {
		if !q.From.IsZero() && c.StartedAt.Before(q.From) || !q.To.IsZero() && !c.StartedAt.Before(q.To) {
			continue
		}
		if !q.Filter.Matches(c) || q.Text != "" && !store.HasText(c, strings.ToLower(q.Text)) {
			continue
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *call.Call) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), strings.Compare(b.ID, a.ID))
	})
	return out
}

// reprice changes what it selects and says what became of it.
func (m *model) reprice(q store.Repricing) []store.Repriced {
	models := map[[2]string]*store.Repriced{}
	for _, c := range m.list(store.List{From: q.From, To: q.To, Filter: q.Filter}) {
		if q.Unpriced && !c.Unpriced {
			continue
		}
		key := [2]string{c.Provider, c.Model}
		if models[key] == nil {
			models[key] = &store.Repriced{Provider: c.Provider, Model: c.Model}
		}
		s := models[key]
		s.Calls++
		known := !c.Unpriced
		if known {
			s.Old += c.Cost
		}
		d := clone(c) // what is in the model is nobody else's
		d.Attempts = slices.Clone(c.Attempts)
		if q.Price(d) {
			s.Changed++
		}
		if d.Unpriced {
			s.Unpriced++
		} else {
			s.New += d.Cost
			if !known {
				s.Priced++
			}
		}
		if !q.DryRun {
			*c = *d
		}
	}
	list := []store.Repriced{}
	for _, s := range models {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b store.Repriced) int {
		return cmp.Or(strings.Compare(a.Provider, b.Provider), strings.Compare(a.Model, b.Model))
	})
	return list
}

// A bin is the Calls of one group and step.
type bin []*call.Call

func (b bin) sum(f func(*call.Call) int64) store.Value {
	var n int64
	for _, c := range b {
		n += f(c)
	}
	return store.Value{Kind: store.Int, Int: n}
}

func (b bin) count(f func(*call.Call) bool) store.Value {
	return b.sum(func(c *call.Call) int64 {
		if f(c) {
			return 1
		}
		return 0
	})
}

// percentile is the exact nearest-rank one, in milliseconds.
func percentile(p int, times []time.Duration) store.Value {
	if len(times) == 0 {
		return store.Value{}
	}
	slices.Sort(times)
	rank := int(math.Ceil(float64(p) / 100 * float64(len(times))))
	return store.Value{Kind: store.Float, Float: float64(times[max(rank, 1)-1]) / float64(time.Millisecond)}
}

func (b bin) measure(name string) store.Value {
	switch name {
	case "requests":
		return b.count(func(*call.Call) bool { return true })
	case "errors_4xx":
		return b.count(func(c *call.Call) bool { return c.Code() == "4xx" })
	case "errors_429":
		return b.count(func(c *call.Call) bool { return c.Code() == "429" })
	case "errors_5xx":
		return b.count(func(c *call.Call) bool { return c.Code() == "5xx" })
	case "canceled":
		return b.count(func(c *call.Call) bool { return c.Status == call.Canceled })
	case "unpriced":
		return b.count(func(c *call.Call) bool { return c.Unpriced })
	case "input_tokens":
		return b.sum(func(c *call.Call) int64 { return c.Usage.Input })
	case "output_tokens":
		return b.sum(func(c *call.Call) int64 { return c.Usage.Output })
	case "cache_read_tokens":
		return b.sum(func(c *call.Call) int64 { return c.Usage.CacheRead })
	case "cache_write_tokens":
		return b.sum(func(c *call.Call) int64 { return c.Usage.CacheWrite5m + c.Usage.CacheWrite1h })
	case "reasoning_tokens":
		return b.sum(func(c *call.Call) int64 { return c.Usage.Reasoning })
	case "cost_nano_usd":
		return b.sum(func(c *call.Call) int64 {
			if c.Unpriced {
				return 0
			}
			return int64(c.Cost)
		})
	case "latency_avg":
		if len(b) == 0 {
			return store.Value{}
		}
		return store.Value{Kind: store.Float, Float: float64(b.sum(func(c *call.Call) int64 { return int64(c.Latency) }).Int) / float64(len(b)) / 1e6}
	case "latency_p50", "latency_p95", "latency_p99", "ttft_p50", "ttft_p95", "ttft_p99":
		var p int
		_, _ = fmt.Sscanf(name[strings.LastIndexByte(name, 'p')+1:], "%d", &p)
		var times []time.Duration
		for _, c := range b {
			if strings.HasPrefix(name, "latency") {
				times = append(times, c.Latency)
			} else if c.TTFT > 0 {
				times = append(times, c.TTFT)
			}
		}
		return percentile(p, times)
	case "output_tokens_per_second":
		var tokens int64
		var took time.Duration
		for _, c := range b {
			if c.Stream && c.TTFT > 0 && c.Latency > c.TTFT {
				tokens += c.Usage.Output
				took += c.Latency - c.TTFT
			}
		}
		if took == 0 {
			return store.Value{}
		}
		return store.Value{Kind: store.Float, Float: float64(tokens) / took.Seconds()}
	}
	panic("measure " + name)
}

// compare says how an answer differs from what the Calls say.
func (m *model) compare(q store.Query, got *store.Result) error {
	zone := q.Zone
	if zone == nil {
		zone = time.UTC
	}
	groups := map[string]bin{}
	var all bin
	for _, c := range m.calls {
		if c.StartedAt.Before(q.From) || !c.StartedAt.Before(q.To) || !q.Filter.Matches(c) {
			continue
		}
		if _, named := q.Filter["origin"]; !named && slices.Contains(call.Synthetic, c.Origin) {
			continue
		}
		var key []string
		for _, d := range q.GroupBy {
			f, err := store.Dimension(d)
			if err != nil {
				return err
			}
			key = append(key, f(c))
		}
		k := strings.Join(key, "\x00")
		groups[k] = append(groups[k], c)
		all = append(all, c)
	}
	if err := equal(q, "total", got.Total, all); err != nil {
		return err
	}
	want := min(len(groups), store.MaxGroups)
	named := got.Series
	if len(groups) > store.MaxGroups {
		if len(got.Series) != want+1 {
			return fmt.Errorf("%d series for %d groups", len(got.Series), len(groups))
		}
		named = got.Series[:want]
	} else if len(got.Series) != want {
		return fmt.Errorf("%d series for %d groups", len(got.Series), want)
	}
	size := func(b bin) float64 {
		v := b.measure(q.Measures[0])
		if v.Kind == store.Int {
			return float64(v.Int)
		}
		return v.Float
	}
	least := math.Inf(1)
	for i, s := range named {
		var key []string
		for _, d := range q.GroupBy {
			key = append(key, s.Group[d])
		}
		k := strings.Join(key, "\x00")
		b, ok := groups[k]
		if !ok {
			return fmt.Errorf("group %v is not there, or there twice", s.Group)
		}
		delete(groups, k)
		if err := series(q, zone, s, b); err != nil {
			return fmt.Errorf("series %d, %v: %w", i, s.Group, err)
		}
		least = min(least, size(b))
	}
	var rest bin
	for _, b := range groups {
		if size(b) > least*1.011 { // percentiles may be 1 % off
			return fmt.Errorf("a group of %v is summed as other, one of %v is not", size(b), least)
		}
		rest = append(rest, b...)
	}
	if len(rest) > 0 {
		return series(q, zone, got.Series[len(got.Series)-1], rest)
	}
	return nil
}

func series(q store.Query, zone *time.Location, s store.Series, b bin) error {
	if err := equal(q, "total", s.Total, b); err != nil {
		return err
	}
	if q.Step.IsZero() {
		if len(s.Points) != 1 || s.Points[0].Time != q.From.Unix() {
			return fmt.Errorf("points %v of a query without steps", s.Points)
		}
		return equal(q, "its point", s.Points[0].Values, b)
	}
	steps := map[int64]bin{}
	for _, c := range b {
		t := q.Step.Start(c.StartedAt, zone).Unix()
		steps[t] = append(steps[t], c)
	}
	if len(steps) != len(s.Points) {
		return fmt.Errorf("%d points, %d steps hold calls", len(s.Points), len(steps))
	}
	if !sort.SliceIsSorted(s.Points, func(i, j int) bool { return s.Points[i].Time < s.Points[j].Time }) {
		return fmt.Errorf("the points are out of order")
	}
	for _, p := range s.Points {
		if err := equal(q, time.Unix(p.Time, 0).UTC().String(), p.Values, steps[p.Time]); err != nil {
			return err
		}
	}
	return nil
}

// equal compares values: counts and sums must be equal, an average to the last
// digits, percentiles within 1 %.
func equal(q store.Query, where string, got store.Values, b bin) error {
	if len(got) != len(q.Measures) {
		return fmt.Errorf("%s: %d values for %d measures", where, len(got), len(q.Measures))
	}
	for i, name := range q.Measures {
		want := b.measure(name)
		ok := got[i].Kind == want.Kind && got[i].Int == want.Int
		if want.Kind == store.Float {
			bound := 1e-9
			if strings.Contains(name, "_p") && name != "output_tokens_per_second" {
				bound = 0.01
			}
			ok = ok && math.Abs(got[i].Float-want.Float) <= bound*want.Float+1e-6
		}
		if !ok {
			return fmt.Errorf("%s: %s is %+v, want %+v (%d calls)", where, name, got[i], want, len(b))
		}
	}
	return nil
}
