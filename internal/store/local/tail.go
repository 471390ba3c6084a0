package local

import (
	"slices"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// A tail holds the newest Calls in memory, column by column, in the order in
// which they were stored; the Calls whole are in the database. It only grows,
// so that a look at it stays true while it does.
type tail struct {
	n      int
	ids    []string
	vecs   []vec               // as columns; empty where the tail does not keep one
	words  []map[string]int32  // of each word's dictionary
	labels []map[string]string // the tags of each Call
	seq    []int64             // the batch that holds each Call …
	at     []int32             // … and its place there
	begun  time.Time           // when the first Call came

	first, last int64  // of started_at
	known       *known // shared with every look
}

// known are the ids of a tail, as far as they were needed: only an import asks.
// It does so one at a time and holds nobody up, for with many Calls it takes
// longer than one may be unstored.
type known struct {
	ids map[string]struct{}
	n   int // of the tail's Calls
}

func newTail() *tail {
	return &tail{known: new(known), vecs: make([]vec, len(columns)), words: make([]map[string]int32, len(columns))}
}

// add appends the Calls of a batch.
func (t *tail) add(seq int64, calls []*call.Call) {
	if t.n == 0 && len(calls) > 0 {
		t.begun = time.Now()
	}
	for i := range columns {
		col := &columns[i]
		if !col.tail {
			continue
		}
		v := &t.vecs[i]
		for _, c := range calls {
			switch {
			case col.kind == word:
				s := col.str(c)
				k, ok := t.words[i][s]
				if !ok {
					if t.words[i] == nil {
						t.words[i] = map[string]int32{}
					}
					k = int32(len(v.dict))
					v.dict = append(v.dict, s)
					t.words[i][s] = k
				}
				v.idx = append(v.idx, k)
			case col.kind == text:
				s := col.str(c)
				if s == "" && len(v.dict) > 0 && v.dict[0] == "" {
					v.idx = append(v.idx, 0)
					break
				}
				v.idx = append(v.idx, int32(len(v.dict)))
				v.dict = append(v.dict, s)
			default:
				v.addNumber(col, c)
			}
		}
	}
	for i, c := range calls {
		us := c.StartedAt.UnixMicro()
		if t.n == 0 || us < t.first {
			t.first = us
		}
		if t.n == 0 || us > t.last {
			t.last = us
		}
		t.n++
		t.ids = append(t.ids, c.ID)
		t.labels = append(t.labels, c.Tags)
		t.seq = append(t.seq, seq)
		t.at = append(t.at, int32(i))
	}
}

// look is the tail as it is now: what comes later does not show.
func (t *tail) look() *tail {
	x := *t
	x.vecs = slices.Clone(t.vecs)
	x.words = nil
	return &x
}

// has reports whether the tail holds an id. Only one import may ask at a time.
func (t *tail) has(id string) bool {
	k := t.known
	if k.ids == nil {
		k.ids = make(map[string]struct{}, t.n)
	}
	for ; k.n < t.n; k.n++ {
		k.ids[t.ids[k.n]] = struct{}{}
	}
	_, ok := k.ids[id]
	return ok
}

// A tail is a block whose rows are in no order.

func (t *tail) rows() int  { return t.n }
func (t *tail) span() span { return span{t.n, t.first, t.last} }

func (t *tail) sorted() bool { return false }

func (t *tail) column(name string) (vec, error) {
	for i := range columns {
		if columns[i].name == name {
			return t.vecs[i], nil
		}
	}
	tag := name[len(tagColumn("")):]
	var v vec
	w := newWords(&v, t.n)
	for _, tags := range t.labels {
		if s, ok := tags[tag]; ok {
			w.add(s)
		} else {
			v.idx = append(v.idx, absent)
		}
	}
	return v, nil
}
