package store

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/sheepgate/sheepgate/internal/call"
)

// A QueryError says what is wrong with a question; its text is for the asker.
type QueryError struct{ Msg string }

func (e *QueryError) Error() string { return e.Msg }

func badQuery(format string, args ...any) error { return &QueryError{fmt.Sprintf(format, args...)} }

// dimensions are what Calls are grouped and filtered by, but for tag:NAME.
var dimensions = map[string]func(*call.Call) string{
	"origin":               func(c *call.Call) string { return c.Origin },
	"key":                  func(c *call.Call) string { return c.Key },
	"team":                 func(c *call.Call) string { return c.Team },
	"user":                 func(c *call.Call) string { return c.User },
	"session":              func(c *call.Call) string { return c.Session },
	"ingress":              func(c *call.Call) string { return c.Ingress },
	"model_requested":      func(c *call.Call) string { return c.ModelRequested },
	"provider":             func(c *call.Call) string { return c.Provider },
	"model":                func(c *call.Call) string { return c.Model },
	"response_model":       func(c *call.Call) string { return c.ResponseModel },
	"stream":               func(c *call.Call) string { return strconv.FormatBool(c.Stream) },
	"status":               func(c *call.Call) string { return string(c.Status) },
	"code":                 (*call.Call).Code,
	"http_status":          func(c *call.Call) string { return strconv.Itoa(c.HTTPStatus) },
	"error_class":          func(c *call.Call) string { return string(c.Error.Class) },
	"error_code":           func(c *call.Call) string { return c.Error.Code },
	"finish_reason":        func(c *call.Call) string { return string(c.FinishReason) },
	"native_finish_reason": func(c *call.Call) string { return c.NativeFinishReason },
	"usage_source":         func(c *call.Call) string { return string(c.Usage.Source) },
	"price_row":            func(c *call.Call) string { return c.PriceRow },
}

const tagPrefix = "tag:"

// Dimension is the function that reads a dimension of a Call.
func Dimension(name string) (func(*call.Call) string, error) {
	if tag, ok := strings.CutPrefix(name, tagPrefix); ok && tag != "" {
		return func(c *call.Call) string { return c.Tags[tag] }, nil
	}
	if f, ok := dimensions[name]; ok {
		return f, nil
	}
	names := make([]string, 0, len(dimensions))
	for n := range dimensions {
		names = append(names, n)
	}
	sort.Strings(names)
	return nil, badQuery("%.60q is no dimension; there are %s and tag:NAME", name, strings.Join(names, ", "))
}

// A compiled filter: every test must hold.
type compiled []func(*call.Call) bool

// Compile checks a filter and makes it a test of one Call. withSynthetic keeps
// the origins that reports leave out.
func (f Filter) Compile(withSynthetic bool) (func(*call.Call) bool, error) {
	var tests compiled
	for name, values := range f {
		dim, err := Dimension(name)
		if err != nil {
			return nil, err
		}
		tests = append(tests, func(c *call.Call) bool { return slices.Contains(values, dim(c)) })
	}
	if _, named := f["origin"]; !named && !withSynthetic {
		tests = append(tests, func(c *call.Call) bool { return !slices.Contains(call.Synthetic, c.Origin) })
	}
	return func(c *call.Call) bool {
		for _, t := range tests {
			if !t(c) {
				return false
			}
		}
		return true
	}, nil
}

// HasText reports whether a Call holds text, lower-cased, in one of the fields
// that List searches.
func HasText(c *call.Call, text string) bool {
	has := func(s string) bool { return s != "" && strings.Contains(strings.ToLower(s), text) }
	if has(c.ID) || has(c.ResponseID) || has(c.Error.Message) || has(c.Model) || has(c.ModelRequested) || has(c.User) || has(c.Session) {
		return true
	}
	for k, v := range c.Tags {
		if has(k) || has(v) {
			return true
		}
	}
	return false
}

// A measure is computed from the sums of a cell.
type measure func(*cell) Value

func count(f func(*cell) int64) measure {
	return func(c *cell) Value { return Value{Kind: Int, Int: f(c)} }
}

// measures are all that Query.Measures may name.
var measures = map[string]measure{
	"requests":           count(func(c *cell) int64 { return c.requests }),
	"errors_4xx":         count(func(c *cell) int64 { return c.codes[1] }),
	"errors_429":         count(func(c *cell) int64 { return c.codes[2] }),
	"errors_5xx":         count(func(c *cell) int64 { return c.codes[3] }),
	"canceled":           count(func(c *cell) int64 { return c.codes[4] }),
	"unpriced":           count(func(c *cell) int64 { return c.unpriced }),
	"input_tokens":       count(func(c *cell) int64 { return c.input }),
	"output_tokens":      count(func(c *cell) int64 { return c.output }),
	"cache_read_tokens":  count(func(c *cell) int64 { return c.cacheRead }),
	"cache_write_tokens": count(func(c *cell) int64 { return c.cacheWrite }),
	"reasoning_tokens":   count(func(c *cell) int64 { return c.reasoning }),
	"cost_nano_usd":      count(func(c *cell) int64 { return c.cost }),
	"latency_avg": func(c *cell) Value {
		if c.requests == 0 {
			return Value{}
		}
		return Value{Kind: Float, Float: float64(c.latencySum) / float64(c.requests) / 1e3}
	},
	"latency_p50": func(c *cell) Value { return c.latency.percentile(50) },
	"latency_p95": func(c *cell) Value { return c.latency.percentile(95) },
	"latency_p99": func(c *cell) Value { return c.latency.percentile(99) },
	"ttft_p50":    func(c *cell) Value { return c.ttft.percentile(50) },
	"ttft_p95":    func(c *cell) Value { return c.ttft.percentile(95) },
	"ttft_p99":    func(c *cell) Value { return c.ttft.percentile(99) },
	// Output tokens of streams over the time from the first token to the end.
	"output_tokens_per_second": func(c *cell) Value {
		if c.generating <= 0 {
			return Value{}
		}
		return Value{Kind: Float, Float: float64(c.generated) / (float64(c.generating) / 1e6)}
	},
}

// cell sums the Calls of one group and step. Durations are in microseconds.
type cell struct {
	requests, unpriced                              int64
	codes                                           [5]int64 // as call.Codes
	input, output, cacheRead, cacheWrite, reasoning int64
	cost                                            int64
	latencySum                                      int64
	generated, generating                           int64
	latency, ttft                                   histogram
}

func (c *cell) add(k *call.Call) {
	c.requests++
	c.codes[slices.Index(call.Codes, k.Code())]++
	if k.Unpriced {
		c.unpriced++
	}
	u := &k.Usage
	c.input += u.Input
	c.output += u.Output
	c.cacheRead += u.CacheRead
	c.cacheWrite += u.CacheWrite5m + u.CacheWrite1h
	c.reasoning += u.Reasoning
	if !k.Unpriced {
		c.cost += int64(k.Cost)
	}
	c.latencySum += k.Latency.Microseconds()
	c.latency.add(call.Bucket(k.Latency), 1)
	if k.TTFT > 0 {
		c.ttft.add(call.Bucket(k.TTFT), 1)
		if k.Stream && k.Latency > k.TTFT {
			c.generated += u.Output
			c.generating += (k.Latency - k.TTFT).Microseconds()
		}
	}
}

func (c *cell) merge(o *cell) {
	c.requests += o.requests
	c.unpriced += o.unpriced
	for i := range c.codes {
		c.codes[i] += o.codes[i]
	}
	c.input += o.input
	c.output += o.output
	c.cacheRead += o.cacheRead
	c.cacheWrite += o.cacheWrite
	c.reasoning += o.reasoning
	c.cost += o.cost
	c.latencySum += o.latencySum
	c.generated += o.generated
	c.generating += o.generating
	for b, n := range o.latency.n {
		c.latency.add(b, n)
	}
	for b, n := range o.ttft.n {
		c.ttft.add(b, n)
	}
}

// histogram counts by call.Bucket.
type histogram struct {
	n     map[int]int64
	total int64
}

func (h *histogram) add(b int, n int64) {
	if h.n == nil {
		h.n = map[int]int64{}
	}
	h.n[b] += n
	h.total += n
}

// percentile is the nearest-rank one, in milliseconds.
func (h *histogram) percentile(p int64) Value {
	if h.total == 0 {
		return Value{}
	}
	buckets := make([]int, 0, len(h.n))
	for b := range h.n {
		buckets = append(buckets, b)
	}
	slices.Sort(buckets)
	rank := (h.total*p + 99) / 100
	for _, b := range buckets {
		if rank -= h.n[b]; rank <= 0 {
			return Value{Kind: Float, Float: float64(call.BucketValue(b).Nanoseconds()) / 1e6}
		}
	}
	return Value{}
}
