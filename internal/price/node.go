package price

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxDepth = 32        // of what is nested
	maxYAML  = 512 << 10 // bytes of a file in YAML: its parser takes a few seconds for them at worst, and more than in proportion beyond
	maxNodes = 200_000   // values of a file, aliases followed; the built-in catalogue has 5,000
)

var errTooMuch = errors.New("nested too deeply, or too much")

// A kind is what a node is, in the words of a message.
type kind string

const (
	object  kind = "a section of keys"
	list    kind = "a list"
	text    kind = "text"
	number  kind = "a number"
	boolean kind = "true or false"
	null    kind = "nothing"
)

// A node is a value of a file, and where it stands: JSON and YAML alike.
type node struct {
	kind         kind
	text         string // of a scalar
	members      []member
	list         []*node
	line, column int // from 1
}

type member struct {
	key   string
	at    *node // the key
	value *node
}

// at follows keys and indexes as far as there is something.
func (n *node) at(path ...any) *node {
	for _, p := range path {
		next := (*node)(nil)
		switch p := p.(type) {
		case string:
			for i := range n.members {
				if n.members[i].key == p {
					next = n.members[i].value
				}
			}
		case int:
			if p < len(n.list) {
				next = n.list[p]
			}
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

// appendJSON appends n as JSON, as far as it is not nested too deeply.
func (n *node) appendJSON(dst []byte, depth int) []byte {
	switch {
	case n.kind == number && json.Valid([]byte(n.text)), n.kind == boolean:
		return append(dst, n.text...)
	case n.kind == object && depth < maxDepth:
		dst = append(dst, '{')
		for i, m := range n.members {
			if i > 0 {
				dst = append(dst, ',')
			}
			key, _ := json.Marshal(m.key) // fails for no string
			dst = m.value.appendJSON(append(append(dst, key...), ':'), depth+1)
		}
		return append(dst, '}')
	case n.kind == list && depth < maxDepth:
		dst = append(dst, '[')
		for i, item := range n.list {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = item.appendJSON(dst, depth+1)
		}
		return append(dst, ']')
	case n.kind == text, n.kind == number:
		s, _ := json.Marshal(n.text) // fails for no string
		return append(dst, s...)
	}
	return append(dst, "null"...)
}

// tree reads JSON, or else YAML. nil means that it is neither, which is told.
func (d *decoder) tree(data []byte) *node {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors write this mark
	at := func(offset int) *node { return new(cursor{data: data, line: 1, column: 1}).to(offset) }
	if len(data) > MaxFile {
		d.fail(at(0), "", "longer than %d bytes", MaxFile)
		return nil
	}
	if i := notText(data); i >= 0 {
		d.fail(at(i), "", "not text: the byte 0x%02x; a price file is JSON or YAML in UTF-8", data[i])
		return nil
	}
	isJSON := bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
	jsonErr := json.Unmarshal(data, new(json.RawMessage))
	if isJSON && jsonErr == nil {
		t := &jsonTree{cursor: cursor{data: data, line: 1, column: 1}, dec: json.NewDecoder(bytes.NewReader(data)), decoder: d}
		t.dec.UseNumber()
		root, err := t.value(0)
		if err != nil {
			d.fail(at(int(t.dec.InputOffset())), "", "%v", err)
			return nil
		}
		return root
	}
	told := len(d.problems)
	root, place, err := d.yamlTree(data)
	if err == nil {
		return root
	}
	d.problems = d.problems[:told]
	if isJSON { // it was meant to be
		var syntax *json.SyntaxError
		offset := len(data)
		if errors.As(jsonErr, &syntax) {
			offset = int(syntax.Offset) - 1 // the last one read
		}
		d.fail(at(offset), "", "not JSON: %v", jsonErr)
		return nil
	}
	d.fail(place, "", "not YAML: %s", printable(err.Error()))
	return nil
}

// A cursor counts lines and columns.
type cursor struct {
	data         []byte
	offset       int
	line, column int
}

// to goes on to an offset, and gives a node that stands there.
func (c *cursor) to(offset int) *node {
	for c.offset < min(offset, len(c.data)) {
		if c.data[c.offset] == '\n' {
			c.line, c.column = c.line+1, 0
		}
		_, n := utf8.DecodeRune(c.data[c.offset:])
		c.offset, c.column = c.offset+n, c.column+1
	}
	return &node{line: c.line, column: c.column}
}

// A jsonTree makes nodes of valid JSON.
type jsonTree struct {
	cursor
	dec     *json.Decoder
	decoder *decoder
	nodes   int
}

// token gives the next token, and a node at its place.
func (t *jsonTree) token() (*node, json.Token, error) {
	from := int(t.dec.InputOffset())
	for from < len(t.data) && strings.IndexByte(" \t\r\n,:", t.data[from]) >= 0 {
		from++
	}
	tok, err := t.dec.Token()
	if t.nodes++; t.nodes > maxNodes {
		err = errTooMuch
	}
	return t.to(from), tok, err
}

func (t *jsonTree) value(depth int) (*node, error) {
	n, tok, err := t.token()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, errTooMuch
	}
	switch tok := tok.(type) {
	case string:
		n.kind, n.text = text, tok
	case json.Number:
		n.kind, n.text = number, tok.String()
	case bool:
		n.kind, n.text = boolean, fmt.Sprint(tok)
	case nil:
		n.kind = null
	case json.Delim:
		if tok == '[' {
			n.kind = list
			for t.dec.More() {
				item, err := t.value(depth + 1)
				if err != nil {
					return nil, err
				}
				n.list = append(n.list, item)
			}
		} else {
			n.kind = object
			seen := map[string]*node{}
			for t.dec.More() {
				key, name, err := t.token()
				if err != nil {
					return nil, err
				}
				v, err := t.value(depth + 1)
				if err != nil {
					return nil, err
				}
				s, _ := name.(string) // nothing else may stand there
				t.decoder.put(n, seen, s, key, v)
			}
		}
		_, err = t.dec.Token()
	}
	return n, err
}

// put adds a member. Whoever gives a key twice means one of the two: seen are
// the keys so far.
func (d *decoder) put(n *node, seen map[string]*node, key string, at, value *node) {
	if first := seen[key]; first != nil {
		d.fail(at, clip(key), "is there twice: first in line %d", first.line)
		return
	}
	seen[key] = at
	n.members = append(n.members, member{key, at, value})
}

// A yamlTree makes nodes of YAML.
type yamlTree struct {
	decoder *decoder
	anchors map[string]*node
	nodes   int
	at      *node // where it gave up
}

// yamlTree reads YAML. place is where it is none.
func (d *decoder) yamlTree(data []byte) (root, place *node, err error) {
	place = &node{line: 1, column: 1}
	f, err := parseYAML(data)
	if err != nil {
		if e := yaml.Error(nil); errors.As(err, &e) {
			err = errors.New(e.GetMessage())
			place = tokenPlace(e.GetToken())
		}
		return nil, place, err
	}
	var body ast.Node
	for _, doc := range f.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if body != nil {
			return nil, tokenPlace(doc.Body.GetToken()), errors.New("there is a second document")
		}
		body = doc.Body
	}
	if body == nil {
		return nil, place, errors.New("it is empty")
	}
	t := yamlTree{decoder: d, anchors: map[string]*node{}}
	if root, err = t.value(body, 0); err != nil {
		return nil, t.at, err
	}
	return root, nil, nil
}

// parseYAML parses data. The parser has panicked on broken input before; what
// it cannot read is an error, whatever the way.
func parseYAML(data []byte) (f *ast.File, err error) {
	if len(data) > maxYAML {
		return nil, fmt.Errorf("longer than %d bytes: a catalogue of that size is written in JSON", maxYAML)
	}
	if tooDeep(data) {
		return nil, errTooMuch
	}
	defer func() {
		if recover() != nil {
			f, err = nil, errors.New("it cannot be read")
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

// tooDeep guesses generously whether YAML is nested deeper than a price file ever
// is: for each level the parser calls itself, and takes memory in no proportion.
func tooDeep(data []byte) bool {
	const most = 200
	open := 0
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		rest := bytes.TrimLeft(line, " ")
		if len(line)-len(rest) > most {
			return true
		}
		marks := 0 // that begin something within the line
		for i, c := range rest {
			switch c {
			case '[', '{':
				open++
			case ']', '}':
				open = max(0, open-1)
			case '-', '?', ':':
				if (c != ':' || open == 0) && (i+1 == len(rest) || rest[i+1] == ' ' || rest[i+1] == '\t') {
					marks++
				}
			case '&', '!', '*', '>', '|':
				marks++
			}
			if open > most || marks > most {
				return true
			}
		}
	}
	return false
}

func tokenPlace(tk *token.Token) *node {
	if tk == nil || tk.Position == nil {
		return &node{line: 1, column: 1}
	}
	return &node{line: max(tk.Position.Line, 1), column: max(tk.Position.Column, 1)}
}

func (t *yamlTree) value(y ast.Node, depth int) (n *node, err error) {
	n = &node{kind: null, line: 1, column: 1}
	if y == nil {
		return n, nil
	}
	if m, ok := y.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = tokenPlace(m.Values[0].Key.GetToken()) // it begins at its first key
	} else if m, ok := y.(*ast.MappingValueNode); ok {
		n = tokenPlace(m.Key.GetToken())
	} else {
		n = tokenPlace(y.GetToken())
	}
	if t.nodes++; t.nodes > maxNodes || depth > maxDepth {
		t.at = n
		return nil, errTooMuch
	}
	refuse := func(what string) (*node, error) {
		t.at = n
		return nil, errors.New(what)
	}
	n.kind = text
	switch y := y.(type) {
	case *ast.AnchorNode:
		v, err := t.value(y.Value, depth+1)
		if err == nil && y.Name != nil {
			t.anchors[y.Name.String()] = v
		}
		return v, err
	case *ast.AliasNode:
		if y.Value != nil {
			if v := t.anchors[y.Value.String()]; v != nil {
				return v, nil
			}
		}
		return refuse("no anchor of this name stands before it")
	case *ast.TagNode:
		return refuse("tags are not supported")
	case ast.MapNode:
		n.kind = object
		seen := map[string]*node{}
		for it := y.MapRange(); it.Next(); {
			key := it.Key()
			if key.IsMergeKey() {
				return refuse("merge keys (<<) are not supported: write the keys out")
			}
			v, err := t.value(it.Value(), depth+1)
			if err != nil {
				return nil, err
			}
			t.decoder.put(n, seen, keyText(key), tokenPlace(key.GetToken()), v)
		}
	case *ast.SequenceNode:
		n.kind = list
		for _, item := range y.Values {
			v, err := t.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.list = append(n.list, v)
		}
	case *ast.StringNode:
		n.text = y.Value
	case *ast.LiteralNode:
		if y.Value != nil {
			n.text = y.Value.Value
		}
	case *ast.NullNode:
		n.kind = null
	case *ast.BoolNode:
		n.kind, n.text = boolean, fmt.Sprint(y.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		n.kind, n.text = number, strings.TrimSpace(y.GetToken().Value)
	default:
		if tk := y.GetToken(); tk != nil {
			n.text = strings.TrimSpace(tk.Value)
		}
	}
	return n, nil
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
