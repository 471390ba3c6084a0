package local

import (
	"slices"
	"strings"

	"github.com/sheepgate/sheepgate/internal/store"
)

// A block is a run of Calls in columns: a row group of a segment, or the tail.
type block interface {
	rows() int
	span() span
	sorted() bool // by started_at
	// column gives a column of all rows. A vec without rows is a tag that no
	// Call here has in a column of its own.
	column(name string) (vec, error)
}

// A segBlock is a row group of a segment.
type segBlock struct {
	*segment
	at int
	sc *scratch
}

func (b segBlock) rows() int    { return b.Blocks[b.at].Rows }
func (b segBlock) span() span   { return b.Blocks[b.at] }
func (b segBlock) sorted() bool { return true }

func (b segBlock) column(name string) (vec, error) {
	if b.sc == nil {
		return b.segment.column(b.at, name, nil, nil)
	}
	if v, ok := b.sc.read[name]; ok {
		return v, nil
	}
	v, err := b.segment.column(b.at, name, nil, b.sc)
	if err == nil {
		if b.sc.read == nil {
			b.sc.read = map[string]vec{}
		}
		b.sc.read[name] = v
	}
	return v, err
}

// dimension reads a dimension of all rows of a block as words: every index is
// valid, and what a Call has not is "".
func dimension(b block, name string) (vec, error) {
	v, err := b.column(name)
	if err != nil {
		return vec{}, err
	}
	if k := kindOf(name); k == small || k == flag {
		return v.words(k), nil
	}
	tag, isTag := strings.CutPrefix(name, store.TagPrefix)
	if !isTag {
		return v, nil
	}
	sb, sealed := b.(segBlock)
	if sealed && v.idx == nil {
		if v, err = restOf(b, tag); err != nil {
			return vec{}, err
		}
	}
	if slices.Contains(v.idx, absent) {
		none := int32(slices.Index(v.dict, ""))
		if none < 0 {
			none = int32(len(v.dict))
			v.dict = append(v.dict, "")
		}
		for i, x := range v.idx { // ours: it was made for this call
			if x == absent {
				v.idx[i] = none
			}
		}
	}
	if sealed && sb.sc != nil {
		sb.sc.read[name] = v // its words, too, for who asks again
	}
	return v, nil
}

// restOf reads a tag that has no column of its own in this block's file.
func restOf(b block, tag string) (vec, error) {
	rest, err := b.column(moreTags)
	if err != nil {
		return vec{}, err
	}
	var v vec
	w := newWords(&v, b.rows())
	said := make([]string, len(rest.dict))
	for i, text := range rest.dict {
		said[i] = parseTags(text)[tag]
	}
	for _, i := range rest.idx {
		w.add(said[i])
	}
	return v, nil
}

// selection is the rows of a block that a filter leaves: those in list, or
// where it is nil all from lo to hi.
type selection struct {
	lo, hi int
	list   []int32
}

func (s selection) len() int {
	if s.list != nil {
		return len(s.list)
	}
	return s.hi - s.lo
}

// each is all of them one by one, ascending.
func (s selection) each() []int32 {
	if s.list != nil {
		return s.list
	}
	list := make([]int32, 0, s.len())
	for i := s.lo; i < s.hi; i++ {
		list = append(list, int32(i))
	}
	return list
}

// between selects the rows that started in [from, to), in microseconds.
func between(b block, from, to int64) (selection, error) {
	sp := b.span()
	if from <= sp.First && sp.Last < to {
		return selection{hi: b.rows()}, nil
	}
	if sp.Last < from || sp.First >= to {
		return selection{}, nil
	}
	started, err := b.column("started_at")
	if err != nil {
		return selection{}, err
	}
	if b.sorted() {
		lo, _ := slices.BinarySearch(started.i64, from)
		hi, _ := slices.BinarySearch(started.i64, to)
		return selection{lo: lo, hi: hi}, nil
	}
	list := []int32{}
	for i, at := range started.i64 {
		if from <= at && at < to {
			list = append(list, int32(i))
		}
	}
	return selection{list: list}, nil
}

// keep leaves the rows of s for which ok holds, by the word of v.
func (s selection) keep(v vec, ok func(string) bool) selection {
	pass := make([]bool, len(v.dict))
	all, none := true, true
	for i, w := range v.dict {
		pass[i] = ok(w)
		all, none = all && pass[i], none && !pass[i]
	}
	if all {
		return s
	}
	list := []int32{}
	switch {
	case none:
	case s.list != nil:
		for _, i := range s.list {
			if pass[v.idx[i]] {
				list = append(list, i)
			}
		}
	default:
		for i := s.lo; i < s.hi; i++ {
			if pass[v.idx[i]] {
				list = append(list, int32(i))
			}
		}
	}
	return selection{list: list}
}

// filter leaves the rows of s that match f and have none of the hidden origins.
func filter(b block, s selection, f store.Filter, hidden []string) (selection, error) {
	narrow := func(name string, ok func(string) bool) error {
		if s.len() == 0 {
			return nil
		}
		v, err := dimension(b, name)
		if err == nil {
			s = s.keep(v, ok)
		}
		return err
	}
	for name, values := range f {
		if err := narrow(name, func(w string) bool { return slices.Contains(values, w) }); err != nil {
			return s, err
		}
	}
	if len(hidden) > 0 {
		if err := narrow("origin", func(w string) bool { return !slices.Contains(hidden, w) }); err != nil {
			return s, err
		}
	}
	return s, nil
}
