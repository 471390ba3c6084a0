package local

import (
	"cmp"
	"slices"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// A partial is a block's part of an answer. It is immutable.
type partial struct {
	groups [][]string // values of group_by; the rest group of a folded plan is nil
	keys   []cellKey
	cells  []store.Cell
}

type cellKey struct {
	step  int64 // Unix seconds; 0 for a query without steps
	group int32
}

// size is about how much memory a partial takes, in bytes.
func (p *partial) size() int {
	n := 128 + len(p.keys)*16 + len(p.cells)*160
	for _, g := range p.groups {
		n += 24
		for _, s := range g {
			n += 16 + len(s)
		}
	}
	for i := range p.cells {
		n += 16 * (len(p.cells[i].Latency) + len(p.cells[i].TTFT))
	}
	return n
}

// A question is a plan as it is put to blocks. top, where it is not nil, are
// the groups that stay; all others are folded into one.
type question struct {
	*store.Plan
	top map[string]bool
}

// compute answers q for the rows of b that started in [from, to).
func (q question) compute(b block, from, to int64) (*partial, error) {
	rows, err := between(b, from, to)
	if err != nil {
		return nil, err
	}
	if rows, err = filter(b, rows, q.Filter, q.Hidden); err != nil || rows.len() == 0 {
		return &partial{}, err
	}
	p := &partial{}
	group, err := q.group(b, rows, p)
	if err != nil {
		return nil, err
	}
	step, steps, err := q.steps(b, rows)
	if err != nil {
		return nil, err
	}
	cell, pairs := pair(group, len(p.groups), step, len(steps), rows.len())
	for _, k := range pairs {
		p.keys = append(p.keys, cellKey{steps[k.b], k.a})
	}
	p.cells = make([]store.Cell, len(p.keys))
	return p, q.sum(b, arrange(rows, cell, len(p.keys)), p.cells)
}

// group finds the group of each row. nil means that all are in group 0.
func (q question) group(b block, rows selection, p *partial) ([]int32, error) {
	if len(q.GroupBy) == 0 {
		p.groups = [][]string{{}}
		return nil, nil
	}
	var group []int32
	values := [][]string{{}}
	for _, name := range q.GroupBy {
		v, err := dimension(b, name)
		if err != nil {
			return nil, err
		}
		if len(v.dict) == 1 {
			for i := range values {
				values[i] = append(values[i][:len(values[i]):len(values[i])], v.dict[0])
			}
			continue
		}
		own := make([]int32, rows.len())
		if rows.list != nil {
			for i, r := range rows.list {
				own[i] = v.idx[r]
			}
		} else {
			copy(own, v.idx[rows.lo:rows.hi])
		}
		next, pairs := pair(group, len(values), own, len(v.dict), rows.len())
		grown := make([][]string, len(pairs))
		for i, k := range pairs {
			grown[i] = append(values[k.a][:len(values[k.a]):len(values[k.a])], v.dict[k.b])
		}
		group, values = next, grown
	}
	// A text's dictionary may hold a word twice, and a folded plan knows few groups.
	at := map[string]int32{}
	to := make([]int32, len(values))
	for i, vs := range values {
		key := store.GroupKey(vs)
		folded := q.top != nil && !q.top[key]
		if folded {
			key, vs = "\x00\x00rest", nil
		}
		g, ok := at[key]
		if !ok {
			g = int32(len(p.groups))
			at[key] = g
			p.groups = append(p.groups, vs)
		}
		to[i] = g
	}
	if len(p.groups) == 1 {
		return nil, nil
	}
	if len(p.groups) < len(values) || q.top != nil {
		for i, g := range group {
			group[i] = to[g]
		}
	}
	return group, nil
}

// steps finds the step of each row, as an index into the steps' starts. nil
// means that all are in step 0.
func (q question) steps(b block, rows selection) (step []int32, starts []int64, err error) {
	if q.Step.IsZero() {
		return nil, []int64{0}, nil
	}
	w := walker{step: q.Step, zone: q.Zone}
	if sp := b.span(); w.start(sp.First) == w.start(sp.Last) {
		return nil, []int64{w.start(sp.First)}, nil
	}
	started, err := b.column("started_at")
	if err != nil {
		return nil, nil, err
	}
	step = make([]int32, rows.len())
	at := map[int64]int32{}
	last, lastStart := int32(-1), int64(0)
	for i := range step {
		r := rows.lo + i
		if rows.list != nil {
			r = int(rows.list[i])
		}
		s := w.start(started.i64[r])
		if last < 0 || s != lastStart {
			k, ok := at[s]
			if !ok {
				k = int32(len(starts))
				at[s] = k
				starts = append(starts, s)
			}
			last, lastStart = k, s
		}
		step[i] = last
	}
	if len(starts) == 1 {
		return nil, starts, nil
	}
	return step, starts, nil
}

// A walker finds the starts of steps for times that mostly follow each other:
// between two times of the same step all times are of that step.
type walker struct {
	step   store.Step
	zone   *time.Location
	begun  bool
	lo, hi int64 // microseconds, both of the step that begins at
	at     int64 // Unix seconds
}

func (w *walker) start(us int64) int64 {
	if w.begun && w.lo <= us && us <= w.hi {
		return w.at
	}
	s := w.step.Start(time.UnixMicro(us), w.zone)
	w.begun, w.at, w.lo, w.hi = true, s.Unix(), us, us
	if first := s.UnixMicro(); first < us && w.step.Start(s, w.zone).Equal(s) {
		w.lo = first
	}
	for _, guess := range w.lengths() {
		end := s.Add(guess - time.Microsecond)
		if e := end.UnixMicro(); e > us && w.step.Start(end, w.zone).Equal(s) {
			w.hi = e
			break
		}
	}
	return w.at
}

// lengths are how long a step may be, the longest first.
func (w *walker) lengths() []time.Duration {
	const day = 24 * time.Hour
	switch {
	case w.step.Months > 0:
		n := time.Duration(w.step.Months)
		return []time.Duration{31 * n * day, 28 * n * day, 28 * day}
	case w.step.Days > 0:
		d := time.Duration(w.step.Days) * day
		return []time.Duration{d + time.Hour, d, d - time.Hour, d - 2*time.Hour}
	}
	return []time.Duration{w.step.Fixed}
}

// A couple is a pair of values that occurs.
type couple struct{ a, b int32 }

// pair numbers the pairs (a[i], b[i]) that occur, of na and nb values; a nil
// slice stands for zeros, and so does a nil answer.
func pair(a []int32, na int, b []int32, nb, n int) ([]int32, []couple) {
	switch {
	case a == nil && b == nil:
		return nil, []couple{{0, 0}}
	case b == nil:
		b = make([]int32, n)
		nb = 1
	case a == nil:
		a = make([]int32, n)
		na = 1
	}
	out := make([]int32, n)
	var pairs []couple
	if na*nb <= 1<<18 {
		table := make([]int32, na*nb) // 0 means not seen
		for i := range out {
			k := int(a[i])*nb + int(b[i])
			if table[k] == 0 {
				pairs = append(pairs, couple{a[i], b[i]})
				table[k] = int32(len(pairs))
			}
			out[i] = table[k] - 1
		}
		return out, pairs
	}
	table := map[couple]int32{}
	for i := range out {
		k := couple{a[i], b[i]}
		x, ok := table[k]
		if !ok {
			x = int32(len(pairs))
			table[k] = x
			pairs = append(pairs, k)
		}
		out[i] = x
	}
	return out, pairs
}

// An arrangement is a block's rows sorted by cell.
type arrangement struct {
	lo    int     // where order is nil: the first row; the cells' rows follow each other
	order []int32 // rows, cell by cell
	from  []int32 // where each cell's begin; one more at the end
}

// arrange sorts rows by their cell; nil means that all are in cell 0.
func arrange(rows selection, cell []int32, cells int) arrangement {
	n := rows.len()
	a := arrangement{lo: rows.lo, from: make([]int32, cells+1)}
	if cell == nil {
		a.order, a.from[1] = rows.list, int32(n)
		return a
	}
	for _, c := range cell {
		a.from[c+1]++
	}
	for c := range cells {
		a.from[c+1] += a.from[c]
	}
	if rows.list == nil && slices.IsSorted(cell) {
		return a
	}
	next := slices.Clone(a.from)
	a.order = make([]int32, n)
	for i, c := range cell {
		r := int32(rows.lo + i)
		if rows.list != nil {
			r = rows.list[i]
		}
		a.order[next[c]] = r
		next[c]++
	}
	return a
}

// each gives the rows of every cell: those in list, or if it is nil, from lo to hi.
func (a *arrangement) each(f func(cell int, list []int32, lo, hi int)) {
	for c := range len(a.from) - 1 {
		from, to := int(a.from[c]), int(a.from[c+1])
		if a.order != nil {
			f(c, a.order[from:to], 0, 0)
		} else {
			f(c, nil, a.lo+from, a.lo+to)
		}
	}
}

// sum fills the cells with what the question needs.
func (q question) sum(b block, a arrangement, cells []store.Cell) error {
	for c := range cells {
		cells[c].Requests = int64(a.from[c+1] - a.from[c])
	}
	add := func(needs store.Needs, name string, to func(*store.Cell) *int64) error {
		if q.Needs&needs == 0 {
			return nil
		}
		v, err := b.column(name)
		if err != nil {
			return err
		}
		a.each(func(c int, list []int32, lo, hi int) { *to(&cells[c]) += total(v.i64, list, lo, hi) })
		return nil
	}
	if err := cmp.Or(
		add(store.NeedInput, "input_tokens", func(c *store.Cell) *int64 { return &c.Input }),
		add(store.NeedOutput, "output_tokens", func(c *store.Cell) *int64 { return &c.Output }),
		add(store.NeedCacheRead, "cache_read_tokens", func(c *store.Cell) *int64 { return &c.CacheRead }),
		add(store.NeedCacheWrite, "cache_write_5m_tokens", func(c *store.Cell) *int64 { return &c.CacheWrite }),
		add(store.NeedCacheWrite, "cache_write_1h_tokens", func(c *store.Cell) *int64 { return &c.CacheWrite }),
		add(store.NeedReasoning, "reasoning_tokens", func(c *store.Cell) *int64 { return &c.Reasoning }),
		add(store.NeedLatencySum, "latency_us", func(c *store.Cell) *int64 { return &c.LatencySum }),
	); err != nil {
		return err
	}
	if q.Needs&store.NeedCost != 0 {
		v, err := b.column("cost_nano_usd")
		if err != nil {
			return err
		}
		a.each(func(c int, list []int32, lo, hi int) {
			cells[c].Cost += total(v.i64, list, lo, hi) // 0 where there is none
			cells[c].Unpriced += trues(v.null, list, lo, hi)
		})
	}
	if q.Needs&store.NeedCodes != 0 {
		v, err := b.column("code")
		if err != nil {
			return err
		}
		code := make([]int, len(v.dict))
		for i, w := range v.dict {
			code[i] = max(0, slices.Index(call.Codes, w))
		}
		a.each(func(c int, list []int32, lo, hi int) {
			rows(list, lo, hi, func(r int) { cells[c].Codes[code[v.idx[r]]]++ })
		})
	}
	if q.Needs&store.NeedLatency != 0 {
		if err := histograms(b, "latency_bucket", a, func(c int) *store.Histogram { return &cells[c].Latency }); err != nil {
			return err
		}
	}
	if q.Needs&store.NeedTTFT != 0 {
		if err := histograms(b, "ttft_bucket", a, func(c int) *store.Histogram { return &cells[c].TTFT }); err != nil {
			return err
		}
	}
	if q.Needs&store.NeedSpeed != 0 {
		return speed(b, a, cells)
	}
	return nil
}

func rows(list []int32, lo, hi int, f func(r int)) {
	for _, r := range list {
		f(int(r))
	}
	for r := lo; r < hi; r++ {
		f(r)
	}
}

func total(x []int64, list []int32, lo, hi int) (sum int64) {
	for _, r := range list {
		sum += x[r]
	}
	for _, n := range x[lo:hi] {
		sum += n
	}
	return sum
}

func trues(x []bool, list []int32, lo, hi int) (n int64) {
	if x == nil {
		return 0
	}
	rows(list, lo, hi, func(r int) {
		if x[r] {
			n++
		}
	})
	return n
}

// histograms counts the buckets of each cell.
func histograms(b block, name string, a arrangement, to func(c int) *store.Histogram) error {
	v, err := b.column(name)
	if err != nil {
		return err
	}
	var n [maxBuckets]int32
	a.each(func(c int, list []int32, lo, hi int) {
		least, most := int32(maxBuckets), int32(-1)
		count := func(k int32) {
			if k < 0 {
				return
			}
			k = min(k, maxBuckets-1)
			n[k]++
			least, most = min(least, k), max(most, k)
		}
		for _, r := range list {
			count(v.i32[r])
		}
		for _, k := range v.i32[lo:hi] {
			count(k)
		}
		used := 0
		for k := least; k <= most; k++ {
			if n[k] > 0 {
				used++
			}
		}
		h := make(store.Histogram, 0, used)
		for k := least; k <= most; k++ {
			if n[k] > 0 {
				h = append(h, store.Count{Bucket: k, N: int64(n[k])})
				n[k] = 0
			}
		}
		*to(c) = h
	})
	return nil
}

// maxBuckets bounds call.Bucket: the longest time.Duration is in bucket 1,857.
const maxBuckets = 1858

// speed sums the output of streams and the time that it took.
func speed(b block, a arrangement, cells []store.Cell) error {
	stream, err := b.column("stream")
	if err != nil {
		return err
	}
	if !slices.Contains(stream.i32, 1) {
		return nil
	}
	output, err := b.column("output_tokens")
	if err != nil {
		return err
	}
	latency, err := b.column("latency_us")
	if err != nil {
		return err
	}
	ttft, err := b.column("ttft_us")
	if err != nil {
		return err
	}
	a.each(func(c int, list []int32, lo, hi int) {
		rows(list, lo, hi, func(r int) {
			if stream.i32[r] != 0 && ttft.i64[r] > 0 && latency.i64[r] > ttft.i64[r] {
				cells[c].Generated += output.i64[r]
				cells[c].Generating += latency.i64[r] - ttft.i64[r]
			}
		})
	})
	return nil
}
