package local

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/sheepgate/sheepgate/internal/call"
)

// idMillis is the time of an id in Unix milliseconds; -1 if it is not a ULID.
func idMillis(id string) int64 {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return -1
	}
	return int64(u.Time())
}

// floorMillis is a time in microseconds as the milliseconds of an id.
func floorMillis(us int64) int64 {
	ms := us / 1000
	if us%1000 < 0 {
		ms--
	}
	return ms
}

func compare(a, b string) int { return strings.Compare(a, b) }

// A callPart is a run of Calls from the tail, loaded when it is written.
type callPart struct {
	n      int
	labels []map[string]string // the tags of each row
	load   func() ([]*call.Call, error)
	calls  []*call.Call
}

func (p *callPart) rows() int { return p.n }
func (p *callPart) done()     { p.calls = nil }

func (p *callPart) tags() (map[string]int, error) {
	n := map[string]int{}
	for _, tags := range p.labels {
		for t := range tags {
			n[t]++
		}
	}
	return n, nil
}

func (p *callPart) column(name string, more map[string]bool) (vec, error) {
	if p.calls == nil {
		var err error
		if p.calls, err = p.load(); err != nil {
			return vec{}, err
		}
	}
	var v vec
	w := newWords(&v, p.n)
	col := columnByName[name]
	if col == nil || name == moreTags {
		for _, tags := range p.labels {
			w.tag(name, tags, more)
		}
		return v, nil
	}
	for _, c := range p.calls {
		if col.str != nil {
			w.add(col.str(c))
		} else {
			v.addNumber(col, c)
		}
	}
	return v, nil
}

// addNumber appends a Call's value of a column of numbers.
func (v *vec) addNumber(col *column, c *call.Call) {
	switch col.kind {
	case small, flag:
		v.i32 = append(v.i32, int32(col.num(c)))
	case money:
		null := col.null(c)
		v.null = append(v.null, null)
		var n int64
		if !null {
			n = col.num(c)
		}
		v.i64 = append(v.i64, n)
	default:
		v.i64 = append(v.i64, col.num(c))
	}
}

// words builds a dictionary and the indexes into it.
type words struct {
	v  *vec
	at map[string]int32
}

func newWords(v *vec, n int) *words {
	v.idx = make([]int32, 0, n)
	return &words{v, map[string]int32{}}
}

func (w *words) add(s string) {
	i, ok := w.at[s]
	if !ok {
		i = int32(len(w.v.dict))
		w.v.dict = append(w.v.dict, s)
		w.at[s] = i
	}
	w.v.idx = append(w.v.idx, i)
}

// tag adds what a tag column, or moreTags, says of a row with these tags.
func (w *words) tag(name string, tags map[string]string, more map[string]bool) {
	if name == moreTags {
		rest := map[string]string{}
		for t, s := range tags {
			if more[t] {
				rest[t] = s
			}
		}
		if len(rest) == 0 {
			w.add("")
			return
		}
		b, _ := json.Marshal(rest) // a map of strings
		w.add(string(b))
		return
	}
	if s, ok := tags[name[len(tagColumn("")):]]; ok {
		w.add(s)
	} else {
		w.v.idx = append(w.v.idx, absent)
	}
}

// A row is where a Call is in a list of segments.
type row struct {
	started int64
	segment int32
	block   int32
	row     int32
}

// A mergePart is a run of rows of several segments, in order.
type mergePart struct {
	segments []*segment
	list     []row
	labels   []map[string]string // of each row; loaded only where a tag has no column
}

func (p *mergePart) rows() int { return len(p.list) }
func (p *mergePart) done()     { p.labels = nil }

func (p *mergePart) tags() (map[string]int, error) {
	n := map[string]int{}
	for _, b := range p.blocks() {
		s := p.segments[b.segment]
		f, err := s.reader()
		if err != nil {
			return nil, err
		}
		for _, name := range f.tags {
			n[name[len(tagColumn("")):]] += len(b.rows)
		}
		v, err := s.column(b.block, moreTags, b.rows, nil)
		if err != nil {
			return nil, err
		}
		for _, text := range v.dict {
			for t := range parseTags(text) {
				n[t]++
			}
		}
	}
	return n, nil
}

func parseTags(text string) (tags map[string]string) {
	if text != "" {
		_ = json.Unmarshal([]byte(text), &tags) // our own words
	}
	return tags
}

// source is what a part takes from one block.
type source struct {
	segment int
	block   int
	rows    []int32 // ascending, as the part's order is each segment's own
	to      []int32 // where they go
}

func (p *mergePart) blocks() []*source {
	type key struct{ segment, block int32 }
	at := map[key]*source{}
	var list []*source
	for i, r := range p.list {
		k := key{r.segment, r.block}
		b := at[k]
		if b == nil {
			b = &source{segment: int(r.segment), block: int(r.block)}
			at[k] = b
			list = append(list, b)
		}
		b.rows = append(b.rows, r.row)
		b.to = append(b.to, int32(i))
	}
	return list
}

func (p *mergePart) column(name string, more map[string]bool) (vec, error) {
	n := len(p.list)
	var v vec
	k := kindOf(name)
	switch k {
	case number, count, money:
		v.i64 = make([]int64, n)
	case small, flag:
		v.i32 = make([]int32, n)
	}
	if k == money {
		v.null = make([]bool, n)
	}
	if name == moreTags || columnByName[name] == nil {
		simple, err := p.simpleTags(more)
		if err != nil {
			return vec{}, err
		}
		if !simple {
			w := newWords(&v, n)
			for _, tags := range p.labels {
				w.tag(name, tags, more)
			}
			return v, nil
		}
	}
	var strings []string
	var has []bool
	if k == word || k == text {
		strings, has = make([]string, n), make([]bool, n)
	}
	for _, b := range p.blocks() {
		x, err := p.segments[b.segment].column(b.block, name, b.rows, nil)
		if err != nil {
			return vec{}, err
		}
		for i, to := range b.to {
			switch {
			case strings != nil:
				if x.idx != nil && x.idx[i] >= 0 {
					strings[to], has[to] = x.dict[x.idx[i]], true
				}
			case v.i64 != nil:
				v.i64[to] = x.i64[i]
				if v.null != nil {
					v.null[to] = x.null != nil && x.null[i]
				}
			default:
				v.i32[to] = x.i32[i]
			}
		}
	}
	if strings != nil {
		w := newWords(&v, n)
		for i, s := range strings {
			if has[i] {
				w.add(s)
			} else {
				v.idx = append(v.idx, absent)
			}
		}
	}
	return v, nil
}

// simpleTags reports whether every tag keeps its own column. Where not, it
// loads the tags of each row.
func (p *mergePart) simpleTags(more map[string]bool) (bool, error) {
	if p.labels != nil {
		return false, nil
	}
	simple := len(more) == 0
	rest := map[*source]vec{}
	for _, b := range p.blocks() {
		v, err := p.segments[b.segment].column(b.block, moreTags, b.rows, nil)
		if err != nil {
			return false, err
		}
		rest[b] = v
		if slices.ContainsFunc(v.dict, func(s string) bool { return s != "" }) {
			simple = false
		}
	}
	if simple {
		return true, nil
	}
	p.labels = make([]map[string]string, len(p.list))
	for b, v := range rest {
		for i, to := range b.to {
			p.labels[to] = parseTags(v.dict[v.idx[i]])
		}
		f, err := p.segments[b.segment].reader()
		if err != nil {
			return false, err
		}
		for _, name := range f.tags {
			x, err := p.segments[b.segment].column(b.block, name, b.rows, nil)
			if err != nil {
				return false, err
			}
			for i, to := range b.to {
				if x.idx[i] < 0 {
					continue
				}
				if p.labels[to] == nil {
					p.labels[to] = map[string]string{}
				}
				p.labels[to][name[len(tagColumn("")):]] = x.dict[x.idx[i]]
			}
		}
	}
	return false, nil
}

// merged is the parts of what segments hold, in order, a file each.
func merged(segments []*segment) (files [][]part, err error) {
	var all []row
	var ids []string
	for i, s := range segments {
		for b := range s.Blocks {
			started, err := s.column(b, "started_at", nil, nil)
			if err != nil {
				return nil, err
			}
			id, err := s.column(b, "id", nil, nil)
			if err != nil {
				return nil, err
			}
			for r, at := range started.i64 {
				all = append(all, row{at, int32(i), int32(b), int32(r)})
				ids = append(ids, id.dict[id.idx[r]])
			}
		}
	}
	order := make([]int32, len(all))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int {
		if a, b := all[x].started, all[y].started; a != b {
			if a < b {
				return -1
			}
			return 1
		}
		return strings.Compare(ids[x], ids[y])
	})
	order = slices.CompactFunc(order, func(x, y int32) bool { return ids[x] == ids[y] }) // a Call is there once, whatever happened
	for len(order) > 0 {
		n := min(len(order), maxRows)
		var parts []part
		for from := 0; from < n; from += blockRows {
			p := &mergePart{segments: segments}
			for _, i := range order[from:min(n, from+blockRows)] {
				p.list = append(p.list, all[i])
			}
			parts = append(parts, p)
		}
		files = append(files, parts)
		order = order[n:]
	}
	return files, nil
}
