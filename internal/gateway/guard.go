package gateway

import (
	"bytes"
	"strconv"
)

// A guard follows the framing of the requests on a connection and finds the
// byte where it stops being beyond doubt. Where two readers could see different
// requests in the same bytes, one of them can be made to see a request that
// the other never checked; net/http is lenient about some of it: a request with
// both Transfer-Encoding and Content-Length, a header folded over lines, lines
// that end with a bare \n, the same Content-Length twice.
// https://www.rfc-editor.org/rfc/rfc9112.html#section-11.2
type guard struct {
	state   guardState
	line    []byte // the beginning of a line whose end has not come
	left    int64  // of a body or a chunk, bytes
	old     bool   // not HTTP/1.1
	length  int64  // Content-Length; -1 if none
	chunked bool
	unknown bool // a Transfer-Encoding that nobody speaks: net/http answers 501 and closes
}

type guardState uint8

const (
	atRequest   guardState = iota // the request line comes next
	atHeader                      // a header line, or the blank one
	atBody                        // bytes of a body with a length
	atChunk                       // a chunk's size line
	atChunkData                   // bytes of a chunk
	atChunkEnd                    // the line end behind them
	atTrailer                     // a trailer line, or the blank one
	refused
)

// maxGuardLine bounds a line. net/http refuses a head of more than
// MaxHeaderBytes with a 431 before.
const maxGuardLine = 80 << 10

// inBody reports whether more of a body must come.
func (g *guard) inBody() bool { return g.state >= atBody && g.state <= atTrailer }

// scan takes the next bytes. It returns how many of them may be read on: all,
// or those before the line that is refused.
func (g *guard) scan(p []byte) int {
	for i := 0; i < len(p); {
		switch g.state {
		case refused:
			return i
		case atBody, atChunkData:
			n := min(int64(len(p)-i), g.left)
			i += int(n)
			if g.left -= n; g.left == 0 {
				g.state++ // atChunkData: its end
				if g.state == atChunk {
					g.state = atRequest
				}
			}
		default:
			end := bytes.IndexByte(p[i:], '\n')
			if end < 0 {
				g.line = append(g.line, p[i:]...)
				if len(g.line) > maxGuardLine || bytes.IndexByte(p[i:], 0) >= 0 { // TLS, for one, has no line ends
					g.state = refused
					return i
				}
				return len(p)
			}
			line := p[i : i+end+1]
			if len(g.line) > 0 {
				g.line = append(g.line, line...)
				line = g.line
			}
			if !g.take(line) {
				g.state = refused
				return i
			}
			g.line = g.line[:0]
			i += end + 1
		}
	}
	return len(p)
}

// take judges a whole line.
func (g *guard) take(line []byte) bool {
	if len(line) < 2 || line[len(line)-2] != '\r' || len(line) > maxGuardLine {
		return false
	}
	line = line[:len(line)-2]
	if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return false
	}
	switch g.state {
	case atRequest:
		*g = guard{state: atHeader, line: g.line, length: -1, old: !bytes.HasSuffix(line, []byte(" HTTP/1.1"))}
		return len(line) > 0
	case atHeader:
		if len(line) == 0 {
			g.body()
			return true
		}
		return g.header(line)
	case atChunk:
		return g.chunk(line)
	case atChunkEnd:
		g.state = atChunk
		return len(line) == 0
	}
	if len(line) == 0 { // behind the trailers
		g.state = atRequest
		return true
	}
	name, _, ok := headerName(line)
	return ok && !bytes.EqualFold(name, contentLength) && !bytes.EqualFold(name, transferEncoding)
}

// body is what comes behind the head.
func (g *guard) body() {
	switch {
	case g.unknown:
		g.state = refused // nothing behind it can be told apart
	case g.chunked:
		g.state = atChunk
	case g.length > 0:
		g.state, g.left = atBody, g.length
	default:
		g.state = atRequest
	}
}

var contentLength, transferEncoding = []byte("Content-Length"), []byte("Transfer-Encoding")

// headerName splits a header line. ok is false for a line that is folded, that
// has no name, or whose name is not clear: white space before the colon.
func headerName(line []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return nil, nil, false
	}
	for _, c := range line[:i] {
		if c <= ' ' || c >= 0x7f {
			return nil, nil, false
		}
	}
	return line[:i], bytes.Trim(line[i+1:], " \t"), true
}

func (g *guard) header(line []byte) bool {
	name, value, ok := headerName(line)
	if !ok {
		return false
	}
	switch len(name) {
	case len(contentLength):
		if !bytes.EqualFold(name, contentLength) {
			return true
		}
		n, err := strconv.ParseUint(string(value), 10, 62)
		if g.chunked || g.unknown || g.length >= 0 || err != nil || value[0] == '+' {
			return false
		}
		g.length = int64(n)
	case len(transferEncoding):
		if !bytes.EqualFold(name, transferEncoding) {
			return true
		}
		if g.chunked || g.length >= 0 || g.old || g.unknown {
			return false
		}
		g.chunked = bytes.EqualFold(value, []byte("chunked"))
		g.unknown = !g.chunked
		return !bytes.Contains(bytes.ToLower(value), []byte("chunked")) || g.chunked
	}
	return true
}

// chunk takes the line of a chunk's size: hexadecimal digits, and an extension
// that nobody uses.
func (g *guard) chunk(line []byte) bool {
	size, extension, _ := bytes.Cut(line, []byte(";"))
	size = bytes.TrimRight(size, " \t")
	if len(size) == 0 || len(size) > 15 || len(extension) > 256 {
		return false
	}
	n := int64(0)
	for _, c := range size {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return false
		}
		n = n<<4 | int64(c)
	}
	g.state, g.left = atChunkData, n
	if n == 0 {
		g.state = atTrailer
	}
	return true
}
