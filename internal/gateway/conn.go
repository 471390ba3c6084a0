package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/socket"
)

const (
	// bodyTime is how long a sender may take for a body, and as long again as
	// bodyTimeMiB for each MiB of it.
	bodyTime    = 30 * time.Second
	bodyTimeMiB = time.Second

	// writeTime is how long a client may leave what we wrote unread. It is set
	// anew at half time, so that a write costs no system call or timer.
	writeTime = 30 * time.Second

	// writePart is written under one writeTime: a slow reader of a long answer is
	// not one that never reads.
	writePart = 256 << 10
)

// A Listener gives the server of the gateway connections that can be left open
// to anybody: whoever sends a body or reads an answer too slowly is cut off, on
// every route; and a request whose framing is in doubt is the last of its
// connection and answered with a 400.
type Listener struct {
	net.Listener
	failed atomic.Int64 // when Accept failed last, Unix nanoseconds
}

// Accept implements net.Listener. The server waits before it tries again when
// there are no file descriptors left.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			l.failed.Store(time.Now().UnixNano())
		}
		return nil, err
	}
	return &conn{Conn: socket.New(c)}, nil
}

// Failing reports whether connections could not be taken just now.
func (l *Listener) Failing() bool {
	at := l.failed.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < 2*time.Second // the server tries again within one
}

// A conn is a client's connection. One goroutine reads and one writes at a
// time, which the server sees to.
type conn struct {
	net.Conn
	guard  guard
	refuse []byte // what the server reads instead of a line that is refused
	cut    bool
	ahead  []byte // of the next requests, taken from the network while this one was served

	body  atomic.Bool  // within a body
	own   atomic.Bool  // the handler has set a deadline of its own for it
	ours  atomic.Int64 // the deadline for reading as we set it, Unix nanoseconds; 0 if it is not ours
	began time.Time    // of the body
	read  int64        // bytes of it
	renew time.Time    // when the deadline for writing is set again

	until readDeadline
}

// A readDeadline is set when somebody reads: the server sets six a request, and
// most of them are over before anything is read.
type readDeadline struct {
	mu      sync.Mutex
	reading bool
	want    time.Time
	set     time.Time // of the connection
}

// readNet reads from the network.
func (c *conn) readNet(p []byte) (int, error) {
	d := &c.until
	d.mu.Lock()
	err := d.apply(c.Conn)
	d.reading = err == nil
	d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	d.mu.Lock()
	d.reading = false
	d.mu.Unlock()
	return n, err
}

func (d *readDeadline) apply(c net.Conn) error {
	if d.want.Equal(d.set) {
		return nil
	}
	d.set = d.want
	return c.SetReadDeadline(d.want)
}

// readUntil sets the deadline of the read that is under way, or of the next.
func (c *conn) readUntil(t time.Time) error {
	d := &c.until
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want = t
	if d.reading {
		return d.apply(c.Conn)
	}
	return nil
}

// nonsense is a line that net/http refuses wherever it stands in a request.
const nonsense = "\x00\r\n\r\n"

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if c.cut {
		n := copy(p, c.refuse)
		if c.refuse = c.refuse[n:]; n == 0 && len(p) > 0 {
			return 0, io.EOF
		}
		return n, nil
	}
	if len(p) == 1 && c.guard.state == atRequest && len(c.guard.line) == 0 {
		if err := c.watch(p); err != nil {
			return 0, err
		}
	}
	if c.body.Load() && !c.own.Load() && len(p) > 1 { // the server reads one byte to see whether the client is there
		c.setDeadline()
	}
	var n int
	var err error
	if n = copy(p, c.ahead); n > 0 {
		c.ahead = c.ahead[n:]
	} else if n, err = c.readNet(p); n == 0 {
		return n, err
	}
	if ok := c.guard.scan(p[:n]); ok < n {
		c.cut, c.refuse, n = true, []byte(nonsense), ok
		if n == 0 {
			return c.Read(p)
		}
		err = nil
	}
	c.follow(int64(n))
	return n, err
}

// maxAhead bounds what is taken of the next requests, bytes.
const maxAhead = 16 << 10

// watch is the read of a byte by which the server finds out that a client has
// gone. It must see that too of one that has sent more than its request; what
// comes is kept for later, as far as there is room.
func (c *conn) watch(p []byte) error {
	for len(c.ahead) < maxAhead {
		n, err := c.readNet(p)
		c.ahead = append(c.ahead, p[:n]...)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) { // the server's word that it is done
				c.ahead = nil
			}
			return err
		}
		p = make([]byte, 1<<10)
	}
	return nil
}

// follow notes where a body begins and ends.
func (c *conn) follow(n int64) {
	in := c.guard.inBody() && !c.cut
	switch was := c.body.Load(); {
	case in && !was:
		c.began, c.read = time.Time{}, 0
		c.body.Store(true)
	case in:
		c.read += n
	case was:
		c.body.Store(false)
		if c.own.Load() || c.ours.Load() != 0 {
			_ = c.SetReadDeadline(time.Time{}) // a closed connection will say so itself
		}
		c.own.Store(false)
	}
}

func (c *conn) setDeadline() {
	if c.began.IsZero() { // the handler begins to read
		c.began = time.Now()
	}
	d := c.began.Add(bodyTime + time.Duration(c.read>>20)*bodyTimeMiB)
	if n := d.UnixNano(); n != c.ours.Load() {
		_ = c.readUntil(d) // as above
		c.ours.Store(n)
	}
}

// SetReadDeadline implements net.Conn. The server itself sets deadlines of
// minutes; one of more than an hour is that of a handler that knows its sender.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.ours.Store(0)
	if c.body.Load() && t.After(time.Now().Add(time.Hour)) {
		c.own.Store(true)
	}
	return c.readUntil(t)
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (n int, err error) {
	for {
		if now := time.Now(); now.After(c.renew) {
			c.renew = now.Add(writeTime / 2)
			_ = c.SetWriteDeadline(now.Add(writeTime)) // as above
		}
		part := p[n:min(n+writePart, len(p))]
		m, err := c.Conn.Write(part)
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// CloseWrite lets the server end an answer so that the client can still read it
// when it was not read to the end itself.
func (c *conn) CloseWrite() error {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}
