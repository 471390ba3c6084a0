package h1

import (
	"bytes"
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

const (
	maxFields  = 1000 // of one head; each costs some hundred bytes once it is read
	maxInterim = 8    // 1xx replies before the reply
)

// A head is a status line and what the headers say of the body behind them.
// https://www.rfc-editor.org/rfc/rfc9112#section-6.3
type head struct {
	minor   int // HTTP/1.minor, at most 1
	status  int
	text    string // of the status line: "200 OK"
	fields  http.Header
	length  int64 // -1: up to the end of the connection, or chunked
	chunked bool
	close   bool // the connection cannot be used again
}

// reply reads the head of the final reply.
func (c *conn) reply(req *http.Request) (*http.Response, error) {
	limit := c.h.t.MaxHeader
	if limit == 0 {
		limit = defaultMaxHeader
	}
	for n := 0; ; n++ {
		block, err := c.in.head(limit)
		if err != nil {
			return nil, err
		}
		limit -= len(block)
		h, err := parseHead(block)
		if err != nil {
			return nil, err
		}
		switch {
		case h.status >= 200:
			return c.response(req, h), nil
		case h.status == http.StatusSwitchingProtocols, n == maxInterim:
			return nil, malformed("an interim reply %d that was not asked for", h.status)
		}
	}
}

// response begins the body of a reply.
func (c *conn) response(req *http.Request, h *head) *http.Response {
	r := &struct {
		http.Response
		body body
	}{}
	res := &r.Response
	*res = http.Response{
		Status: h.text, StatusCode: h.status, Proto: [...]string{"HTTP/1.0", "HTTP/1.1"}[h.minor], ProtoMajor: 1, ProtoMinor: h.minor,
		Header: h.fields, ContentLength: h.length, Close: h.close, Request: req, Body: &r.body,
	}
	if h.chunked {
		res.TransferEncoding = chunked
	}
	keep := !h.close && !req.Close
	r.body = body{c: c, left: h.length, keep: keep, chunked: h.chunked}
	switch {
	case req.Method == http.MethodHead, h.status == http.StatusNoContent, h.status == http.StatusNotModified:
		// No body, whatever the headers say. What they promise may still come
		// from a server that errs: not over a connection that is used again.
		r.body.keep = keep && (req.Method == http.MethodHead || h.length <= 0 && !h.chunked)
		res.Body = http.NoBody
		_ = r.body.finish(nil)
	case h.length == 0:
		res.Body = http.NoBody
		_ = r.body.finish(nil)
	}
	return res
}

var chunked = []string{"chunked"}

// parseHead reads a head up to its blank line. Lines end with \n, or \r\n.
func parseHead(block []byte) (*head, error) {
	if bytes.IndexByte(block, 0) >= 0 {
		return nil, malformed("a NUL byte in the headers")
	}
	text := string(block) // the one copy that all strings are cut from
	line, rest, err := cutLine(text)
	if err != nil {
		return nil, err
	}
	h := &head{length: -1}
	if err := h.statusLine(line); err != nil {
		return nil, err
	}
	n := bytes.Count(block, []byte{'\n'})
	if n > maxFields {
		return nil, ErrLongHead
	}
	h.fields = make(http.Header, n)
	values := make([]string, n)
	for {
		if line, rest, err = cutLine(rest); err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') { // folded, as it was once allowed
			var more string
			if more, rest, err = cutLine(rest); err != nil {
				return nil, err
			}
			line = trim(line) + " " + trim(more)
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !validName(name) {
			return nil, malformed("a header line without a valid name")
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		value = trim(value)
		if old := h.fields[key]; old != nil {
			h.fields[key] = append(old, value)
			continue
		}
		values[0] = value
		h.fields[key], values = values[:1:1], values[1:]
	}
	return h, h.framing()
}

// cutLine takes a line off text, which holds at least one.
func cutLine(text string) (line, rest string, err error) {
	line, rest, _ = strings.Cut(text, "\n")
	line = strings.TrimSuffix(line, "\r")
	if strings.IndexByte(line, '\r') >= 0 {
		return "", "", malformed("a bare CR in the headers")
	}
	return line, rest, nil
}

func (h *head) statusLine(line string) error {
	bad := malformed("the status line is malformed")
	const start = "HTTP/1."
	if len(line) < len("HTTP/1.1 200") || line[:len(start)] != start || !digit(line[7]) || line[8] != ' ' {
		return bad
	}
	h.minor = min(int(line[7]-'0'), 1)
	h.text = line[9:]
	code := h.text[:3]
	if !digit(code[0]) || !digit(code[1]) || !digit(code[2]) || code[0] == '0' || len(h.text) > 3 && h.text[3] != ' ' {
		return bad
	}
	h.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	return nil
}

// framing finds out where the body ends. What two readers could understand
// differently is refused, or the connection is not used again.
func (h *head) framing() error {
	lengths, codings := h.fields["Content-Length"], h.fields["Transfer-Encoding"]
	for _, v := range lengths {
		n, err := parseLength(v)
		if err != nil {
			return err
		}
		if h.length >= 0 && n != h.length {
			return malformed("two different Content-Length")
		}
		h.length = n
	}
	if codings != nil {
		if h.minor == 0 {
			return malformed("a Transfer-Encoding in HTTP/1.0")
		}
		if len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") {
			return malformed("a Transfer-Encoding other than chunked")
		}
		h.close = lengths != nil
		h.chunked, h.length = true, -1
		delete(h.fields, "Transfer-Encoding")
		delete(h.fields, "Content-Length") // it does not count, and must deceive nobody
	}
	keepAlive := false
	for _, v := range h.fields["Connection"] {
		for v != "" {
			var token string
			token, v, _ = strings.Cut(v, ",")
			token = trim(token)
			h.close = h.close || strings.EqualFold(token, "close")
			keepAlive = keepAlive || strings.EqualFold(token, "keep-alive")
		}
	}
	h.close = h.close || h.minor == 0 && !keepAlive
	return nil
}

// parseLength reads a Content-Length: digits and nothing else.
func parseLength(s string) (int64, error) {
	for i := range len(s) {
		if !digit(s[i]) {
			return 0, malformed("a Content-Length that is no number")
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, malformed("a Content-Length that is no number")
	}
	return n, nil
}

func digit(c byte) bool { return c-'0' <= 9 }

// trim drops the white space that may stand around a field's value.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// token are the bytes of a header's name.
var token = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()

func validName(s string) bool {
	for i := range len(s) {
		if !token[s[i]] {
			return false
		}
	}
	return s != ""
}

// validValue reports whether s may stand behind a header's name in a request:
// it must not end the line.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// String names a head in a failed test.
func (h *head) String() string {
	return fmt.Sprintf("HTTP/1.%d %s, length %d, chunked %v, close %v", h.minor, h.text, h.length, h.chunked, h.close)
}
