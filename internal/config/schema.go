package config

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"
)

// Schema is the JSON Schema of the file, for editors. It knows the form of
// every value; what needs the whole file (is the provider configured?) is
// left to Load.
func Schema() []byte {
	r := &jsonschema.Reflector{FieldNameTag: "yaml", Anonymous: true, DoNotReference: true, RequiredFromJSONSchemaTags: true}
	r.Mapper = func(t reflect.Type) *jsonschema.Schema { return schemaOf(r, t) }
	s := r.Reflect(&Config{})
	for p := s.Properties.Oldest(); p != nil; p = p.Next() { // "models:" alone is an empty section
		if p.Value.Type == "object" {
			p.Value = &jsonschema.Schema{Description: p.Value.Description, AnyOf: []*jsonschema.Schema{p.Value, {Type: "null"}}}
		}
	}
	s.Title = "Sheepgate configuration"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("config: schema: %v", err)) // the struct above is what it is made of
	}
	return append(b, '\n')
}

// schemaOf is the schema of our own types, nil for the others.
func schemaOf(r *jsonschema.Reflector, t reflect.Type) *jsonschema.Schema {
	text := func(pattern string, examples ...any) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern, Examples: examples}
	}
	number := func(s *jsonschema.Schema) *jsonschema.Schema {
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, {Type: "number", ExclusiveMinimum: "0"}}}
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return text(`^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$`, "5s", "10m", "90d")
	case reflect.TypeFor[Size]():
		return number(text(`^[0-9]+(\.[0-9]+)? ?[A-Za-z]*$`, "20GiB"))
	case reflect.TypeFor[Count]():
		return number(text(`^[0-9][0-9_]*(\.[0-9]+)?[kKmM]?$`, "300k"))
	case reflect.TypeFor[Budget]():
		return text(`^\$[0-9]+(\.[0-9]{1,9})? ?/ ?(day|week|month|total)$`, "$200/month")
	case reflect.TypeFor[Zone]():
		return text("", "UTC", "Asia/Seoul")
	case reflect.TypeFor[Secret]():
		return text("", "env:OPENAI_API_KEY", "file:/run/secrets/openai")
	case reflect.TypeFor[Target]():
		return text("^[^/]+/.+$", "openai/gpt-4.1")
	case reflect.TypeFor[Later]():
		return &jsonschema.Schema{}
	}
	switch {
	case isNamed(t):
		e := r.ReflectFromType(t.Elem())
		e.Version = ""
		return &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{AnyOf: []*jsonschema.Schema{e, {Type: "null"}}}}
	case t.Kind() == reflect.Slice: // one value may stand for a list of one
		e := schemaOf(r, t.Elem())
		if e == nil {
			e = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}}}
		}
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{e, {Type: "array", Items: e}}}
	}
	return nil
}
