package gateway

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

const plainHead = "POST /v1/messages HTTP/1.1\r\nHost: h\r\n"

func TestGuard(t *testing.T) {
	check := func(request string, want bool) {
		t.Helper()
		for _, size := range []int{1, 3, len(request)} {
			var g guard
			ok := true
			for rest := []byte(request); len(rest) > 0 && ok; {
				n := min(size, len(rest))
				ok = g.scan(rest[:n]) == n
				rest = rest[n:]
			}
			if ok != want {
				t.Errorf("%q in pieces of %d: %t, want %t", request, size, ok, want)
			}
			if ok && g.state != atRequest {
				t.Errorf("%q: not at its end, but %d", request, g.state)
			}
		}
	}
	sound := func(s string) { t.Helper(); check(s, true) }
	refused := func(s string) { t.Helper(); check(s, false) }

	sound("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	sound(plainHead + "Content-Length: 3\r\n\r\nabc" + plainHead + "Content-Length: 0\r\n\r\n")
	sound(plainHead + "content-length:3\r\n\r\n\n\n\n")
	sound(plainHead + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1A;ext=\"1\"\r\n" + strings.Repeat("x", 26) + "\r\n0\r\nX-Sum: 1\r\n\r\n")
	sound(plainHead + "Transfer-Encoding:  CHUNKED \r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")

	refused(plainHead + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	refused(plainHead + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n")
	refused(plainHead + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc")
	refused(plainHead + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc")
	refused(plainHead + "Content-Length: 3, 3\r\n\r\nabc")
	refused(plainHead + "Content-Length: +3\r\n\r\nabc")
	refused(plainHead + "Content-Length: -3\r\n\r\nabc")
	refused(plainHead + "Content-Length: 0x3\r\n\r\nabc")
	refused(plainHead + "Content-Length: \r\n\r\n")
	refused(plainHead + "Content-Length: 99999999999999999999\r\n\r\n")
	refused(plainHead + "Content-Length : 3\r\n\r\nabc")
	refused(plainHead + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")
	refused(plainHead + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
	refused(plainHead + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	refused(plainHead + "Transfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")
	refused(plainHead + "Transfer-Encoding: gzip\r\n\r\nabc")
	refused(plainHead + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	refused(plainHead + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n")
	refused("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	refused(plainHead + "X-Folded: a\r\n b\r\n\r\n")
	refused(plainHead + "X-Folded: a\r\n\tb\r\n\r\n")
	refused("GET / HTTP/1.1\nHost: h\r\n\r\n")
	refused(plainHead + "X: y\nContent-Length: 3\r\n\r\nabc")
	refused(plainHead + "X: y\rContent-Length: 3\r\n\r\nabc")
	refused(plainHead + "\n")
	refused(plainHead + ": nameless\r\n\r\n")
	refused(plainHead + "no colon\r\n\r\n")
	refused("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
	refused(plainHead + "X: a\x00b\r\n\r\n")
	chunked := plainHead + "Transfer-Encoding: chunked\r\n\r\n"
	for _, size := range []string{"", "0x3", "+3", "-3", " 3", "3 3", "3\x0b", "g", "1000000000000000", "3\n"} {
		refused(chunked + size + "\r\nabc\r\n0\r\n\r\n")
	}
	refused(chunked + "3\nabc\r\n0\r\n\r\n")
	refused(chunked + "3\r\nabcX\r\n0\r\n\r\n")
	refused(chunked + "3\r\nabc\n0\r\n\r\n")
	refused(chunked + "3;" + strings.Repeat("e", 300) + "\r\nabc\r\n0\r\n\r\n")
	refused(chunked + "0\r\nContent-Length: 5\r\n\r\n")
	refused(chunked + "0\r\n folded\r\n\r\n")
	refused("GET /" + strings.Repeat("a", maxGuardLine) + " HTTP/1.1\r\n\r\n")
}

// FuzzGuard holds what the guard lets through against net/http: the requests
// must begin and end at the same bytes, whatever pieces they came in.
func FuzzGuard(f *testing.F) {
	f.Add([]byte(plainHead+"Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: h\r\n\r\n"), uint8(5))
	f.Add([]byte(plainHead+"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n"), uint8(1))
	f.Add([]byte(plainHead+"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), uint8(9))
	f.Add([]byte("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		var whole, pieces guard
		ok := whole.scan(in)
		at := 0
		for at < len(in) {
			n := min(int(size)+1, len(in)-at)
			if pieces.scan(in[at:at+n]) < n {
				break
			}
			at += n
		}
		if pieces.state != whole.state || pieces.left != whole.left {
			t.Fatalf("in pieces of %d: state %d, left %d; whole: %d, %d", int(size)+1, pieces.state, pieces.left, whole.state, whole.left)
		}
		if ok < len(in) {
			return
		}
		// Where net/http finds the end of a request the guard must be at one.
		src := bytes.NewReader(in)
		br := bufio.NewReader(src)
		var g guard
		for from := 0; ; {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			end := len(in) - src.Len() - br.Buffered()
			g.scan(in[from:end])
			if from = end; g.state != atRequest || len(g.line) > 0 {
				t.Fatalf("net/http sees the end of a request at byte %d, the guard is in state %d", end, g.state)
			}
		}
	})
}
