package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

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

// readBody reads a request's body into buf, within a deadline that allows a
// slow but living sender 30 s and a second more per MiB.
func readBody(w http.ResponseWriter, r *http.Request, buf *[]byte, limit int64) *llm.Error {
	tooLarge := &llm.Error{Class: llm.TooLarge, Code: "request_too_large",
		Msg: fmt.Sprintf("the request body is larger than %d MiB", limit>>20)}
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return tooLarge
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(30*time.Second + time.Duration(limit>>20)*time.Second)) // unsupported only by test recorders
	err := fill(buf, r.Body, r.ContentLength, limit)
	_ = rc.SetReadDeadline(time.Time{})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooLong):
		w.Header().Set("Connection", "close")
		return tooLarge
	}
	w.Header().Set("Connection", "close")
	return &llm.Error{Class: llm.InvalidRequest, Code: "incomplete_body", Msg: "the request body ended early or came too slowly", Err: err}
}

var errTooLong = errors.New("longer than the limit")

// fill appends r to buf: size bytes if it is known, at most limit.
func fill(buf *[]byte, r io.Reader, size, limit int64) error {
	b := *buf
	if size > 0 && int64(cap(b)) < size+1 {
		b = make([]byte, 0, size+1)
	}
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*buf = b
		if int64(len(b)) > limit {
			return errTooLong
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
