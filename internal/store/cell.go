package store

import (
	"slices"

	"github.com/sheepgate/sheepgate/internal/call"
)

// Needs says which sums of a Cell a query's measures are computed from: an
// engine reads no more than these.
type Needs uint16

// The needs. Requests are always counted.
const (
	NeedCodes Needs = 1 << iota
	NeedCost        // Unpriced, too
	NeedInput
	NeedOutput
	NeedCacheRead
	NeedCacheWrite
	NeedReasoning
	NeedLatencySum
	NeedLatency // the histogram
	NeedTTFT    // the histogram
	NeedSpeed   // Generated and Generating
)

// A Cell sums the Calls of one group and step. Durations are in microseconds,
// money in nano-USD. Cells add up: that is what makes an answer from parts
// equal the answer from the whole.
type Cell struct {
	Requests   int64
	Codes      [5]int64 // as call.Codes
	Unpriced   int64
	Cost       int64 // of what is priced
	Input      int64
	Output     int64
	CacheRead  int64
	CacheWrite int64
	Reasoning  int64
	LatencySum int64
	Generated  int64 // output tokens of streams whose first token came before their end …
	Generating int64 // … and the time between the two
	Latency    Histogram
	TTFT       Histogram // of those that have one
}

// Merge adds o to c.
func (c *Cell) Merge(o *Cell) {
	c.Requests += o.Requests
	for i := range c.Codes {
		c.Codes[i] += o.Codes[i]
	}
	c.Unpriced += o.Unpriced
	c.Cost += o.Cost
	c.Input += o.Input
	c.Output += o.Output
	c.CacheRead += o.CacheRead
	c.CacheWrite += o.CacheWrite
	c.Reasoning += o.Reasoning
	c.LatencySum += o.LatencySum
	c.Generated += o.Generated
	c.Generating += o.Generating
	c.Latency = c.Latency.Merge(o.Latency)
	c.TTFT = c.TTFT.Merge(o.TTFT)
}

// A Histogram counts durations by call.Bucket, in ascending order of buckets.
type Histogram []Count

// A Count is how many durations fell into a bucket.
type Count struct {
	Bucket int32
	N      int64
}

// Merge is the sum of h and o. It may reuse h, never o.
func (h Histogram) Merge(o Histogram) Histogram {
	switch {
	case len(o) == 0:
		return h
	case len(h) == 0:
		return slices.Clone(o)
	}
	missing := 0
	for i, j := 0, 0; j < len(o); j++ {
		for i < len(h) && h[i].Bucket < o[j].Bucket {
			i++
		}
		if i == len(h) || h[i].Bucket != o[j].Bucket {
			missing++
		}
	}
	i, j := len(h)-1, len(o)-1
	h = append(h, make([]Count, missing)...)
	for k := len(h) - 1; j >= 0; k-- { // from the end, in place
		switch {
		case i >= 0 && h[i].Bucket > o[j].Bucket:
			h[k] = h[i]
			i--
		case i >= 0 && h[i].Bucket == o[j].Bucket:
			h[k] = Count{o[j].Bucket, h[i].N + o[j].N}
			i, j = i-1, j-1
		default:
			h[k] = o[j]
			j--
		}
	}
	return h
}

// sumHistograms is the sum of many, faster than by Merge.
func sumHistograms(list []Histogram) Histogram {
	var n []int64 // by bucket
	for _, h := range list {
		if k := len(h); k > 0 && int(h[k-1].Bucket) >= len(n) {
			n = append(n, make([]int64, int(h[k-1].Bucket)+1-len(n))...)
		}
		for _, c := range h {
			n[c.Bucket] += c.N
		}
	}
	var sum Histogram
	for b, k := range n {
		if k != 0 {
			sum = append(sum, Count{int32(b), k})
		}
	}
	return sum
}

// percentile is the nearest-rank one, in milliseconds.
func (h Histogram) percentile(p int64) Value {
	var total int64
	for _, c := range h {
		total += c.N
	}
	rank := (total*p + 99) / 100
	for _, c := range h {
		if rank -= c.N; rank <= 0 {
			return Value{Kind: Float, Float: float64(call.BucketValue(int(c.Bucket)).Nanoseconds()) / 1e6}
		}
	}
	return Value{}
}

// A measure is computed from the sums of a Cell.
type measure struct {
	needs Needs
	value func(*Cell) Value
}

func count(needs Needs, f func(*Cell) int64) measure {
	return measure{needs, func(c *Cell) Value { return Value{Kind: Int, Int: f(c)} }}
}

func latency(p int64) measure {
	return measure{NeedLatency, func(c *Cell) Value { return c.Latency.percentile(p) }}
}

func ttft(p int64) measure {
	return measure{NeedTTFT, func(c *Cell) Value { return c.TTFT.percentile(p) }}
}

// measures are all that Query.Measures may name.
var measures = map[string]measure{
	"requests":           count(0, func(c *Cell) int64 { return c.Requests }),
	"errors_4xx":         count(NeedCodes, func(c *Cell) int64 { return c.Codes[1] }),
	"errors_429":         count(NeedCodes, func(c *Cell) int64 { return c.Codes[2] }),
	"errors_5xx":         count(NeedCodes, func(c *Cell) int64 { return c.Codes[3] }),
	"canceled":           count(NeedCodes, func(c *Cell) int64 { return c.Codes[4] }),
	"unpriced":           count(NeedCost, func(c *Cell) int64 { return c.Unpriced }),
	"input_tokens":       count(NeedInput, func(c *Cell) int64 { return c.Input }),
	"output_tokens":      count(NeedOutput, func(c *Cell) int64 { return c.Output }),
	"cache_read_tokens":  count(NeedCacheRead, func(c *Cell) int64 { return c.CacheRead }),
	"cache_write_tokens": count(NeedCacheWrite, func(c *Cell) int64 { return c.CacheWrite }),
	"reasoning_tokens":   count(NeedReasoning, func(c *Cell) int64 { return c.Reasoning }),
	"cost_nano_usd":      count(NeedCost, func(c *Cell) int64 { return c.Cost }),
	"latency_avg": {NeedLatencySum, func(c *Cell) Value {
		if c.Requests == 0 {
			return Value{}
		}
		return Value{Kind: Float, Float: float64(c.LatencySum) / float64(c.Requests) / 1e3}
	}},
	"latency_p50": latency(50),
	"latency_p95": latency(95),
	"latency_p99": latency(99),
	"ttft_p50":    ttft(50),
	"ttft_p95":    ttft(95),
	"ttft_p99":    ttft(99),
	// Output tokens of streams over the time from the first token to the end.
	"output_tokens_per_second": {NeedSpeed, func(c *Cell) Value {
		if c.Generating <= 0 {
			return Value{}
		}
		return Value{Kind: Float, Float: float64(c.Generated) / (float64(c.Generating) / 1e6)}
	}},
}

// Measures are the names that Query.Measures may hold, sorted.
func Measures() []string { return sortedKeys(measures) }
