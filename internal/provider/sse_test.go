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
		got, raw, err := frames(strings.NewReader(in))
		if !errors.Is(err, io.EOF) || strings.Join(got, "\n--\n") != strings.Join(want, "\n--\n") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
		if string(raw) != in {
			t.Errorf("%q came back as %q", in, raw)
		}
	}
	check("")
	check("data: a\n\ndata: b\n\n", "|a", "|b")
	check("data:a\r\n\r\nevent: x\r\ndata: b\r\n\r\n", "|a", "x|b")
	check("data: a\r\rdata: b\r\r", "|a", "|b")
	check("data: a\r\rdata: b\n\ndata: c\r\n\r\n", "|a", "|b", "|c")
	check("\xef\xbb\xbfdata: a\n\n", "|a")
	check("\xef\xbb\xbf\n\ndata: a\n\n", "|a")
	check("data: a\n\n\xef\xbb\xbfdata: b\n\n", "|a") // a BOM only at the beginning
	check(": comment\n\ndata: a\ndata: b\ndata: c\n\n", "|a\nb\nc")
	check("data\n\ndata:\n\ndata: \n\ndata:  \n\n", "|", "|", "|", "| ")
	check("data\ndata\n\n", "|\n")
	check("id: 7\nretry: 1\ndata: a\n\n\n\ndata: b\n", "|a", "|b")
	check("\n\r\n\rdata: a\n\n\n", "|a")
	check("datax: a\n\nxdata: a\n\n")
	check("event: a\nevent: b\ndata: c\n\ndata: d\n\n", "b|c", "|d")
}

func TestFramesTorn(t *testing.T) {
	torn := func(r io.Reader, n int, want error) {
		t.Helper()
		got, _, err := frames(r)
		if len(got) != n || !errors.Is(err, want) {
			t.Errorf("%d frames, %v; want %d, %v", len(got), err, n, want)
		}
	}
	torn(strings.NewReader("data: a\n\ndata: {\"half"), 1, io.ErrUnexpectedEOF)
	torn(strings.NewReader("data: a\ndata: [DO"), 0, io.ErrUnexpectedEOF)
	broken := errors.New("reset")
	torn(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)), 1, broken)
	torn(iotest.DataErrReader(strings.NewReader("data: a\n\ndata: b\n\n")), 2, io.EOF)
	torn(nothing{}, 0, io.ErrNoProgress)
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

func TestFramesSize(t *testing.T) {
	long := func(n int, want error) {
		t.Helper()
		in := io.MultiReader(strings.NewReader("data: "), io.LimitReader(endless{}, int64(n)), strings.NewReader("\n\ndata: b\n\n"))
		f := NewFrameReader(in)
		fr, err := f.Next()
		if !errors.Is(err, want) || err == nil && len(fr.Data) != n {
			t.Fatalf("a frame of %d: %d, %v; want %v", n, len(fr.Data), err, want)
		}
		if err != nil {
			return
		}
		if fr, err = f.Next(); err != nil || string(fr.Data) != "b" {
			t.Errorf("the frame behind one of %d: %q, %v", n, fr.Data, err)
		}
		if _, err = f.Next(); !errors.Is(err, io.EOF) || len(f.buf) > keptBuffer {
			t.Errorf("%v; the stream holds %d bytes behind a frame of %d", err, len(f.buf), n)
		}
	}
	long(10, nil)
	long(1<<20, nil)
	long(maxFrame-len("data: \n\n"), nil)
	long(maxFrame, ErrFrameTooLong)

	f := NewFrameReader(io.LimitReader(endless{}, 100<<20))
	if _, err := f.Next(); !errors.Is(err, ErrFrameTooLong) {
		t.Errorf("an endless line: %v, want %v", err, ErrFrameTooLong)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// A frame is there as soon as its last byte is, whatever the line ends.
func TestFramesAtOnce(t *testing.T) {
	for _, end := range []string{"\n", "\r", "\r\n"} {
		f := NewFrameReader(io.MultiReader(strings.NewReader("data: a"+end+end+"data: b"+end+end), panics{}))
		for _, want := range []string{"a", "b"} {
			fr, err := f.Next() // must not read on
			if err != nil || string(fr.Data) != want {
				t.Errorf("line end %q: %q, %v; want %q", end, fr.Data, err, want)
			}
			if got := f.Buffered(); got != (want == "a") {
				t.Errorf("line end %q: Buffered = %v behind %q", end, got, want)
			}
		}
	}
}

type panics struct{}

func (panics) Read([]byte) (int, error) { panic("read on") }

// FuzzFrames: how a stream is cut into reads changes nothing, and no byte is
// lost or made up.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("data: a\r\n\r\n\rdata: b\n\n: x\n\nevent: e\rdata\r\r"), uint8(3))
	f.Add([]byte("\xef\xbb\xbfdata: a\n\n"), uint8(1))
	f.Add([]byte("\xef\xbb\xbf\r\r\n\xef\xbb\xbf\ndata: a\r\n\r"), uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole, raw, err := frames(bytes.NewReader(in))
		for _, r := range []io.Reader{
			iotest.OneByteReader(bytes.NewReader(in)),
			iotest.DataErrReader(bytes.NewReader(in)),
			&pieces{in, int(size%16) + 1},
		} {
			other, raw1, err1 := frames(r)
			if strings.Join(whole, "\x00") != strings.Join(other, "\x00") || !bytes.Equal(raw, raw1) || !errors.Is(err1, err) {
				t.Fatalf("%q: whole %q %v, in pieces %q %v", in, whole, err, other, err1)
			}
		}
		switch {
		case errors.Is(err, io.EOF) && !bytes.Equal(raw, in), !bytes.HasPrefix(in, raw):
			t.Fatalf("%q: the frames hold %q", in, raw)
		case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Fatalf("%q: %v", in, err)
		}
	})
}

// pieces reads n bytes at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.b[:min(p.n, len(p.b))])
	p.b = p.b[n:]
	return n, nil
}

func BenchmarkFrames(b *testing.B) {
	stream := bytes.Repeat([]byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4.1","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}],"usage":null}`+"\n\n"), 1000)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	r := bytes.NewReader(nil)
	for b.Loop() {
		r.Reset(stream)
		f := NewFrameReader(r)
		for n := 0; ; n++ {
			if _, err := f.Next(); err != nil {
				if n != 1000 {
					b.Fatal(n, err)
				}
				break
			}
		}
	}
}
