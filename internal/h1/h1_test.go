package h1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A peer is a server that a test scripts connection by connection.
type peer struct {
	net.Listener
	conns atomic.Int32 // accepted
}

// newPeer runs script for every connection, n being its number from 1. The
// connection is closed when script returns.
func newPeer(t *testing.T, script func(n int, c net.Conn, in *bufio.Reader)) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{Listener: l}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := int(p.conns.Add(1))
			stop := context.AfterFunc(ctx, func() { c.Close() })
			wg.Go(func() {
				defer stop()
				defer c.Close()
				script(n, c, bufio.NewReader(c))
			})
		}
	})
	return p
}

// request reads one request with its body.
func request(in *bufio.Reader) (*http.Request, string, error) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(r.Body)
	return r, string(b), err
}

// serving answers every request of a connection with the same bytes.
func serving(reply string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, in *bufio.Reader) {
		for {
			if _, _, err := request(in); err != nil {
				return
			}
			if _, err := io.WriteString(c, reply); err != nil {
				return
			}
		}
	}
}

// once answers one request and hangs up.
func once(reply string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, in *bufio.Reader) {
		if _, _, err := request(in); err == nil {
			io.WriteString(c, reply)
		}
	}
}

func newTransport(t *testing.T) *Transport {
	tr := &Transport{MaxIdle: 8, IdleTimeout: time.Minute}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func (p *peer) request(ctx context.Context, method string, body ...string) *http.Request {
	r := (&http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: p.Addr().String(), Path: "/x"}, Header: http.Header{"X-Test": {"1"}}}).WithContext(ctx)
	if len(body) > 0 {
		var parts [][]byte
		for _, s := range body {
			parts = append(parts, []byte(s))
		}
		r.Body = NewBody(parts...)
	}
	return r
}

// do is a whole exchange: the body read to its end.
func do(tr http.RoundTripper, r *http.Request) (*http.Response, string, error) {
	res, err := tr.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

// TestReplies: every way to end a body, and what is no reply at all.
func TestReplies(t *testing.T) {
	try := func(name, method, reply string, hangUp bool, status int, want string, wantErr error, reused bool) {
		t.Helper()
		script := serving(reply)
		if hangUp {
			script = once(reply)
		}
		p, tr := newPeer(t, script), newTransport(t)
		for i := range 2 {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			res, body, err := do(tr, p.request(ctx, method))
			cancel()
			var protocol *ProtocolError
			switch {
			case errors.Is(wantErr, errMalformed) && !errors.As(err, &protocol), !errors.Is(wantErr, errMalformed) && !errors.Is(err, wantErr):
				t.Errorf("%s: error %v, want %v", name, err, wantErr)
			case wantErr == nil && (res.StatusCode != status || body != want):
				t.Errorf("%s: %d %q, want %d %q", name, res.StatusCode, body, status, want)
			}
			if n := p.conns.Load(); i == 1 && (n == 1) != reused {
				t.Errorf("%s: %d connections for two requests, want the first one used again = %v", name, n, reused)
			}
		}
	}
	ok := func(name, reply, want string, reused bool) {
		t.Helper()
		try(name, "POST", reply, false, 200, want, nil, reused)
	}
	bad := func(name, reply string, err error) {
		t.Helper()
		try(name, "POST", reply, true, 0, "", err, false)
	}

	ok("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true)
	ok("length, lines of LF", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "hello", true)
	ok("length in lower case", "HTTP/1.1 200 \r\ncontent-length:5\r\n\r\nhello", "hello", true)
	ok("no reason phrase", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "", true)
	ok("length twice, the same", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "hello", true)
	ok("a long body", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100000), strings.Repeat("x", 100000), true)
	ok("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello", true)
	ok("chunks, extensions, trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b;c=\"d\"\r\nhe\r\n0003 \r\nllo\r\n0;last\r\nX-Sum: 1\r\nY: 2\r\n\r\n", "hello", true)
	ok("one long chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186A0\r\n"+strings.Repeat("x", 100000)+"\r\n0\r\n\r\n", strings.Repeat("x", 100000), true)
	ok("chunks win over a length, once", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello", false)
	ok("connection: close", "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 5\r\n\r\nhello", "hello", false)
	ok("connection: a list with close", "HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 5\r\n\r\nhello", "hello", false)
	ok("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false)
	ok("HTTP/1.0 that keeps alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "hello", true)
	ok("interim replies", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true)
	ok("a folded header", "HTTP/1.1 200 OK\r\nX: a\r\n  b\r\nContent-Length: 5\r\n\r\nhello", "hello", true)
	ok("header bytes beyond ASCII", "HTTP/1.1 200 OK\r\nX: \xff\xe9\x01\r\nContent-Length: 5\r\n\r\nhello", "hello", true)
	ok("surplus bytes", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "hello", false)
	ok("surplus behind chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "hello", false)
	ok("surplus behind nothing", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n", "", false)
	try("until the end", "POST", "HTTP/1.1 200 OK\r\n\r\nhello", true, 200, "hello", nil, false)
	try("until the end, HTTP/1.0", "POST", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello", true, 200, "hello", nil, false)
	try("204", "POST", "HTTP/1.1 204 No Content\r\n\r\n", false, 204, "", nil, true)
	try("204 that announces a body", "POST", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false, 204, "", nil, false)
	try("304", "GET", "HTTP/1.1 304 Not Modified\r\n\r\n", false, 304, "", nil, true)
	try("HEAD with a length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, 200, "", nil, true)
	try("HEAD with chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, 200, "", nil, true)
	try("HEAD with a body nevertheless", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 200, "", nil, false)

	bad("short body", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", io.ErrUnexpectedEOF)
	bad("short chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello", io.ErrUnexpectedEOF)
	bad("no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", io.ErrUnexpectedEOF)
	bad("no end behind the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", io.ErrUnexpectedEOF)
	bad("ends within the headers", "HTTP/1.1 200 OK\r\nContent-Le", io.ErrUnexpectedEOF)
	bad("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", errMalformed)
	bad("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", errMalformed)
	for _, n := range []string{"-1", "+5", "0x5", "5 5", "", "9223372036854775808", "5.0"} {
		bad("length "+n, "HTTP/1.1 200 OK\r\nContent-Length: "+n+"\r\n\r\nhello", errMalformed)
	}
	for _, te := range []string{"gzip, chunked", "identity", "chunked, chunked", "xchunked", ""} {
		bad("coding "+te, "HTTP/1.1 200 OK\r\nTransfer-Encoding: "+te+"\r\n\r\n0\r\n\r\n", errMalformed)
	}
	bad("chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", errMalformed)
	bad("chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", errMalformed)
	for _, size := range []string{"", "g", "-1", "0x5", "5 ;x y\r", "+5", " 5", "5\r", "5;a\rb", "1000000000000000"} {
		bad("chunk size "+size, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+size+"\r\nhello\r\n0\r\n\r\n", errMalformed)
	}
	bad("chunk size ends with LF", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", errMalformed)
	bad("chunk longer than it says", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", errMalformed)
	bad("long extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;"+strings.Repeat("x", 5000)+"\r\nhello\r\n0\r\n\r\n", errMalformed)
	bad("nothing but extensions", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+strings.Repeat("1;"+strings.Repeat("x", 900)+"\r\ny\r\n", 100)+"0\r\n\r\n", errMalformed)
	bad("bad trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno name\r\n\r\n", errMalformed)
	bad("endless trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"+strings.Repeat("x: y\r\n", 10000)+"\r\n", errMalformed)
	bad("not HTTP", "SSH-2.0-OpenSSH_9.7\r\n", errMalformed)
	bad("HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", errMalformed)
	bad("lower case", "http/1.1 200 OK\r\n\r\n", errMalformed)
	for _, line := range []string{"HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1 +20 x", "HTTP/1.1 099 x", "HTTP/1.1  200 OK", "HTTP/1.x 200 OK", "HTTP/1.1 200 O\rK", "HTTP/1.1\t200 OK"} {
		bad("status line "+line, line+"\r\n\r\n", errMalformed)
	}
	for _, f := range []string{"no colon", ": no name", "a b: c", "a : c", " folded: at once", "a\x00b: c", "a: b\x00c", "a: b\rc: d", "a\xe9: b"} {
		bad("header "+f, "HTTP/1.1 200 OK\r\n"+f+"\r\nContent-Length: 0\r\n\r\n", errMalformed)
	}
	bad("101", "HTTP/1.1 101 Switching Protocols\r\n\r\n", errMalformed)
	bad("endless interim replies", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100), errMalformed)
	bad("2 MiB of headers", "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 2000)+"\r\n", ErrLongHead)
	bad("one header of 2 MiB", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", 2<<20)+"\r\n\r\n", ErrLongHead)
	bad("5,000 headers", "HTTP/1.1 200 OK\r\n"+strings.Repeat("x: y\r\n", 5000)+"\r\n", ErrLongHead)
}

// errMalformed stands for any ProtocolError.
var errMalformed = errors.New("malformed")

// TestHeaders: what the caller sees of a head, however long and however cut.
func TestHeaders(t *testing.T) {
	long := strings.Repeat("z", 300<<10)
	p := newPeer(t, func(_ int, c net.Conn, in *bufio.Reader) {
		request(in)
		reply := "HTTP/1.1 418 I'm a teapot\r\nx-ratelimit-remaining: 7\r\nSet-Cookie: a\r\nset-cookie: b\r\nEmpty:\r\nTab:\t x \t\r\nLong: " + long + "\r\nTransfer-Encoding: chunked\r\n\r\n"
		for len(reply) > 0 { // in odd pieces
			n := min(len(reply), 1999)
			io.WriteString(c, reply[:n])
			reply = reply[n:]
		}
		for _, b := range "5\r\nhello\r\n6;x\r\n world\r\n0\r\nT: 1\r\n\r\n" {
			c.Write([]byte{byte(b)})
			time.Sleep(time.Millisecond)
		}
	})
	res, body, err := do(newTransport(t), p.request(context.Background(), "GET"))
	if err != nil || body != "hello world" {
		t.Fatalf("body %q, error %v", body, err)
	}
	h := res.Header
	if res.Status != "418 I'm a teapot" || res.Proto != "HTTP/1.1" || res.ContentLength != -1 || len(res.TransferEncoding) != 1 {
		t.Errorf("status %q, %s, length %d, coding %q", res.Status, res.Proto, res.ContentLength, res.TransferEncoding)
	}
	if h.Get("X-Ratelimit-Remaining") != "7" || fmt.Sprint(h["Set-Cookie"]) != "[a b]" || h.Get("Empty") != "" || h.Get("Tab") != "x" || h.Get("Long") != long || h["Transfer-Encoding"] != nil {
		t.Errorf("headers of %d names", len(h))
	}
}

// TestRequest: what is sent.
func TestRequest(t *testing.T) {
	p := newPeer(t, func(_ int, c net.Conn, in *bufio.Reader) {
		for {
			r, body, err := request(in)
			if err != nil {
				return
			}
			text := fmt.Sprintf("%s %s %s %v %d %d %q", r.Method, r.RequestURI, r.Host, r.Header, r.ContentLength, len(body), body[:min(len(body), 40)])
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
	tr, ctx := newTransport(t), context.Background()
	check := func(r *http.Request, want string) {
		t.Helper()
		_, got, err := do(tr, r)
		if want = strings.ReplaceAll(want, "ADDR", p.Addr().String()); err != nil || got != want {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	}
	check(p.request(ctx, "GET"), `GET /x ADDR map[X-Test:[1]] 0 0 ""`)
	check(p.request(ctx, "POST"), `POST /x ADDR map[Content-Length:[0] X-Test:[1]] 0 0 ""`)
	check(p.request(ctx, "POST", "a", "", "b"), `POST /x ADDR map[Content-Length:[2] X-Test:[1]] 2 2 "ab"`)
	check(p.request(ctx, "POST", strings.Repeat("a", 70000), strings.Repeat("b", 70000)), `POST /x ADDR map[Content-Length:[140000] X-Test:[1]] 140000 140000 "`+strings.Repeat("a", 40)+`"`)
	r := p.request(ctx, "POST")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader("stream")), -1
	check(r, `POST /x ADDR map[Content-Length:[6] X-Test:[1]] 6 6 "stream"`)
	r = p.request(ctx, "PUT", "abc")
	r.URL.Path, r.URL.RawQuery, r.Host = "/a b/%", "alt=sse", "example.com"
	check(r, `PUT /a%20b/%25?alt=sse example.com map[Content-Length:[3] X-Test:[1]] 3 3 "abc"`)
	r = p.request(ctx, "GET")
	r.Header = http.Header{"Host": {"evil"}, "Content-Length": {"9"}, "Transfer-Encoding": {"chunked"}, "Connection": {"x"}, "Long": {strings.Repeat("y", 9000)}}
	check(r, `GET /x ADDR map[Long:[`+strings.Repeat("y", 9000)+`]] 0 0 ""`)
	if n := p.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}

	// Nothing of these is sent, and the value is not in the error.
	refuse := func(change func(*http.Request)) {
		t.Helper()
		r := p.request(ctx, "POST", "secret")
		change(r)
		if _, _, err := do(tr, r); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v", err)
		}
	}
	refuse(func(r *http.Request) { r.Header.Set("Authorization", "secret\r\nX: y") })
	refuse(func(r *http.Request) { r.Header.Set("Authorization", "secret\nX: y") })
	refuse(func(r *http.Request) { r.Header["X: y\r\nZ"] = []string{"secret"} })
	refuse(func(r *http.Request) { r.Host = "secret\r\nX: y" })
	refuse(func(r *http.Request) { r.URL.Host = "secret host" })
	refuse(func(r *http.Request) { r.URL.RawQuery = "secret HTTP/1.1\r\nX: y" })
	refuse(func(r *http.Request) { r.Method = "GET /secret HTTP/1.1\r\nX: y\r\n\r\nGET" })
	refuse(func(r *http.Request) { r.URL.Scheme = "ftp" })
	refuse(func(r *http.Request) { r.URL.Host = "" })
	refuse(func(r *http.Request) { r.ContentLength = 99 })
}
