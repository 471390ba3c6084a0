package provider

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Head is what the gateway needs of a request body, found in one pass over
// its top level without decoding it.
type Head struct {
	Model        string // "" if absent (Gemini names it in the path)
	Stream       bool
	IncludeUsage bool   // stream_options.include_usage is true
	MaxTokens    int64  // max_tokens, max_completion_tokens, max_output_tokens or generationConfig.maxOutputTokens; 0 if absent
	Choices      int64  // n, or generationConfig.candidateCount; 0 if absent
	User         string // user, or metadata.user_id

	open          int  // offset behind the opening brace
	empty         bool // the object has no member
	model         span // of the value
	streamOptions span // of the value
}

const maxModelName = 128 // bytes

// Scan finds the Head of a JSON request body. It refuses, as an *llm.Error of
// class InvalidRequest that says what is wrong and where, a body that is not
// one JSON object, is truncated, nested deeper than 1,000, not UTF-8, has a
// top-level key twice or in a variant of case (model and Model), or a field of
// the Head of the wrong type.
//
// Two readers of one body that disagree on such a key would bill one model and
// run another; so what any of them might read otherwise is refused.
func Scan(body []byte) (Head, error) {
	s := scanner{b: body}
	var h Head
	switch c := s.peek(); {
	case s.i >= len(body):
		return Head{}, invalid("", "the body is empty; a JSON object is expected")
	case c != '{':
		return Head{}, invalid("", "the body is not a JSON object")
	}
	s.i++
	h.open = s.i
	h.empty = s.peek() == '}'
	var seen keys
	err := s.members(1, func(key span) error {
		if err := seen.add(body, key); err != nil {
			return err
		}
		v, err := s.value(1)
		if err != nil {
			return err
		}
		return h.member(body, key.of(body), v)
	})
	if err != nil {
		return Head{}, err
	}
	if s.peek(); s.i < len(body) {
		return Head{}, invalid("", "the body goes on after its JSON object, at byte %d", s.i)
	}
	if !utf8.Valid(body) {
		return Head{}, invalid("", "the body is not valid UTF-8")
	}
	return h, nil
}

// maxChoices is the most answers at once that anybody gives: OpenAI's bound.
const maxChoices = 128

// choices takes how many answers are asked for. What makes no sense is the
// upstream's to refuse.
func (h *Head) choices(v []byte) {
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil && n > 0 && n <= maxChoices {
		h.Choices = n
	}
}

// named reports whether the body needs no change to name model: it does so
// already, or names none.
func (h *Head) named(body []byte, model string) bool {
	if h.model.to == 0 {
		return true
	}
	v := h.model.of(body)
	return string(v[1:len(v)-1]) == model && bytes.IndexByte(v, '\\') < 0
}

// member takes one top-level member, its key as written between the quotes.
func (h *Head) member(body, key []byte, at span) error {
	if bytes.IndexByte(key, '\\') >= 0 {
		if s, ok := unescape(key); ok {
			key = []byte(s)
		}
	}
	v := at.of(body)
	switch string(key) {
	case "model":
		name, err := text("model", v)
		if err != nil {
			return err
		}
		if len(name) > maxModelName {
			return invalid("model", "model is longer than %d bytes", maxModelName)
		}
		h.Model, h.model = name, at
	case "stream":
		return boolean(&h.Stream, "stream", v)
	case "stream_options":
		h.streamOptions = at
		return h.inner("stream_options", v, func(key string, v []byte) error {
			if key == "include_usage" {
				return boolean(&h.IncludeUsage, "stream_options.include_usage", v)
			}
			return nil
		})
	case "max_tokens":
		return h.maxTokens("max_tokens", v)
	case "max_completion_tokens":
		return h.maxTokens("max_completion_tokens", v)
	case "max_output_tokens":
		return h.maxTokens("max_output_tokens", v)
	case "generationConfig", "generation_config":
		return h.inner(string(key), v, func(key string, v []byte) error {
			switch key {
			case "maxOutputTokens", "max_output_tokens":
				return h.maxTokens("generationConfig.maxOutputTokens", v)
			case "candidateCount", "candidate_count":
				h.choices(v)
			}
			return nil
		})
	case "n":
		h.choices(v)
	case "user":
		if string(v) == "null" {
			return nil
		}
		user, err := text("user", v)
		if err == nil && user != "" {
			h.User = user
		}
		return err
	case "metadata": // an object of Anthropic's; anything at OpenAI
		if v[0] != '{' || h.User != "" {
			return nil
		}
		return h.inner("metadata", v, func(key string, v []byte) error {
			if key == "user_id" && v[0] == '"' {
				h.User, _ = text("metadata.user_id", v) // v was scanned
			}
			return nil
		})
	default:
		if f := known(key); f != "" {
			return invalid(f, "the key %s is written in another case", f)
		}
	}
	return nil
}

func (h *Head) maxTokens(field string, v []byte) error {
	if string(v) == "null" {
		return nil
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 0 {
		return invalid(field, "%s is not a whole number of tokens", field)
	}
	h.MaxTokens = max(h.MaxTokens, n)
	return nil
}

// inner walks over a member that is an object or null, one level deep.
func (h *Head) inner(field string, v []byte, each func(key string, v []byte) error) error {
	if string(v) == "null" {
		return nil
	}
	if v[0] != '{' {
		return invalid(field, "%s is not an object", field)
	}
	s := scanner{b: v, i: 1}
	return s.members(2, func(key span) error {
		at, err := s.value(2)
		if err != nil {
			return err
		}
		k := key.of(v)
		if bytes.IndexByte(k, '\\') >= 0 {
			u, _ := unescape(k)
			return each(u, at.of(v))
		}
		return each(string(k), at.of(v))
	})
}

func boolean(p *bool, field string, v []byte) error {
	switch string(v) {
	case "true":
		*p = true
	case "false", "null":
		*p = false
	default:
		return invalid(field, "%s is not true or false", field)
	}
	return nil
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

// unescape is what stands between the quotes of a JSON string, decoded.
func unescape(inner []byte) (string, bool) {
	var s string
	err := json.Unmarshal([]byte(`"`+string(inner)+`"`), &s)
	return s, err == nil
}

// known is the field of the Head that key is a variant of, or "".
func known(key []byte) string {
	for _, f := range [...]string{"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens", "user", "metadata"} {
		if bytes.EqualFold(key, []byte(f)) {
			return f
		}
	}
	return ""
}

// keys are the top-level keys seen. Bodies have a dozen; past the array a map
// keeps hostile ones linear.
type keys struct {
	n    int
	hash [32]uint32
	at   [32]span
	many map[string]bool
}

// add refuses a key that is there already, be it in another case or escaped.
func (k *keys) add(body []byte, key span) error {
	raw := key.of(body)
	h, plain := foldHash(raw)
	if !plain {
		h, _ = foldHash([]byte(fold(raw)))
	}
	for i := range k.n {
		if k.hash[i] == h && fold(k.at[i].of(body)) == fold(raw) {
			return twice(fold(raw), key.from)
		}
	}
	if k.n < len(k.hash) {
		k.hash[k.n], k.at[k.n] = h, key
		k.n++
		return nil
	}
	name := fold(raw)
	if k.many[name] {
		return twice(name, key.from)
	}
	if k.many == nil {
		k.many = map[string]bool{}
	}
	k.many[name] = true
	return nil
}

// twice names the key if it is a plain name; else it might be anything.
func twice(folded string, at int) error {
	name := strings.ToLower(folded)
	if len(name) > 40 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return invalid("", "a top-level key is there twice, or in two variants of case, at byte %d", at)
	}
	return invalid(name, "the key %s is there twice, or in two variants of case", name)
}

// foldHash is the FNV-1a hash of a key in one case. plain is false when that
// needs more than ASCII.
func foldHash(key []byte) (h uint32, plain bool) {
	h, plain = 2166136261, true
	for _, c := range key {
		if c >= 0x80 || c == '\\' {
			plain = false
		}
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		h = (h ^ uint32(c)) * 16777619
	}
	return h, plain
}

// fold is a key as a careless decoder would match it: unescaped and in one
// case, by the rule of encoding/json, which takes K (Kelvin) for k too.
func fold(raw []byte) string {
	s := string(raw)
	if bytes.IndexByte(raw, '\\') >= 0 {
		s, _ = unescape(raw)
	}
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next // the smallest of the cycle
			}
			r = next
		}
	}, s)
}
