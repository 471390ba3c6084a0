package metrics

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

var configured = []Model{{"openai", "gpt-4.1"}, {"openai", "gpt-4o"}, {"anthropic", "claude-sonnet-4-5"}}

// auth knows one key of each kind by its name.
func auth(secret string) (*call.Principal, bool) {
	switch secret {
	case "admin":
		return &call.Principal{Key: "admin", Admin: true}, true
	case "grafana":
		return &call.Principal{Key: "grafana", Metrics: true}, true
	case "team-a", "team-b":
		return &call.Principal{Key: secret, Data: true}, true
	case "narrow":
		return &call.Principal{Key: secret, Data: true, Models: []string{"fast", "openai/gpt-4o"}}, true
	}
	return nil, false
}

func scrape(t *testing.T, m *Metrics, key string, header ...string) (string, *http.Response) {
	t.Helper()
	r := httptest.NewRequest("GET", "/v1/metrics", nil)
	r.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	m.Handler(auth).ServeHTTP(w, r)
	return w.Body.String(), w.Result()
}

// values reads the text format: series as written → value.
func values(t *testing.T, text string) map[string]float64 {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("the text does not parse: %v", err)
	}
	out := map[string]float64{}
	for name, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			k := strings.TrimPrefix(name, "holysheep_") + "{" + strings.Join(labels, ",") + "}"
			switch {
			case m.Counter != nil:
				out[k] = m.Counter.GetValue()
			case m.Gauge != nil:
				out[k] = m.Gauge.GetValue()
			case m.Histogram != nil:
				out[k+"_sum"], out[k+"_count"] = m.Histogram.GetSampleSum(), float64(m.Histogram.GetSampleCount())
				for _, b := range m.Histogram.Bucket {
					out[fmt.Sprintf("%s_le_%g", k, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			}
		}
	}
	return out
}

func randomCall(rng *rand.Rand) *call.Call {
	m := configured[rng.IntN(len(configured))]
	c := &call.Call{Provider: m.Provider, Model: m.Model, Key: []string{"team-a", "team-b"}[rng.IntN(2)], Status: call.Success, HTTPStatus: 200,
		Latency: time.Duration(rng.Int64N(int64(8*time.Second))) / 1000 * 1000, Overhead: time.Duration(rng.Int64N(1e6)) / 1000 * 1000,
		Usage: llm.Usage{Input: rng.Int64N(5000), Output: rng.Int64N(900), CacheRead: rng.Int64N(100), Reasoning: rng.Int64N(50)}, Cost: llm.Nano(rng.Int64N(1e8))}
	if rng.IntN(5) == 0 {
		c.HTTPStatus, c.Status = []int{400, 429, 500, 503}[rng.IntN(4)], call.Failed
	}
	if rng.IntN(9) == 0 {
		c.Status, c.HTTPStatus = call.Canceled, llm.StatusClientClosed
	}
	if rng.IntN(3) == 0 {
		c.TTFT = c.Latency / 2
	}
	if rng.IntN(7) == 0 {
		c.Cost, c.Unpriced = 0, true
	}
	if rng.IntN(4) == 0 {
		c.Attempts = append(c.Attempts, call.Attempt{Provider: "openai", Model: "gpt-4o", ErrorClass: llm.RateLimited})
	}
	c.Attempts = append(c.Attempts, call.Attempt{Provider: m.Provider, Model: m.Model})
	return c
}

// TestSums compares every number with sums made apart, after Calls that were
// observed at once from many goroutines.
func TestSums(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	calls := make([]*call.Call, 20_000)
	want := map[string]float64{}
	var nano int64
	for i := range calls {
		c := randomCall(rng)
		calls[i] = c
		l := "model=" + c.Model + ",provider=" + c.Provider
		want["request_total{code="+c.Code()+","+l+"}"]++
		want["tokens_total{"+l+",type=input}"] += float64(c.Usage.Input)
		want["tokens_total{"+l+",type=output}"] += float64(c.Usage.Output)
		want["cached_tokens_total{"+l+"}"] += float64(c.Usage.CacheRead)
		want["reasoning_tokens_total{"+l+"}"] += float64(c.Usage.Reasoning)
		want["latency_seconds{"+l+"}_count"]++
		want["overhead_seconds{"+l+"}_count"]++
		for _, le := range []float64{.5, 1, 2, 5} {
			if c.Latency <= time.Duration(le*1e9) {
				want[fmt.Sprintf("latency_seconds{%s}_le_%g", l, le)]++
			}
		}
		if c.TTFT > 0 {
			want["ttft_seconds{"+l+"}_count"]++
		}
		if c.Unpriced {
			want["unpriced_requests_total{"+l+"}"]++
		}
		if a := c.Attempts[0]; a.ErrorClass != "" {
			want["attempts_total{class=rate_limited,model=gpt-4o,provider=openai}"]++
			if a.Model != c.Model {
				want["fallbacks_total{"+l+"}"]++
			}
		}
		want["attempts_total{class=success,"+l+"}"]++
		nano += int64(c.Cost)
	}
	m := New(Options{Models: configured, Version: "test"})
	var wg sync.WaitGroup
	for part := range slices.Chunk(calls, 2500) {
		wg.Go(func() {
			for _, c := range part {
				m.Observe(c)
			}
		})
	}
	for range 3 { // scrapes in between parse, too
		text, _ := scrape(t, m, "admin")
		values(t, text)
	}
	wg.Wait()
	text, _ := scrape(t, m, "grafana")
	got := values(t, text)
	for k, w := range want {
		if got[k] != w {
			t.Errorf("%s = %v, want %v", k, got[k], w)
		}
	}
	usd, latency := 0.0, 0.0
	for k, v := range got {
		if strings.HasPrefix(k, "cost_total{currency=usd,") {
			usd += v
		}
		if strings.HasPrefix(k, "latency_seconds{") && strings.HasSuffix(k, "_sum") {
			latency += v
		}
	}
	if d := usd - float64(nano)/1e9; d > 1e-6 || d < -1e-6 {
		t.Errorf("cost_total sums to %v, want %v", usd, float64(nano)/1e9)
	}
	var sum time.Duration
	for _, c := range calls {
		sum += c.Latency
	}
	if d := latency - sum.Seconds(); d > 1e-3 || d < -1e-3 {
		t.Errorf("latency_seconds_sum = %v, want %v", latency, sum.Seconds())
	}
	// The two keys' own counts are the whole.
	a, _ := scrape(t, m, "team-a")
	b, _ := scrape(t, m, "team-b")
	va, vb := values(t, a), values(t, b)
	for k := range va {
		if va[k]+vb[k] != got[k] && !strings.HasSuffix(k, "_sum") && !strings.HasPrefix(k, "cost_total") {
			t.Errorf("%s: %v of one key and %v of the other, %v in all", k, va[k], vb[k], got[k])
		}
		if family, _, _ := strings.Cut(k, "{"); !slices.Contains([]string{"request_total", "tokens_total", "latency_seconds", "cost_total"}, family) {
			t.Errorf("a data key sees %s", k)
		}
	}
}

// TestZero: what is configured is there, at zero, from the start.
func TestZero(t *testing.T) {
	m := New(Options{Models: configured})
	text, _ := scrape(t, m, "admin")
	got := values(t, text)
	for _, c := range configured {
		l := "model=" + c.Model + ",provider=" + c.Provider
		names := []string{"tokens_total{" + l + ",type=input}", "tokens_total{" + l + ",type=output}", "cost_total{currency=usd," + l + "}", "latency_seconds{" + l + "}_count", "latency_seconds{" + l + "}_le_0.5"}
		for _, code := range call.Codes {
			names = append(names, "request_total{code="+code+","+l+"}")
		}
		for _, n := range names {
			if v, ok := got[n]; !ok || v != 0 {
				t.Errorf("%s = %v %v, want 0", n, v, ok)
			}
		}
	}
	for k := range got {
		if strings.HasPrefix(k, "tokens_total") && !strings.Contains(k, "type=input") && !strings.Contains(k, "type=output") {
			t.Errorf("a third type: %s", k)
		}
	}
	if text, _ := scrape(t, m, "team-a"); !strings.Contains(text, `holysheep_request_total{code="2xx",model="gpt-4.1",provider="openai"} 0`) {
		t.Errorf("a data key sees no zeros:\n%.600s", text)
	}
	if text, _ := scrape(t, m, "narrow"); strings.Contains(text, "gpt-4.1") || !strings.Contains(text, "gpt-4o") {
		t.Errorf("a key that may use gpt-4o sees\n%.600s", text)
	}
}

func TestFormats(t *testing.T) {
	m := New(Options{Models: configured})
	m.Observe(&call.Call{Provider: "openai", Model: "gpt-4.1", Status: call.Success, HTTPStatus: 200, Latency: 700 * time.Millisecond})
	text, r := scrape(t, m, "admin")
	if got := r.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type = %q", got)
	}
	open, r := scrape(t, m, "admin", "Accept", "application/openmetrics-text;version=1.0.0")
	if got := r.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text; version=1.0.0") || !strings.HasSuffix(open, "# EOF\n") {
		t.Errorf("OpenMetrics: Content-Type = %q, ends in %q", got, open[len(open)-20:])
	}
	for _, s := range []string{text, open} {
		for _, le := range []string{"0.5", "1.0", "2.0", "5.0"} {
			want := 1
			if le == "0.5" {
				want = 0
			}
			if line := fmt.Sprintf(`holysheep_latency_seconds_bucket{model="gpt-4.1",provider="openai",le="%s"} %d`, le, want); !strings.Contains(s, line) {
				t.Errorf("no line %s", line)
			}
		}
	}
	if _, r := scrape(t, m, "admin", "Accept-Encoding", "gzip"); r.Header.Get("Content-Encoding") != "gzip" {
		t.Error("not compressed")
	}
	body, r := scrape(t, m, "nobody")
	if r.StatusCode != 401 || !strings.Contains(body, `"code":"invalid_api_key"`) {
		t.Errorf("without a key: %d %s", r.StatusCode, body)
	}
	if text, _ := scrape(t, m, "admin"); !strings.Contains(text, "holysheep_unauthenticated_total 1\n") {
		t.Error("the refused scrape was not counted")
	}
}

// TestNative compares our native histogram with client_golang's, value by value.
func TestNative(t *testing.T) {
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", Help: "x", NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: nativeZero})
	ours := newHistogram(latencyBounds, &native{})
	rng := rand.New(rand.NewPCG(5, 6))
	durations := []time.Duration{0, 1, 953, 954, time.Microsecond, time.Second, 2 * time.Second, 4 * time.Second, 125 * time.Millisecond, time.Hour}
	for range 5000 {
		durations = append(durations, time.Duration(rng.ExpFloat64()*1e9))
	}
	for _, d := range durations {
		theirs.Observe(d.Seconds())
		ours.add(d)
	}
	var want, got dto.Metric
	if err := theirs.Write(&want); err != nil {
		t.Fatal(err)
	}
	if err := (sample{descTTFT, ours, nil}).Write(&got); err != nil {
		t.Fatal(err)
	}
	w, g := want.Histogram, got.Histogram
	if g.GetSampleCount() != w.GetSampleCount() || g.GetSchema() != w.GetSchema() || g.GetZeroCount() != w.GetZeroCount() || g.GetZeroThreshold() != w.GetZeroThreshold() {
		t.Errorf("count %d schema %d zero %d, want %d %d %d", g.GetSampleCount(), g.GetSchema(), g.GetZeroCount(), w.GetSampleCount(), w.GetSchema(), w.GetZeroCount())
	}
	if a, b := spread(g), spread(w); fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("buckets\n%v, want\n%v", a, b)
	}
}

// spread is a native histogram's buckets by key.
func spread(h *dto.Histogram) map[int32]int64 {
	out := map[int32]int64{}
	var key int32
	var count int64
	next := 0
	for _, s := range h.PositiveSpan {
		key += s.GetOffset()
		for range s.GetLength() {
			count += h.PositiveDelta[next]
			if count != 0 {
				out[key] = count
			}
			next++
			key++
		}
	}
	return out
}

// TestJunk: 100,000 names that a client or an import made up are a handful of
// series.
func TestJunk(t *testing.T) {
	m := New(Options{Models: configured, Providers: []string{"local"}, Known: func(_, model string) bool { return model == "gpt-4o-mini" }})
	before, _ := scrape(t, m, "admin")
	for i := range 100_000 {
		name := fmt.Sprintf("junk-%d", i)
		c := &call.Call{Provider: name, Model: name, Key: fmt.Sprintf("key-%d", i%2000), HTTPStatus: 404, Status: call.Failed}
		switch i % 4 {
		case 1:
			c.Provider = "openai"
		case 2:
			c.Provider = "local"
		case 3:
			c.Model = "gpt-4o-mini"
		}
		c.Attempts = []call.Attempt{{Provider: c.Provider, Model: name, ErrorClass: llm.ErrorClass(name)}}
		c.Quality = map[string]string{name: name}
		m.Observe(c)
		_ = m.Write(t.Context(), []call.Entry{{Call: c}})
	}
	after, _ := scrape(t, m, "admin")
	n := func(s string) (lines int) {
		for line := range strings.Lines(s) {
			if strings.HasPrefix(line, "holysheep_") && !strings.HasPrefix(line, "holysheep_quality") && !strings.Contains(line, "_bucket{") {
				lines++
			}
		}
		return lines
	}
	if added := n(after) - n(before); added > 200 || added == 0 {
		t.Errorf("%d new series", added)
	}
	if q := strings.Count(after, "holysheep_quality_checks_total{"); q > maxChecks+1 {
		t.Errorf("%d series of quality checks", q)
	}
	if strings.Contains(after, `model="junk`) || strings.Contains(after, `provider="junk`) || strings.Contains(after, `class="junk`) {
		t.Error("a made-up name is a label")
	}
	if len(*m.own.Load()) > maxOwn {
		t.Errorf("%d keys have counts of their own", len(*m.own.Load()))
	}
}

func TestQualityAndLive(t *testing.T) {
	live := call.Live{InFlight: 5, Models: []call.LiveModel{{Provider: "openai", Model: "gpt-4.1", InFlight: 2}, {Provider: "openai", Model: "a", InFlight: 1}, {Provider: "openai", Model: "b", InFlight: 2}}}
	m := New(Options{Models: configured, Live: func() call.Live { return live }, Lost: func() int64 { return 7 }, Bare: func() int64 { return 9 }, Pending: func() int64 { return 8 }})
	e := call.Entry{Call: &call.Call{Provider: "openai", Model: "gpt-4.1", Quality: map[string]string{"empty": "fail"}}}
	if err := m.Write(t.Context(), []call.Entry{e, e}); err != nil {
		t.Fatal(err)
	}
	text, _ := scrape(t, m, "admin")
	got := values(t, text)
	for k, want := range map[string]float64{
		"quality_checks_total{check=empty,model=gpt-4.1,result=fail}": 2,
		"in_flight{model=gpt-4.1,provider=openai}":                    2,
		"in_flight{model=other,provider=openai}":                      3,
		"calls_lost_total{}":                                          7, "bodies_lost_total{}": 9, "calls_pending{}": 8, "build_info{version=unknown}": 1,
	} {
		if got[k] != want {
			t.Errorf("%s = %v, want %v", k, got[k], want)
		}
	}
}

// TestPromtool lets Prometheus's own linter judge the text.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is not installed")
		}
		t.Skip("promtool is not installed")
	}
	m := New(Options{Models: configured, Version: "1.0", Live: func() call.Live { return call.Live{Models: []call.LiveModel{{Provider: "openai", Model: "gpt-4.1"}}} },
		Lost: func() int64 { return 0 }, Bare: func() int64 { return 0 }, Pending: func() int64 { return 0 }})
	rng := rand.New(rand.NewPCG(7, 8))
	for range 1000 {
		c := randomCall(rng)
		c.Quality = map[string]string{"empty": "pass"}
		m.Observe(c)
		_ = m.Write(t.Context(), []call.Entry{{Call: c}})
	}
	for _, key := range []string{"admin", "team-a"} {
		text, _ := scrape(t, m, key)
		cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil || out.Len() > 0 {
			t.Errorf("promtool check metrics, as %s: %v\n%s", key, err, &out)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	m := New(Options{Models: configured})
	c := randomCall(rand.New(rand.NewPCG(1, 1)))
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(c)
	}
}

func BenchmarkObserveParallel(b *testing.B) {
	m := New(Options{Models: configured})
	c := randomCall(rand.New(rand.NewPCG(1, 1)))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Observe(c)
		}
	})
}

func BenchmarkScrape(b *testing.B) {
	var models []Model
	for i := range 50 {
		models = append(models, Model{"openai", fmt.Sprintf("model-%d", i)})
	}
	h := New(Options{Models: models}).Handler(auth)
	r := httptest.NewRequest("GET", "/v1/metrics", nil)
	r.Header.Set("Authorization", "Bearer admin")
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
