// Package redact cuts secrets and personal data out of texts and of kept
// bodies. It hides what such data looks like, and how to find it in JSON, in
// escapes and across the events of a stream. What it returns is for keeping: it
// must never stand between a client and a provider.
package redact

import "strings"

const minSecret = 8 // bytes; a shorter key would cut holes into any text

// Secrets cuts secrets out of s, and the beginning of one at its end: texts may
// have been cut to a length before they come here.
func Secrets(s string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) < minSecret {
			continue
		}
		s = strings.ReplaceAll(s, secret, "[redacted]")
		if n := begun(s, secret); n > 0 {
			s = s[:len(s)-n] + "[redacted]"
		}
	}
	return s
}

// begun is how much of a secret stands at the end of s: 0, or enough to tell.
func begun(s, secret string) int {
	for n := min(len(secret)-1, len(s)); n >= minSecret; n-- {
		if strings.HasSuffix(s, secret[:n]) {
			return n
		}
	}
	return 0
}

// A Redactor cuts known secrets out of bodies and, with Patterns, whatever
// looks like an e-mail address, a phone number, a payment card, a Korean
// resident registration number, an API key, a private key or a JSON Web Token.
type Redactor struct {
	Secrets  []string // of at least 8 bytes
	Patterns bool
}

// Body is body without them: JSON stays JSON, an event stream an event stream.
// It may be cut at its end. body itself is returned if it holds none.
func (r *Redactor) Body(body []byte) []byte {
	var loose, d document
	loose.plain(body)
	body = loose.without(body, r.find)
	switch kindOf(body) {
	case eventStream:
		d.stream(body)
	case jsonText:
		d.json(body)
	}
	return d.without(body, r.find)
}

// find is what is to be cut out of s, from left to right. cut says that s may have
// gone on: the body, or the stream that it is of, ended too early.
func (r *Redactor) find(s string, cut bool) []match {
	var list []match
	if r.Patterns {
		list = patterns(s)
	}
	for _, secret := range r.Secrets {
		if len(secret) < minSecret {
			continue
		}
		for at := 0; ; {
			i := strings.Index(s[at:], secret)
			if i < 0 {
				break
			}
			list = append(list, match{at + i, at + i + len(secret), "[redacted]"})
			at += i + len(secret)
		}
		if n := begun(s, secret); cut && n > 0 {
			list = append(list, match{len(s) - n, len(s), "[redacted]"})
		}
	}
	return flat(list)
}
