package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A memNet is a network within the process: connections with buffers as TCP has
// them, deadlines, and ends that are gone or reset. It works in a synctest
// bubble, as all of its waiting is on condition variables.
type memNet struct {
	mu    sync.Mutex
	hosts map[string]*memListener
	ports int
}

type memListener struct {
	n    *memNet
	addr string
	in   chan net.Conn
	done chan struct{}
	once sync.Once
}

type memAddr string

func (memAddr) Network() string  { return "tcp" }
func (a memAddr) String() string { return string(a) }

func (n *memNet) listen(addr string) *memListener {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = map[string]*memListener{}
	}
	l := &memListener{n: n, addr: addr, in: make(chan net.Conn), done: make(chan struct{})}
	n.hosts[addr] = l
	return l
}

func (n *memNet) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.hosts[addr]
	n.ports++
	from := memAddr(fmt.Sprintf("127.0.0.1:%d", 20_000+n.ports))
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	if l == nil {
		return nil, refused
	}
	there, back := newFlow(), newFlow()
	here := &memConn{in: back, out: there, local: from, remote: memAddr(addr)}
	select {
	case l.in <- &memConn{in: there, out: back, local: memAddr(addr), remote: from}:
		return here, nil
	case <-l.done:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddr(l.addr) }

// A flow is one direction of a connection.
type flow struct {
	mu    sync.Mutex
	wait  *sync.Cond
	b     []byte
	ended bool // the writer has closed: what is there can be read, then EOF
	gone  bool // the reader has closed: writing fails
	reset bool
	read  cutoff
	write cutoff
}

// A cutoff is a deadline.
type cutoff struct {
	timer *time.Timer
	over  bool
	n     int // of the deadline; a timer of one before it does nothing
}

const flowBuffer = 128 << 10

func newFlow() *flow {
	f := &flow{}
	f.wait = sync.NewCond(&f.mu)
	return f
}

func (f *flow) set(l *cutoff, t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.n++
	l.over = false
	switch d := time.Until(t); {
	case t.IsZero():
	case d <= 0:
		l.over = true
		f.wait.Broadcast()
	default:
		n := l.n
		l.timer = time.AfterFunc(d, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if l.n == n {
				l.over = true
				f.wait.Broadcast()
			}
		})
	}
}

func (f *flow) end(how *bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*how = true
	f.wait.Broadcast()
}

type memConn struct {
	in, out       *flow
	local, remote memAddr
	abort         bool
	once          sync.Once
}

func failed(op string, err error) error { return &net.OpError{Op: op, Net: "tcp", Err: err} }

func (c *memConn) Read(p []byte) (int, error) {
	f := c.in
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.gone:
			return 0, failed("read", net.ErrClosed)
		case f.reset:
			return 0, failed("read", os.NewSyscallError("read", syscall.ECONNRESET))
		case f.read.over:
			return 0, failed("read", os.ErrDeadlineExceeded)
		case len(f.b) > 0:
			n := copy(p, f.b)
			if f.b = f.b[n:]; len(f.b) == 0 {
				f.b = nil
			}
			f.wait.Broadcast()
			return n, nil
		case f.ended:
			return 0, io.EOF
		}
		f.wait.Wait()
	}
}

func (c *memConn) Write(p []byte) (n int, err error) {
	f := c.out
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.ended:
			return n, failed("write", net.ErrClosed)
		case f.gone || f.reset:
			return n, failed("write", os.NewSyscallError("write", syscall.EPIPE))
		case f.write.over:
			return n, failed("write", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return n, nil
		case len(f.b) < flowBuffer:
			k := min(len(p), flowBuffer-len(f.b))
			f.b = append(f.b, p[:k]...)
			n, p = n+k, p[k:]
			f.wait.Broadcast()
			continue
		}
		f.wait.Wait()
	}
}

func (c *memConn) Close() error {
	c.once.Do(func() {
		c.in.mu.Lock()
		unread := len(c.in.b) > 0
		c.in.mu.Unlock()
		if c.abort || unread {
			c.out.end(&c.out.reset)
		}
		c.in.end(&c.in.gone)
		c.out.end(&c.out.ended)
		_ = c.SetDeadline(time.Time{})
	})
	return nil
}

func (c *memConn) CloseWrite() error {
	c.out.end(&c.out.ended)
	return nil
}

// SetLinger with 0 makes Close a reset.
func (c *memConn) SetLinger(int) error {
	c.abort = true
	return nil
}

func (c *memConn) LocalAddr() net.Addr  { return c.local }
func (c *memConn) RemoteAddr() net.Addr { return c.remote }

func (c *memConn) SetDeadline(t time.Time) error {
	c.in.set(&c.in.read, t)
	c.out.set(&c.out.write, t)
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.set(&c.in.read, t)
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.out.set(&c.out.write, t)
	return nil
}
