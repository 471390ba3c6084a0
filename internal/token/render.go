package token

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// schema is what render reads of a JSON schema.
type schema struct {
	Type        any               `json:"type"`
	Description string            `json:"description"`
	Properties  map[string]schema `json:"properties"`
	Required    []string          `json:"required"`
	Items       *schema           `json:"items"`
	Enum        []any             `json:"enum"`
}

// render writes tools as the models read them: a TypeScript namespace.
func render(tools []llm.Tool) string {
	var b strings.Builder
	b.WriteString("namespace functions {\n\n")
	for _, t := range tools {
		if t.Description != "" {
			b.WriteString("// " + t.Description + "\n")
		}
		var s schema
		_ = json.Unmarshal(t.Schema, &s) // a schema that does not decode counts as none
		if len(s.Properties) == 0 {
			fmt.Fprintf(&b, "type %s = () => any;\n\n", t.Name)
			continue
		}
		fmt.Fprintf(&b, "type %s = (_: {\n", t.Name)
		properties(&b, &s, 0)
		b.WriteString("}) => any;\n\n")
	}
	b.WriteString("} // namespace functions")
	return b.String()
}

const maxNesting = 32

func properties(b *strings.Builder, s *schema, depth int) {
	names := make([]string, 0, len(s.Properties))
	for n := range s.Properties {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		p := s.Properties[n]
		if p.Description != "" {
			b.WriteString("// " + p.Description + "\n")
		}
		b.WriteString(n)
		if !slices.Contains(s.Required, n) {
			b.WriteByte('?')
		}
		b.WriteString(": " + typeOf(&p, depth) + ",\n")
	}
}

func typeOf(s *schema, depth int) string {
	if depth > maxNesting {
		return "any"
	}
	if len(s.Enum) > 0 {
		var words []string
		for _, e := range s.Enum {
			w, _ := json.Marshal(e) // came from JSON
			words = append(words, string(w))
		}
		return strings.Join(words, " | ")
	}
	switch t, _ := s.Type.(string); t {
	case "array":
		if s.Items != nil {
			return typeOf(s.Items, depth+1) + "[]"
		}
		return "any[]"
	case "object":
		var b strings.Builder
		b.WriteString("{\n")
		properties(&b, s, depth+1)
		b.WriteString("}")
		return b.String()
	case "integer", "number":
		return "number"
	case "":
		return "any"
	default:
		return t
	}
}
