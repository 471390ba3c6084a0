package gateway

import (
	"encoding/binary"

	"github.com/sheepgate/sheepgate/internal/call"
)

// A transcript is a copy of a reply, for checks, kept bodies and estimates, of
// at most call.MaxExchange bytes. The frames of a stream differ from one another
// in a word and a number or two; only that is held, a tenth of the bytes.
type transcript struct {
	parts []byte // of each frame: three uvarints and what is new in it
	last  []byte // the frame before; empty if it was long
	size  int    // of the frames
	cut   bool   // there was more
}

// alike is up to which length a frame is compared with the next one, bytes.
const alike = 4 << 10

// add takes one frame, or a whole reply.
func (t *transcript) add(b []byte) {
	if room := call.MaxExchange - t.size; len(b) > room {
		t.cut = true
		b = b[:max(room, 0)]
	}
	if len(b) == 0 {
		return
	}
	t.size += len(b)
	most := min(len(b), len(t.last))
	front := 0
	for front < most && b[front] == t.last[front] {
		front++
	}
	back := 0
	for back < most-front && b[len(b)-1-back] == t.last[len(t.last)-1-back] {
		back++
	}
	fresh := b[front : len(b)-back]
	if need := len(t.parts) + 3*binary.MaxVarintLen32 + len(fresh); need > cap(t.parts) { // little room to grow: there are thousands
		t.parts = append(make([]byte, 0, need+len(t.parts)/2+64), t.parts...)
	}
	for _, n := range [...]int{front, back, len(fresh)} {
		t.parts = binary.AppendUvarint(t.parts, uint64(n))
	}
	t.parts = append(t.parts, fresh...)
	if len(b) > alike {
		t.last = nil
		return
	}
	if cap(t.last) < len(b) {
		t.last = make([]byte, 0, len(b))
	}
	t.last = append(t.last[:0], b...)
}

// reset forgets everything.
func (t *transcript) reset() { *t = transcript{parts: t.parts[:0], last: t.last[:0]} }

// bytes is the reply; nil if there was none.
func (t *transcript) bytes() []byte {
	if t.size == 0 {
		return nil
	}
	out := make([]byte, 0, t.size)
	begin := 0 // of the frame before
	for p := t.parts; len(p) > 0; {
		var n [3]int
		for i := range n {
			v, w := binary.Uvarint(p)
			n[i], p = int(v), p[w:]
		}
		front, back, fresh := n[0], n[1], n[2]
		end := len(out)
		out = append(out, out[begin:begin+front]...)
		out = append(out, p[:fresh]...)
		out = append(out, out[end-back:end]...)
		begin, p = end, p[fresh:]
	}
	return out
}
