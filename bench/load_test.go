package main

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"
)

// serveBytes answers every connection's first request with reply and hangs up.
func serveBytes(t *testing.T, reply []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 64<<10))
			_, _ = c.Write(reply)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// The load generator takes a whole answer and nothing less.
func TestWhole(t *testing.T) {
	try := func(reply []byte, stream, want bool) {
		t.Helper()
		s := &subject{addr: serveBytes(t, reply)}
		c, err := dialOne(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if stream {
			err = c.stream(s.request(100, ""), 2, func() {})
		} else {
			err = c.plain(s.request(100, ""))
		}
		if (err == nil) != want {
			t.Errorf("answer of %d bytes: error %v, want whole = %v", len(reply), err, want)
		}
	}
	try(plainReply, false, true)
	try(plainReply[:len(plainReply)-1], false, false)
	try(bytes.Replace(plainReply, []byte("The end."), []byte("The END."), 1), false, false)
	try(bytes.Replace(plainReply, []byte("200 OK"), []byte("502 Bad"), 1), false, false)

	whole := bytes.Join([][]byte{streamHead, streamDelta, streamDelta, streamStop, streamDone}, nil)
	try(whole, true, true)
	try(whole[:len(whole)-8], true, false)                                                                             // no last chunk
	try(bytes.Join([][]byte{streamHead, streamDelta, streamStop, streamDone}, nil), true, false)                       // an event lost
	try(bytes.Join([][]byte{streamHead, streamDelta, streamDelta, streamStop, []byte("0\r\n\r\n")}, nil), true, false) // no [DONE]
	for size := 1; size < 40; size++ {                                                                                 // however it is cut
		body := bytes.Join([][]byte{unchunk(streamDelta), unchunk(streamDelta), unchunk(streamStop), []byte("data: [DONE]\n\n")}, nil)
		b := bytes.Clone(streamHead)
		for len(body) > 0 {
			n := min(size, len(body))
			b = fmt.Appendf(b, "%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		try(append(b, "0\r\n\r\n"...), true, true)
	}
}

func unchunk(b []byte) []byte {
	_, rest, _ := bytes.Cut(b, []byte("\r\n"))
	return bytes.TrimSuffix(rest, []byte("\r\n"))
}

func TestSample(t *testing.T) {
	var s sample
	for i := range 100 {
		s.latencies = append(s.latencies, time.Duration(100-i)*time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := s.at(q); got != want*time.Millisecond {
			t.Errorf("at(%v) = %v, want %v", q, got, want*time.Millisecond)
		}
	}
	s.cpu, s.answers = 50*time.Millisecond, 1000
	if got := s.each(); got != 50 {
		t.Errorf("each = %v µs, want 50", got)
	}
}
