package provider

import (
	"bytes"
	"errors"
	"io"
)

// A Frame is one event of a server-sent event stream, decoded, with the bytes
// it came in. The slices are valid until the next call of Next.
type Frame struct {
	Event string // the event: field, "" if none
	Data  []byte // the data: lines joined by \n; nil for a frame of comments only
	Raw   []byte // as received, the separating blank line included
}

// maxFrame bounds one frame, in bytes. The SDKs' own readers stop at 32 MiB.
const maxFrame = 32 << 20

// ErrFrameTooLong says that a stream holds a frame of more than 32 MiB.
var ErrFrameTooLong = errors.New("an event of the stream is longer than 32 MiB")

// A FrameReader cuts a stream into frames as they arrive. It takes LF, CRLF and
// CR line ends, a BOM, comments, several data lines and any chunking.
type FrameReader struct {
	r          io.Reader
	buf        []byte
	start, end int // of what is read and not yet returned
	scanned    int // up to where no frame end was found, from start
	err        error
	data       []byte // joined data lines
	begun      bool
}

// NewFrameReader reads frames from r.
func NewFrameReader(r io.Reader) *FrameReader { return &FrameReader{r: r} }

const firstBuffer = 4 << 10 // an open stream holds this much

// Next returns the next frame. It returns io.EOF after the last one, and
// io.ErrUnexpectedEOF when the stream ended within a frame.
func (f *FrameReader) Next() (Frame, error) {
	for {
		if n := f.frameEnd(); n > 0 {
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

// last deals with what is left when the reader has ended.
func (f *FrameReader) last() (Frame, error) {
	if f.start == f.end || len(bytes.Trim(f.buf[f.start:f.end], "\r\n")) == 0 {
		return Frame{}, f.err
	}
	if f.err == io.EOF {
		// A line end is there but no blank line: whole by any reader's measure.
		if c := f.buf[f.end-1]; c == '\n' || c == '\r' {
			return f.take(f.end - f.start), nil
		}
		return Frame{}, io.ErrUnexpectedEOF
	}
	return Frame{}, f.err
}

// Buffered reports whether Next will return without reading.
func (f *FrameReader) Buffered() bool { return f.frameEnd() > 0 }

func (f *FrameReader) read() error {
	if f.start > 0 && f.start == f.end {
		f.start, f.end, f.scanned = 0, 0, 0
	}
	if f.end == len(f.buf) {
		switch {
		case f.start > 0:
			copy(f.buf, f.buf[f.start:f.end])
			f.end -= f.start
			f.start = 0
		case len(f.buf) >= maxFrame:
			return ErrFrameTooLong
		default:
			grown := make([]byte, max(firstBuffer, 2*len(f.buf)))
			copy(grown, f.buf[:f.end])
			f.buf = grown
		}
	}
	n, err := f.r.Read(f.buf[f.end:])
	f.end += n
	f.err = err
	if !f.begun && f.end-f.start >= 3 {
		f.begun = true
		if bytes.HasPrefix(f.buf[f.start:f.end], []byte("\xef\xbb\xbf")) {
			f.start += 3
		}
	}
	return nil
}

// frameEnd is the length of the first whole frame in the buffer, 0 if none. A
// frame ends with a blank line; \r at the very end of the buffer may be half
// of a \r\n and is waited for, unless nothing more comes.
func (f *FrameReader) frameEnd() int {
	b := f.buf[f.start:f.end]
	i := f.scanned
	for i < len(b) {
		j := bytes.IndexByte(b[i:], '\n')
		k := -1
		if limit := j; limit < 0 {
			k = bytes.IndexByte(b[i:], '\r')
		} else {
			k = bytes.IndexByte(b[i:i+limit], '\r')
		}
		at := j
		if k >= 0 {
			at = k
		}
		if at < 0 {
			f.scanned = len(b)
			return 0
		}
		eol := i + at // first byte of a line end
		next := eol + 1
		if b[eol] == '\r' {
			if next == len(b) && f.err == nil {
				f.scanned = eol
				return 0
			}
			if next < len(b) && b[next] == '\n' {
				next++
			}
		}
		// A blank line follows at next, or this line itself is blank.
		if next < len(b) && (b[next] == '\n' || b[next] == '\r') {
			end := next + 1
			if b[next] == '\r' {
				if end == len(b) && f.err == nil {
					f.scanned = eol
					return 0
				}
				if end < len(b) && b[end] == '\n' {
					end++
				}
			}
			return end
		}
		if next == len(b) {
			f.scanned = eol
			return 0
		}
		i = next
	}
	f.scanned = i
	return 0
}

// take returns the first n buffered bytes as a frame.
func (f *FrameReader) take(n int) Frame {
	raw := f.buf[f.start : f.start+n]
	f.start += n
	f.scanned = 0
	fr := Frame{Raw: raw}
	f.data = f.data[:0]
	lines := 0
	for rest := raw; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		name, value, _ := bytes.Cut(line, []byte(":"))
		if len(value) > 0 && value[0] == ' ' {
			value = value[1:]
		}
		switch string(name) {
		case "data":
			switch lines {
			case 0:
				fr.Data = value
				if fr.Data == nil {
					fr.Data = []byte{}
				}
			case 1:
				f.data = append(append(append(f.data, fr.Data...), '\n'), value...)
				fr.Data = f.data
			default:
				f.data = append(append(f.data, '\n'), value...)
				fr.Data = f.data
			}
			lines++
		case "event":
			fr.Event = eventName(value)
		}
	}
	return fr
}

// cutLine splits b behind its first line.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexAny(b, "\r\n")
	if i < 0 {
		return b, nil
	}
	if b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n' {
		return b[:i], b[i+2:]
	}
	return b[:i], b[i+1:]
}

// eventName avoids an allocation for the names that come all the time.
func eventName(b []byte) string {
	switch string(b) {
	case "content_block_delta":
		return "content_block_delta"
	case "message_start":
		return "message_start"
	case "message_delta":
		return "message_delta"
	case "message_stop":
		return "message_stop"
	case "content_block_start":
		return "content_block_start"
	case "content_block_stop":
		return "content_block_stop"
	case "ping":
		return "ping"
	case "error":
		return "error"
	}
	return string(b)
}
