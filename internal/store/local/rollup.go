package local

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

const rollupHour = int64(time.Hour / time.Second)

// everything is all needs.
const everything = store.NeedSpeed<<1 - 1

// A rollup is what a block says by hour, or by hour and model: a partial answer
// that is made with its file and kept in the database, so that the first look at
// a month after a start reads no columns. It answers to the last token like the
// columns would; without it those are read.
type rollup int

const (
	noRollup rollup = iota
	byHour
	byModel
)

// rolled is the question that a rollup answers.
func (r rollup) rolled() question {
	q := question{Plan: &store.Plan{
		Query: store.Query{Step: store.Step{Fixed: time.Hour}, Zone: time.UTC},
		Needs: everything, Hidden: call.Synthetic,
	}}
	if r == byModel {
		q.GroupBy = []string{"model"}
	}
	return q
}

// rollups are those of all blocks of a segment that was just written: reading
// it back shows that it can be read.
func (s *segment) rollups() ([][byModel + 1][]byte, error) {
	var sc scratch
	list := make([][byModel + 1][]byte, len(s.Blocks))
	for i, b := range s.Blocks {
		p, err := byModel.rolled().compute(segBlock{s, i, &sc}, b.First, b.Last+1)
		if err != nil {
			return nil, err
		}
		list[i][byModel] = encodePartial(p)
		list[i][byHour] = encodePartial(byHour.rolled().fromRollup(p, b.First, b.Last+1))
		sc.reset()
	}
	return list, nil
}

// rollup is the smallest that answers q for a block of which the calls in
// [from, to) count.
func (q question) rollup(b span, from, to int64) rollup {
	if q.top != nil || len(q.GroupBy) > 1 || len(q.GroupBy) == 1 && q.GroupBy[0] != "model" || len(q.Hidden) == 0 {
		return noRollup
	}
	for name := range q.Filter {
		if name != "model" {
			return noRollup
		}
	}
	const hour = rollupHour * 1e6
	if from > b.First && from%hour != 0 || to <= b.Last && to%hour != 0 {
		return noRollup
	}
	if !q.Step.IsZero() {
		for _, at := range [...]int64{b.First, b.Last} { // steps begin with an hour of UTC
			if _, offset := time.UnixMicro(at).In(q.Zone).Zone(); int64(offset)%rollupHour != 0 {
				return noRollup
			}
		}
		if q.Step.Fixed%time.Hour != 0 {
			return noRollup
		}
	}
	if len(q.GroupBy) == 0 && len(q.Filter) == 0 {
		return byHour
	}
	return byModel
}

// fromRollup is what compute would say of [from, to).
func (q question) fromRollup(r *partial, from, to int64) *partial {
	p := &partial{}
	values := q.Filter["model"]
	_, filtered := q.Filter["model"]
	at := map[cellKey]int{}
	group := make([]int32, len(r.groups))
	w := walker{step: q.Step, zone: q.Zone}
	for i, g := range r.groups {
		switch {
		case filtered && !slices.Contains(values, g[0]):
			group[i] = -1
		case len(q.GroupBy) == 1:
			group[i] = int32(len(p.groups))
			p.groups = append(p.groups, g)
		default:
			if len(p.groups) == 0 {
				p.groups = [][]string{{}}
			}
		}
	}
	for i, k := range r.keys {
		if group[k.group] < 0 || (k.step+rollupHour)*1e6 <= from || k.step*1e6 >= to {
			continue
		}
		to := cellKey{group: group[k.group]}
		if !q.Step.IsZero() {
			to.step = w.start(k.step * 1e6)
		}
		c, ok := at[to]
		if !ok {
			c = len(p.cells)
			at[to] = c
			p.keys = append(p.keys, to)
			p.cells = append(p.cells, store.Cell{})
		}
		p.cells[c].Merge(&r.cells[i])
	}
	return p
}

// counters are the integers of a cell, in the order of its encoding.
func counters(c *store.Cell) [16]*int64 {
	return [...]*int64{&c.Requests, &c.Codes[0], &c.Codes[1], &c.Codes[2], &c.Codes[3], &c.Codes[4], &c.Unpriced, &c.Cost,
		&c.Input, &c.Output, &c.CacheRead, &c.CacheWrite, &c.Reasoning, &c.LatencySum, &c.Generated, &c.Generating}
}

const partialVersion = 1

// encodePartial encodes a partial, with a checksum.
func encodePartial(p *partial) []byte {
	dst := []byte{partialVersion}
	dst = binary.AppendUvarint(dst, uint64(len(p.groups)))
	for _, g := range p.groups {
		dst = binary.AppendUvarint(dst, uint64(len(g)))
		for _, s := range g {
			dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.keys)))
	var h []byte
	for i, k := range p.keys {
		c := &p.cells[i]
		dst = binary.AppendVarint(dst, k.step)
		dst = binary.AppendUvarint(dst, uint64(k.group))
		for _, n := range counters(c) {
			dst = binary.AppendVarint(dst, *n)
		}
		for _, x := range [...]store.Histogram{c.Latency, c.TTFT} {
			h = h[:0]
			last := int32(0)
			for _, n := range x {
				h = binary.AppendUvarint(h, uint64(n.Bucket-last))
				h = binary.AppendUvarint(h, uint64(n.N))
				last = n.Bucket
			}
			dst = binary.AppendUvarint(dst, uint64(len(x)))
			dst = append(binary.AppendUvarint(dst, uint64(len(h))), h...)
		}
	}
	return withChecksum(dst)
}

var errPartial = errors.New("not a partial answer")

// readPartial decodes what encodePartial made, but for histograms that needs
// does not name.
func readPartial(b []byte, needs store.Needs) (*partial, error) {
	b, ok := checked(b)
	if !ok || len(b) == 0 || b[0] != partialVersion {
		return nil, errPartial
	}
	r := reader{b: b[1:]}
	p := &partial{}
	for range r.uint() {
		if r.bad {
			return nil, errPartial
		}
		var g []string
		for range r.uint() {
			if r.bad {
				return nil, errPartial
			}
			g = append(g, r.string())
		}
		p.groups = append(p.groups, g)
	}
	for range r.uint() {
		if r.bad {
			return nil, errPartial
		}
		k := cellKey{step: r.int()}
		g := r.uint()
		if g >= uint64(len(p.groups)) {
			return nil, errPartial
		}
		k.group = int32(g)
		p.keys = append(p.keys, k)
		p.cells = append(p.cells, store.Cell{})
		c := &p.cells[len(p.cells)-1]
		for _, n := range counters(c) {
			*n = r.int()
		}
		c.Latency = r.histogram(needs&store.NeedLatency != 0)
		c.TTFT = r.histogram(needs&store.NeedTTFT != 0)
	}
	if r.bad || len(r.b) != 0 {
		return nil, errPartial
	}
	return p, nil
}

// lastBucket is that of the longest duration.
var lastBucket = uint64(call.Bucket(math.MaxInt64))

// histogram reads one, or skips it.
func (r *reader) histogram(wanted bool) store.Histogram {
	n, length := r.uint(), r.uint()
	if length > uint64(len(r.b)) || n > length/2 {
		r.bad, r.b = true, nil
		return nil
	}
	in := reader{b: r.b[:length]}
	r.b = r.b[length:]
	if !wanted {
		return nil
	}
	h := make(store.Histogram, 0, n)
	bucket := uint64(0)
	for range n {
		if bucket += in.uint(); bucket > lastBucket {
			r.bad = true
			return nil
		}
		h = append(h, store.Count{Bucket: int32(bucket), N: int64(in.uint())})
	}
	r.bad = r.bad || in.bad
	return h
}
