package h1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// want is a whole exchange that must give hello.
func want(t *testing.T, tr http.RoundTripper, r *http.Request) {
	t.Helper()
	if res, body, err := do(tr, r); err != nil || res.StatusCode != 200 || body != "hello" {
		t.Errorf("body %q, error %v", body, err)
	}
}

// TestRace: a server that closes an idle connection just as it is used. The
// caller is told that this is what happened.
func TestRace(t *testing.T) {
	p := newPeer(t, func(n int, c net.Conn, in *bufio.Reader) {
		if _, _, err := request(in); err != nil {
			return
		}
		io.WriteString(c, hello)
		if _, err := in.Peek(1); err == nil && n%2 == 0 { // every other time with a reset
			c.(*net.TCPConn).SetLinger(0)
		}
	})
	tr := newTransport(t)
	for i := range 20 {
		body := []string{"the ", strings.Repeat("whole ", i*3000), "body"}
		want(t, tr, p.request(context.Background(), "POST", body...))
		_, _, err := do(tr, p.request(context.Background(), "POST", body...))
		var lost *LostError
		if !errors.As(err, &lost) || !lost.Race {
			t.Errorf("%d: error %v, want that of a race", i, err)
		}
	}
	if n := p.conns.Load(); n != 20 {
		t.Errorf("%d connections, want one a race", n)
	}
}

// TestNoRace: what looks like the race and is none.
func TestNoRace(t *testing.T) {
	check := func(name string, wait time.Duration, then string, lost bool) {
		t.Helper()
		p := newPeer(t, func(n int, c net.Conn, in *bufio.Reader) {
			request(in)
			io.WriteString(c, hello)
			in.Peek(1)
			time.Sleep(wait)
			io.WriteString(c, then)
		})
		tr := newTransport(t)
		want(t, tr, p.request(context.Background(), "POST", "one"))
		_, _, err := do(tr, p.request(context.Background(), "POST", "two"))
		if e := (*LostError)(nil); err == nil || errors.As(err, &e) != lost || lost && e.Race {
			t.Errorf("%s: error %v", name, err)
		}
		if n := p.conns.Load(); n != 1 {
			t.Errorf("%s: %d connections, want 1", name, n)
		}
	}
	check("a byte of the reply has come", 0, "H", false)
	check("too late for a race", raceWindow+100*time.Millisecond, "", true)

	p := newPeer(t, func(_ int, c net.Conn, in *bufio.Reader) { request(in) })
	var lost *LostError
	if _, _, err := do(newTransport(t), p.request(context.Background(), "POST", "one")); !errors.As(err, &lost) || lost.Race {
		t.Errorf("a new connection breaks: %v", err)
	}
}

// TestUnsent: an idle connection that cannot be written to is replaced, and
// nobody notices.
func TestUnsent(t *testing.T) {
	p, tr := newPeer(t, serving(hello)), newTransport(t)
	want(t, tr, p.request(context.Background(), "POST", "one"))
	c := tr.all()[0].idle[0]
	c.raw = nil // it cannot be found out beforehand
	c.nc.(interface{ CloseWrite() error }).CloseWrite()
	want(t, tr, p.request(context.Background(), "POST", "two"))
	if n := p.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestClosedWhileIdle: a connection that is found closed, or not silent, is not
// used at all.
func TestClosedWhileIdle(t *testing.T) {
	check := func(name, late string, hangUp bool) {
		t.Helper()
		var served atomic.Int32
		p := newPeer(t, func(n int, c net.Conn, in *bufio.Reader) {
			for {
				if _, _, err := request(in); err != nil {
					return
				}
				served.Add(1)
				io.WriteString(c, hello)
				if n == 1 {
					io.WriteString(c, late)
					if hangUp {
						return
					}
				}
			}
		})
		tr := newTransport(t)
		want(t, tr, p.request(context.Background(), "POST", "one"))
		time.Sleep(50 * time.Millisecond)
		want(t, tr, p.request(context.Background(), "POST", "two"))
		want(t, tr, p.request(context.Background(), "POST", "three"))
		if n := p.conns.Load(); n != 2 || served.Load() != 3 {
			t.Errorf("%s: %d connections, %d requests served", name, n, served.Load())
		}
	}
	check("closed", "", true)
	check("a reply that nobody asked for", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", false)
	check("a line end", "\r\n", false)
}

// TestEarlyReply: a server that refuses a long body before it has read it is
// heard, whether it hangs up, resets or just stops reading.
func TestEarlyReply(t *testing.T) {
	const refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!"
	check := func(name string, script func(int, net.Conn, *bufio.Reader)) {
		t.Helper()
		p, tr := newPeer(t, script), newTransport(t)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		began := time.Now()
		res, body, err := do(tr, p.request(ctx, "POST", strings.Repeat("x", 32<<20)))
		if err != nil || res.StatusCode != 413 || body != "no!" {
			t.Errorf("%s: body %q, error %v after %v", name, body, err, time.Since(began))
		}
		if kept := len(tr.all()[0].idle) > 0; kept && name != "closes its side and reads on" { // which takes the whole request
			t.Errorf("%s: the connection is kept", name)
		}
	}
	check("closes", func(_ int, c net.Conn, in *bufio.Reader) {
		http.ReadRequest(in)
		io.WriteString(c, refusal)
	})
	check("closes its side and reads on", func(_ int, c net.Conn, in *bufio.Reader) {
		http.ReadRequest(in)
		io.WriteString(c, refusal)
		c.(*net.TCPConn).CloseWrite()
		time.Sleep(20 * time.Millisecond)
		io.Copy(io.Discard, c)
	})
	check("stops reading", func(_ int, c net.Conn, in *bufio.Reader) {
		http.ReadRequest(in)
		time.Sleep(10 * time.Millisecond)
		io.WriteString(c, refusal)
		time.Sleep(time.Second)
	})
	check("says first that it is still there", func(_ int, c net.Conn, in *bufio.Reader) {
		http.ReadRequest(in)
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX: y")
		time.Sleep(100 * time.Millisecond)
		io.WriteString(c, "\r\n\r\n"+refusal)
		time.Sleep(time.Second)
	})
	check("stops reading, and says so late", func(_ int, c net.Conn, in *bufio.Reader) {
		http.ReadRequest(in)
		time.Sleep(300 * time.Millisecond)
		io.WriteString(c, refusal)
		time.Sleep(time.Second)
	})

	// One that reads slowly, and says meanwhile that it is still there, gets the
	// whole body nevertheless, and its connection is good for another request.
	p, tr := newPeer(t, func(_ int, c net.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			buf := make([]byte, 1<<20)
			total := 0
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			for {
				n, err := io.ReadFull(r.Body, buf)
				total += n
				if err != nil {
					break
				}
				time.Sleep(15 * time.Millisecond)
			}
			if total == 32<<20 {
				io.WriteString(c, hello)
			}
		}
	}), newTransport(t)
	for range 2 {
		want(t, tr, p.request(context.Background(), "POST", strings.Repeat("x", 16<<20), strings.Repeat("y", 16<<20)))
	}
	if n := p.conns.Load(); n != 1 {
		t.Errorf("%d connections for a slow reader", n)
	}
}

// TestCancel: a request ends when its context does, whatever it is doing, and
// gives the cause; nothing of it stays behind.
func TestCancel(t *testing.T) {
	cause := errors.New("had enough")
	check := func(name, body string, script func(net.Conn, *bufio.Reader)) {
		t.Helper()
		p := newPeer(t, func(_ int, c net.Conn, in *bufio.Reader) { script(c, in) })
		tr := newTransport(t)
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		stop := time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
		defer stop.Stop()
		began := time.Now()
		_, _, err := do(tr, p.request(ctx, "POST", body))
		if took := time.Since(began); !errors.Is(err, cause) || took > 10*time.Second {
			t.Errorf("%s: error %v after %v", name, err, took)
		}
		for _, h := range tr.all() {
			if len(h.idle) > 0 {
				t.Errorf("%s: the connection is kept", name)
			}
		}
		for range 100 { // the peer's goroutine ends with its connection
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%s: %d goroutines, %d before", name, runtime.NumGoroutine(), before)
	}
	check("no reply", "hi", func(c net.Conn, in *bufio.Reader) { io.Copy(io.Discard, in) })
	check("half a head", "hi", func(c net.Conn, in *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nX:")
		io.Copy(io.Discard, in)
	})
	check("half a body", "hi", func(c net.Conn, in *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
		io.Copy(io.Discard, in)
	})
	check("half a chunk", "hi", func(c net.Conn, in *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello")
		io.Copy(io.Discard, in)
	})
	check("nobody reads the request", strings.Repeat("x", 32<<20), func(c net.Conn, in *bufio.Reader) { time.Sleep(300 * time.Millisecond) })
	check("drop by drop", "hi", func(c net.Conn, in *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		for {
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})

	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	p := newPeer(t, serving(hello))
	if _, _, err := do(newTransport(t), p.request(ctx, "POST", "hi")); err == nil {
		t.Error("a request whose context has ended was made")
	}
}

// TestLateCancel: the end of the context after the reply, as every request's
// comes, does not hurt the next request on the connection.
func TestLateCancel(t *testing.T) {
	p, tr := newPeer(t, serving(hello)), newTransport(t)
	for range 200 {
		ctx, cancel := context.WithCancel(context.Background())
		want(t, tr, p.request(ctx, "POST", "hi"))
		cancel()
	}
	if n := p.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// And one that comes just as the reply ends spoils the connection at most.
	for i := range 200 {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { time.Sleep(time.Duration(i) * time.Microsecond); cancel() }()
		if res, body, err := do(tr, p.request(ctx, "POST", "hi")); err == nil && (res.StatusCode != 200 || body != "hello") {
			t.Errorf("%d %q", res.StatusCode, body)
		}
		want(t, tr, p.request(context.Background(), "POST", "hi"))
	}
}

// TestClose: a body that is not read to its end. What is there already is
// looked through; nothing is waited for.
func TestClose(t *testing.T) {
	check := func(name, reply string, read int, kept bool) {
		t.Helper()
		p, tr := newPeer(t, serving(reply)), newTransport(t)
		for range 2 {
			res, err := tr.RoundTrip(p.request(context.Background(), "POST", "hi"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(res.Body, make([]byte, read)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			res.Body.Close()
			if d := time.Since(began); d > 10*time.Second {
				t.Errorf("%s: Close took %v", name, d)
			}
			if n, err := res.Body.Read(make([]byte, 9)); n > 0 || err == nil {
				t.Errorf("%s: read %d bytes of a closed body, error %v", name, n, err)
			}
			res.Body.Close() // twice does no harm
		}
		if n := p.conns.Load(); (n == 1) != kept {
			t.Errorf("%s: %d connections, want the first one kept = %v", name, n, kept)
		}
	}
	check("nothing is read", hello, 0, true)
	check("half is read", hello, 3, true)
	check("all but the end of the chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 5, true)
	check("the rest has not come", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", 2, false)
	check("the last chunk has not come", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 5, false)
	check("a megabyte", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 1e6), 2, false)
	check("a stream without end", "HTTP/1.1 200 OK\r\n\r\nhello", 5, false)
	check("half a line end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r", 5, false)
	check("half a chunk's size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1f", 5, false)
	check("half a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A", 2, false)
	check("bad chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n", 5, false)
}

// TestIdle: how many connections are kept, and for how long.
func TestIdle(t *testing.T) {
	p := newPeer(t, serving(hello))
	tr := &Transport{MaxIdle: 3, IdleTimeout: 100 * time.Millisecond}
	together := func(tr *Transport, p *peer, n int) {
		t.Helper()
		var open []*http.Response
		for range n {
			res, err := tr.RoundTrip(p.request(context.Background(), "POST", "hi"))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, res)
		}
		for _, res := range open {
			if b, err := io.ReadAll(res.Body); string(b) != "hello" {
				t.Errorf("body %q, error %v", b, err)
			}
		}
	}
	together(tr, p, 5)
	h := tr.all()[0]
	idle := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.idle)
	}
	if n := idle(); n != 3 {
		t.Errorf("%d connections are kept, want 3", n)
	}
	for range 100 {
		if idle() == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := idle(); n != 0 {
		t.Errorf("%d connections are kept past their time", n)
	}
	want(t, tr, p.request(context.Background(), "POST", "hi"))
	tr.CloseIdleConnections()
	if n := idle(); n != 0 {
		t.Errorf("%d connections are kept after CloseIdleConnections", n)
	}

	// One that the server closes is closed here before its time.
	closing := newPeer(t, func(_ int, c net.Conn, in *bufio.Reader) {
		request(in)
		io.WriteString(c, hello)
		time.Sleep(time.Second)
	})
	tr = newTransport(t)
	tr.MaxIdle = 100
	together(tr, closing, 2*sweepBatch+3)
	if h = tr.all()[0]; idle() != 2*sweepBatch+3 {
		t.Errorf("%d connections are kept, want all", idle())
	}
	for range 60 {
		if time.Sleep(100 * time.Millisecond); idle() == 0 {
			break
		}
	}
	if n := idle(); n != 0 {
		t.Errorf("%d connections are kept that the server has closed", n)
	}

	tr = &Transport{} // keeps none
	want(t, tr, p.request(context.Background(), "POST", "hi"))
	want(t, tr, p.request(context.Background(), "POST", "hi"))
	if n := len(tr.all()[0].idle); n != 0 {
		t.Errorf("%d connections are kept, want none", n)
	}
}

func TestConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{Listener: l}
	l.Close()
	var op *net.OpError
	if _, _, err := do(newTransport(t), p.request(context.Background(), "POST", "hi")); !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("nobody listens: %v", err)
	}
	tr := newTransport(t)
	tr.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := do(tr, p.request(ctx, "POST", "hi")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a dial without end: %v", err)
	}
}

// TestMany: many at once over few connections, each with its own reply.
func TestMany(t *testing.T) {
	p := newPeer(t, func(_ int, c net.Conn, in *bufio.Reader) {
		for i := 0; ; i++ {
			_, body, err := request(in)
			if err != nil || i == 37 { // and one that hangs up now and then, without an answer
				return
			}
			w := bufio.NewWriter(c)
			io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			cw := chunkWriter{w}
			for len(body) > 0 {
				n := min(len(body), 1+len(body)/3)
				io.WriteString(cw, body[:n])
				body = body[n:]
			}
			io.WriteString(w, "0\r\n\r\n")
			w.Flush()
		}
	})
	tr := newTransport(t)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 50 {
				body := strings.Repeat(string(rune('a'+i%26))+string(rune('0'+j%10)), 1+i*j*7)
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				_, got, err := do(tr, p.request(ctx, "POST", body[:1], body[1:]))
				for lost := (*LostError)(nil); errors.As(err, &lost) && lost.Race; {
					_, got, err = do(tr, p.request(ctx, "POST", body[:1], body[1:]))
				}
				cancel()
				if err != nil || got != body {
					t.Errorf("%d bytes for %d, error %v", len(got), len(body), err)
				}
			}
		})
	}
	wg.Wait()
}

type chunkWriter struct{ w io.Writer }

func (c chunkWriter) Write(p []byte) (int, error) {
	const hex = "0123456789abcdef"
	n := len(p)
	size := []byte{hex[n>>20&15], hex[n>>16&15], hex[n>>12&15], hex[n>>8&15], hex[n>>4&15], hex[n&15]}
	c.w.Write(append(size, "\r\n"...))
	c.w.Write(p)
	return io.WriteString(c.w, "\r\n")
}
