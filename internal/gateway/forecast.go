package gateway

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
)

// Forecasts are what past calls tell of the next one: how long answers of a
// model to a key are, and how many tokens a byte of a request is. They forget,
// and begin anew at a restart.
type forecasts struct {
	mu     sync.Mutex
	output map[forecastID]*lengths
	ratio  map[string]float64 // tokens per byte of a request to a model, at most
}

// A forecastID names a key and a model; key "" is all of them.
type forecastID struct{ key, model string }

// maxForecasts bounds each table; whoever comes later has what all keys have.
const maxForecasts = 10_000

// lengths is a histogram of output tokens: bucket i holds what is at most
// 2^(i/4), a fifth more than the bucket before.
type lengths struct {
	counts [4*24 + 1]uint16
	n      int
}

// memory of a histogram: at so many values all count half.
const maxLengths = 2000

func bucketOf(tokens int64) int {
	if tokens <= 1 {
		return 0
	}
	return min(int(math.Ceil(4*math.Log2(float64(tokens)))), len(lengths{}.counts)-1)
}

func (h *lengths) add(tokens int64) {
	h.counts[bucketOf(tokens)]++
	if h.n++; h.n < maxLengths {
		return
	}
	h.n = 0
	for i := range h.counts {
		h.counts[i] /= 2
		h.n += int(h.counts[i])
	}
}

// quantile is the upper end of the bucket that holds the q-th part, nearest rank.
func (h *lengths) quantile(q float64) int64 {
	rank := int(math.Ceil(q * float64(h.n)))
	for i, c := range h.counts {
		if rank -= int(c); rank <= 0 {
			return int64(math.Round(math.Pow(2, float64(i)/4)))
		}
	}
	return 0
}

// enough values to tell something of the next.
const enough = 20

// What is assumed of a model that has not answered yet: half a token a byte is
// what dense text needs, and few answers without a bound are longer.
const (
	firstRatio  = 0.5
	leastRatio  = 0.2
	firstOutput = 2048
	overhead    = 32 // tokens that a request has beside its bytes
)

// learn takes what a call came to.
func (f *forecasts) learn(c *call.Call, bytes int) {
	if c.Usage.Source != llm.UsageUpstream || c.Status != call.Success {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.output == nil {
		f.output, f.ratio = map[forecastID]*lengths{}, map[string]float64{}
	}
	for _, id := range [...]forecastID{{c.Key, c.Model}, {"", c.Model}} {
		h := f.output[id]
		if h == nil {
			if len(f.output) >= maxForecasts {
				continue
			}
			h = &lengths{}
			f.output[id] = h
		}
		h.add(c.Usage.Output)
	}
	// A byte of text is never more than a token: what is beyond came from
	// elsewhere, a picture behind a URL or a search, and tells nothing of text.
	if seen := min(float64(max(c.Usage.Input-overhead, 0))/float64(max(bytes, 64)), 1); bytes > 0 {
		r, ok := f.ratio[c.Model]
		switch {
		case !ok && len(f.ratio) >= maxForecasts:
		case !ok:
			f.ratio[c.Model] = max(firstRatio, seen)
		case seen*1.02 > r:
			f.ratio[c.Model] = seen * 1.05 // at once up, slowly down
		default:
			f.ratio[c.Model] = max(r+(seen-r)*0.005, leastRatio)
		}
	}
}

// answer is the forecast of output tokens for a key at a model: the median and
// the 95th percentile of n answers; n 0 if there is none.
func (f *forecasts) answer(key, model string) (p50, p95 int64, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range [...]forecastID{{key, model}, {"", model}} {
		if h := f.output[id]; h != nil && h.n >= enough {
			return h.quantile(0.5), h.quantile(0.95), h.n
		}
	}
	return 0, 0, 0
}

// input is an upper bound of the tokens of a request to a model.
func (f *forecasts) input(model string, bytes int) int64 {
	f.mu.Lock()
	r, ok := f.ratio[model]
	f.mu.Unlock()
	if !ok {
		r = firstRatio
	}
	return int64(float64(bytes)*r) + overhead
}

func (f *forecasts) live() []call.LiveForecast {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []call.LiveForecast
	for id, h := range f.output {
		if h.n >= enough {
			list = append(list, call.LiveForecast{Key: id.key, Model: id.model, Answers: h.n, P50: h.quantile(0.5), P95: h.quantile(0.95)})
		}
	}
	slices.SortFunc(list, func(a, b call.LiveForecast) int { return strings.Compare(a.Model+"\x00"+a.Key, b.Model+"\x00"+b.Key) })
	return list
}

// Files within a body are not text: each counts as much as a large picture does.
const (
	fileBytes  = 4 << 10 // a string of so much base64 is a file
	fileTokens = 2000
)

// textBytes is the length of a body as tokens see it: long base64 counts as the
// bytes that come to fileTokens.
func textBytes(body []byte) int {
	n := len(body)
	if n < fileBytes {
		return n
	}
	for rest := body; len(rest) >= fileBytes; {
		i := bytes.IndexByte(rest, '"')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		run := base64Run(rest)
		if run >= fileBytes {
			n -= run - min(run, fileTokens/firstRatio)
		}
		rest = rest[run:]
	}
	return n
}

// base64Run is how many bytes of base64 b begins with, the head of a data: URL
// included.
func base64Run(b []byte) int {
	i := 0
	if bytes.HasPrefix(b, []byte("data:")) {
		if at := bytes.Index(b[:min(len(b), 200)], []byte(";base64,")); at > 0 {
			i = at + len(";base64,")
		}
	}
	for i < len(b) && isBase64[b[i]] {
		i++
	}
	return i
}

var isBase64 = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_") {
		t[c] = true
	}
	return t
}()

// An expectation is what a request may come to at one target.
type expectation struct {
	input  int64 // tokens, at most
	output int64 // tokens: what the client allows, or the forecast
	soft   bool  // output is a forecast
}

// expect reckons what the request may come to at a model.
func (x *exchange) expect(model string, m *price.Model) expectation {
	if x.textBytes == 0 {
		x.textBytes = max(textBytes(x.body), 1)
	}
	e := expectation{input: x.g.forecasts.input(model, x.textBytes)}
	most := int64(0)
	if m != nil {
		most = m.MaxOutput
		if m.ContextWindow > 0 {
			e.input = min(e.input, m.ContextWindow)
		}
	}
	if x.head.MaxTokens > 0 {
		e.output = x.head.MaxTokens
	} else {
		e.output, e.soft = firstOutput, true
		if _, p95, n := x.g.forecasts.answer(x.who.Key, model); n > 0 {
			e.output = p95
		}
	}
	if most > 0 {
		e.output = min(e.output, most)
	}
	e.input, e.output = min(e.input, llm.MaxTokens), min(min(e.output, llm.MaxTokens)*max(x.head.Choices, 1), llm.MaxTokens)
	return e
}

// worst is the most that e costs at a target: all input at the dearest rate that
// it may fall under. It is 0 where there is no price.
func (x *exchange) worst(t Target, e expectation) llm.Nano {
	u := llm.Usage{Source: llm.UsageEstimated, Input: e.input, Output: e.output}
	c, ok := x.c.Prices.Cost(t.Provider.Name, t.Model, &u, x.start)
	if !ok {
		return 0
	}
	if bytes.Contains(x.body, []byte("cache_control")) {
		u.CacheWrite1h = e.input
		if dear, ok := x.c.Prices.Cost(t.Provider.Name, t.Model, &u, x.start); ok {
			c.Nano = max(c.Nano, dear.Nano)
		}
	}
	return c.Nano
}
