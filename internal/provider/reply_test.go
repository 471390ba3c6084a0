package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// said is what a reply comes to, however it was cut.
type said struct {
	text, thinking string
	calls          []llm.Part // ToolID, ToolName, Args
	finish         llm.FinishReason
	usage          llm.Usage
	finishes       int
}

func (s *said) hear(t testing.TB, e llm.Event) {
	t.Helper()
	if e.Choice != 0 {
		return
	}
	switch e.Kind {
	case llm.EventText, llm.EventRefusal:
		s.text += e.Text
	case llm.EventReasoning:
		s.thinking += e.Text
	case llm.EventTool:
		if e.Index != len(s.calls) {
			t.Errorf("tool call has index %d, want %d", e.Index, len(s.calls))
			return
		}
		if e.ToolID == "" {
			t.Error("tool call without an id")
		}
		s.calls = append(s.calls, llm.Part{ToolID: e.ToolID, ToolName: e.ToolName})
	case llm.EventToolDelta:
		if e.Index >= len(s.calls) {
			t.Errorf("arguments for tool call %d of %d", e.Index, len(s.calls))
			return
		}
		s.calls[e.Index].Args = append(s.calls[e.Index].Args, e.Text...)
	case llm.EventFinish:
		s.finish = e.Finish
		s.finishes++
	case llm.EventUsage:
		s.usage = *e.Usage
	}
}

// done is s with the arguments in one form.
func (s said) done(t testing.TB) said {
	t.Helper()
	for i := range s.calls {
		args := s.calls[i].Args
		if len(bytes.TrimSpace(args)) == 0 {
			args = json.RawMessage("{}")
		}
		s.calls[i].Args = canonical(t, args)
	}
	s.usage.Raw, s.usage.Others = nil, nil // what the provider wrote, and what only it can
	return s
}

// canonical is JSON with its members in order and numbers as they came.
func canonical(t testing.TB, raw []byte) json.RawMessage {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Errorf("not JSON: %v: %.200s", err, raw)
	}
	b, _ := json.Marshal(v)
	return b
}

// read gives a reply to a Reader of d.
func read(d Dialect, stream bool, body []byte, emit func(llm.Event)) (*Summary, error) {
	r := d.NewReader(&Spec{Dialect: d})
	if !stream {
		err := r.Whole(body, emit)
		return r.Summary(), err
	}
	frames := NewFrameReader(bytes.NewReader(body))
	for {
		f, err := frames.Next()
		if errors.Is(err, io.EOF) {
			return r.Summary(), nil
		}
		if err != nil {
			return r.Summary(), err
		}
		if f.Data == nil {
			continue
		}
		if _, err := r.Frame(f, emit); err != nil {
			return r.Summary(), err
		}
	}
}

func (r *recording) reply() []byte {
	if r.Stream && r.BodyText != "" {
		return []byte(r.BodyText)
	}
	return r.Body
}

// replies calls f for each recorded reply that is no error.
func replies(t *testing.T, d Dialect, f func(t *testing.T, r *recording)) {
	n := 0
	for _, r := range recordings(t, d.Name()) {
		if r.Status != 200 {
			continue
		}
		n++
		t.Run(r.ID, func(t *testing.T) { f(t, &r) })
	}
	if n < 80 {
		t.Errorf("%d recorded replies, want at least 80", n)
	}
}

var translated = []Dialect{Anthropic, Gemini}

// The Summary is the same whether or not the reply is translated.
func TestReadersAgreeWithTheirLightPath(t *testing.T) {
	for _, d := range translated {
		replies(t, d, func(t *testing.T, r *recording) {
			light, err := read(d, r.Stream, r.reply(), nil)
			if err != nil {
				t.Fatal(err)
			}
			full, err := read(d, r.Stream, r.reply(), func(llm.Event) {})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(light, full) {
				t.Errorf("light %+v\n full %+v", light, full)
			}
			if !full.Complete || full.BadUsage || full.Model == "" {
				t.Errorf("Summary %+v", full)
			}
		})
	}
}

// A reply that goes through a Writer and is read again says the same, from any
// dialect to any other, plain and streamed.
func TestReplyRoundTrip(t *testing.T) {
	for _, from := range translated {
		replies(t, from, func(t *testing.T, r *recording) {
			var events []llm.Event
			var first said
			if _, err := read(from, r.Stream, r.reply(), func(e llm.Event) {
				if e.Usage != nil {
					u := *e.Usage
					e.Usage = &u
				}
				events = append(events, e)
				first.hear(t, e)
			}); err != nil {
				t.Fatal(err)
			}
			first = first.done(t)
			for _, to := range []Dialect{Anthropic, Gemini, OpenAI} {
				for _, stream := range []bool{false, true} {
					name := strings.Replace(to.Name(), ".", "_", 1)
					if stream {
						name += "_stream"
					}
					t.Run(name, func(t *testing.T) { rewrite(t, to, stream, events, first) })
				}
			}
		})
	}
}

func rewrite(t *testing.T, to Dialect, stream bool, events []llm.Event, first said) {
	w := to.NewWriter(WriterOptions{ID: "01JD", Model: "m", Created: 1, Stream: stream, Usage: true})
	var out []byte
	for _, e := range events {
		out = w.Event(out, e)
	}
	if stream {
		out = w.End(out)
	} else {
		if len(out) > 0 {
			t.Errorf("Event of a plain reply wrote %.100q", out)
		}
		out = w.Whole(out)
	}
	var again said
	sum, err := read(to, stream, out, func(e llm.Event) { again.hear(t, e) })
	if err != nil {
		t.Fatalf("%v: %.2000s", err, out)
	}
	if !sum.Complete || sum.BadUsage {
		t.Errorf("Summary %+v", sum)
	}
	again = again.done(t)
	if again.text != first.text {
		t.Errorf("text %q, want %q", again.text, first.text)
	}
	if again.thinking != first.thinking {
		t.Errorf("thinking %q, want %q", again.thinking, first.thinking)
	}
	if !reflect.DeepEqual(again.calls, first.calls) {
		t.Errorf("calls %+v, want %+v", again.calls, first.calls)
	}
	if want := first.finish; again.finish != want && want != llm.FinishUnknown && want != llm.FinishError && want != llm.FinishNone {
		t.Errorf("finish %q, want %q", again.finish, want)
	}
	if again.finishes != 1 {
		t.Errorf("%d finishes", again.finishes)
	}
	a, b := again.usage, first.usage
	counts := func(u llm.Usage) [5]int64 {
		return [5]int64{u.Input, u.Output, u.CacheRead, u.Reasoning, u.CacheWrite5m + u.CacheWrite1h}
	}
	got, want := counts(a), counts(b)
	if to == Gemini {
		got[4], want[4] = 0, 0 // has no word for cache writes
	}
	if got != want {
		t.Errorf("usage %v, want %v", got, want)
	}
	if to == Anthropic && (a.CacheWrite1h != b.CacheWrite1h || !reflect.DeepEqual(a.ServerToolCalls, b.ServerToolCalls)) {
		t.Errorf("usage %+v, want %+v", a, b)
	}
}

// What passes through unchanged is read for its Summary only.
func BenchmarkPassThroughFrame(b *testing.B) {
	for _, c := range []struct {
		d           Dialect
		first, next Frame
	}{
		{Anthropic, Frame{Event: "content_block_delta", Data: []byte(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hello"}}`)},
			Frame{Event: "content_block_delta", Data: []byte(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" world"}}`)}},
		{Gemini, Frame{Data: []byte(`{"candidates":[{"content":{"parts":[{"text":"hello"}],"role":"model"}}],"modelVersion":"gemini-2.5-pro"}`)},
			Frame{Data: []byte(`{"candidates": [{"content": {"parts": [{"text": " world"}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 15,"candidatesTokenCount": 2,"totalTokenCount": 17,"promptTokensDetails": [{"modality": "TEXT","tokenCount": 15}]},"modelVersion": "gemini-2.5-pro","responseId": "x"}`)}},
	} {
		b.Run(c.d.Name(), func(b *testing.B) {
			r := c.d.NewReader(&Spec{})
			if _, err := r.Frame(c.first, nil); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Frame(c.next, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
