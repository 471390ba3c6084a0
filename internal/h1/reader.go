package h1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/sheepgate/sheepgate/internal/socket"
)

// A ProtocolError says that a server's bytes are not HTTP/1.1. The connection
// is closed.
type ProtocolError struct{ what string }

func (e *ProtocolError) Error() string { return "h1: " + e.what }

// ErrLongHead says that a reply's status lines and headers are longer than
// Transport.MaxHeader.
var ErrLongHead error = &ProtocolError{"the headers are longer than the limit"}

func malformed(format string, args ...any) error {
	return &ProtocolError{fmt.Sprintf(format, args...)}
}

// A reader is what comes on a connection while a request is under way. It takes
// its buffer from a pool and gives it back when the reply has ended; over a bare
// socket also while it waits, so that a stream that stands still holds none.
type reader struct {
	src   io.Reader // nil: no request is under way
	raw   syscall.RawConn
	recv  func(fd uintptr) bool // receive, made once; nil: src is read
	errno error                 // what recv ended with
	pool  *[bufferSize]byte
	buf   []byte // pool's, unless a head is longer; nil while nothing is there
	r, w  int    // buf[r:w] has been read and not taken yet
	total int64  // bytes read since begin
	err   error  // of src, after what is buffered
}

// begin takes src, or raw where it is the bare socket below src.
func (r *reader) begin(src io.Reader, raw syscall.RawConn) {
	*r = reader{src: src, recv: r.recv}
	if raw != nil && socket.Bare {
		r.raw = raw
		if r.recv == nil {
			r.recv = r.receive
		}
	}
}

func (r *reader) take() {
	if r.buf == nil {
		r.pool = buffers.Get().(*[bufferSize]byte)
		r.buf = r.pool[:]
	}
}

func (r *reader) putBack() {
	if r.pool != nil {
		buffers.Put(r.pool)
		r.pool = nil
	}
	r.buf = nil
}

// receive reads what is there into a buffer that it takes for it. It is called
// again once there may be something.
func (r *reader) receive(fd uintptr) bool {
	r.take()
	n, err := socket.Read(fd, r.buf)
	if socket.Again(err) {
		r.putBack()
		return false
	}
	r.w, r.errno = n, err
	return true
}

// wait reads from the socket, with no buffer meanwhile.
func (r *reader) wait() {
	r.putBack()
	r.r, r.w, r.errno = 0, 0, nil
	switch err := r.raw.Read(r.recv); {
	case err != nil:
		r.err = err
	case r.errno != nil:
		r.err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", r.errno)}
	case r.w == 0:
		r.err = io.EOF
	}
	r.total += int64(r.w)
}

// end reports whether everything that came was taken.
func (r *reader) end() (empty bool) {
	if r.src == nil {
		return true
	}
	empty = r.r == r.w && r.err == nil
	r.putBack()
	*r = reader{recv: r.recv}
	return empty
}

// maxIdle is how many reads of nothing in a row there may be, as bufio has it.
const maxIdle = 100

// fill reads once into the room behind w, which there must be or be made by
// moving what is left to the front.
func (r *reader) fill() {
	if r.err != nil {
		return
	}
	switch {
	case r.r == r.w && r.raw != nil:
		r.wait()
		return
	case r.r == r.w:
		r.take()
		r.r, r.w = 0, 0
	case r.w == len(r.buf):
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	n := 0
	for range maxIdle {
		n, r.err = r.src.Read(r.buf[r.w:])
		r.w += n
		r.total += int64(n)
		if n > 0 || r.err != nil {
			return
		}
	}
	r.err = io.ErrNoProgress
}

// direct reads past the empty buffer.
func (r *reader) direct(p []byte) (n int, err error) {
	if r.err != nil {
		return 0, r.err
	}
	for range maxIdle {
		n, r.err = r.src.Read(p)
		r.total += int64(n)
		if n > 0 || r.err != nil {
			return n, r.err
		}
	}
	r.err = io.ErrNoProgress
	return 0, r.err
}

func (r *reader) buffered() []byte { return r.buf[r.r:r.w] }

func (r *reader) full() bool { return r.buf != nil && r.w-r.r == len(r.buf) }

// interim reports whether nothing but 1xx replies has come, and more may.
func (r *reader) interim() bool {
	b := r.buffered()
	if r.err != nil || r.full() {
		return false
	}
	const start = "HTTP/1.1 1"
	for len(b) >= len(start) {
		if b[len(start)-1] != '1' {
			return false
		}
		seen := 0
		n, ok := endOfHead(b, &seen)
		if !ok {
			return true
		}
		b = b[n:]
	}
	return looksLikeHTTP(b) == nil
}

// head takes a status line and headers with the blank line behind them, at most
// limit bytes. What it returns is valid until the next read.
func (r *reader) head(limit int) ([]byte, error) {
	seen := 0 // bytes in which no end can begin
	for {
		b := r.buffered()
		if err := looksLikeHTTP(b); err != nil {
			return nil, err
		}
		if n, ok := endOfHead(b, &seen); ok {
			if n > limit {
				return nil, ErrLongHead
			}
			r.r += n
			return b[:n], nil
		}
		if len(b) >= limit {
			return nil, ErrLongHead
		}
		if r.full() {
			grown := make([]byte, min(2*len(r.buf), limit+bufferSize))
			r.r, r.w = 0, copy(grown, b)
			r.buf = grown
		}
		if r.err == nil {
			r.fill()
			continue
		}
		if errors.Is(r.err, io.EOF) && len(b) > 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, r.err
	}
}

// looksLikeHTTP refuses early what cannot become a status line: it might go on
// for ever.
func looksLikeHTTP(b []byte) error {
	const start = "HTTP/1."
	if n := min(len(b), len(start)); string(b[:n]) != start[:n] {
		return malformed("the reply does not begin with HTTP/1")
	}
	return nil
}

// endOfHead finds the blank line that ends a head and returns the offset behind
// it. It looks from seen on and moves it.
func endOfHead(b []byte, seen *int) (int, bool) {
	for at := *seen; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			*seen = len(b)
			return 0, false
		}
		at += i
		rest := b[at+1:]
		switch {
		case len(rest) > 0 && rest[0] == '\n':
			return at + 2, true
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return at + 3, true
		case len(rest) == 0, len(rest) == 1 && rest[0] == '\r':
			*seen = at // what follows this line end is not known yet
			return 0, false
		}
		at++
	}
}
