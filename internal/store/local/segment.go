package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"

	"github.com/sheepgate/sheepgate/internal/call"
)

const (
	fileVersion = 1
	aboutKey    = "sheepgate" // of the file's key-value metadata: an about, as JSON
	blockRows   = 1 << 15     // rows of a block, which is a row group
	maxRows     = 1_000_000   // rows of a file
	suffix      = ".parquet"
)

// about is what the manifest and the file itself say of a segment.
type about struct {
	Version  int      `json:"version"`
	Rows     int      `json:"rows"`
	Blocks   []span   `json:"blocks"`             // zone maps: when the Calls of each block started
	Regular  bool     `json:"regular"`            // every id's time is its Call's start
	Replaces []string `json:"replaces,omitempty"` // the files that this one was merged from
}

// A span is a block's rows and their first and last started_at, in
// microseconds since 1970.
type span struct {
	Rows  int   `json:"rows"`
	First int64 `json:"first_us"`
	Last  int64 `json:"last_us"`
}

func (a *about) span() span {
	return span{a.Rows, a.Blocks[0].First, a.Blocks[len(a.Blocks)-1].Last}
}

// check says why an about cannot be true.
func (a *about) check() error {
	if a.Version != fileVersion {
		return fmt.Errorf("version %d is not known", a.Version)
	}
	n := 0
	for i, b := range a.Blocks {
		if b.Rows <= 0 || b.First > b.Last || i > 0 && b.First < a.Blocks[i-1].Last {
			return errors.New("its blocks are out of order")
		}
		n += b.Rows
	}
	if n == 0 || n != a.Rows {
		return errors.New("its rows do not add up")
	}
	return nil
}

// A segment is an immutable Parquet file of Calls, all of one UTC day, in the
// order of (started_at, id). It is opened when it is first read, and closed
// when nobody refers to it any more.
type segment struct {
	disk  Disk
	name  string
	path  string
	bytes int64
	about

	open sync.Mutex // guards file and opening it
	file *opened
}

type opened struct {
	*parquet.File
	columns map[string]int // by name: their place in a row group
	tags    []string
}

// reader opens the segment's file.
func (s *segment) reader() (*opened, error) {
	s.open.Lock()
	defer s.open.Unlock()
	if s.file != nil {
		return s.file, nil
	}
	about := s.about
	f, err := openSegment(s.disk, s.path, &about)
	if err != nil {
		return nil, s.damaged(err)
	}
	s.file = f
	return f, nil
}

// damaged says that the segment cannot be read. A machine that lacks something
// at the moment does not make it so.
func (s *segment) damaged(err error) error {
	if d := (*damage)(nil); errors.As(err, &d) || lacks(err) {
		return err
	}
	return &damage{s, err}
}

// lacks reports whether err says nothing of a file, but that the machine lacks
// something at the moment.
func lacks(err error) bool {
	var number syscall.Errno
	return errors.As(err, &number) && number != syscall.EIO && number != syscall.ENOENT
}

// openSegment opens a file and compares what it says of itself with want, or
// fills an empty want.
func openSegment(disk Disk, path string, want *about) (o *opened, err error) {
	defer func() { // the library trusts what it reads
		if p := recover(); p != nil {
			o, err = nil, fmt.Errorf("%v", p)
		}
	}()
	f, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	pf, err := parquet.OpenFile(f, st.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(64<<10))
	if err != nil {
		f.Close()
		return nil, err
	}
	text, _ := pf.Lookup(aboutKey)
	var a about
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		f.Close()
		return nil, errors.New("it does not say what it holds")
	}
	if err := a.check(); err != nil {
		f.Close()
		return nil, err
	}
	if want.Rows != 0 && (want.Rows != a.Rows || !slices.Equal(want.Blocks, a.Blocks)) {
		f.Close()
		return nil, errors.New("it is not the file that the manifest knows")
	}
	if len(pf.RowGroups()) != len(a.Blocks) {
		f.Close()
		return nil, errors.New("its row groups are not its blocks")
	}
	*want = a
	o = &opened{File: pf, columns: map[string]int{}}
	for _, path := range pf.Schema().Columns() {
		leaf, ok := pf.Schema().Lookup(path...)
		if !ok || len(path) != 1 {
			f.Close()
			return nil, fmt.Errorf("column %q", path)
		}
		o.columns[path[0]] = leaf.ColumnIndex
		if columnByName[path[0]] == nil {
			o.tags = append(o.tags, path[0])
		}
	}
	for i := range columns {
		if _, ok := o.columns[columns[i].name]; !ok {
			f.Close()
			return nil, fmt.Errorf("column %s is missing", columns[i].name)
		}
	}
	return o, nil
}

// kindOf is the kind of a column, a tag's included.
func kindOf(name string) kind {
	if c := columnByName[name]; c != nil {
		return c.kind
	}
	return word
}

// column reads a column of a block: all rows, or those listed, ascending.
// A tag that no Call of the file has is a vec without rows. What it gives may
// lie in the scratch, if there is one.
func (s *segment) column(block int, name string, rows []int32, sc *scratch) (v vec, err error) {
	defer func() { // the library trusts what it reads
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err != nil {
			err = s.damaged(fmt.Errorf("column %s, block %d: %w", name, block, err))
		}
	}()
	f, err := s.reader()
	if err != nil {
		return vec{}, err
	}
	at, ok := f.columns[name]
	if !ok {
		return vec{}, nil
	}
	chunk, ok := f.RowGroups()[block].ColumnChunks()[at].(*parquet.FileColumnChunk)
	if !ok {
		return vec{}, errors.New("a column chunk of an unknown type")
	}
	n := s.Blocks[block].Rows
	if rows != nil && kindOf(name) == flag { // a page of bits cannot be cut: take all
		all, err := s.column(block, name, nil, nil)
		if err != nil {
			return vec{}, err
		}
		return vec{i32: gather(nil, all.i32, rows, len(rows))}, nil
	}
	if rows != nil {
		n = len(rows)
		if _, err := chunk.OffsetIndex(); err != nil { // makes the seeks below cheap
			return vec{}, err
		}
	}
	pages := chunk.Pages()
	defer pages.Close()
	in := intake{kind: kindOf(name), n: n, sc: sc}
	for done := 0; done < n; {
		if rows != nil {
			if err := pages.SeekToRow(int64(rows[done])); err != nil {
				return vec{}, err
			}
		}
		page, err := pages.ReadPage()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return vec{}, err
		}
		var pick []int32 // rows of this page
		took := int(page.NumRows())
		if rows != nil {
			first := rows[done]
			took = 0
			for done+took < n && int64(rows[done+took]-first) < page.NumRows() {
				pick = append(pick, rows[done+took]-first)
				took++
			}
		}
		if rows == nil && took == n && in.whole(page) {
			return in.v, nil
		}
		err = in.take(page, pick, rows != nil)
		parquet.Release(page)
		if err != nil {
			return vec{}, err
		}
		if done += took; took == 0 {
			return vec{}, io.ErrUnexpectedEOF
		}
	}
	return in.vec(), nil
}

// damage is a segment that cannot be read.
type damage struct {
	s   *segment
	err error
}

func (d *damage) Error() string { return fmt.Sprintf("segment %s: %v", d.s.name, d.err) }
func (d *damage) Unwrap() error { return d.err }

// A scratch is memory that is used again for the next block: what a column
// gave is gone after reset. It belongs to one goroutine. nil is a scratch that
// keeps nothing.
type scratch struct {
	i64   [][]int64
	i32   [][]int32
	n64   int
	n32   int
	pages []parquet.Page
	read  map[string]vec // the columns of the block that were asked for
}

func (sc *scratch) int64s(n int) []int64 {
	if sc == nil {
		return make([]int64, 0, n)
	}
	if sc.n64 == len(sc.i64) {
		sc.i64 = append(sc.i64, nil)
	}
	if cap(sc.i64[sc.n64]) < n {
		sc.i64[sc.n64] = make([]int64, 0, max(n, blockRows))
	}
	sc.n64++
	return sc.i64[sc.n64-1][:0]
}

func (sc *scratch) int32s(n int) []int32 {
	if sc == nil {
		return make([]int32, 0, n)
	}
	if sc.n32 == len(sc.i32) {
		sc.i32 = append(sc.i32, nil)
	}
	if cap(sc.i32[sc.n32]) < n {
		sc.i32[sc.n32] = make([]int32, 0, max(n, blockRows))
	}
	sc.n32++
	return sc.i32[sc.n32-1][:0]
}

// hold keeps a page, whose memory a vec points into, until reset.
func (sc *scratch) hold(p parquet.Page) {
	if sc != nil {
		sc.pages = append(sc.pages, p)
	}
}

func (sc *scratch) reset() {
	sc.n64, sc.n32 = 0, 0
	clear(sc.read)
	for i, p := range sc.pages {
		parquet.Release(p)
		sc.pages[i] = nil
	}
	sc.pages = sc.pages[:0]
}

// An intake gathers the pages of one column chunk into a vec.
type intake struct {
	kind kind
	n    int
	sc   *scratch
	v    vec
	from map[parquet.Dictionary]int32 // where a dictionary's words begin in v.dict
}

func (in *intake) vec() vec { return in.v }

// whole takes a page that is the whole column, where its memory can be used as
// it is.
func (in *intake) whole(page parquet.Page) bool {
	if page.NumNulls() > 0 {
		return false
	}
	values, dict := page.Data(), page.Dictionary()
	switch {
	case dict == nil && (in.kind == number || in.kind == money) && values.Kind() == encoding.Int64:
		in.v.i64 = values.Int64()
	case dict != nil && (in.kind == word || in.kind == text):
		in.v.dict = make([]string, dict.Len())
		for i := range in.v.dict {
			in.v.dict[i] = string(dict.Index(int32(i)).ByteArray())
		}
		in.v.idx = values.Int32()
	default:
		return false
	}
	in.sc.hold(page)
	return true
}

// take adds the rows of a page: all, or those picked.
func (in *intake) take(page parquet.Page, pick []int32, some bool) error {
	values, dict, levels := page.Data(), page.Dictionary(), page.DefinitionLevels()
	n := int(page.NumRows())
	// place[i] is where row i's value is; nil: at i.
	var place []int32
	if nulls := page.NumNulls(); levels != nil && nulls > 0 {
		place = make([]int32, n)
		at := int32(0)
		for i, l := range levels {
			if l == 0 {
				place[i] = absent
				continue
			}
			place[i] = at
			at++
		}
	}
	if some {
		chosen := make([]int32, len(pick))
		for i, r := range pick {
			chosen[i] = r
			if place != nil {
				chosen[i] = place[r]
			}
		}
		place, n = chosen, len(pick)
	}
	switch in.kind {
	case number, count, money:
		return in.numbers(values, dict, place, n)
	case small:
		if in.v.i32 == nil {
			in.v.i32 = in.sc.int32s(in.n)
		}
		if dict == nil && values.Kind() != encoding.Int32 {
			return fmt.Errorf("a page of %v", values.Kind())
		}
		if dict == nil {
			in.v.i32 = gather(in.v.i32, values.Int32(), place, n)
			return nil
		}
		table := in.sc.int32s(dict.Len())
		for i := range dict.Len() {
			table = append(table, dict.Index(int32(i)).Int32())
		}
		in.v.i32 = lookUp(in.v.i32, table, values.Int32(), place, n)
	case flag:
		if in.v.i32 == nil {
			in.v.i32 = in.sc.int32s(in.n)
		}
		bits := values.Boolean()
		for i := range n {
			at := i
			if place != nil {
				at = int(place[i])
			}
			in.v.i32 = append(in.v.i32, int32(bits[at/8]>>(at%8)&1))
		}
	default:
		return in.strings(values, dict, place, n)
	}
	return nil
}

func (in *intake) numbers(values encoding.Values, dict parquet.Dictionary, place []int32, n int) error {
	if in.v.i64 == nil {
		in.v.i64 = in.sc.int64s(in.n)
	}
	if in.kind == money && (place != nil || in.v.null != nil) {
		if in.v.null == nil {
			in.v.null = make([]bool, len(in.v.i64), in.n)
		}
		for i := range n {
			in.v.null = append(in.v.null, place != nil && place[i] < 0)
		}
	}
	if dict == nil {
		if values.Kind() != encoding.Int64 {
			return fmt.Errorf("a page of %v", values.Kind())
		}
		in.v.i64 = gather(in.v.i64, values.Int64(), place, n)
		return nil
	}
	table := in.sc.int64s(dict.Len())
	for i := range dict.Len() {
		table = append(table, dict.Index(int32(i)).Int64())
	}
	in.v.i64 = lookUp(in.v.i64, table, values.Int32(), place, n)
	return nil
}

// lookUp appends the words of a dictionary that idx names.
func lookUp[T int32 | int64](dst, table []T, idx, place []int32, n int) []T {
	if place != nil {
		for _, at := range place {
			if at < 0 {
				dst = append(dst, 0)
			} else {
				dst = append(dst, table[idx[at]])
			}
		}
		return dst
	}
	from := len(dst)
	dst = slices.Grow(dst, n)[:from+n]
	for i, k := range idx[:n] {
		dst[from+i] = table[k]
	}
	return dst
}

// gather appends x at place to dst; nothing where place is negative.
func gather[T any](dst, x []T, place []int32, n int) []T {
	if place == nil {
		return append(dst, x[:n]...)
	}
	var none T
	for _, at := range place {
		if at < 0 {
			dst = append(dst, none)
		} else {
			dst = append(dst, x[at])
		}
	}
	return dst
}

func (in *intake) strings(values encoding.Values, dict parquet.Dictionary, place []int32, n int) error {
	if in.v.idx == nil {
		in.v.idx = in.sc.int32s(in.n)
	}
	base := int32(len(in.v.dict))
	if dict != nil {
		known, ok := in.from[dict]
		if !ok {
			for i := range dict.Len() {
				in.v.dict = append(in.v.dict, string(dict.Index(int32(i)).ByteArray()))
			}
			if in.from == nil {
				in.from = map[parquet.Dictionary]int32{}
			}
			in.from[dict], known = base, base
		}
		idx := values.Int32()
		for i := range n {
			switch {
			case place == nil:
				in.v.idx = append(in.v.idx, known+idx[i])
			case place[i] < 0:
				in.v.idx = append(in.v.idx, absent)
			default:
				in.v.idx = append(in.v.idx, known+idx[place[i]])
			}
		}
		return nil
	}
	if values.Kind() != encoding.ByteArray {
		return fmt.Errorf("a page of %v", values.Kind())
	}
	data, offsets := values.ByteArray()
	if place == nil {
		all := string(data) // one string that the words share
		for i := range n {
			in.v.idx = append(in.v.idx, base+int32(i))
			in.v.dict = append(in.v.dict, all[offsets[i]:offsets[i+1]])
		}
		return nil
	}
	for _, at := range place {
		if at < 0 {
			in.v.idx = append(in.v.idx, absent)
			continue
		}
		in.v.idx = append(in.v.idx, int32(len(in.v.dict)))
		in.v.dict = append(in.v.dict, string(data[offsets[at]:offsets[at+1]]))
	}
	return nil
}

// calls reads Calls: the rows of a block, ascending; nil are all. only, if there
// is one, are the columns to read, of those in columns; then there are no tags.
func (s *segment) calls(block int, rows []int32, only map[string]bool) ([]*call.Call, error) {
	f, err := s.reader()
	if err != nil {
		return nil, err
	}
	n := len(rows)
	if rows == nil {
		n = s.Blocks[block].Rows
	}
	out := make([]*call.Call, n)
	for i := range out {
		out[i] = new(call.Call)
	}
	for i := range columns {
		col := &columns[i]
		if col.derived() || only != nil && !only[col.name] {
			continue
		}
		v, err := s.column(block, col.name, rows, nil)
		if err != nil {
			return nil, err
		}
		for j, c := range out {
			if err := col.set(c, v, j); err != nil {
				return nil, s.damaged(fmt.Errorf("column %s: %w", col.name, err))
			}
		}
	}
	if only != nil {
		return out, nil
	}
	for _, name := range f.tags {
		v, err := s.column(block, name, rows, nil)
		if err != nil {
			return nil, err
		}
		for j, c := range out {
			if v.idx[j] >= 0 {
				if c.Tags == nil {
					c.Tags = map[string]string{}
				}
				c.Tags[name[len(tagColumn("")):]] = v.dict[v.idx[j]]
			}
		}
	}
	return out, nil
}

// set gives c the value of row i.
func (col *column) set(c *call.Call, v vec, i int) error {
	switch {
	case col.setStr != nil:
		return col.setStr(c, v.dict[v.idx[i]])
	case v.null != nil && v.null[i]:
		col.setNil(c)
	case v.i64 != nil:
		col.setNum(c, v.i64[i])
	default:
		col.setNum(c, int64(v.i32[i]))
	}
	return nil
}

// mayHold reports whether a block may hold an id, by its bloom filter.
func (s *segment) mayHold(block int, id string) (may bool, err error) {
	defer func() { // the library trusts what it reads
		if p := recover(); p != nil {
			may, err = false, s.damaged(fmt.Errorf("bloom filter: %v", p))
		}
	}()
	f, err := s.reader()
	if err != nil {
		return false, err
	}
	filter := f.RowGroups()[block].ColumnChunks()[f.columns["id"]].BloomFilter()
	if filter == nil {
		return true, nil
	}
	return filter.Check(parquet.ByteArrayValue([]byte(id)))
}

// A part is a run of rows on its way into a file: it gives each column as a vec.
type part interface {
	rows() int
	tags() (map[string]int, error) // how many rows have each tag
	// column gives the column of every row, in the order of the file. more are
	// the tags that the column moreTags holds.
	column(name string, more map[string]bool) (vec, error)
	done() // nothing more is asked: what was loaded can go
}

// writeSegment writes parts, which follow each other in the order of
// (started_at, id), into a new file in dir, synced, under a name of its own.
func writeSegment(disk Disk, dir string, parts []part, replaces []string) (s *segment, err error) {
	a := about{Version: fileVersion, Regular: true, Replaces: replaces}
	frequency := map[string]int{}
	for _, p := range parts {
		have, err := p.tags()
		if err != nil {
			return nil, err
		}
		for t, n := range have {
			frequency[t] += n
		}
	}
	tags := make([]string, 0, len(frequency))
	for t := range frequency {
		tags = append(tags, t)
	}
	slices.SortFunc(tags, func(a, b string) int {
		if d := frequency[b] - frequency[a]; d != 0 {
			return d
		}
		return compare(a, b)
	})
	more := map[string]bool{}
	if len(tags) > maxTagColumns {
		for _, t := range tags[maxTagColumns:] {
			more[t] = true
		}
		tags = tags[:maxTagColumns]
	}
	names := make([]string, 0, len(columns)+len(tags))
	group := parquet.Group{}
	for i := range columns {
		names = append(names, columns[i].name)
		group[columns[i].name] = columns[i].kind.node()
	}
	for _, t := range tags {
		names = append(names, tagColumn(t))
		group[tagColumn(t)] = parquet.Optional(word.node())
	}

	id := call.NewID(time.Now())
	temporary := filepath.Join(dir, "new-"+id+".tmp")
	tmp, err := disk.Create(temporary)
	if err != nil {
		return nil, err
	}
	defer func() {
		tmp.Close()
		if err != nil {
			_ = disk.Remove(temporary)
		}
	}()
	w := parquet.NewGenericWriter[any](tmp, parquet.NewSchema("call", group), parquet.PageBufferSize(512<<10), parquet.WriteBufferSize(1<<20),
		parquet.DictionaryMaxBytes(1<<20), parquet.DataPageStatistics(false), parquet.MaxRowsPerRowGroup(maxRows+1),
		parquet.CreatedBy("sheepgate", fmt.Sprint(fileVersion), ""), parquet.BloomFilters(parquet.SplitBlockFilter(10, "id"), parquet.SplitBlockFilter(10, "response_id")))
	for _, p := range parts {
		ids, err := p.column("id", more)
		if err != nil {
			return nil, err
		}
		started, err := p.column("started_at", more)
		if err != nil {
			return nil, err
		}
		b := span{p.rows(), started.i64[0], started.i64[p.rows()-1]}
		a.Blocks = append(a.Blocks, b)
		a.Rows += b.Rows
		for i, at := range started.i64 {
			if us := idMillis(ids.dict[ids.idx[i]]); us != floorMillis(at) {
				a.Regular = false
				break
			}
		}
		writers := w.ColumnWriters()
		for _, name := range names {
			leaf, _ := w.Schema().Lookup(name)
			v := started
			if name != "started_at" {
				if v, err = p.column(name, more); err != nil {
					return nil, err
				}
			}
			if err := writeColumn(writers[leaf.ColumnIndex], leaf.ColumnIndex, kindOf(name), columnByName[name] == nil, v, b.Rows); err != nil {
				return nil, fmt.Errorf("column %s: %w", name, err)
			}
		}
		if err := w.Flush(); err != nil {
			return nil, err
		}
		p.done()
	}
	text, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	w.SetKeyValueMetadata(aboutKey, string(text))
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := tmp.Sync(); err != nil {
		return nil, err
	}
	st, err := tmp.Stat()
	if err != nil {
		return nil, err
	}
	day := time.UnixMicro(a.Blocks[0].First).UTC().Format("2006-01-02")
	name := fmt.Sprintf("calls-%s-%s%s", day, id, suffix)
	path := filepath.Join(dir, name)
	if err := disk.Rename(temporary, path); err != nil {
		return nil, err
	}
	return &segment{disk: disk, name: name, path: path, bytes: st.Size(), about: a}, nil
}

// writeColumn writes a block of a column. An optional one is a tag or money.
func writeColumn(w *parquet.ColumnWriter, at int, k kind, tag bool, v vec, n int) error {
	values := make([]parquet.Value, n)
	dict := make([]parquet.Value, len(v.dict))
	for i, s := range v.dict {
		dict[i] = parquet.ByteArrayValue([]byte(s))
	}
	for i := range values {
		var x parquet.Value
		defined := 0
		switch k {
		case number, count:
			x = parquet.Int64Value(v.i64[i])
		case money:
			if v.null == nil || !v.null[i] {
				x, defined = parquet.Int64Value(v.i64[i]), 1
			}
		case small:
			x = parquet.Int32Value(v.i32[i])
		case flag:
			x = parquet.BooleanValue(v.i32[i] != 0)
		default:
			if v.idx == nil || v.idx[i] < 0 {
				break // a tag that this Call has not
			}
			if tag {
				defined = 1
			}
			x = dict[v.idx[i]]
		}
		values[i] = x.Level(0, defined, at)
	}
	_, err := w.WriteRowValues(values)
	return err
}
