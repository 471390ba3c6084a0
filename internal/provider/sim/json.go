package sim

import "encoding/json"

// obj returns a JSON object of names and values in turn, in that order: the
// formats are easier to compare with captures when their fields come in the
// vendor's order. A nil value is null; a value skip is left out.
func obj(kv ...any) json.RawMessage {
	b := []byte{'{'}
	for i := 0; i < len(kv); i += 2 {
		if kv[i+1] == skip {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(b, quote(kv[i].(string))...), ':')
		b = append(b, value(kv[i+1])...)
	}
	return append(b, '}')
}

type skipped struct{}

var skip any = skipped{}

// when returns v if ok, else skip.
func when(ok bool, v any) any {
	if ok {
		return v
	}
	return skip
}

func arr(v ...any) json.RawMessage {
	b := []byte{'['}
	for i, v := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, value(v)...)
	}
	return append(b, ']')
}

func quote(s string) []byte { return value(s) }

// value encodes v, which is always one of our own: a failure is a bug.
func value(v any) []byte {
	if raw, ok := v.(json.RawMessage); ok {
		return raw
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
