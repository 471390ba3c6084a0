package config

import (
	"fmt"
	"reflect"

	"github.com/goccy/go-yaml"
)

// Show writes c as YAML, everything that applies included, secrets hidden.
func (c *Config) Show() ([]byte, error) {
	b, err := yaml.Marshal(c.tree())
	if err != nil {
		return nil, fmt.Errorf("config: show: %w", err)
	}
	return b, nil
}

// MarshalJSON is Show in JSON. The order of sections and names is kept.
func (c *Config) MarshalJSON() ([]byte, error) {
	return yaml.MarshalWithOptions(c.tree(), yaml.JSON())
}

func (c *Config) tree() yaml.MapSlice { return tree(reflect.ValueOf(c).Elem()) }

func tree(v reflect.Value) yaml.MapSlice {
	out := yaml.MapSlice{}
	for _, f := range fieldsOf(v.Type()) {
		fv := v.Field(f.index)
		if f.typ == reflect.TypeFor[Later]() || fv.IsZero() {
			continue
		}
		var value any
		switch {
		case isNamed(f.typ):
			entries := yaml.MapSlice{}
			for i := range fv.Len() {
				e := fv.Index(i)
				entries = append(entries, yaml.MapItem{Key: e.Field(0).String(), Value: tree(e)})
			}
			value = entries
		case isSection(f.typ):
			value = tree(fv)
		case f.typ.Kind() == reflect.Slice:
			items := make([]any, fv.Len())
			for i := range items {
				items[i] = plain(fv.Index(i))
			}
			value = items
		default:
			value = plain(fv)
		}
		out = append(out, yaml.MapItem{Key: f.name, Value: value})
	}
	return out
}

// plain is a scalar as it would be written.
func plain(v reflect.Value) any {
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	return v.Interface()
}
