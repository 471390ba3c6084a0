package gateway

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// maxPooled bounds the buffers that are kept for the next request.
const maxPooled = 1 << 20

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

func getBuffer() *[]byte {
	b := buffers.Get().(*[]byte)
	*b = (*b)[:0]
	return b
}

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		buffers.Put(b)
	}
}

// readBody reads the request's body into buf. How long that may take is the
// Listener's business.
func (x *exchange) readBody(buf *[]byte) *llm.Error {
	err := errTooLong
	if r := x.r; r.ContentLength <= x.c.MaxBody {
		err = fill(buf, r.Body, r.ContentLength, x.c.MaxBody, x.grow)
	}
	if err == nil {
		return nil
	}
	x.w.Header().Set("Connection", "close")
	if refused := (*llm.Error)(nil); errors.As(err, &refused) {
		return refused
	}
	if errors.Is(err, errTooLong) {
		return &llm.Error{Class: llm.TooLarge, Code: "request_too_large", Msg: fmt.Sprintf("the request body is larger than %d MiB", x.c.MaxBody>>20)}
	}
	return &llm.Error{Class: llm.InvalidRequest, Code: "incomplete_body", Msg: "the request body ended early or came too slowly", Err: err}
}

var errTooLong = errors.New("longer than the limit")

// block is the unit in which a long body is gathered, bytes.
const block = 1 << 20

// fill appends r to buf: size bytes if it is known, at most limit. A long body
// is gathered in blocks and joined when it is whole, so that one which turns
// out too long, or shorter than it says, has cost no more than what came. grow
// is asked for each block.
func fill(buf *[]byte, r io.Reader, size, limit int64, grow func(int) error) error {
	b := *buf
	if size > 0 && int64(cap(b)) < size+1 {
		b = make([]byte, 0, min(size+1, block))
	}
	var blocks [][]byte // filled before b
	var before int64    // bytes in them
	for {
		switch {
		case len(b) < cap(b):
		case len(b) >= block:
			blocks, before = append(blocks, b), before+int64(len(b))
			if err := grow(block); err != nil {
				*buf = b
				return err
			}
			b = make([]byte, 0, block)
		default:
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case before+int64(len(b)) > limit:
			*buf = b
			return errTooLong
		case err == nil:
			continue
		}
		if blocks != nil {
			b = slices.Concat(append(blocks, b)...)
		}
		*buf = b
		if err == io.EOF {
			return nil
		}
		return err
	}
}
