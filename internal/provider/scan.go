package provider

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// maxDepth bounds the nesting of a body. encoding/json stops at 10,000.
const maxDepth = 1000

// A span is a part of a body, [from, to); to is 0 where there is none.
type span struct{ from, to int }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

// A scanner walks over JSON text (RFC 8259), checks its form and decodes
// nothing. i is the offset of the next byte.
type scanner struct {
	b []byte
	i int
}

func invalid(param, format string, args ...any) *llm.Error {
	return &llm.Error{Class: llm.InvalidRequest, Code: "invalid_json", Param: param, Msg: fmt.Sprintf(format, args...)}
}

func (s *scanner) bad() *llm.Error {
	if s.i >= len(s.b) {
		return invalid("", "the body is truncated JSON: it ends at byte %d within a value", len(s.b))
	}
	return invalid("", "the body is not valid JSON at byte %d", s.i)
}

// peek is the next byte that is not white space, 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.b) {
		c := s.b[s.i]
		if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		s.i++
	}
	return 0
}

// members walks over an object whose brace has been read. each, if not nil,
// gets every key, without its quotes, and must consume the value.
func (s *scanner) members(depth int, each func(key span) error) error {
	if s.peek() == '}' {
		s.i++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.bad()
		}
		from := s.i + 1
		if err := s.string(); err != nil {
			return err
		}
		key := span{from, s.i - 1}
		if s.peek() != ':' {
			return s.bad()
		}
		s.i++
		var err error
		if each != nil {
			err = each(key)
		} else {
			err = s.skip(depth)
		}
		if err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.i++
		case '}':
			s.i++
			return nil
		default:
			return s.bad()
		}
	}
}

// elements walks over an array whose bracket has been read. each, if not nil,
// must consume one element.
func (s *scanner) elements(depth int, each func() error) error {
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for {
		var err error
		if each != nil {
			err = each()
		} else {
			err = s.skip(depth)
		}
		if err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.i++
		case ']':
			s.i++
			return nil
		default:
			return s.bad()
		}
	}
}

// value walks over one value within depth others and says where it is.
func (s *scanner) value(depth int) (span, error) {
	s.peek()
	from := s.i
	err := s.skip(depth)
	return span{from, s.i}, err
}

// skip walks over one value within depth others.
func (s *scanner) skip(depth int) error {
	switch s.peek() {
	case '"':
		return s.string()
	case '{':
		if depth >= maxDepth {
			return invalid("", "the body is nested deeper than %d", maxDepth)
		}
		s.i++
		return s.members(depth+1, nil)
	case '[':
		if depth >= maxDepth {
			return invalid("", "the body is nested deeper than %d", maxDepth)
		}
		s.i++
		return s.elements(depth+1, nil)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

// wellFormed reports whether b is one JSON object.
func wellFormed(b []byte) bool {
	s := scanner{b: b}
	if s.peek() != '{' || s.skip(0) != nil {
		return false
	}
	s.peek()
	return s.i == len(b)
}

func (s *scanner) word(w string) error {
	if len(s.b)-s.i >= len(w) && string(s.b[s.i:s.i+len(w)]) == w {
		s.i += len(w)
		return nil
	}
	for j := 0; s.i < len(s.b) && s.b[s.i] == w[j]; j++ {
		s.i++
	}
	return s.bad()
}

func (s *scanner) number() error {
	s.next('-', '-')
	if !s.next('0', '0') && !s.digits() {
		return s.bad()
	}
	if s.next('.', '.') && !s.digits() {
		return s.bad()
	}
	if s.next('e', 'E') {
		s.next('+', '-')
		if !s.digits() {
			return s.bad()
		}
	}
	return nil
}

func (s *scanner) next(c, d byte) bool {
	if s.i < len(s.b) && (s.b[s.i] == c || s.b[s.i] == d) {
		s.i++
		return true
	}
	return false
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > from
}

// string walks over a string whose opening quote is next. It jumps from
// backslash to backslash; the closing quote is looked for once, and again only
// behind an escaped one, so that the time stays linear whatever the text.
func (s *scanner) string() error {
	s.i++
	if s.short() {
		return nil
	}
	quote := -1
	for {
		if quote < s.i {
			q := bytes.IndexByte(s.b[s.i:], '"')
			if q < 0 {
				s.i = len(s.b)
				return s.bad()
			}
			quote = s.i + q
		}
		run := s.b[s.i:quote]
		e := bytes.IndexByte(run, '\\')
		if e >= 0 {
			run = run[:e]
		}
		if j := control(run); j >= 0 {
			return invalid("", "the body is not valid JSON: a bare control character in the string at byte %d", s.i+j)
		}
		s.i += len(run)
		if e < 0 {
			s.i++
			return nil
		}
		if err := s.escape(); err != nil {
			return err
		}
	}
}

// short walks over the rest of a string whose end is near and before which
// nothing counts, as that of most keys. It moves on over what does not count.
func (s *scanner) short() bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for range 3 {
		if s.i+8 > len(s.b) {
			return false
		}
		v := binary.LittleEndian.Uint64(s.b[s.i:])
		quote, slash := v^(ones*'"'), v^(ones*'\\')
		// The highest bit of the first byte that counts is set; of one behind it
		// it may be, as a subtraction borrows from it.
		hit := ((quote-ones)&^quote | (slash-ones)&^slash | (v-ones*' ')&^v) & highs
		if hit == 0 {
			s.i += 8
			continue
		}
		n := bits.TrailingZeros64(hit) / 8
		s.i += n
		if byte(v>>(8*n)) != '"' {
			return false
		}
		s.i++
		return true
	}
	return false
}

// control is the index of a byte below 0x20, or -1. It looks at eight bytes at
// a time: only such a byte borrows when 0x20 is taken from it (false alarms
// behind a borrow are settled by the loop at the end).
func control(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		v := binary.LittleEndian.Uint64(b[i:])
		if (v-0x2020202020202020)&^v&0x8080808080808080 == 0 {
			continue
		}
		for j := i; j < i+8; j++ {
			if b[j] < 0x20 {
				return j
			}
		}
	}
	for ; i < len(b); i++ {
		if b[i] < 0x20 {
			return i
		}
	}
	return -1
}

// escape walks over a backslash and what it escapes.
func (s *scanner) escape() error {
	s.i++
	if s.i >= len(s.b) {
		return s.bad()
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return nil
	case 'u':
		s.i++
		for range 4 {
			if s.i >= len(s.b) {
				return s.bad()
			}
			if c := s.b[s.i]; !(c-'0' <= 9 || c|0x20-'a' <= 5) {
				return s.bad()
			}
			s.i++
		}
		return nil
	}
	return s.bad()
}
