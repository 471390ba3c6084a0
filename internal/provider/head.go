package provider

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// A Head is what the gateway needs of a request body, found in one pass over
// its top level without decoding it.
type Head struct {
	Model        string // "" if absent (Gemini names it in the path)
	Stream       bool
	IncludeUsage bool   // stream_options.include_usage is true
	MaxTokens    int64  // max_tokens or max_completion_tokens; 0 if absent
	User         string // user, or metadata.user_id

	open          int  // offset behind the opening brace
	empty         bool // the object has no member
	model         span // of the value
	streamOptions span // of the value
}

// A span is a part of a body, [from, to); to is 0 where there is none.
type span struct{ from, to int }

const (
	maxDepth     = 1000
	maxModelName = 128 // bytes
)

// Scan finds the Head of a JSON request body. It refuses, as an *llm.Error of
// class InvalidRequest that says what is wrong and where, a body that is not
// one JSON object, is truncated, nested deeper than 1,000, not UTF-8, has a
// top-level key twice or in a variant of case (model and Model), or a field of
// the Head of the wrong type.
func Scan(body []byte) (Head, error) {
	s := scanner{b: body}
	h, err := s.head()
	if err != nil {
		return Head{}, err
	}
	if !utf8.Valid(body) {
		return Head{}, invalid("", "the body is not valid UTF-8")
	}
	return h, nil
}

func invalid(param, format string, args ...any) *llm.Error {
	return &llm.Error{Class: llm.InvalidRequest, Code: "invalid_json", Param: param, Msg: fmt.Sprintf(format, args...)}
}

// A scanner walks over JSON text. i is the offset of the next byte.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek is the next byte that is not white space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i >= len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *scanner) bad() *llm.Error {
	if s.i >= len(s.b) {
		return invalid("", "the body is truncated JSON: it ends at byte %d within a value", len(s.b))
	}
	return invalid("", "the body is not valid JSON at byte %d", s.i)
}

func (s *scanner) head() (h Head, err error) {
	switch c := s.peek(); {
	case c == 0 && s.i >= len(s.b):
		return h, invalid("", "the body is empty; a JSON object is expected")
	case c != '{':
		return h, invalid("", "the body is not a JSON object")
	}
	s.i++
	h.open = s.i
	h.empty = s.peek() == '}'
	var seen keys
	if err := s.members(1, func(key span) error {
		if err := seen.add(s.b[key.from:key.to]); err != nil {
			return err
		}
		return s.member(&h, s.b[key.from:key.to])
	}); err != nil {
		return h, err
	}
	if s.peek(); s.i < len(s.b) {
		return h, invalid("", "the body goes on after its JSON object, at byte %d", s.i)
	}
	return h, nil
}

// members walks over an object whose brace has been read. each is called
// behind a key's colon and must consume the value.
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
		if each != nil {
			if err := each(key); err != nil {
				return err
			}
		} else if err := s.skip(depth); err != nil {
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

// member takes one top-level member, its key as written between the quotes.
func (s *scanner) member(h *Head, key []byte) error {
	s.peek()
	from := s.i
	if err := s.skip(1); err != nil {
		return err
	}
	v := s.b[from:s.i]
	switch string(key) {
	case "model":
		name, err := text("model", v)
		if err != nil {
			return err
		}
		if len(name) > maxModelName {
			return invalid("model", "model is longer than %d bytes", maxModelName)
		}
		h.Model, h.model = name, span{from, s.i}
	case "stream":
		switch string(v) {
		case "true":
			h.Stream = true
		case "false", "null":
		default:
			return invalid("stream", "stream is not true or false")
		}
	case "stream_options":
		return streamOptions(h, v, from)
	case "max_tokens", "max_completion_tokens":
		if string(v) == "null" {
			return nil
		}
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil || n < 0 {
			return invalid(string(key), "%s is not a whole number of tokens", key)
		}
		h.MaxTokens = max(h.MaxTokens, n)
	case "user":
		if string(v) == "null" {
			return nil
		}
		user, err := text("user", v)
		if err != nil {
			return err
		}
		h.User = user
	case "metadata":
		return metadata(h, v)
	}
	return nil
}

func streamOptions(h *Head, v []byte, from int) error {
	if string(v) == "null" {
		h.streamOptions = span{from, from + len(v)}
		return nil
	}
	if v[0] != '{' {
		return invalid("stream_options", "stream_options is not an object")
	}
	h.streamOptions = span{from, from + len(v)}
	s := scanner{b: v, i: 1}
	return s.members(2, func(key span) error {
		s.peek()
		at := s.i
		if err := s.skip(2); err != nil {
			return err
		}
		if string(v[key.from:key.to]) == "include_usage" {
			h.IncludeUsage = string(v[at:s.i]) == "true"
		}
		return nil
	})
}

// metadata takes Anthropic's metadata.user_id.
func metadata(h *Head, v []byte) error {
	if v[0] != '{' || h.User != "" {
		return nil
	}
	s := scanner{b: v, i: 1}
	return s.members(2, func(key span) error {
		s.peek()
		at := s.i
		if err := s.skip(2); err != nil {
			return err
		}
		if string(v[key.from:key.to]) == "user_id" && v[at] == '"' {
			h.User, _ = text("metadata.user_id", v[at:s.i])
		}
		return nil
	})
}

// text is the value of a JSON string, or an error that names the field.
func text(field string, v []byte) (string, error) {
	if len(v) < 2 || v[0] != '"' {
		return "", invalid(field, "%s is not a string", field)
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), nil
	}
	s, ok := unquote(v)
	if !ok {
		return "", invalid(field, "%s is not a valid JSON string", field)
	}
	return s, nil
}

// skip walks over one value, depth objects and arrays deep already.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return invalid("", "the body is nested deeper than %d", maxDepth)
	}
	switch c := s.peek(); c {
	case '"':
		return s.string()
	case '{':
		s.i++
		return s.members(depth+1, nil)
	case '[':
		s.i++
		return s.elements(depth + 1)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *scanner) elements(depth int) error {
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for {
		if err := s.skip(depth); err != nil {
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

func (s *scanner) word(w string) error {
	for j := 0; j < len(w); j++ {
		if s.i >= len(s.b) || s.b[s.i] != w[j] {
			return s.bad()
		}
		s.i++
	}
	return nil
}

func (s *scanner) number() error {
	digits := func() bool {
		from := s.i
		for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
			s.i++
		}
		return s.i > from
	}
	next := func(set string) bool {
		if s.i < len(s.b) && strings.IndexByte(set, s.b[s.i]) >= 0 {
			s.i++
			return true
		}
		return false
	}
	next("-")
	if !next("0") && !digits() {
		return s.bad()
	}
	if next(".") && !digits() {
		return s.bad()
	}
	if next("eE") {
		next("+-")
		if !digits() {
			return s.bad()
		}
	}
	return nil
}

// string walks over a string whose opening quote is next. Long runs of plain
// text are jumped by IndexByte; control characters are looked for in the run.
func (s *scanner) string() error {
	s.i++
	for {
		q := bytes.IndexByte(s.b[s.i:], '"')
		if q < 0 {
			s.i = len(s.b)
			return s.bad()
		}
		run := s.b[s.i : s.i+q]
		e := bytes.IndexByte(run, '\\')
		if e >= 0 {
			run = run[:e]
		}
		if j := control(run); j >= 0 {
			s.i += j
			return invalid("", "the body is not valid JSON: a control character in a string at byte %d", s.i)
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

// control is the index of a byte below 0x20, or -1.
func control(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		v := uint64(b[i]) | uint64(b[i+1])<<8 | uint64(b[i+2])<<16 | uint64(b[i+3])<<24 |
			uint64(b[i+4])<<32 | uint64(b[i+5])<<40 | uint64(b[i+6])<<48 | uint64(b[i+7])<<56
		// a byte below 0x20 borrows into its high bit; bytes above 0x7f are masked out
		if (v-0x2020202020202020)&^v&0x8080808080808080 != 0 {
			break
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
		for j := 1; j <= 4; j++ {
			if s.i+j >= len(s.b) {
				s.i = len(s.b)
				return s.bad()
			}
			if c := s.b[s.i+j]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
				return s.bad()
			}
		}
		s.i += 5
		return nil
	}
	return s.bad()
}

// keys are the top-level keys seen, lower-cased.
type keys struct {
	few  [48]string
	n    int
	many map[string]bool
}

// add refuses a key that is there already, also in another case or escaped.
func (k *keys) add(raw []byte) error {
	name := fold(raw)
	if acted[name] && string(raw) != name {
		return invalid(name, "the key %q is written in another case; upstreams would disagree on what it means", name)
	}
	dup := false
	for i := 0; i < k.n && !dup; i++ {
		dup = k.few[i] == name
	}
	if dup || k.many[name] {
		if len(name) > 64 {
			name = name[:64]
		}
		return invalid(name, "the key %q is there twice, or in two variants of case", strings.ToValidUTF8(name, ""))
	}
	if k.n < len(k.few) {
		k.few[k.n] = name
		k.n++
		return nil
	}
	if k.many == nil {
		k.many = map[string]bool{}
	}
	k.many[name] = true
	return nil
}

// acted are the keys that the gateway itself acts on.
var acted = map[string]bool{"model": true, "stream": true, "stream_options": true, "max_tokens": true, "max_completion_tokens": true, "user": true, "metadata": true}

// known keys cost no allocation.
var known = func() map[string]string {
	m := map[string]string{}
	for _, k := range strings.Fields(`model messages stream stream_options max_tokens max_completion_tokens temperature top_p top_k n stop seed user
		metadata tools tool_choice parallel_tool_calls response_format reasoning_effort frequency_penalty presence_penalty logprobs top_logprobs
		logit_bias store service_tier modalities audio prediction system thinking stop_sequences output_config contents systemInstruction
		system_instruction generationConfig generation_config safetySettings safety_settings toolConfig tool_config cachedContent verbosity`) {
		m[k] = strings.ToLower(k)
	}
	return m
}()

// fold is a key as a careless decoder would match it: unescaped, one case.
func fold(raw []byte) string {
	if s, ok := known[string(raw)]; ok {
		return s
	}
	s := string(raw)
	if bytes.IndexByte(raw, '\\') >= 0 {
		if u, ok := unquote([]byte(`"` + s + `"`)); ok {
			s = u
		}
	}
	// encoding/json also takes K (Kelvin sign) for k and ſ (long s) for s.
	return strings.ToLower(strings.Map(func(r rune) rune {
		switch r {
		case 'K':
			return 'k'
		case 'ſ':
			return 's'
		}
		return r
	}, s))
}
