package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzClean: no body that passes as clean says a secret to who decodes it.
func FuzzClean(f *testing.F) {
	const secret = "sk-0123456789abcdef"
	c := &Config{Secrets: []string{secret}}
	f.Add([]byte(`{"error":{"message":"` + secret + `"}}`))
	f.Add([]byte(`{"error":{"message":"\u0073k-0123456789abcdef"}}`))
	f.Add([]byte(`{"sk-01234567\u0038\u0039abcdef":1}`))
	f.Add([]byte(`["sk-0123456789\u0061bc"]`))
	f.Add([]byte(`{"error":{"message":"fine \\ \"quoted\""}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if !c.clean(body) {
			return
		}
		var v any
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("%q is clean and no JSON: %v", body, err)
		}
		var walk func(any)
		walk = func(v any) {
			switch v := v.(type) {
			case string:
				if strings.Contains(v, secret) {
					t.Fatalf("%q holds the secret", body)
				}
			case []any:
				for _, e := range v {
					walk(e)
				}
			case map[string]any:
				for k, e := range v {
					walk(k)
					walk(e)
				}
			}
		}
		walk(v)
	})
}
