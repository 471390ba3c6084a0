package provider

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// frames reads a whole stream; raw is what the frames came in.
func frames(r io.Reader) (events []string, raw []byte, err error) {
	f := NewFrameReader(r)
	for {
		fr, err := f.Next()
		if err != nil {
			return events, raw, err
		}
		if fr.Data != nil {
			events = append(events, fr.Event+"|"+string(fr.Data))
		}
		raw = append(raw, fr.Raw...)
	}
}

func TestFrames(t *testing.T) {
	check := func(in string, want ...string) {
		t.Helper()
		got, _, err := frames(strings.NewReader(in))
		if !errors.Is(err, io.EOF) || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	check("data: a\n\ndata: b\n\n", "|a", "|b")
	check("data:a\r\n\r\nevent: x\r\ndata: b\r\n\r\n", "|a", "x|b")
	check("data: a\r\rdata: b\r\r", "|a", "|b")
	check("\xef\xbb\xbfdata: a\n\n", "|a")
	check(": comment\n\ndata: a\ndata: b\ndata: c\n\n", "|a\nb\nc")
	check("id: 7\nretry: 1\ndata: a\n\n\n\ndata: b\n", "|a", "|b")
	check("")
	if _, _, err := frames(strings.NewReader("data: a\n\ndata: {\"half")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a torn frame: %v", err)
	}
	big := "data: " + strings.Repeat("x", 1<<20) + "\n\n"
	if got, _, _ := frames(strings.NewReader(big)); len(got) != 1 || len(got[0]) != 1<<20+1 {
		t.Error("a frame of a mebibyte is cut")
	}
}

// FuzzFrames: how a stream is cut into reads changes nothing, and no byte is
// lost or made up.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("data: a\r\n\r\n\rdata: b\n\n: x\n\nevent: e\rdata\r\r"), uint8(3))
	f.Add([]byte("\xef\xbb\xbfdata: a\n\n"), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole, raw, err := frames(bytes.NewReader(in))
		bytewise, raw1, err1 := frames(iotest.OneByteReader(bytes.NewReader(in)))
		if strings.Join(whole, "\x00") != strings.Join(bytewise, "\x00") || !bytes.Equal(raw, raw1) || !errors.Is(err1, err) {
			t.Fatalf("%q: whole %q %v, byte by byte %q %v", in, whole, err, bytewise, err1)
		}
		if !bytes.Contains(in, raw) {
			t.Fatalf("%q: the frames hold %q", in, raw)
		}
	})
}
