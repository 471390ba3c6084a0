package redact

import (
	"bytes"
	"cmp"
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A match is a part of a text, and what stands in its place.
type match struct {
	start, end int
	with       string
}

// flat sorts matches and joins those that overlap.
func flat(list []match) []match {
	slices.SortStableFunc(list, func(a, b match) int { return cmp.Compare(a.start, b.start) })
	out := list[:0]
	for _, m := range list {
		if n := len(out); n > 0 && m.start < out[n-1].end {
			out[n-1].end = max(out[n-1].end, m.end)
			continue
		}
		out = append(out, m)
	}
	return out
}

type bodyKind int

const (
	other bodyKind = iota
	jsonText
	eventStream
)

// mark may stand before any text (UTF-8's byte order mark).
const mark = "\xef\xbb\xbf"

func kindOf(body []byte) bodyKind {
	b := bytes.TrimLeft(bytes.TrimPrefix(body, []byte(mark)), " \t\r\n")
	for _, field := range [...]string{"data:", "event:", "id:", "retry:", ":"} {
		if bytes.HasPrefix(b, []byte(field)) {
			return eventStream
		}
	}
	if len(b) > 0 && (b[0] == '{' || b[0] == '[' || b[0] == '"') {
		return jsonText
	}
	return other
}

// A document is the texts of a body and where they are in it. Texts that a
// stream sends piece by piece are one text.
type document struct {
	texts  []*text
	joined map[string]*text // by path
}

type text struct {
	s      strings.Builder
	leaves []leaf
}

// A leaf is a piece of a text, as it stands in the body.
type leaf struct {
	start, end int // in the body; of a string, without its quotes
	at         int // of its first byte, in the text
	kind       leafKind
}

type leafKind int

const (
	plain leafKind = iota
	quoted
	number
)

func (d *document) add(l leaf, s string) {
	t := &text{}
	d.texts = append(d.texts, t)
	t.add(l, s)
}

func (t *text) add(l leaf, s string) {
	l.at = t.s.Len()
	t.s.WriteString(s)
	t.leaves = append(t.leaves, l)
}

func (d *document) join(path string, l leaf, s string) {
	t := d.joined[path]
	if t == nil {
		t = &text{}
		if d.joined == nil {
			d.joined = map[string]*text{}
		}
		d.joined[path] = t
		d.texts = append(d.texts, t)
	}
	t.add(l, s)
}

// pieces are the names of members whose strings are pieces of one text in the
// events of a stream, in any of the dialects.
var pieces = map[string]bool{"content": true, "text": true, "reasoning": true, "reasoning_content": true, "thinking": true,
	"arguments": true, "partial_json": true, "refusal": true, "delta": true, "transcript": true}

// plain takes what is no JSON, as it stands: text that only begins like JSON, too.
func (d *document) plain(body []byte) {
	switch kindOf(body) {
	case eventStream:
		for at, end := range lines(body) {
			if data := dataOf(body[at:end]); !strict(data) {
				d.add(leaf{start: at, end: end}, string(body[at:end]))
			}
		}
		return
	case jsonText:
		if strict(body) {
			return
		}
	}
	d.add(leaf{start: 0, end: len(body)}, string(body))
}

// stream takes the JSON in the lines of an event stream.
func (d *document) stream(body []byte) {
	for at, end := range lines(body) {
		if data := dataOf(body[at:end]); data != nil {
			d.scan(body, end-len(data), end, true)
		}
	}
}

// lines are the lines of an event stream that are not empty: where each begins
// and ends.
func lines(body []byte) iter.Seq2[int, int] {
	return func(yield func(at, end int) bool) {
		for at := 0; at < len(body); {
			end := len(body)
			if i := bytes.IndexAny(body[at:], "\r\n"); i >= 0 {
				end = at + i
			}
			if end > at && !yield(at, end) {
				return
			}
			at = end + 1
		}
	}
}

// dataOf is what a line of an event stream says, if that begins like JSON.
func dataOf(line []byte) []byte {
	if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && kindOf(data) == jsonText {
		return data
	}
	return nil
}

// strict reports whether b holds nothing but JSON's tokens, in whatever order;
// the last one may be cut.
func strict(b []byte) bool {
	b = bytes.TrimPrefix(b, []byte(mark))
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case strings.IndexByte(" \t\r\n:,{}[]", c) >= 0:
			i++
		case c == '"':
			i = stringEnd(b, i+1) + 1
		default:
			stop := i + 1
			for stop < len(b) && strings.IndexByte(":,{}[]\"", b[stop]) < 0 {
				stop++
			}
			word := string(bytes.TrimRight(b[i:stop], " \t\r\n"))
			if strings.Trim(word, "0123456789+-.eE") != "" && word != "true" && word != "false" && word != "null" &&
				(stop < len(b) || !strings.HasPrefix("true", word) && !strings.HasPrefix("false", word) && !strings.HasPrefix("null", word)) {
				return false
			}
			i = stop
		}
	}
	return len(b) > 0
}

// stringEnd is where the string ends that begins at i: at its closing quote, or
// where b does.
func stringEnd(b []byte, i int) int {
	for i < len(b) && b[i] != '"' {
		if b[i] == '\\' {
			i++
		}
		i++
	}
	return min(i, len(b))
}

// json takes JSON text. An array may be a stream's events, as Gemini sends them
// where it was not asked for server-sent events.
func (d *document) json(body []byte) {
	d.scan(body, 0, len(body), bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")))
}

// What a path is made of is bounded: there may be one for every few bytes of a
// body. The deepest that a dialect sends a piece is eight levels.
const (
	maxDepth = 16
	maxName  = 32 // bytes of a member's name, and of an index
)

// A level is an object or array around a value.
type level struct {
	object bool
	key    string
	n      int    // elements before, of an array
	index  string // the member that says which of several it is
}

// scan takes the strings and numbers of JSON text, however broken.
func (d *document) scan(body []byte, at, end int, events bool) {
	var levels []level
	key := false // the next string is one
	for at < end {
		switch c := body[at]; {
		case c == '{' || c == '[':
			levels = append(levels, level{object: c == '{'})
			key = c == '{'
			at++
		case c == '}' || c == ']':
			if len(levels) > 0 {
				levels = levels[:len(levels)-1]
			}
			key = false
			at++
		case c == ',':
			if n := len(levels); n > 0 {
				levels[n-1].n++
				key = levels[n-1].object
			}
			at++
		case c == '"':
			stop := stringEnd(body[:end], at+1)
			l, s := leaf{start: at + 1, end: stop, kind: quoted}, unquote(body[at+1:stop])
			n := len(levels)
			switch {
			case key:
				levels[n-1].key, key = s[:min(len(s), maxName)], false
				d.add(l, s)
			case events && n > 0 && n <= maxDepth && levels[n-1].object && pieces[levels[n-1].key]:
				d.join(path(levels), l, s)
			default:
				d.add(l, s)
			}
			at = stop + 1
		case c == '-' || c >= '0' && c <= '9':
			stop := at + 1
			for stop < end && (body[stop] >= '0' && body[stop] <= '9' || strings.IndexByte("+-.eE", body[stop]) >= 0) {
				stop++
			}
			if n := len(levels); n > 0 && levels[n-1].object && levels[n-1].key == "index" {
				levels[n-1].index = string(body[at:min(stop, at+maxName)])
			}
			d.add(leaf{start: at, end: stop, kind: number}, string(body[at:stop]))
			at = stop
		default:
			at++
		}
	}
}

func path(levels []level) string {
	var b []byte
	for i, l := range levels {
		switch {
		case l.object:
			b = append(append(append(b, l.index...), '.'), l.key...)
		case i > 0:
			b = strconv.AppendInt(append(b, '/'), int64(l.n), 10)
		}
	}
	return string(b)
}

// unquote is what a string says, as far as it goes.
func unquote(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	var s string
	q := append(append([]byte{'"'}, raw...), '"')
	if json.Unmarshal(q, &s) == nil && utf8.Valid(raw) {
		return s
	}
	// Cut within an escape, or no JSON: what a reader would make of it, at least.
	var b []byte
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 == len(raw) {
			b = append(b, raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'n', 'r', 't', 'b', 'f':
			b = append(b, ' ')
		case 'u':
			if i+4 < len(raw) {
				if n, err := strconv.ParseUint(string(raw[i+1:i+5]), 16, 16); err == nil {
					b = utf8.AppendRune(b, rune(n))
					i += 4
				}
			}
		default:
			b = append(b, raw[i])
		}
	}
	return string(b)
}

// An edit is what stands in the place of a leaf.
type edit struct {
	leaf
	with []byte
}

// without is the body less what find finds in its texts.
func (d *document) without(body []byte, find func(s string, cut bool) []match) []byte {
	var edits []edit
	for _, t := range d.texts {
		s := t.s.String()
		last := len(t.leaves) - 1
		if list := find(s, last > 0 || t.leaves[last].end == len(body)); len(list) > 0 {
			edits = t.edits(edits, s, list)
		}
	}
	if len(edits) == 0 {
		return body
	}
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	out, at := make([]byte, 0, len(body)), 0
	for _, e := range edits {
		out = append(append(out, body[at:e.start]...), e.with...)
		at = e.end
	}
	return append(out, body[at:]...)
}

// edits are those of a text's leaves of which something goes: what stands in the
// place of a match is in the leaf where it begins.
func (t *text) edits(edits []edit, s string, list []match) []edit {
	for i, l := range t.leaves {
		end := len(s)
		if i+1 < len(t.leaves) {
			end = t.leaves[i+1].at
		}
		var b []byte
		at, changed := l.at, false
		for len(list) > 0 && list[0].start < end {
			m := list[0]
			if m.start >= l.at {
				b = append(append(b, s[at:m.start]...), m.with...)
			}
			changed = true
			at = min(m.end, end)
			if m.end > end {
				break // the rest of it is in the next leaf
			}
			list = list[1:]
		}
		if !changed {
			continue
		}
		b = append(b, s[at:end]...)
		switch l.kind {
		case quoted:
			q, _ := json.Marshal(string(b)) // a string can be
			b = q[1 : len(q)-1]
		case number: // it is none any more
			b, _ = json.Marshal(string(b))
		}
		edits = append(edits, edit{l, b})
	}
	return edits
}
