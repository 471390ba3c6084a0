package sim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// A schema is as much of JSON Schema as structured output uses. Gemini's
// dialect, with its upper-case types and nullable, is read too.
type schema struct {
	Type       any // a string or a list of them
	Nullable   bool
	Enum       []json.RawMessage
	Const      json.RawMessage
	Default    json.RawMessage
	Properties map[string]*schema
	Order      []string `json:"propertyOrdering"`
	Required   []string
	Items      *schema
	MinItems   int
	MaxItems   *int
	Unique     bool `json:"uniqueItems"`
	Format     string
	MinLength  int
	MaxLength  *int
	Minimum    *float64
	Maximum    *float64
	ExMin      *float64 `json:"exclusiveMinimum"`
	ExMax      *float64 `json:"exclusiveMaximum"`
	Multiple   float64  `json:"multipleOf"`
	AnyOf      []*schema
	OneOf      []*schema
	AllOf      []*schema
	Ref        string             `json:"$ref"`
	Defs       map[string]*schema `json:"$defs"`
	OldDefs    map[string]*schema `json:"definitions"`
}

// fit returns a value that fits the schema raw; an object if there is none or
// it cannot be read.
func fit(raw json.RawMessage, r *rand.Rand, words func() string) json.RawMessage {
	var s schema
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil {
		return obj("answer", words(), "confidence", 0.9)
	}
	f := fitter{root: &s, r: r, words: words}
	return f.value(&s, "", 0)
}

type fitter struct {
	root  *schema
	r     *rand.Rand
	words func() string
}

// maxDepth ends recursive schemas: below it only what is required is made, and
// at twice it null.
const maxDepth = 6

func (f *fitter) value(s *schema, name string, depth int) json.RawMessage {
	if s == nil || depth > 4*maxDepth {
		return json.RawMessage("null")
	}
	if s.Ref != "" {
		return f.value(f.resolve(s.Ref), name, depth+1)
	}
	if s.Const != nil {
		return s.Const
	}
	if len(s.Enum) > 0 {
		return s.Enum[f.r.IntN(len(s.Enum))]
	}
	for _, any := range [][]*schema{s.AnyOf, s.OneOf} {
		if len(any) > 0 {
			return f.value(f.pick(any, depth), name, depth+1)
		}
	}
	if len(s.AllOf) > 0 {
		return f.value(merge(s), name, depth+1)
	}
	switch s.kind(depth) {
	case "object":
		return f.object(s, depth)
	case "array":
		return f.array(s, name, depth)
	case "integer":
		return value(int64(f.number(s, true)))
	case "number":
		return value(f.number(s, false))
	case "boolean":
		return value(f.r.IntN(2) == 0)
	case "null":
		return json.RawMessage("null")
	}
	return value(f.text(s, name))
}

// kind is the type to make: the first one named, but null where recursion
// should end and null is allowed.
func (s *schema) kind(depth int) string {
	switch t := s.Type.(type) {
	case string:
		if s.Nullable && depth > maxDepth {
			return "null"
		}
		return strings.ToLower(t)
	case []any:
		if depth > maxDepth && slices.Contains(t, any("null")) {
			return "null"
		}
		for _, v := range t {
			if s, ok := v.(string); ok && s != "null" {
				return s
			}
		}
		return "null"
	}
	if s.Properties != nil {
		return "object"
	}
	if s.Items != nil {
		return "array"
	}
	return "string"
}

// pick chooses a branch; deep down the first one that ends.
func (f *fitter) pick(of []*schema, depth int) *schema {
	if depth > maxDepth {
		for _, s := range of {
			if k := s.kind(depth); s.Ref == "" && k != "object" && k != "array" {
				return s
			}
		}
	}
	return of[f.r.IntN(len(of))]
}

func (f *fitter) resolve(ref string) *schema {
	if ref == "#" {
		return f.root
	}
	if name, ok := strings.CutPrefix(ref, "#/$defs/"); ok {
		return f.root.Defs[name]
	}
	if name, ok := strings.CutPrefix(ref, "#/definitions/"); ok {
		return f.root.OldDefs[name]
	}
	return nil
}

// merge folds the branches of allOf that are plain objects into one.
func merge(s *schema) *schema {
	m := *s
	m.AllOf = nil
	m.Properties = map[string]*schema{}
	for _, p := range append([]*schema{s}, s.AllOf...) {
		for k, v := range p.Properties {
			m.Properties[k] = v
		}
		if p != s {
			m.Required = append(slices.Clone(m.Required), p.Required...)
		}
		if m.Type == nil {
			m.Type = p.Type
		}
		if p.Ref != "" && len(s.AllOf) == 1 {
			m.Ref = p.Ref
		}
	}
	if len(m.Properties) == 0 {
		m.Properties = nil
	}
	return &m
}

func (f *fitter) object(s *schema, depth int) json.RawMessage {
	names := s.Order
	if len(names) == 0 {
		for name := range s.Properties {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	for _, name := range s.Required {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var kv []any
	for _, name := range names {
		if depth > maxDepth && !slices.Contains(s.Required, name) {
			continue
		}
		p := s.Properties[name]
		if p == nil {
			p = &schema{}
		}
		kv = append(kv, name, f.value(p, name, depth+1))
	}
	return obj(kv...)
}

func (f *fitter) array(s *schema, name string, depth int) json.RawMessage {
	n := s.MinItems + 1 + f.r.IntN(3)
	if s.MaxItems != nil {
		n = min(n, *s.MaxItems)
	}
	if depth > maxDepth {
		n = s.MinItems
	}
	items := s.Items
	if items == nil {
		items = &schema{}
	}
	var vs []any
	seen := map[string]bool{}
	for range 20 * n {
		v := f.value(items, name, depth+1)
		if len(vs) == n {
			break
		}
		if s.Unique && seen[string(v)] {
			continue
		}
		seen[string(v)] = true
		vs = append(vs, v)
	}
	return arr(vs...)
}

func (f *fitter) number(s *schema, whole bool) float64 {
	lo, hi := 0.0, 100.0
	step := 0.01
	if whole {
		step = 1
	}
	if s.Multiple > 0 {
		step = s.Multiple
	}
	if s.Minimum != nil {
		lo = *s.Minimum
	}
	if s.ExMin != nil {
		lo = *s.ExMin + step
	}
	if s.Maximum != nil {
		hi = *s.Maximum
	} else if hi < lo {
		hi = lo + 100*step
	}
	if s.ExMax != nil {
		hi = *s.ExMax - step
	}
	if s.Minimum == nil && s.ExMin == nil && lo > hi {
		lo = hi - 100*step
	}
	first := math.Ceil(lo / step)
	v := step * (first + math.Floor(f.r.Float64()*max(0, math.Floor(hi/step)-first+1)))
	return math.Round(v*1e6) / 1e6
}

func (f *fitter) text(s *schema, name string) string {
	switch s.Format {
	case "date-time":
		return fmt.Sprintf("2026-%02d-%02dT%02d:30:00Z", 1+f.r.IntN(12), 1+f.r.IntN(28), f.r.IntN(24))
	case "date":
		return fmt.Sprintf("2026-%02d-%02d", 1+f.r.IntN(12), 1+f.r.IntN(28))
	case "time":
		return fmt.Sprintf("%02d:30:00Z", f.r.IntN(24))
	case "email":
		return "kim@example.com"
	case "uri", "url":
		return "https://example.com/item/" + fmt.Sprint(f.r.IntN(1000))
	case "uuid":
		return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", f.r.Uint32(), f.r.Uint32()&0xffff, f.r.Uint32()&0xfff, f.r.Uint32()&0xfff, f.r.Uint64()&0xffffffffffff)
	case "ipv4":
		return "192.0.2." + fmt.Sprint(f.r.IntN(255))
	}
	t := named(name, f.r)
	if t == "" {
		t = f.words()
	}
	for len([]rune(t)) < s.MinLength {
		t += " " + f.words()
	}
	if r := []rune(t); s.MaxLength != nil && len(r) > *s.MaxLength {
		t = string(r[:*s.MaxLength])
	}
	return t
}

// named returns a likely value of a property with a telling name, or "".
func named(name string, r *rand.Rand) string {
	choose := func(s ...string) string { return s[r.IntN(len(s))] }
	switch n := strings.ToLower(name); {
	case strings.Contains(n, "city"), strings.Contains(n, "location"):
		return choose("Seoul", "Busan", "Berlin", "Tokyo")
	case strings.Contains(n, "currency"):
		return choose("USD", "KRW", "EUR")
	case n == "name":
		return choose("Minji Kim", "Alex Rivera", "Sofia Rossi")
	case strings.Contains(n, "query"):
		return choose("open orders of last week", "refund policy", "latest invoice")
	}
	return ""
}
