package h1

import (
	"bytes"
	"errors"
	"io"
)

// A body reads the body of one reply. It gives the connection back once the
// body has ended where it should, and closes it in any other case.
type body struct {
	c    *conn // nil once the reply is over
	left int64 // bytes up to the end, or of the chunk; -1: up to the end of the connection
	keep bool  // the connection may be used again
	rush bool  // Close looks through what is there: nothing is waited for
	err  error // once it is over

	chunked bool
	state   chunkState
	excess  int // bytes of chunk lines beyond what their chunks justify
	trailer int // bytes of trailers
}

type chunkState uint8

const (
	chunkLine chunkState = iota // a chunk's size comes next
	chunkData
	chunkEnd // the line end behind a chunk's data
	trailers
)

var errClosed = errors.New("h1: read on closed body")

// Read implements io.Reader. It does not wait for more when it has something.
func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.c == nil:
		return 0, b.err
	case len(p) == 0:
		return 0, nil
	case b.chunked:
		return b.readChunked(p)
	}
	return b.readPlain(p)
}

func (b *body) readPlain(p []byte) (n int, err error) {
	if b.left >= 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err = b.some(p)
	if b.left >= 0 {
		b.left -= int64(n)
		if b.left == 0 {
			return n, b.finish(nil)
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		b.keep = false
		return n, b.finish(err)
	}
	return n, nil
}

// some reads what is there, or waits for something.
func (b *body) some(p []byte) (int, error) {
	in := &b.c.in
	if in.r == in.w {
		if len(p) >= bufferSize {
			return in.direct(p)
		}
		in.fill()
		if in.r == in.w {
			return 0, in.err
		}
	}
	n := copy(p, in.buffered())
	in.r += n
	return n, nil
}

// Wait returns once Read has something to begin with, or the reply has ended. A
// reader that calls it first need not hold a buffer while it waits.
func (b *body) Wait() {
	if b.c != nil && len(b.c.in.buffered()) == 0 {
		b.c.in.fill()
	}
}

// readChunked walks over chunks as far as their bytes are there.
func (b *body) readChunked(p []byte) (n int, err error) {
	for {
		switch b.state {
		case chunkData:
			if n == len(p) || n > 0 && len(b.c.in.buffered()) == 0 {
				return n, nil
			}
			part := p[n:]
			if int64(len(part)) > b.left {
				part = part[:b.left]
			}
			var m int
			m, err = b.some(part)
			n += m
			if b.left -= int64(m); b.left == 0 {
				b.state, err = chunkEnd, nil // an error stays for the next read
			}
		default:
			var ok bool
			if ok, err = b.line(n == 0 && !b.rush); !ok && err == nil {
				return n, nil
			}
			if ok && b.c == nil {
				return n, b.err
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			b.keep = false
			return n, b.finish(err)
		}
	}
}

const (
	maxChunkLine = 1 << 10  // with its extensions, which nobody uses
	maxExcess    = 16 << 10 // as net/http has it: CVE-2023-39326
	maxTrailer   = 16 << 10
)

// line takes the line that is due between the chunks' data. ok is false when it
// has not come whole and wait is false.
func (b *body) line(wait bool) (ok bool, err error) {
	in := &b.c.in
	i := -1
	for {
		have := in.buffered()
		if i = bytes.IndexByte(have, '\n'); i >= 0 || len(have) > maxChunkLine {
			break
		}
		if in.err != nil {
			return false, in.err
		}
		if !wait {
			return false, nil
		}
		in.fill()
	}
	if i < 0 || i > maxChunkLine {
		return false, malformed("a line of the chunked body is too long")
	}
	line := in.buffered()[:i+1]
	in.r += i + 1
	if i == 0 || line[i-1] != '\r' || bytes.IndexByte(line[:i-1], '\r') >= 0 {
		return false, malformed("a line of the chunked body does not end with CRLF")
	}
	return true, b.step(line[:i-1])
}

// step acts on a line.
func (b *body) step(line []byte) error {
	switch b.state {
	case chunkEnd:
		if len(line) > 0 {
			return malformed("a chunk is longer than it says")
		}
		b.state = chunkLine
	case chunkLine:
		size, err := chunkSize(line)
		if err != nil {
			return err
		}
		// Long extensions before single bytes make a small body dear.
		if b.excess += len(line) + 2 - 16 - 2*int(min(size, maxExcess)); b.excess < 0 {
			b.excess = 0
		}
		if b.excess > maxExcess {
			return malformed("the chunked body holds almost no data")
		}
		b.left, b.state = size, chunkData
		if size == 0 {
			b.state = trailers
		}
	case trailers:
		if len(line) == 0 {
			_ = b.finish(nil)
			return nil
		}
		if b.trailer += len(line) + 2; b.trailer > maxTrailer {
			return malformed("the trailers are longer than %d bytes", maxTrailer)
		}
		if name, _, ok := bytes.Cut(line, []byte{':'}); !ok || !validName(string(name)) {
			return malformed("a trailer without a valid name")
		}
	}
	return nil
}

// chunkSize reads a chunk's size in front of its extensions.
func chunkSize(line []byte) (int64, error) {
	line, _, _ = bytes.Cut(line, []byte{';'})
	line = bytes.TrimRight(line, " \t")
	if len(line) == 0 || len(line) > 15 { // 2^60 bytes are no chunk
		return 0, malformed("the size of a chunk is malformed")
	}
	n := int64(0)
	for _, c := range line {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20-'a' <= 5:
			c = c | 0x20 - 'a' + 10
		default:
			return 0, malformed("the size of a chunk is malformed")
		}
		n = n<<4 | int64(c)
	}
	return n, nil
}

// finish ends the reply. err nil means that it ended where it should.
func (b *body) finish(err error) error {
	c := b.c
	b.c = nil
	if err == nil {
		c.end(b.keep)
		b.err = io.EOF
		return io.EOF
	}
	if !errors.Is(err, io.EOF) {
		err = c.canceled(err)
	}
	c.end(false)
	b.err = err
	return err
}

// Close implements io.Closer. What has not been read is looked through only as
// far as it is here already: to wait for the rest of a reply that nobody wants
// costs more than a new connection.
func (b *body) Close() error {
	b.rush = true
	if b.c != nil {
		b.drain()
	}
	if b.c != nil {
		b.keep = false
		_ = b.finish(errClosed)
	}
	b.err = errClosed
	return nil
}

// drain reads what has come already.
func (b *body) drain() {
	var scratch [512]byte
	for range bufferSize/len(scratch) + 1 {
		if b.c == nil || !b.keep || len(b.c.in.buffered()) == 0 {
			return
		}
		if n, _ := b.Read(scratch[:]); n == 0 { // an error ends it
			return
		}
	}
}
