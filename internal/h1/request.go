package h1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// A Body is a request's body in memory, in parts that are sent one after the
// other without being joined first.
type Body struct {
	parts [][]byte
	size  int64
	i, at int // what Read gives next: parts[i][at:]
}

// NewBody makes a Body of parts, which must not change while it is in use.
func NewBody(parts ...[]byte) *Body {
	b := &Body{parts: parts}
	for _, p := range parts {
		b.size += int64(len(p))
	}
	return b
}

// Len is the length of the whole body.
func (b *Body) Len() int64 { return b.size }

// Read implements io.Reader.
func (b *Body) Read(p []byte) (n int, err error) {
	for b.i < len(b.parts) && n < len(p) {
		m := copy(p[n:], b.parts[b.i][b.at:])
		n += m
		if b.at += m; b.at == len(b.parts[b.i]) {
			b.i, b.at = b.i+1, 0
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements io.Closer.
func (b *Body) Close() error { return nil }

// again is the body from its beginning: http.Request.GetBody.
func (b *Body) again() (io.ReadCloser, error) { return &Body{parts: b.parts, size: b.size}, nil }

func (b *Body) join() []byte { return bytes.Join(b.parts, nil) }

// bodyOf is the body of a request, nil if it has none.
func bodyOf(req *http.Request) (*Body, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, nil
	}
	b, ok := req.Body.(*Body)
	if !ok {
		text, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, fmt.Errorf("h1: the request's body: %w", err)
		}
		b = NewBody(text)
	}
	if req.ContentLength > 0 && req.ContentLength != b.size {
		return nil, fmt.Errorf("h1: ContentLength is %d and the body's length %d", req.ContentLength, b.size)
	}
	return b, nil
}

// ours are the headers that appendHead writes by itself.
func ours(name string) bool {
	switch name {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Trailer":
		return true
	}
	return false
}

// appendHead appends the request line and the headers.
func appendHead(dst []byte, host string, req *http.Request, body *Body) ([]byte, error) {
	method := req.Method
	if method == "" {
		method = http.MethodGet
	}
	target := req.URL.RequestURI()
	hostOK := true // the origin's was looked at
	if req.Host != "" && req.Host != host {
		host = req.Host
		hostOK = validHost(host)
	}
	if !validName(method) || !hostOK || strings.IndexFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f }) >= 0 {
		return nil, errors.New("h1: the method, the path or the host holds a byte that none may")
	}
	dst = append(append(append(dst, method...), ' '), target...)
	dst = append(append(append(dst, " HTTP/1.1\r\nHost: "...), host...), "\r\n"...)
	for name, values := range req.Header {
		if ours(name) {
			continue
		}
		if !validName(name) {
			return nil, errors.New("h1: a header's name holds a byte that none may")
		}
		for _, v := range values {
			if !validValue(v) {
				return nil, fmt.Errorf("h1: the value of the header %s holds a byte that none may", name)
			}
			dst = append(append(append(append(dst, name...), ": "...), v...), "\r\n"...)
		}
	}
	if req.Close {
		dst = append(dst, "Connection: close\r\n"...)
	}
	if body != nil || method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		var size int64
		if body != nil {
			size = body.size
		}
		dst = append(strconv.AppendInt(append(dst, "Content-Length: "...), size, 10), "\r\n"...)
	}
	return append(dst, "\r\n"...), nil
}
