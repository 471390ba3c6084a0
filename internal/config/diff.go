package config

import (
	"fmt"
	"reflect"
)

// Diff says in a line each what is different in b, in the order of the file:
// "keys.team-a.limits.rpm: 60 → 120". Secrets are never shown, only that they
// changed.
func Diff(a, b *Config) []string {
	before, order := flatten(a)
	after, later := flatten(b)
	for _, path := range later {
		if _, ok := before[path]; !ok {
			order = append(order, path)
		}
	}
	var lines []string
	for _, path := range order {
		old, had := before[path]
		now, has := after[path]
		switch {
		case !had:
			lines = append(lines, fmt.Sprintf("%s: %s, new", path, now.text))
		case !has:
			lines = append(lines, fmt.Sprintf("%s: %s, gone", path, old.text))
		case old.text != now.text:
			lines = append(lines, fmt.Sprintf("%s: %s → %s", path, old.text, now.text))
		case old.secret != now.secret:
			lines = append(lines, path+": another secret at the same place")
		}
	}
	return lines
}

// A leaf is a value as it is shown, and what it hides.
type leaf struct{ text, secret string }

// flatten gives every value of c by its path.
func flatten(c *Config) (leaves map[string]leaf, order []string) {
	leaves = map[string]leaf{}
	put := func(path string, l leaf) {
		if _, twice := leaves[path]; !twice {
			order = append(order, path)
		}
		leaves[path] = l
	}
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for _, f := range fieldsOf(v.Type()) {
			fv, sub := v.Field(f.index), join(path, f.name)
			switch {
			case f.typ == reflect.TypeFor[Later]() || fv.IsZero():
			case isNamed(f.typ):
				for i := range fv.Len() {
					name := join(sub, fv.Index(i).Field(0).String())
					put(name, leaf{text: "set"})
					walk(fv.Index(i), name)
				}
				names := make([]string, fv.Len())
				for i := range names {
					names[i] = fv.Index(i).Field(0).String()
				}
				if f.name == "providers" { // the first that has a model answers
					put(sub+" in the order", leaf{text: fmt.Sprint(names)})
				}
			case isSection(f.typ):
				walk(fv, sub)
			case f.typ == reflect.TypeFor[Secret]():
				s := fv.Interface().(Secret)
				put(sub, leaf{s.String(), s.Value()})
			case f.typ.Kind() == reflect.Slice:
				items := make([]any, fv.Len())
				for i := range items {
					items[i] = plain(fv.Index(i))
				}
				put(sub, leaf{text: fmt.Sprint(items)})
			default:
				put(sub, leaf{text: fmt.Sprint(plain(fv))})
			}
		}
	}
	walk(reflect.ValueOf(c).Elem(), "")
	return leaves, order
}

// fixed are the keys that are read at the start alone.
var fixed = []string{"listen", "debug", "data", "store", "state", "limits", "timezone",
	"timeouts.connect", "timeouts.drain", "retention.calls", "retention.bodies", "retention.disk"}

// Fixed names what is different in b and cannot change while a server runs:
// addresses, folders, the time zone, how long to connect and what is retained.
func Fixed(a, b *Config) []string {
	before, _ := flatten(a)
	after, _ := flatten(b)
	var paths []string
	for _, path := range fixed {
		if before[path] != after[path] {
			paths = append(paths, path)
		}
	}
	return paths
}
