package provider

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// A Frame is one event of a server-sent event stream, decoded, with the bytes
// it came in. The slices are valid until the next call of Next.
type Frame struct {
	Event string // the event: field, "" if none
	Data  []byte // the data: lines joined by \n; nil for a frame of comments only
	Raw   []byte // as received, the separating blank line included
	Odd   bool   // Raw is not for every client: see Clean
}

// Clean appends the frame as any client reads it. Of Raw that is Odd it leaves
// out what an event stream does not know, a byte order mark and comments, and
// it ends lines with \n: the SDKs of Go and Python do not know a bare \r.
func (f *Frame) Clean(dst []byte) []byte {
	if !f.Odd {
		return append(dst, f.Raw...)
	}
	if f.Data == nil {
		return dst
	}
	if f.Event != "" {
		dst = append(append(append(dst, "event: "...), f.Event...), '\n')
	}
	for line := range bytes.SplitSeq(f.Data, []byte("\n")) {
		dst = append(append(append(dst, "data: "...), line...), '\n')
	}
	return append(dst, '\n')
}

// maxFrame bounds one frame, in bytes. The SDKs' own readers stop at 32 MiB.
const maxFrame = 32 << 20

// ErrFrameTooLong says that a stream holds a frame of more than 32 MiB.
var ErrFrameTooLong = errors.New("an event of the stream is longer than 32 MiB")

const (
	firstBuffer = 2 << 10
	keptBuffer  = 64 << 10 // one that has grown further is let go once it is empty
	hugeBuffer  = 4 << 20  // one that has grown so far grows to the bound at once
	maxIdle     = 100      // reads of nothing in a row, as bufio has it
)

// A FrameReader cuts a stream into frames as they arrive. It takes LF, CRLF and
// CR line ends, a BOM, comments, several data lines and any chunking. The Raw
// of all frames together is the stream, byte for byte.
// https://html.spec.whatwg.org/multipage/server-sent-events.html
type FrameReader struct {
	r          io.Reader
	wait       func()             // of r, if it has one
	pool       *[firstBuffer]byte // that buf is, if it is
	buf        []byte
	start, end int    // what is read and not yet returned
	line       int    // where the first line begins whose end is not found yet
	searched   int    // up to where that line was searched for its end
	text       bool   // a line that is not blank lies between start and line
	crlf       bool   // the line before line ended with \r\n
	begun      bool   // the first frame, which may begin with a BOM, was returned
	err        error  // of the reader, after what is buffered
	joined     []byte // of several data lines
	name       string // the last event name, to return it without allocating
}

// NewFrameReader reads frames from r. If r has a method Wait, which returns when
// there is something to read, a stream that stands still holds no buffer.
func NewFrameReader(r io.Reader) *FrameReader {
	f := &FrameReader{r: r}
	if w, ok := r.(interface{ Wait() }); ok {
		f.wait = w.Wait
	}
	return f
}

var frameBuffers = sync.Pool{New: func() any { return new([firstBuffer]byte) }}

// Next returns the next frame. It returns io.EOF after the last one, and
// io.ErrUnexpectedEOF when the stream ended within a frame.
func (f *FrameReader) Next() (Frame, error) {
	for {
		if n := f.frame(); n > 0 {
			return f.take(n), nil
		}
		if f.err != nil {
			return f.last()
		}
		if err := f.read(); err != nil {
			return Frame{}, err
		}
	}
}

// Buffered reports whether Next will return without reading.
func (f *FrameReader) Buffered() bool { return f.err != nil || f.frame() > 0 }

// last deals with what is left when the reader has ended. A frame that lacks
// only its blank line is whole by any client's measure, and many servers end
// with "data: [DONE]\n"; one that ends within a line is not.
func (f *FrameReader) last() (Frame, error) {
	switch {
	case f.start == f.end, !errors.Is(f.err, io.EOF):
		return Frame{}, f.err
	case f.line == f.end && f.searched == f.end:
		return f.take(f.end - f.start), nil
	}
	return Frame{}, io.ErrUnexpectedEOF
}

// frame is the length of the first whole frame in the buffer, 0 if there is
// none yet. A frame goes up to the first blank line behind a line with text.
//
// Whether \n follows a \r at the end of the buffer is not yet known. Only a
// stream of \r\n waits for it there; behind any other line end a blank line of
// \r is whole, or a stream of \r would lag by one frame. The cut depends on
// the bytes alone, never on how they were read.
func (f *FrameReader) frame() int {
	for f.line < f.end {
		i := lineEnd(f.buf[max(f.line, f.searched):f.end])
		if i < 0 {
			f.searched = f.end
			return 0
		}
		at := max(f.line, f.searched) + i
		f.searched = at
		next, crlf := at+1, false
		blank := at == f.line || !f.begun && at == f.line+len(bom) && f.line == f.start && string(f.buf[f.line:at]) == bom
		if f.buf[at] == '\r' && (!blank || !f.text || f.crlf) {
			switch {
			case next < f.end:
				crlf = f.buf[next] == '\n'
			case f.err == nil:
				return 0
			}
			if crlf {
				next++
			}
		}
		if blank && f.text {
			f.searched = f.line
			return next - f.start
		}
		f.line, f.searched = next, next
		f.text, f.crlf = f.text || !blank, crlf
	}
	return 0
}

const bom = "\xef\xbb\xbf"

// lineEnd is the index of the first \n or \r, or -1.
func lineEnd(b []byte) int {
	n := bytes.IndexByte(b, '\n')
	if n >= 0 {
		b = b[:n]
	}
	if r := bytes.IndexByte(b, '\r'); r >= 0 {
		return r
	}
	return n
}

// read gets more bytes. A buffer grows by doubling, up to a frame's bound.
func (f *FrameReader) read() error {
	switch {
	case f.start == f.end:
		f.shift()
		if len(f.buf) > keptBuffer {
			f.buf = nil
		}
		if f.wait != nil {
			if f.pool != nil {
				frameBuffers.Put(f.pool)
				f.pool, f.buf = nil, nil
			}
			f.wait()
		}
	case f.end == len(f.buf) && f.start > 0:
		f.shift()
	}
	if f.end == len(f.buf) {
		if len(f.buf) >= maxFrame {
			return ErrFrameTooLong
		}
		size := max(firstBuffer, 2*len(f.buf))
		if len(f.buf) >= hugeBuffer { // one copy more instead of three
			size = maxFrame
		}
		var grown []byte
		if size == firstBuffer {
			f.pool = frameBuffers.Get().(*[firstBuffer]byte)
			grown = f.pool[:]
		} else {
			grown = make([]byte, size)
			copy(grown, f.buf[:f.end])
			if f.pool != nil {
				frameBuffers.Put(f.pool)
				f.pool = nil
			}
		}
		f.buf = grown
	}
	for range maxIdle {
		n, err := f.r.Read(f.buf[f.end:])
		f.end += n
		f.err = err
		if n > 0 || err != nil {
			return nil
		}
	}
	return io.ErrNoProgress
}

// shift moves what is buffered to the beginning.
func (f *FrameReader) shift() {
	copy(f.buf, f.buf[f.start:f.end])
	f.end -= f.start
	f.line -= f.start
	f.searched -= f.start
	f.start = 0
}

// take returns the first n buffered bytes as a frame.
func (f *FrameReader) take(n int) Frame {
	raw := f.buf[f.start : f.start+n]
	f.start += n
	f.line, f.searched, f.text, f.crlf = f.start, f.start, false, false
	fr := Frame{Raw: raw}
	rest := raw
	if !f.begun {
		f.begun = true
		rest = bytes.TrimPrefix(rest, []byte(bom))
		fr.Odd = len(rest) < len(raw)
	}
	for lines := 0; len(rest) > 0; {
		line := rest
		if i := lineEnd(rest); i >= 0 {
			fr.Odd = fr.Odd || rest[i] == '\r' && (i+1 == len(rest) || rest[i+1] != '\n')
			line, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		colon := bytes.IndexByte(line, ':')
		name, value := line, []byte{}
		if colon >= 0 {
			name, value = line[:colon], line[colon+1:]
			if len(value) > 0 && value[0] == ' ' {
				value = value[1:]
			}
		}
		switch string(name) {
		case "data":
			switch lines++; lines {
			case 1:
				fr.Data = value
			case 2:
				f.joined = append(append(append(f.joined[:0], fr.Data...), '\n'), value...)
			default:
				f.joined = append(append(f.joined, '\n'), value...)
			}
			if lines > 1 {
				fr.Data = f.joined
			}
		case "event":
			fr.Event = f.eventName(value)
		case "", "id", "retry": // a comment or a blank line, and what only the client minds
		default:
			fr.Odd = true
		}
	}
	return fr
}

// eventName avoids an allocation for the names that come all the time, and for
// one that comes again.
func (f *FrameReader) eventName(b []byte) string {
	switch string(b) {
	case "content_block_delta":
		return "content_block_delta"
	case "content_block_start":
		return "content_block_start"
	case "content_block_stop":
		return "content_block_stop"
	case "message_start":
		return "message_start"
	case "message_delta":
		return "message_delta"
	case "message_stop":
		return "message_stop"
	case "ping":
		return "ping"
	case "error":
		return "error"
	}
	if string(b) != f.name {
		f.name = string(b)
	}
	return f.name
}
