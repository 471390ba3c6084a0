package provider

import "bytes"

// camelKeys writes the field names of a Gemini request in one way: protobuf's
// JSON takes generation_config for generationConfig, and Google's own Python
// SDK writes both in one request. What is the client's own (arguments, results,
// schemas) stays as it is. A body that is not JSON comes back unchanged.
func camelKeys(body []byte) []byte {
	if bytes.IndexByte(body, '_') < 0 {
		return body
	}
	c := camelizer{s: scanner{b: body}}
	if c.value(0) != nil || c.at == 0 {
		return body
	}
	return append(c.out, body[c.at:]...)
}

// A camelizer has copied body up to at into out.
type camelizer struct {
	s   scanner
	out []byte
	at  int
}

// theirs are the members whose inside is the client's own.
var theirs = map[string]bool{"args": true, "response": true, "parameters": true, "parametersJsonSchema": true,
	"responseSchema": true, "responseJsonSchema": true, "labels": true}

func (c *camelizer) value(depth int) error {
	s := &c.s
	switch ch := s.peek(); {
	case depth >= maxDepth:
		return s.bad()
	case ch == '{':
		s.i++
		return s.members(depth+1, func(key span) error {
			name := camel(key.of(s.b))
			if len(name) != key.to-key.from {
				c.out = append(append(c.out, s.b[c.at:key.from]...), name...)
				c.at = key.to
			}
			if theirs[string(name)] {
				return s.skip(depth + 1)
			}
			return c.value(depth + 1)
		})
	case ch == '[':
		s.i++
		return s.elements(depth+1, func() error { return c.value(depth + 1) })
	}
	return s.skip(depth)
}

// camel is snake_case in camelCase.
func camel(key []byte) []byte {
	if bytes.IndexByte(key, '_') < 0 {
		return key
	}
	out := make([]byte, 0, len(key))
	for i := 0; i < len(key); i++ {
		if key[i] == '_' && i > 0 && i+1 < len(key) && key[i+1] >= 'a' && key[i+1] <= 'z' {
			i++
			out = append(out, key[i]-'a'+'A')
			continue
		}
		out = append(out, key[i])
	}
	return out
}
