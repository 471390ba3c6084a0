package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A script is a connection on which fixed bytes come, step by step, and then
// its end. What is written goes nowhere.
type script struct {
	net.Conn
	rest []byte
	step int // bytes a read; 0 means as many as fit
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	if s.step > 0 && len(p) > s.step {
		p = p[:s.step]
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

type answer struct {
	status int
	header http.Header
	body   string
	err    error // of the head or of the body
	kept   bool
}

// ours is what this package makes of the bytes of a reply; chunk is the size of
// the caller's reads.
func readOurs(data []byte, method string, step, chunk int) (a answer) {
	tr := &Transport{MaxIdle: 1}
	tr.Dial = func(context.Context, string, string) (net.Conn, error) {
		return &script{rest: bytes.Clone(data), step: step}, nil
	}
	res, err := tr.RoundTrip(&http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: "x"}})
	if err != nil {
		return answer{err: err}
	}
	a.status, a.header = res.StatusCode, res.Header
	var body []byte
	buf := make([]byte, chunk)
	for {
		n, err := res.Body.Read(buf)
		body = append(body, buf[:n]...)
		if err != nil {
			if err != io.EOF {
				a.err = err
			}
			break
		}
	}
	a.body = string(body)
	a.kept = len(tr.all()[0].idle) > 0
	return a
}

// readTheirs is what net/http makes of it. spare is what it leaves unread.
func readTheirs(data []byte, method string) (a answer, spare int, closes bool) {
	r := bufio.NewReader(bytes.NewReader(data))
	var res *http.Response
	for {
		var err error
		if res, err = http.ReadResponse(r, &http.Request{Method: method}); err != nil {
			return answer{err: err}, 0, true
		}
		if res.StatusCode >= 200 || res.StatusCode < 100 {
			break
		}
	}
	b, err := io.ReadAll(res.Body)
	n := r.Buffered()
	rest, _ := io.ReadAll(r)
	return answer{status: res.StatusCode, header: res.Header, body: string(b), err: err}, max(n, len(rest)), res.Close
}

// FuzzReply: any bytes come to an end, the same however they are cut, and what
// both this package and net/http take for a reply is the same reply.
func FuzzReply(f *testing.F) {
	for _, s := range []string{
		hello, hello + hello, "HTTP/1.1 200 OK\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: a\r\n b\r\n\r\n2;x=y\r\nhe\r\n3 \r\nllo\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 5\n\nhello",
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\nx",
		"HTTP/1.1 304 Not Modified\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nConnection: x,close\r\n\r\n",
	} {
		f.Add([]byte(s), byte(0))
		f.Add([]byte(s), byte(17))
	}
	f.Fuzz(func(t *testing.T, data []byte, how byte) {
		method := [...]string{"POST", "GET", "HEAD", "POST"}[how&3]
		a := readOurs(data, method, 0, 8<<10)
		step, chunk := 1+int(how>>2)%7, 1+int(how>>5)
		b := readOurs(data, method, step, chunk)
		if a.status != b.status || a.body != b.body || !reflect.DeepEqual(a.header, b.header) || (a.err == nil) != (b.err == nil) {
			t.Fatalf("%d byte(s) at a time: %+v\nat once: %+v", step, b, a)
		}
		var protocol *ProtocolError
		if a.err != nil && !errors.As(a.err, &protocol) && !errors.Is(a.err, io.ErrUnexpectedEOF) && !errors.Is(a.err, io.EOF) {
			t.Fatalf("error %v", a.err)
		}
		theirs, spare, closes := readTheirs(data, method)
		if theirs.err != nil || a.err != nil {
			return
		}
		if a.status != theirs.status || a.body != theirs.body {
			t.Fatalf("ours: %+v\nnet/http: %+v", a, theirs)
		}
		if method != "HEAD" && a.header["Content-Length"] != nil && !reflect.DeepEqual(a.header["Content-Length"][:1], theirs.header["Content-Length"]) {
			t.Fatalf("Content-Length %q, net/http %q", a.header["Content-Length"], theirs.header["Content-Length"])
		}
		for _, h := range []http.Header{a.header, theirs.header} {
			delete(h, "Content-Length")
			delete(h, "Trailer")
			delete(h, "Connection")
			for _, values := range h { // net/http leaves a space where a folded line was blank
				for i := range values {
					values[i] = strings.Join(strings.Fields(values[i]), " ")
				}
			}
		}
		if !reflect.DeepEqual(a.header, theirs.header) {
			t.Fatalf("headers %q\nnet/http %q", a.header, theirs.header)
		}
		if a.kept && (spare > 0 || closes) {
			t.Fatalf("the connection is kept with %d bytes unread, net/http would close it: %v", spare, closes)
		}
	})
}
