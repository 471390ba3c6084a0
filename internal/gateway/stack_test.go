//go:build !race

package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
)

// TestStack: a stream that stands still holds two stacks, of 8 KiB the one and
// of 4 at most the other.
func TestStack(t *testing.T) {
	const streams = 200
	up, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	r := newRig(t, func(c *Config) { c.Providers[0].Spec.BaseURL = "http://" + up.Addr().String() }, say(200, reply))
	s := httptest.NewUnstartedServer(Exact(r.Config.Handler))
	s.Listener = &Listener{Listener: s.Listener}
	s.Start()
	defer s.Close()

	stacks := func() (bytes uint64) {
		runtime.GC() // finished goroutines' go back
		m := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
		metrics.Read(m)
		return m[0].Value.Uint64()
	}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
		for range len(open) / 2 {
			r.recorded(t)
		}
	}()
	one := func() {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: client-key\r\nContent-Length: %d\r\n\r\n%s", len(stream), stream)
		u, err := up.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, u)
		if _, _, err := body(u); err != nil {
			t.Fatal(err)
		}
		e := "data: " + piece + "\n\n"
		fmt.Fprintf(u, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(e), e)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		for in := bufio.NewReader(c); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "word") {
				return
			}
		}
	}
	one() // what is made once
	before := stacks()
	for range streams {
		one()
	}
	each := float64(stacks()-before) / streams / 1024
	t.Logf("%.1f KiB of stack a stream", each)
	if each > 12.5 {
		t.Error("more than 12.5")
	}
}

// body reads a request.
func body(c net.Conn) (*http.Request, string, error) {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(r.Body)
	return r, string(b), err
}
