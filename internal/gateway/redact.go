package gateway

import (
	"bytes"
	"encoding/json"

	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/redact"
)

const maxErrorBody = 2 << 10 // bytes of an upstream's own error that a client gets; a longer one is put in our words

// redact cuts known secrets out of what an upstream said.
func (x *exchange) redact(s string) string { return redact.Secrets(s, x.c.Secrets) }

// redactError cuts known secrets out of all that a client sees of e.
func (x *exchange) redactError(e *llm.Error) {
	e.Msg, e.Code, e.Param = x.redact(e.Msg), x.redact(e.Code), x.redact(e.Param)
}

// clean reports whether body is JSON in which no string is or holds a secret,
// however it is escaped.
func (c *Config) clean(body []byte) bool {
	if !json.Valid(body) {
		return false
	}
	holds := func(s string) bool { return redact.Secrets(s, c.Secrets) != s }
	if holds(string(body)) {
		return false
	}
	if bytes.IndexByte(body, '\\') < 0 {
		return true
	}
	for dec := json.NewDecoder(bytes.NewReader(body)); ; {
		t, err := dec.Token() // keys of objects too
		if err != nil {
			return true // its end: it is valid
		}
		if s, ok := t.(string); ok && holds(s) {
			return false
		}
	}
}
