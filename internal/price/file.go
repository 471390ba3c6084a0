package price

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// MaxFile bounds a price file, in bytes: the built-in catalogue has 66 KB.
const MaxFile = 2 << 20

// ErrTooLong says that a file is longer than it may be.
var ErrTooLong = errors.New("too long")

// ReadFile reads a file of at most so many bytes, whatever its size says: it may
// be a device.
func ReadFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s is longer than %d bytes: %w", path, most, ErrTooLong)
	}
	return data, err
}

// A Problem is one mistake of a price file, and where.
type Problem struct {
	Line   int    `json:"line"`   // from 1
	Column int    `json:"column"` // from 1, in characters
	Path   string `json:"path"`   // models[3].rows[0].rates.input; "" is the whole file
	Msg    string `json:"message"`
}

// String is LINE:COLUMN: PATH: MESSAGE.
func (p Problem) String() string {
	s := fmt.Sprintf("%d:%d: ", p.Line, p.Column)
	if p.Path != "" {
		s += p.Path + ": "
	}
	return s + p.Msg
}

// Problems are all mistakes of a file, in its order; at most 100 are told.
type Problems []Problem

// Error lists them, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

const maxProblems = 100

// file is what a price file holds.
type file struct {
	Version   string                     `json:"version"`
	Unit      string                     `json:"unit"`
	Sources   map[string]json.RawMessage `json:"sources"`
	Calendars map[string]calendar        `json:"calendars"`
	Models    []Model                    `json:"models"`
}

// Parse reads a catalogue in JSON, or the same in YAML, strictly: an unknown key,
// one that is there twice, a kind of rate that would never be used, or a date
// that does not exist is an error, not a price of zero. The error is Problems,
// all of them.
func Parse(data []byte) (*Catalogue, error) {
	d := decoder{}
	root := d.tree(data)
	var in file
	if root != nil {
		d.value(reflect.ValueOf(&in).Elem(), root, "", 0)
		d.check(&in, root)
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return nil, d.problems
	}
	c := &Catalogue{version: in.Version, models: in.Models, calendars: in.Calendars, vendors: map[string]bool{}}
	for i := range c.models {
		c.vendors[c.models[i].Provider] = true
	}
	c.date(in.Sources)
	c.index()
	return c, nil
}

// A decoder puts a tree of nodes into Go values and remembers every mistake.
type decoder struct {
	problems Problems
	visits   int
}

func (d *decoder) fail(n *node, path, format string, args ...any) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, Problem{n.line, n.column, path, fmt.Sprintf(format, args...)})
	}
}

func (d *decoder) value(v reflect.Value, n *node, path string, depth int) {
	if d.visits++; d.visits > maxNodes || depth > maxDepth { // aliases of YAML multiply
		if d.visits <= maxNodes+1 {
			d.fail(n, path, "nested too deeply, or too much")
			d.visits = maxNodes + 2
		}
		return
	}
	if raw, ok := v.Addr().Interface().(*json.RawMessage); ok {
		*raw = n.appendJSON(nil, 0)
		return
	}
	if u, ok := v.Addr().Interface().(json.Unmarshaler); ok {
		if n.kind != text && n.kind != number {
			d.fail(n, path, "must be %s, not %s", describe(v.Type()), n.kind)
		} else if err := u.UnmarshalJSON(n.appendJSON(nil, 0)); err != nil {
			d.fail(n, path, "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if n.kind != null {
			v.Set(reflect.New(v.Type().Elem()))
			d.value(v.Elem(), n, path, depth+1)
		}
	case reflect.Struct:
		d.object(v, n, path, depth)
	case reflect.Map:
		if !d.is(n, object, v, path) {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for _, m := range n.members {
			e := reflect.New(v.Type().Elem()).Elem()
			d.value(e, m.value, joinPath(path, m.key), depth+1)
			v.SetMapIndex(reflect.ValueOf(m.key), e)
		}
	case reflect.Slice:
		if !d.is(n, list, v, path) {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.list), len(n.list)))
		for i, item := range n.list {
			d.value(v.Index(i), item, path+"["+strconv.Itoa(i)+"]", depth+1)
		}
	case reflect.String:
		if d.is(n, text, v, path) {
			v.SetString(n.text)
		}
	case reflect.Int64:
		if !d.is(n, number, v, path) {
			return
		}
		i, err := strconv.ParseInt(n.text, 10, 64)
		if err != nil {
			d.fail(n, path, "%.40s is not a whole number", n.text)
		}
		v.SetInt(i)
	default:
		panic("price: no way to read a " + v.Type().String())
	}
}

// is reports whether n is of a kind; null is whatever is wanted, and empty.
func (d *decoder) is(n *node, k kind, v reflect.Value, path string) bool {
	if n.kind != k && n.kind != null {
		d.fail(n, path, "must be %s, not %s", describe(v.Type()), n.kind)
	}
	return n.kind == k
}

func (d *decoder) object(v reflect.Value, n *node, path string, depth int) {
	if !d.is(n, object, v, path) {
		return
	}
	fields := map[string]int{}
	names := []string{}
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name != "" {
			fields[name] = i
			names = append(names, name)
		}
	}
	for _, m := range n.members {
		i, ok := fields[m.key]
		if !ok {
			hint := ": there are " + strings.Join(names, ", ")
			if near := nearest(m.key, names); near != "" {
				hint = fmt.Sprintf(" (did you mean %q?)", near)
			}
			d.fail(m.at, joinPath(path, m.key), "unknown key%s", hint)
			continue
		}
		d.value(v.Field(i), m.value, joinPath(path, m.key), depth+1)
	}
}

// nearest is the word that s was meant to be, "" if none is near.
func nearest(s string, words []string) string {
	best, dist := "", max(2, len(s)/3)+1
	for _, w := range words {
		if d := distance(s[:min(len(s), 64)], w); d < dist {
			best, dist = w, d
		}
	}
	return best
}

func joinPath(path, key string) string {
	if key = clip(key); path == "" {
		return key
	}
	return path + "." + key
}

func clip(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "…"
	}
	if s == "" || strings.ContainsAny(s, ".[] \n") {
		return strconv.Quote(s)
	}
	return s
}

// describe says what a type is, for a message.
func describe(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Date]():
		return "a date like 2026-11-23"
	case t == reflect.TypeFor[Rate]():
		return "a number of dollars"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Int64:
		return "a whole number"
	}
	return "a section of keys"
}

// A place is a part of a file, for who finds a mistake there.
type place struct {
	d    *decoder
	n    *node
	path string
}

// in is the place of a part of p, by keys and indexes.
func (p place) in(path ...any) place {
	p.n = p.n.at(path...)
	for _, x := range path {
		switch x := x.(type) {
		case string:
			p.path = joinPath(p.path, x)
		case int:
			p.path += "[" + strconv.Itoa(x) + "]"
		}
	}
	return p
}

func (p place) fail(format string, args ...any) { p.d.fail(p.n, p.path, format, args...) }

// check completes what was read and says what is wrong with it beyond its form.
// A model whose form is wrong is not looked at.
func (d *decoder) check(in *file, root *node) {
	top := place{d: d, n: root}
	formal := d.problems
	broken := func(path string) bool {
		return slices.ContainsFunc(formal, func(p Problem) bool {
			rest, ok := strings.CutPrefix(p.Path, path)
			return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
		})
	}
	for _, name := range sortedNames(in.Calendars) {
		for i, day := range in.Calendars[name].Days {
			if !isSpan(day) {
				top.in("calendars", name, "days", i).fail("%.40q is neither a date nor two like 2026-10-01/2026-10-07", day)
			}
		}
	}
	if len(in.Models) == 0 && len(formal) == 0 {
		top.in("models").fail("there is no model")
	}
	ids := map[[2]string]int{}
	for i := range in.Models {
		m, at := &in.Models[i], top.in("models", i)
		if broken(at.path) {
			continue
		}
		m.check(in.Calendars, at)
		id := [2]string{m.Provider, m.ID}
		if first, twice := ids[id]; twice {
			at.fail("%.60s/%.60s is there twice: first as models[%d]", m.Provider, m.ID, first)
			continue
		}
		ids[id] = i
	}
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// date gives every row its source and that source's date, which is the
// catalogue's where none is told.
func (c *Catalogue) date(sources map[string]json.RawMessage) {
	dates := map[string]string{}
	for name, raw := range sources {
		var s struct{ Date, Published string }
		if json.Unmarshal(raw, &s) == nil {
			dates[name] = s.Date
			if s.Date == "" {
				dates[name] = s.Published
			}
		}
	}
	for i := range c.models {
		m := &c.models[i]
		for j := range m.Rows {
			r := &m.Rows[j]
			if r.Source == "" {
				r.Source = m.Source
			}
			r.Origin = ""
			if dated := dates[r.Source]; dated != "" {
				r.Dated = dated
			} else if r.Dated == "" {
				r.Dated = c.version
			}
		}
	}
}

// notText is where data holds a byte that no text in UTF-8 has, or -1.
func notText(data []byte) int {
	for i, r := range string(data) {
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f || r == '\uFFFD' && !bytes.HasPrefix(data[i:], []byte("\uFFFD")) {
			return i
		}
	}
	return -1
}
