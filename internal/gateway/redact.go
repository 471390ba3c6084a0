package gateway

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

const (
	minSecret    = 8       // bytes; a shorter key would cut holes into any text
	maxErrorBody = 2 << 10 // bytes of an upstream's own error that a client gets; a longer one is put in our words
)

// redact cuts known secrets out of what an upstream said.
func (x *exchange) redact(s string) string { return redact(s, x.c.Secrets) }

// redactError cuts known secrets out of all that a client sees of e.
func (x *exchange) redactError(e *llm.Error) {
	e.Msg, e.Code, e.Param = x.redact(e.Msg), x.redact(e.Code), x.redact(e.Param)
}

// redact cuts secrets out of s, and the beginning of one at its end: messages
// are cut to a length before they come here.
func redact(s string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) < minSecret {
			continue
		}
		s = strings.ReplaceAll(s, secret, "[redacted]")
		for n := min(len(secret)-1, len(s)); n >= minSecret; n-- {
			if strings.HasSuffix(s, secret[:n]) {
				s = s[:len(s)-n] + "[redacted]"
				break
			}
		}
	}
	return s
}

// clean reports whether body is JSON in which no string is or holds a secret,
// however it is escaped.
func (c *Config) clean(body []byte) bool {
	if !json.Valid(body) {
		return false
	}
	holds := func(s string) bool { return redact(s, c.Secrets) != s }
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
