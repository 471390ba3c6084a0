package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// prefix begins every variable that sets a key.
const prefix = "SHEEPGATE_"

// reserved are variables with the prefix that are no keys: those of the
// command line's clients and of the tests.
var reserved = []string{"SHEEPGATE_CONFIG", "SHEEPGATE_URL", "SHEEPGATE_KEY", "SHEEPGATE_RECORDINGS"}

// fromEnvironment makes a provider of every known vendor whose usual variable
// is set.
func (l *loader) fromEnvironment(c *Config) {
	for _, k := range l.o.Known {
		if k.KeyEnv != "" && l.env[k.KeyEnv] != "" {
			c.Providers = append(c.Providers, Provider{Name: k.Name, Key: Secret{ref: "env:" + k.KeyEnv}})
			l.at[join("providers", k.Name)] = place{variable: k.KeyEnv}
		}
	}
}

// overlay puts every SHEEPGATE_SECTION_KEY over c.
func (l *loader) overlay(c *Config) {
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok || slices.Contains(reserved, name) {
			continue
		}
		if !l.set(reflect.ValueOf(c).Elem(), rest, "", name, true) {
			l.unknown = append(l.unknown, name)
		}
	}
}

// unknownVariables warns of variables that look like keys and are none. A name
// that the file itself uses (env:SHEEPGATE_TEAM_A) is no mistake.
func (l *loader) unknownVariables() {
	var all []string
	for _, name := range l.unknown {
		if l.named[name] {
			continue
		}
		if all == nil {
			for _, r := range rows(reflect.TypeFor[Config](), "") {
				all = append(all, variable(r.path))
			}
		}
		l.warnings = append(l.warnings, Problem{File: environment, Path: name, Message: "sets no key of the configuration" + didYouMean(name, all)})
	}
}

// set finds the key that rest names below v and sets it; apply false only looks.
func (l *loader) set(v reflect.Value, rest, path, name string, apply bool) bool {
	for _, f := range fieldsOf(v.Type()) {
		upper := strings.ToUpper(f.name)
		sub := join(path, f.name)
		fv := v.Field(f.index)
		if rest == upper {
			if isSection(f.typ) {
				return false
			}
			if apply {
				l.setText(fv, l.env[name], sub, name)
			}
			return true
		}
		below, ok := strings.CutPrefix(rest, upper+"_")
		if !ok {
			continue
		}
		switch {
		case isNamed(f.typ):
			if l.setEntry(fv, below, sub, name, apply) {
				return true
			}
		case isSection(f.typ):
			if l.set(fv, below, sub, name, apply) {
				return true
			}
		}
	}
	return false
}

// setEntry sets a key of one entry of a named slice: of one that the file has,
// else of a new one.
func (l *loader) setEntry(v reflect.Value, rest, path, name string, apply bool) bool {
	for i := range v.Len() {
		e := v.Index(i)
		if below, ok := strings.CutPrefix(rest, variablePart(e.Field(0).String())+"_"); ok && l.set(e, below, "", name, false) {
			return l.set(e, below, join(path, e.Field(0).String()), name, apply)
		}
	}
	fresh := reflect.New(v.Type().Elem()).Elem()
	for i, r := range rest {
		if r != '_' || i == 0 || !l.set(fresh, rest[i+1:], "", name, false) {
			continue
		}
		if apply {
			entry := strings.ReplaceAll(strings.ToLower(rest[:i]), "_", "-")
			fresh.Field(0).SetString(entry)
			l.at[join(path, entry)] = place{variable: name}
			l.set(fresh, rest[i+1:], join(path, entry), name, true)
			v.Set(reflect.Append(v, fresh))
		}
		return true
	}
	return false
}

// setText sets a scalar, or a list from values with commas between them.
func (l *loader) setText(v reflect.Value, text, path, name string) {
	at := place{variable: name}
	l.at[path] = at
	one := func(v reflect.Value, text string) {
		var err error
		if s, ok := v.Addr().Interface().(scalar); ok {
			err = s.parse(text)
		} else {
			err = setBasic(v, text)
		}
		if err != nil {
			l.failAt(at, path, "%v", err)
		}
	}
	if v.Kind() != reflect.Slice {
		one(v, strings.TrimSpace(text))
		return
	}
	v.SetZero()
	for part := range strings.SplitSeq(text, ",") {
		e := reflect.New(v.Type().Elem()).Elem()
		one(e, strings.TrimSpace(part))
		v.Set(reflect.Append(v, e))
	}
}

// isSection reports whether t holds keys rather than a value.
func isSection(t reflect.Type) bool {
	if isNamed(t) || t == reflect.TypeFor[Later]() {
		return true
	}
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[scalar]())
}

// variable is the name of the variable that sets a path.
func variable(path string) string {
	parts := strings.Split(path, ".")
	for i, p := range parts {
		parts[i] = variablePart(p)
	}
	return prefix + strings.Join(parts, "_")
}

func variablePart(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}
