package metrics

import (
	"math"
	"sort"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Bounds of the classic buckets. Those of latency are the contract's and enough
// between and beyond them that a P95 is within a few per cent, up to models
// that think for minutes.
var (
	latencyBounds = bounds(.05, .1, .175, .25, .35, .5, .7, 1, 1.4, 2, 2.8, 4, 5, 7, 10, 14, 20, 30, 45, 60, 90, 120, 300, 600)
	// As latency, for a token after the first one.
	perTokenBounds = bounds(.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .5, 1)
	// What the gateway itself adds.
	overheadBounds = bounds(.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1)
)

func bounds(seconds ...float64) []time.Duration {
	list := make([]time.Duration, len(seconds))
	for i, s := range seconds {
		list[i] = time.Duration(math.Round(s * 1e9))
	}
	return list
}

// A histogram counts durations in classic buckets and, if native is set, in
// the exponential ones of a native histogram. Nothing in it is locked.
type histogram struct {
	le     []time.Duration
	n      []atomic.Uint64 // one more than le
	sum    atomic.Uint64   // microseconds: nanoseconds would be full after 585 years of waiting, a week at 50,000 at once
	native *native
}

func newHistogram(le []time.Duration, n *native) *histogram {
	return &histogram{le: le, n: make([]atomic.Uint64, len(le)+1), native: n}
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(h.le) && d > h.le[i] {
		i++
	}
	h.n[i].Add(1)
	h.sum.Add(uint64(d+500) / 1000)
	if h.native != nil {
		h.native.add(d) // after the classic bucket: see Write
	}
}

func (h *histogram) used() bool {
	for i := range h.n {
		if h.n[i].Load() > 0 {
			return true
		}
	}
	return false
}

// A native is the buckets of a native histogram of schema 3: eight to a
// doubling, each 9 % wider than the one before.
// https://prometheus.io/docs/specs/native_histograms/
type native struct {
	zero atomic.Uint64 // up to nativeZero
	n    [nativeBuckets]atomic.Uint64
}

const (
	nativeSchema  = 3
	nativeFirst   = -159                  // the bucket after nativeZero
	nativeBuckets = 112 - nativeFirst + 1 // up to 2^14 s, four and a half hours; what is longer counts there
	nativeZero    = 1.0 / (1 << 20)       // 2^-20 s, just under a microsecond
)

// nativeFractions are 2^(i/8)/2, the upper bounds in terms of math.Frexp.
var nativeFractions = func() (f [8]float64) {
	for i := range f {
		f[i] = math.Exp2(float64(i)/8) / 2
	}
	return f
}()

func (n *native) add(d time.Duration) {
	s := d.Seconds()
	if s <= nativeZero {
		n.zero.Add(1)
		return
	}
	frac, exp := math.Frexp(s)
	key := sort.SearchFloat64s(nativeFractions[:], frac) + (exp-1)*8
	n.n[min(key-nativeFirst, nativeBuckets-1)].Add(1)
}

// write puts n into a histogram's protobuf form, and returns how many it holds.
func (n *native) write(h *dto.Histogram) uint64 {
	zero := n.zero.Load()
	total := zero
	schema, threshold := int32(nativeSchema), nativeZero
	h.Schema, h.ZeroThreshold, h.ZeroCount = &schema, &threshold, &zero
	last, before := 0, int64(0) // key after the last one written, and its count
	for i := range n.n {
		count := n.n[i].Load()
		if count == 0 {
			continue
		}
		key := i + nativeFirst
		if spans := h.PositiveSpan; len(spans) > 0 && key == last {
			*spans[len(spans)-1].Length++
		} else {
			offset, one := int32(key-last), uint32(1)
			h.PositiveSpan = append(spans, &dto.BucketSpan{Offset: &offset, Length: &one})
		}
		h.PositiveDelta = append(h.PositiveDelta, int64(count)-before)
		last, before = key+1, int64(count)
		total += count
	}
	if len(h.PositiveSpan) == 0 { // how a native histogram without observations is told from a classic one
		h.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32), Length: new(uint32)}}
	}
	return total
}

// A sample is a histogram at the moment of a scrape, with both kinds of buckets,
// which client_golang's constant metrics do not offer.
type sample struct {
	desc   *prometheus.Desc
	h      *histogram
	labels []*dto.LabelPair // sorted by name
}

func (s sample) Desc() *prometheus.Desc { return s.desc }

// Write implements prometheus.Metric. The count is what the native buckets sum
// to, as a server checks; a duration on its way into them just now is left out
// of the classic ones too.
func (s sample) Write(out *dto.Metric) error {
	h := &dto.Histogram{}
	total := uint64(math.MaxUint64)
	if s.h.native != nil {
		total = s.h.native.write(h)
	}
	var n uint64
	for i := range s.h.le {
		n += s.h.n[i].Load()
		le, count := s.h.le[i].Seconds(), min(n, total)
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &le, CumulativeCount: &count})
	}
	n = min(n+s.h.n[len(s.h.le)].Load(), total)
	sum := float64(s.h.sum.Load()) / 1e6
	h.SampleCount, h.SampleSum = &n, &sum
	out.Label, out.Histogram = s.labels, h
	return nil
}
