package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sheepgate/sheepgate/internal/socket"
)

// bufferSize is what a connection reads at once while a reply is under way: over
// TLS an open stream holds this much, an idle connection nothing.
const bufferSize = 4 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// A conn is a connection. One request uses it at a time, and only the goroutine
// of that request touches it; what cancels the request sets a deadline.
type conn struct {
	h     *host
	nc    net.Conn
	many  io.Writer       // nc, or what writes many buffers at once
	tls   *tls.Conn       // nc, if it is one
	raw   syscall.RawConn // nil if it has none
	abort func()          // made once: see cancel
	probe func(fd uintptr) bool

	// Of the request under way.
	req     *http.Request
	stop    func() bool // undoes the cancellation by ctx; nil if ctx cannot end
	in      reader
	sent    int64 // bytes of the request
	sendErr error // it was not sent whole
	sendBuf net.Buffers
	parts   [8][]byte // room for sendBuf

	reused    bool
	idleSince time.Time
	alert     bool // set by probe: the idle connection is not silent
}

func newConn(h *host, nc net.Conn) *conn {
	c := &conn{h: h, nc: nc, many: nc}
	if s, ok := nc.(*socket.Conn); ok {
		c.many = s.Conn
	}
	c.abort = func() { _ = nc.SetDeadline(past) } // fails only on a closed connection
	if s, ok := nc.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.probe = func(fd uintptr) bool {
		var one [1]byte
		_, err := socket.Read(fd, one[:])
		c.alert = socket.Bare && !socket.Again(err)
		return true // no waiting
	}
	return c
}

var past = time.Unix(1, 0)

// alive reports whether an idle connection is open and nothing has come on it:
// bytes that nobody asked for would be taken for the next reply.
func (c *conn) alive() bool {
	if c.tls != nil {
		// What TLS has read ahead. The deadline keeps it from reading more.
		var one [1]byte
		_ = c.nc.SetReadDeadline(past)
		n, err := c.tls.Read(one[:])
		_ = c.nc.SetReadDeadline(time.Time{})
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
	if c.raw == nil {
		return true
	}
	return c.raw.Read(c.probe) == nil && !c.alert
}

// bare is the socket, unless TLS lies above it.
func (c *conn) bare() syscall.RawConn {
	if c.tls != nil {
		return nil
	}
	return c.raw
}

func (c *conn) close() { c.nc.Close() }

// errUnsent says that an idle connection turned out to be closed before a byte
// of the request was sent.
var errUnsent = errors.New("h1: the idle connection is closed")

// roundTrip sends a request and reads the head of its reply. The connection is
// closed when it fails, and given back when the reply's body has been read.
func (c *conn) roundTrip(req *http.Request, body *Body) (*http.Response, error) {
	began := time.Now()
	ctx := req.Context()
	c.req, c.sent, c.sendErr = req, 0, nil
	c.in.begin(c.nc, c.bare())
	if own, ok := ctx.(interface{ AfterFunc(f func()) func() bool }); ok { // without a context in between
		c.stop = own.AfterFunc(c.abort)
	} else if ctx.Done() != nil {
		c.stop = context.AfterFunc(ctx, c.abort)
	}
	if err := c.send(req, body); err != nil {
		c.end(false)
		return nil, err
	}
	res, err := c.reply(req)
	if err == nil {
		return res, nil
	}
	if nothing := c.in.total == 0 && ctx.Err() == nil; nothing && lost(err) {
		if c.sendErr != nil && !errors.Is(c.sendErr, os.ErrDeadlineExceeded) {
			err = c.sendErr
		}
		err = &LostError{err, c.reused && time.Since(began) < raceWindow}
		if c.reused && c.sent == 0 {
			err = errUnsent
		}
	}
	err = c.canceled(err)
	c.end(false)
	return nil, err
}

// lost reports whether err is that of a connection that is gone, and not one of
// our own.
func lost(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op)
}

// canceled is the cause for which the request was ended, if that is what err
// comes from.
func (c *conn) canceled(err error) error {
	if cause := context.Cause(c.req.Context()); cause != nil {
		return cause
	}
	return err
}

// end lets go of the request and keeps the connection if it is fit for another.
func (c *conn) end(keep bool) {
	if c.stop != nil && !c.stop() {
		keep = false // the deadline is set, or will be at any moment
	}
	silent := c.in.end()
	c.req, c.stop = nil, nil
	if keep && silent && c.sendErr == nil {
		c.h.put(c)
		return
	}
	c.close()
}

// earlyAfter is how long sending may take before a reply is looked for beside
// it: a server that refuses a long body answers without reading all of it.
const earlyAfter = 50 * time.Millisecond

// lastReply is how long a reply may take after sending has failed.
const lastReply = time.Second

// send writes the request. That the connection breaks while it does is no error
// yet: the server may have answered first.
func (c *conn) send(req *http.Request, body *Body) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	head, err := appendHead(buf[:0], c.h.name, req, body)
	if err != nil {
		return err
	}
	long := body != nil && body.size > longBody
	var early *early
	if long {
		early = c.watch()
	}
	c.sendErr = c.write(head, body)
	if early != nil {
		early.stop()
	}
	if c.sendErr == nil {
		return nil
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lastReply))
	if c.req.Context().Err() != nil { // which set a deadline before
		c.abort()
		return context.Cause(c.req.Context())
	}
	return nil
}

// longBody is what the buffers of two kernels take without anybody reading.
const longBody = 16 << 10

// write sends head and body with as few system calls as it can. Over TLS parts
// would become records of their own: they are joined.
func (c *conn) write(head []byte, body *Body) error {
	if body == nil {
		return c.count(c.nc.Write(head))
	}
	if len(head)+int(body.size) <= bufferSize {
		for _, p := range body.parts {
			head = append(head, p...)
		}
		return c.count(c.nc.Write(head))
	}
	if c.tls != nil {
		joined := make([]byte, 0, len(head)+int(body.size))
		joined = append(joined, head...)
		for _, p := range body.parts {
			joined = append(joined, p...)
		}
		return c.count(c.nc.Write(joined))
	}
	c.sendBuf = append(append(c.parts[:0], head), body.parts...)
	n, err := c.sendBuf.WriteTo(c.many)
	clear(c.parts[:])
	c.sendBuf, c.sent = nil, n
	return err
}

func (c *conn) count(n int, err error) error {
	c.sent = int64(n)
	return err
}

// An early looks for a reply while a long request is still being sent.
type early struct {
	c     *conn
	timer *time.Timer
	done  chan struct{}
}

func (c *conn) watch() *early {
	e := &early{c: c, done: make(chan struct{})}
	e.timer = time.AfterFunc(earlyAfter, e.run)
	return e
}

// run waits for the beginning of a reply and then ends the sending.
func (e *early) run() {
	defer close(e.done)
	e.c.in.fill()
	for e.c.in.interim() {
		e.c.in.fill()
	}
	_ = e.c.nc.SetWriteDeadline(past)
}

// stop ends the watch. If it has begun to read, it reads what comes next in any
// case.
func (e *early) stop() {
	if !e.timer.Stop() {
		<-e.done
		_ = e.c.nc.SetWriteDeadline(time.Time{})
	}
}
