package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:generate go test -run TestReference -update .

// Example is a commented configuration, as `sheepgate init` writes it.
//
//go:embed example.yaml
var Example []byte

// A row is one key of the reference.
type row struct {
	path string // names that the user picks are NAME
	typ  reflect.Type
	doc  string
	enum []string
}

func rows(t reflect.Type, path string) []row {
	var all []row
	for _, f := range fieldsOf(t) {
		sub := join(path, f.name)
		switch {
		case f.typ == reflect.TypeFor[Later]():
		case isNamed(f.typ):
			all = append(all, row{sub, f.typ, f.doc, nil})
			all = append(all, rows(f.typ.Elem(), sub+".NAME")...)
		case isSection(f.typ):
			all = append(all, row{sub, f.typ, f.doc, nil})
			all = append(all, rows(f.typ, sub)...)
		default:
			all = append(all, row{sub, f.typ, f.doc, f.enum})
		}
	}
	return all
}

// Reference is docs/config.md: every key with its meaning, default and variable.
func Reference() []byte {
	var b bytes.Buffer
	b.WriteString(`# Configuration reference

Generated from internal/config by ` + "`go generate ./internal/config`" + `; do not edit.

Sheepgate reads one YAML file, ` + "`./sheepgate.yaml`" + ` unless ` + "`--config`" + ` names another. The file is strict: an unknown key,
a wrong type or a key that is there twice is an error with its line and column, and all errors are told at once
(` + "`sheepgate config check`" + `). Without a file, every provider whose usual variable (` + "`OPENAI_API_KEY`" + `, …) is set is used.

A variable wins over the file. In its name, ` + "`NAME`" + ` is the entry's name in upper case with ` + "`_`" + ` for anything but letters and
digits; a list is written with commas. Relative paths start at the working directory.

A secret is written as ` + "`env:NAME`" + ` (a variable) or ` + "`file:PATH`" + ` (the content of a file, spaces around it cut). A literal is
allowed, with a warning. Secrets are never shown, logged or stored in clear.

| Key | Value | Default | Variable | Meaning |
|---|---|---|---|---|
`)
	defaults := leaves(Default().tree(), "")
	for _, r := range rows(reflect.TypeFor[Config](), "") {
		value, env := describe(r.typ), "`"+variable(r.path)+"`"
		if isSection(r.typ) {
			env = ""
		}
		if len(r.enum) > 0 {
			value = strings.Join(r.enum, ", ")
		}
		def := defaults[r.path]
		switch r.path {
		case "store", "state":
			def = "file:" + Default().Data
		case "models.NAME.strategy":
			def = "fallback"
		}
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", r.path, value, def, env, r.doc)
	}
	b.WriteString("\nReserved for later, known and without effect: ")
	var later []string
	for _, f := range fieldsOf(reflect.TypeFor[Config]()) {
		if f.typ == reflect.TypeFor[Later]() {
			later = append(later, "`"+f.name+"`")
		}
	}
	b.WriteString(strings.Join(later, ", ") + ".\n\n## Example\n\n```yaml\n")
	b.Write(Example)
	b.WriteString("```\n")
	return b.Bytes()
}

// leaves maps the paths of a tree to what they hold.
func leaves(t yaml.MapSlice, path string) map[string]string {
	out := map[string]string{}
	for _, item := range t {
		sub := join(path, item.Key.(string))
		switch v := item.Value.(type) {
		case yaml.MapSlice:
			for k, s := range leaves(v, sub) {
				out[k] = s
			}
		case []any:
			parts := make([]string, len(v))
			for i := range v {
				parts[i] = fmt.Sprint(v[i])
			}
			out[sub] = strings.Join(parts, ", ")
		default:
			out[sub] = fmt.Sprint(v)
		}
	}
	return out
}
