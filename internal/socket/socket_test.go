//go:build unix

package socket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pair is a connection: a end of ours and the other end as package net has it.
func pair(t testing.TB) (ours net.Conn, theirs *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		got <- c
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other := <-got
	if other == nil {
		t.Fatal("not accepted")
	}
	ours = New(c)
	if _, ok := ours.(*Conn); ok != Bare {
		t.Fatalf("a TCP connection is %T", ours)
	}
	t.Cleanup(func() { ours.Close(); other.Close() })
	return ours, other.(*net.TCPConn)
}

// What is written arrives, whole and in order, in both directions at once,
// whatever the parts and however slowly it is taken.
func TestBothWays(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	a, b := pair(t)
	for _, c := range []*net.TCPConn{a.(*Conn).Conn.(*net.TCPConn), b} { // too little room for what is written at once
		if err := errors.Join(c.SetWriteBuffer(32<<10), c.SetReadBuffer(128<<10), c.SetDeadline(time.Now().Add(time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
	data := make([]byte, 4<<20)
	fill := rand.New(rand.NewPCG(seed, 0))
	for i := range data {
		data[i] = byte(fill.Uint32())
	}
	var all sync.WaitGroup
	send := func(c net.Conn, stream uint64) {
		r := rand.New(rand.NewPCG(seed, stream))
		for rest := data; len(rest) > 0; {
			n := min(1+r.IntN(1<<r.IntN(19)), len(rest))
			if m, err := c.Write(rest[:n]); m != n || err != nil {
				t.Errorf("wrote %d of %d: %v", m, n, err)
				return
			}
			rest = rest[n:]
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	take := func(c net.Conn, stream uint64) {
		r := rand.New(rand.NewPCG(seed, stream))
		var got bytes.Buffer
		for {
			p := make([]byte, 1+r.IntN(64<<10))
			n, err := c.Read(p)
			got.Write(p[:n])
			if errors.Is(err, io.EOF) && n == 0 {
				break
			}
			if err != nil || n == 0 {
				t.Errorf("read %d: %v", n, err)
				return
			}
			if r.IntN(50) == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d of %d bytes came, or others", got.Len(), len(data))
		}
	}
	for _, f := range []func(){func() { send(a, 1) }, func() { send(b, 2) }, func() { take(a, 3) }, func() { take(b, 4) }} {
		all.Go(f)
	}
	all.Wait()
}

// Errors are those of package net.
func TestErrors(t *testing.T) {
	big := make([]byte, most)
	both := func(name string, spoil func(c net.Conn, other *net.TCPConn), do func(c net.Conn) error, is error) {
		t.Run(name, func(t *testing.T) {
			var text [2]string
			for i := range text {
				c, other := pair(t)
				plain := c
				if s, ok := c.(*Conn); ok && i == 1 {
					plain = s.Conn
				}
				spoil(plain, other)
				err := do(plain)
				var op *net.OpError
				if !errors.Is(err, io.EOF) && !errors.As(err, &op) || !errors.Is(err, is) {
					t.Fatalf("%v (%T), want %v", err, err, is)
				}
				if op != nil {
					text[i] = op.Op + " " + op.Net + " " + op.Err.Error()
					if op.Timeout() != errors.Is(is, os.ErrDeadlineExceeded) || op.Addr.String() != c.RemoteAddr().String() {
						t.Errorf("timeout %v, address %v", op.Timeout(), op.Addr)
					}
				}
			}
			if text[0] != text[1] {
				t.Errorf("%q, and package net says %q", text[0], text[1])
			}
		})
	}
	read := func(c net.Conn) error {
		_, err := c.Read(make([]byte, 10))
		return err
	}
	flood := func(c net.Conn) error { // until there is no room
		for {
			if _, err := c.Write(big); err != nil {
				return err
			}
		}
	}
	soon := func(c net.Conn, _ *net.TCPConn) { _ = c.SetDeadline(time.Now().Add(30 * time.Millisecond)) }
	past := func(c net.Conn, _ *net.TCPConn) { _ = c.SetDeadline(time.Unix(1, 0)) }
	later := func(f func(c net.Conn, other *net.TCPConn)) func(net.Conn, *net.TCPConn) {
		return func(c net.Conn, other *net.TCPConn) { time.AfterFunc(20*time.Millisecond, func() { f(c, other) }) }
	}
	shut := func(c net.Conn, _ *net.TCPConn) { c.Close() }
	reset := func(c net.Conn, other *net.TCPConn) {
		_ = other.SetLinger(0)
		other.Close()
		time.Sleep(10 * time.Millisecond)
	}
	both("read until", soon, read, os.ErrDeadlineExceeded)
	both("read too late", past, read, os.ErrDeadlineExceeded)
	both("read cut off", later(past), read, os.ErrDeadlineExceeded)
	both("read closed", shut, read, net.ErrClosed)
	both("closed while reading", later(shut), read, net.ErrClosed)
	both("read reset", reset, read, syscall.ECONNRESET)
	both("reset while reading", later(reset), read, syscall.ECONNRESET)
	both("read to the end", func(_ net.Conn, other *net.TCPConn) { other.Close() }, read, io.EOF)
	both("write until", soon, flood, os.ErrDeadlineExceeded)
	both("write too late", past, flood, os.ErrDeadlineExceeded)
	both("closed while writing", later(shut), flood, net.ErrClosed)
	both("write at the end", func(c net.Conn, _ *net.TCPConn) { _ = c.(interface{ CloseWrite() error }).CloseWrite() }, flood, syscall.EPIPE)
}

// What was written before an error is said.
func TestPartWritten(t *testing.T) {
	c, other := pair(t)
	_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	sent := int64(0)
	for p := make([]byte, most-1); ; {
		n, err := c.Write(p)
		sent += int64(n)
		if err != nil {
			break
		}
	}
	c.Close()
	if got, err := io.Copy(io.Discard, other); got != sent || err != nil {
		t.Errorf("%d bytes came of %d that were written: %v", got, sent, err)
	}
}

func TestNothing(t *testing.T) {
	c, other := pair(t)
	if n, err := c.Read(nil); n != 0 || err != nil { // though nothing is there
		t.Errorf("read %d, %v", n, err)
	}
	if n, err := c.Write(nil); n != 0 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	go func() { _, _ = io.Copy(other, other) }()
	p := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { echo(t, c, p) }); n != 0 {
		t.Errorf("%v allocations an echo", n)
	}
	if s := c.(*Conn); s.in != nil || s.out != nil {
		t.Error("it holds what is no longer read into or written")
	}
	if a, _ := net.Pipe(); New(a) != a {
		t.Error("what is no TCP connection is changed")
	}
}

func echo(t testing.TB, c net.Conn, p []byte) {
	if _, err := c.Write(p); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, p); err != nil {
		t.Error(err)
	}
}

// TestMain echoes what comes instead, where BenchmarkEcho asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("SHEEPGATE_ECHO") == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }()
	}
}

// BenchmarkEcho has 4,000 times a second one of 16 connections exchange 1 KB
// each way with another process, through package net and through this one: what
// counts is the processor's time, and that a machine which is half idle.
func BenchmarkEcho(b *testing.B) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SHEEPGATE_ECHO=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"net", "socket"} {
		b.Run(name, func(b *testing.B) {
			conns := make([]net.Conn, 16)
			for i := range conns {
				c, err := net.Dial("tcp", strings.TrimSpace(addr))
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				if conns[i] = c; name == "socket" {
					conns[i] = New(c)
				}
			}
			before := cpu()
			b.ResetTimer()
			var all sync.WaitGroup
			begun := time.Now()
			for i, c := range conns {
				all.Go(func() {
					p := make([]byte, 1<<10)
					for n := i; n < b.N; n += len(conns) {
						time.Sleep(time.Until(begun.Add(time.Duration(n) * time.Second / 4000)))
						echo(b, c, p)
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
