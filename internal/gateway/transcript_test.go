package gateway

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/sheepgate/sheepgate/internal/call"
)

// FuzzTranscript: what is taken out is what was put in, whatever the frames are.
func FuzzTranscript(f *testing.F) {
	f.Add([]byte("data: {\"a\":\"b\"}\n\ndata: {\"a\":\"c\"}\n\n"), uint8(17))
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaaa"), uint8(3))
	f.Add([]byte("abcabcXabcabc"), uint8(3))
	f.Add(bytes.Repeat([]byte("x"), 3*alike), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, each uint8) {
		var tr transcript
		for range 2 { // the second time over what is left of the first
			tr.reset()
			for rest := b; len(rest) > 0; {
				n := min(len(rest), int(each)*int(each)+1)
				tr.add(rest[:n])
				rest = rest[n:]
			}
			if got := tr.bytes(); !bytes.Equal(got, b) || tr.cut {
				t.Fatalf("%q in pieces of %d comes out as %q, cut %v", b, int(each)*int(each)+1, got, tr.cut)
			}
		}
	})
}

// TestTranscript: a long stream is cut at the bound, and one as providers send
// it takes a fraction of its length.
func TestTranscript(t *testing.T) {
	var tr transcript
	var all bytes.Buffer
	for i := range 20_000 {
		frame := fmt.Sprintf("data: {\"id\":\"chatcmpl-1234567890\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,\"model\":\"gpt-4.1-2025-04-14\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word%d\"},\"finish_reason\":null}]}\n\n", i)
		tr.add([]byte(frame))
		all.WriteString(frame)
	}
	if got := tr.bytes(); !tr.cut || len(got) != call.MaxExchange || !strings.HasPrefix(all.String(), string(got)) {
		t.Errorf("%d bytes of %d, cut %v", len(got), all.Len(), tr.cut)
	}
	if held := cap(tr.parts) + cap(tr.last); held > call.MaxExchange/8 {
		t.Errorf("%d bytes are held for %d", held, call.MaxExchange)
	}
}
