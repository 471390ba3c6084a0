package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxDepth = 32     // of nested sections, aliases followed
	maxNodes = 50_000 // keys and values that come of aliases: stops a billion laughs
)

// decodeFile reads the YAML in data into c. It reports whether that could be done
// to its end: if not, nothing else can be said of it.
func (l *loader) decodeFile(c *Config, data []byte) bool {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors write this mark
	if i := notText(data); i >= 0 {
		line := bytes.Count(data[:i], []byte("\n"))
		column := utf8.RuneCount(data[bytes.LastIndexByte(data[:i], '\n')+1 : i])
		l.failAt(place{line: line + 1, column: column + 1}, "", "not text: the byte 0x%02x; the file is YAML in UTF-8", data[i])
		return false
	}
	file, err := parseYAML(data)
	if err != nil {
		at, msg := place{line: 1, column: 1}, err.Error()
		if e := yaml.Error(nil); errors.As(err, &e) {
			msg = e.GetMessage()
			if tk := e.GetToken(); tk != nil && tk.Position != nil {
				at = tokenPlace(tk)
			}
		}
		l.failAt(at, "", "not YAML: %s", printable(msg))
		return false
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if body != nil {
			l.failAt(nodePlace(doc.Body), "", "a second YAML document: the configuration is one")
			return false
		}
		body = doc.Body
	}
	if body == nil {
		return true
	}
	d := decoder{loader: l, anchors: map[string]ast.Node{}}
	d.value(reflect.ValueOf(c).Elem(), body, "", 0)
	return !d.given
}

// notText is where data holds a byte that no text in UTF-8 has, or -1.
func notText(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f {
			return i
		}
		i += n
	}
	return -1
}

// printable is a message of the parser, which repeats what it read.
func printable(msg string) string {
	if len(msg) > 200 {
		msg = strings.ToValidUTF8(msg[:200], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, msg)
}

// deep guesses generously whether data nests more than any configuration: by its
// open brackets, by what opens a level within one line, and by indentation.
func deep(data []byte) bool {
	const most = 200
	open, opened, column, indent := 0, 0, 0, true
	for _, c := range data {
		column++
		switch c {
		case '\n':
			opened, column, indent = 0, 0, true
			continue
		case '[', '{':
			open++
		case ']', '}':
			open = max(open-1, 0)
		case '-', '?', ':', '&', '!', '*', '|', '>':
			opened++
		case ' ':
			if indent && column > 2*most {
				return true
			}
			continue
		}
		indent = false
		if open > most || opened > 4*most {
			return true
		}
	}
	return false
}

// parseYAML parses data. The parser has panicked on broken input before; what
// it cannot read is an error, whatever the way. It calls itself for each level,
// and takes memory for it until there is none.
func parseYAML(data []byte) (f *ast.File, err error) {
	if deep(data) {
		return nil, errors.New("nested too deeply")
	}
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("it cannot be read")
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

func tokenPlace(tk *token.Token) place {
	if tk == nil || tk.Position == nil {
		return place{line: 1, column: 1}
	}
	return place{line: max(tk.Position.Line, 1), column: max(tk.Position.Column, 1)}
}

// nodePlace is where n begins: a mapping begins at its first key.
func nodePlace(n ast.Node) place {
	switch n := n.(type) {
	case nil:
		return place{line: 1, column: 1}
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return nodePlace(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return nodePlace(n.Key)
	}
	return tokenPlace(n.GetToken())
}

// A decoder puts YAML nodes into the fields of a Config.
type decoder struct {
	*loader
	anchors map[string]ast.Node
	aliased bool // what is read now comes of an alias
	nodes   int  // how much did
	given   bool // up: more is not read
}

// unwrap follows anchors and aliases to the node that holds the value.
func (d *decoder) unwrap(n ast.Node, path string) (ast.Node, bool) {
	for range maxDepth {
		switch x := n.(type) {
		case *ast.AnchorNode:
			if x.Name != nil {
				d.anchors[x.Name.String()] = x.Value
			}
			n = x.Value
		case *ast.AliasNode:
			name := ""
			if x.Value != nil {
				name = x.Value.String()
			}
			target, ok := d.anchors[name]
			if !ok {
				d.failAt(nodePlace(n), path, "no anchor &%s stands before it", name)
				return nil, false
			}
			n, d.aliased = target, true
		case *ast.TagNode:
			d.failAt(nodePlace(n), path, "tags like %s are not supported", clip(x.Start.Value))
			return nil, false
		default:
			return n, true
		}
	}
	d.failAt(nodePlace(n), path, "an alias that contains itself")
	return nil, false
}

// more counts what comes of aliases, and gives up when that or the depth is more
// than any configuration has.
func (d *decoder) more(at place, path string, depth int) bool {
	if d.aliased {
		d.nodes++
	}
	if !d.given && (depth > maxDepth || d.nodes > maxNodes) {
		d.given = true
		d.failAt(at, path, "nested too deeply, or too much of aliases: the rest is not read")
	}
	return !d.given
}

// value puts n into v.
func (d *decoder) value(v reflect.Value, n ast.Node, path string, depth int) {
	at := nodePlace(n)
	if d.given {
		return
	}
	defer func(was bool) { d.aliased = was }(d.aliased)
	if path != "" {
		d.at[path] = at
	}
	n, ok := d.unwrap(n, path)
	if !ok {
		return
	}
	if !d.more(at, path, depth) {
		return
	}
	if later, ok := v.Addr().Interface().(*Later); ok {
		later.Set = true
		return
	}
	if _, null := n.(*ast.NullNode); null || n == nil {
		return // "openai:" alone: all defaults
	}
	if s, ok := v.Addr().Interface().(scalar); ok {
		if text, ok := d.text(n, path, describe(v.Type())); ok {
			if err := s.parse(text); err != nil {
				d.failAt(at, path, "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.section(v, n, path, depth)
	case reflect.Slice:
		if isNamed(v.Type()) {
			d.entries(v, n, path, depth)
			return
		}
		d.list(v, n, path, depth)
	default:
		if text, ok := d.text(n, path, describe(v.Type())); ok {
			if err := setBasic(v, text); err != nil {
				d.failAt(at, path, "%v", err)
			}
		}
	}
}

// text is what a scalar says, as it was written.
func (d *decoder) text(n ast.Node, path, want string) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		if n.Value != nil {
			return strings.TrimSpace(n.Value.Value), true
		}
		return "", true
	case ast.MapNode:
		d.failAt(nodePlace(n.(ast.Node)), path, "must be %s, not a section", want)
		return "", false
	case ast.ArrayNode:
		d.failAt(nodePlace(n.(ast.Node)), path, "must be %s, not a list", want)
		return "", false
	case ast.ScalarNode:
		return strings.TrimSpace(n.GetToken().Value), true
	}
	d.failAt(nodePlace(n), path, "must be %s", want)
	return "", false
}

// pairs calls f for each key of a mapping, duplicates refused.
func (d *decoder) pairs(n ast.Node, path string, f func(key, path string, at place, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.failAt(nodePlace(n), path, "must be a section of keys, not %s", kindOf(n))
		return
	}
	seen := map[string]place{}
	for it := m.MapRange(); it.Next(); {
		key := it.Key()
		at := nodePlace(key)
		if !d.more(at, path, 0) {
			return
		}
		if key.IsMergeKey() {
			d.failAt(at, path, "merge keys (<<) are not supported: write the keys out")
			continue
		}
		name := keyText(key)
		sub := join(path, name)
		if first, twice := seen[name]; twice {
			d.failAt(at, sub, "is there twice: first in line %d", first.line)
			continue
		}
		seen[name] = at
		d.keyAt[sub] = at
		f(name, sub, at, it.Value())
	}
}

func keyText(key ast.MapKeyNode) string {
	switch k := key.(type) {
	case *ast.StringNode:
		return k.Value
	case *ast.MappingKeyNode:
		if s, ok := k.Value.(*ast.StringNode); ok {
			return s.Value
		}
	}
	if tk := key.GetToken(); tk != nil {
		return strings.TrimSpace(tk.Value)
	}
	return ""
}

// join makes the path of a key; a name with a dot in it is quoted.
func join(path, name string) string {
	if name == "" || strings.ContainsAny(name, ".[] ") {
		name = clip(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// section puts a mapping into the fields of a struct.
func (d *decoder) section(v reflect.Value, n ast.Node, path string, depth int) {
	fields := fieldsOf(v.Type())
	d.pairs(n, path, func(key, sub string, at place, value ast.Node) {
		for _, f := range fields {
			if f.name == key {
				d.value(v.Field(f.index), value, sub, depth+1)
				return
			}
		}
		if len(d.errors) >= maxProblems {
			return // no more are told
		}
		names := make([]string, len(fields))
		for i, f := range fields {
			names[i] = f.name
		}
		hint := didYouMean(key, names)
		if hint == "" && len(names) <= 8 {
			hint = ": expected " + quoted(names)
		}
		d.failAt(at, sub, "unknown key%s", hint)
	})
}

// entries appends a mapping of names to a slice of structs, in the file's order.
func (d *decoder) entries(v reflect.Value, n ast.Node, path string, depth int) {
	d.pairs(n, path, func(name, sub string, at place, value ast.Node) {
		if name == "" || len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
			d.failAt(at, sub, "is not a name: 1 to 200 printable characters")
			return
		}
		e := reflect.New(v.Type().Elem()).Elem()
		e.Field(0).SetString(name)
		d.value(e, value, sub, depth+1)
		v.Set(reflect.Append(v, e))
	})
}

// list puts a sequence, or a single value in place of one, into a slice.
func (d *decoder) list(v reflect.Value, n ast.Node, path string, depth int) {
	v.SetZero()
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(e, n, path, depth+1)
		v.Set(reflect.Append(v, e))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, len(seq.Values)))
	for i, item := range seq.Values {
		if d.given {
			return
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(e, item, path+"["+strconv.Itoa(i)+"]", depth+1)
		v.Set(reflect.Append(v, e))
	}
}

func setBasic(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		switch text {
		case "true":
			v.SetBool(true)
		case "false":
			v.SetBool(false)
		default:
			return fmt.Errorf("%s is not true or false", clip(text))
		}
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%s is not a whole number", clip(text))
		}
		v.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%s is not a number", clip(text))
		}
		v.SetFloat(n)
	default:
		panic("config: no way to read a " + v.Type().String())
	}
	return nil
}

// A field is one key of a section.
type field struct {
	index int
	name  string
	doc   string
	enum  []string
	typ   reflect.Type
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		var enum []string
		for part := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
			if v, ok := strings.CutPrefix(part, "enum="); ok {
				enum = append(enum, v)
			}
		}
		fields = append(fields, field{i, name, f.Tag.Get("jsonschema_description"), enum, f.Type})
	}
	return fields
}

// isNamed reports whether t is a slice that is written as a mapping from names.
func isNamed(t reflect.Type) bool {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Struct || reflect.PointerTo(t.Elem()).Implements(reflect.TypeFor[scalar]()) {
		return false
	}
	return t.Elem().Field(0).Name == "Name"
}

// describe says what a type is, for a message.
func describe(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "a duration like 10m"
	case reflect.TypeFor[Size]():
		return "a size like 20GiB"
	case reflect.TypeFor[Count]():
		return "a number like 300k"
	case reflect.TypeFor[Budget]():
		return "a budget like $200/month"
	case reflect.TypeFor[Zone]():
		return "a time zone like Asia/Seoul"
	case reflect.TypeFor[Target]():
		return "provider/model"
	case reflect.TypeFor[Secret]():
		return "a secret as env:NAME or file:PATH"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Float64:
		return "a number"
	case reflect.Slice:
		if isNamed(t) {
			return "a section by name"
		}
		return "a list of: " + describe(t.Elem())
	case reflect.Struct:
		return "a section"
	}
	return "text"
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case ast.ArrayNode:
		return "a list"
	case nil:
		return "nothing"
	}
	return "a single value"
}
