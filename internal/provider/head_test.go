package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sheepgate/sheepgate/internal/llm"
)

func TestScan(t *testing.T) {
	head := func(body string, want Head) {
		t.Helper()
		got, err := Scan([]byte(body))
		if err != nil {
			t.Errorf("Scan(%.80s): %v", body, err)
			return
		}
		got = Head{Model: got.Model, Stream: got.Stream, IncludeUsage: got.IncludeUsage, MaxTokens: got.MaxTokens, User: got.User}
		if got != want {
			t.Errorf("Scan(%.80s) = %+v, want %+v", body, got, want)
		}
	}
	head(`{}`, Head{})
	head(" {\n} \t\r\n", Head{})
	head(`{"model":"gpt-4.1","stream":true,"stream_options":{"include_usage":true},"max_tokens":7,"user":"u"}`,
		Head{Model: "gpt-4.1", Stream: true, IncludeUsage: true, MaxTokens: 7, User: "u"})
	head(`{ "stream" : false , "model" : "a\/b" , "max_completion_tokens" : 9 , "max_tokens" : null , "x" : [ 1 , -2.5e+3 , { } , [ ] , "" ] }`,
		Head{Model: "a/b", MaxTokens: 9})
	head(`{"mod\u0065l":"m","str\u0065am":true}`, Head{Model: "m", Stream: true})
	head(`{"stream":true,"stream_options":{"include\u005fusage":true}}`, Head{Stream: true, IncludeUsage: true})
	head(`{"stream_options":null,"user":null,"stream":null}`, Head{})
	head(`{"metadata":{"user_id":"who","x":{"y":1}}}`, Head{User: "who"})
	head(`{"user":"a","metadata":{"user_id":"b"}}`, Head{User: "a"})
	head(`{"metadata":{"user_id":"b"},"user":"a"}`, Head{User: "a"})
	head(`{"generationConfig":{"maxOutputTokens":40}}`, Head{MaxTokens: 40})
	head(`{"max_output_tokens":41}`, Head{MaxTokens: 41})
	head(`{"messages":[{"model":"not me","model":"nor me","stream":true}]}`, Head{}) // nested keys are not ours
	head(`{"x":"`+strings.Repeat(`\n`, 100)+`\"","model":"m"}`, Head{Model: "m"})
	head(`{"a":`+strings.Repeat("[", 999)+strings.Repeat("]", 999)+`}`, Head{})
	head(`{"model":"`+strings.Repeat("m", 128)+`"}`, Head{Model: strings.Repeat("m", 128)})
}

func TestScanRefuses(t *testing.T) {
	const secret = "SECRET"
	refuse := func(body, param, want string) {
		t.Helper()
		_, err := Scan([]byte(body))
		var e *llm.Error
		if !errors.As(err, &e) || e.Class != llm.InvalidRequest || e.HTTPStatus() != 400 {
			t.Errorf("Scan(%.60q) = %v, want an invalid request", body, err)
			return
		}
		if !strings.Contains(e.Msg, want) || e.Param != param {
			t.Errorf("Scan(%.60q): %q (%s), want %q (%s)", body, e.Msg, e.Param, want, param)
		}
		if strings.Contains(e.Error(), secret) {
			t.Errorf("Scan(%.60q) echoes content: %v", body, e)
		}
	}
	refuse("", "", "empty")
	refuse(" \n", "", "empty")
	refuse("SECRET", "", "not a JSON object")
	refuse(`["SECRET"]`, "", "not a JSON object")
	refuse(`{"a":"SECRET`, "", "truncated")
	refuse(`{"a":"SECRET"`, "", "truncated")
	refuse(`{"a":"\u00`, "", "truncated")
	refuse(`{"a":tr`, "", "truncated")
	refuse(`{"a":1}{"SECRET":1}`, "", "goes on after its JSON object, at byte 7")
	refuse(`{"a":1,}`, "", "at byte 7")
	refuse(`{"a":01}`, "", "at byte 6")
	refuse(`{"a":1.}`, "", "at byte 7")
	refuse(`{"a":-}`, "", "at byte 6")
	refuse(`{"a":+1}`, "", "at byte 5")
	refuse(`{"a":1e}`, "", "at byte 7")
	refuse(`{"a":nulL}`, "", "at byte 8")
	refuse(`{"a":"\x"}`, "", "at byte 7")
	refuse(`{"a":[1 2]}`, "", "at byte 8")
	refuse(`{a:1}`, "", "at byte 1")
	refuse("{\"a\":\"SECRET\n\"}", "", "control character in the string at byte 12")
	refuse("{\"a\":\"SECRET\xff\"}", "", "UTF-8")
	refuse("{\"a\":\"\xed\xa0\x80\"}", "", "UTF-8") // a surrogate in UTF-8's form
	refuse(`{"a":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`}`, "", "deeper than 1000")
	refuse(strings.Repeat(`{"a":`, 1_000_000), "", "deeper than 1000")

	refuse(`{"model":"a","model":"b"}`, "model", "twice")
	refuse(`{"model":"a","Model":"b"}`, "model", "twice")
	refuse(`{"model":"a","mod\u0065l":"b"}`, "model", "twice")
	refuse(`{"stream":true,"ſtream":false}`, "stream", "twice") // encoding/json takes ſ for s
	refuse("{\"k\":1,\"\u212a\":1}", "k", "twice")
	refuse(`{"SECRET 1":1,"secret 1":2}`, "", "twice")
	refuse(`{"Model":"a"}`, "model", "another case")
	refuse(`{"STREAM":true}`, "stream", "another case")
	many := `{"k":0`
	for i := range 100 {
		many += `,"` + strings.Repeat("k", i+2) + `":0`
	}
	refuse(many+`,"`+strings.Repeat("K", 90)+`":0}`, "", "twice")

	refuse(`{"model":7}`, "model", "model is not a string")
	refuse(`{"model":null}`, "model", "model is not a string")
	refuse(`{"model":["SECRET"]}`, "model", "model is not a string")
	refuse(`{"model":"`+strings.Repeat("m", 129)+`"}`, "model", "longer than 128")
	refuse(`{"stream":"true"}`, "stream", "stream is not true or false")
	refuse(`{"stream":1}`, "stream", "stream is not true or false")
	refuse(`{"stream_options":true}`, "stream_options", "stream_options is not an object")
	refuse(`{"stream_options":{"include_usage":"SECRET"}}`, "stream_options.include_usage", "not true or false")
	refuse(`{"max_tokens":"9"}`, "max_tokens", "max_tokens is not a whole number")
	refuse(`{"max_tokens":-1}`, "max_tokens", "whole number")
	refuse(`{"max_completion_tokens":1.5}`, "max_completion_tokens", "whole number")
	refuse(`{"max_tokens":99999999999999999999}`, "max_tokens", "whole number")
	refuse(`{"user":{"SECRET":1}}`, "user", "user is not a string")
}

// Hostile bodies take time in proportion to their length: 16 times as much
// takes nowhere near 256 times as long.
func TestScanIsLinear(t *testing.T) {
	took := func(body string) time.Duration {
		best := time.Hour
		for range 3 {
			start := time.Now()
			_, _ = Scan([]byte(body))
			best = min(best, time.Since(start))
		}
		return best
	}
	keys := func(n int) string {
		var b strings.Builder
		b.WriteString(`{"k":0`)
		for i := range n {
			b.WriteString(`,"k`)
			b.WriteString(strings.Repeat("x", i%7))
			b.WriteString(time.Duration(i).String())
			b.WriteString(`":0`)
		}
		return b.String() + "}"
	}
	for name, body := range map[string]func(n int) string{
		"escapes":        func(n int) string { return `{"a":"` + strings.Repeat(`\n`, n) + `"}` },
		"escaped quotes": func(n int) string { return `{"a":"` + strings.Repeat(`\"`, n) + `"}` },
		"keys":           func(n int) string { return keys(n / 16) },
	} {
		const n = 125_000
		var small, large time.Duration
		slow := true
		for try := 0; slow && try < 5; try++ { // a machine that is busy elsewhere is not so each time
			small, large = took(body(n)), took(body(16*n))
			slow = large > 100*small
		}
		if slow {
			t.Errorf("%s: %v, and %v for sixteen times as many", name, small, large)
		}
	}
}

// jsonHead is what encoding/json makes of a body, and whether it has no keys
// that two readers could take for one another.
func jsonHead(body []byte) (model string, stream, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return "", false, false
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return "", false, false
		}
		key := strings.ToLower(strings.ToUpper(tok.(string)))
		if seen[key] {
			return "", false, false
		}
		seen[key] = true
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return "", false, false
		}
		if f := known([]byte(tok.(string))); f != "" && f != tok.(string) {
			return "", false, false
		}
	}
	var h struct {
		Model               *string         `json:"model"`
		Stream              *bool           `json:"stream"`
		User                *string         `json:"user"`
		MaxTokens           *uint32         `json:"max_tokens"`
		MaxCompletionTokens *uint32         `json:"max_completion_tokens"`
		MaxOutputTokens     *uint32         `json:"max_output_tokens"`
		StreamOptions       json.RawMessage `json:"stream_options"`
		GenerationConfig    json.RawMessage `json:"generationConfig"`
		GenerationConfig2   json.RawMessage `json:"generation_config"`
	}
	if json.Unmarshal(body, &h) != nil || h.StreamOptions != nil || h.GenerationConfig != nil || h.GenerationConfig2 != nil {
		return "", false, false
	}
	if h.Model == nil && seen["model"] {
		return "", false, false // null
	}
	if h.Model != nil {
		model = *h.Model
	}
	return model, h.Stream != nil && *h.Stream, len(model) <= maxModelName
}

func depth(body []byte) (deepest int) {
	dec := json.NewDecoder(bytes.NewReader(body))
	for d := 0; ; {
		tok, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			d++
			deepest = max(deepest, d)
		case json.Delim('}'), json.Delim(']'):
			d--
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":4}`, `{"mod\u0065l":"\ud83d\ude00"}`,
		`{"a":[1,-0,1e9,1.5E-3,{"b":null}],"c":"\"\\\/\b\f\n\r\t\u00e9"}`, `{"model":"a","Model":"b"}`, `{"user":"u","metadata":{"user_id":1}}`,
		`{"stream":tru`, `{"":{"":[]}}`, "{\"k\":1,\"\u212a\":2}", `{"max_tokens":1e3}`, `[]`, ` `, "\xef\xbb\xbf{}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := Scan(body)
		model, stream, ok := jsonHead(body)
		if err == nil {
			if !json.Valid(body) || !utf8.Valid(body) {
				t.Fatalf("accepted what is not JSON: %q", body)
			}
			if ok && (h.Model != model || h.Stream != stream) {
				t.Fatalf("Scan(%q) = %q, %v; encoding/json has %q, %v", body, h.Model, h.Stream, model, stream)
			}
			for _, s := range []span{h.model, h.streamOptions} {
				if s.to > 0 && !json.Valid(s.of(body)) {
					t.Fatalf("the span %v of %q is no value", s, body)
				}
			}
			out := bytes.Join(OpenAI.Splice(nil, body, &h, "new/\"model\"", &Spec{}), nil)
			g, err := Scan(out)
			if err != nil {
				t.Fatalf("Splice of %q makes %q: %v", body, out, err)
			}
			if h.model.to > 0 && g.Model != "new/\"model\"" || g.Stream != h.Stream || h.Stream && !g.IncludeUsage {
				t.Fatalf("Splice of %q makes %q", body, out)
			}
			var before, after map[string]json.RawMessage
			if json.Unmarshal(body, &before) != nil || json.Unmarshal(out, &after) != nil {
				t.Fatalf("Splice of %q makes %q", body, out)
			}
			for k, v := range before {
				if k != "model" && k != "stream_options" && !bytes.Equal(v, after[k]) {
					t.Fatalf("Splice of %q changes %q: %q", body, k, out)
				}
			}
			return
		}
		if ok && utf8.Valid(body) && depth(body) <= maxDepth {
			t.Fatalf("Scan(%q): %v, but encoding/json takes it", body, err)
		}
		var e *llm.Error
		if !errors.As(err, &e) || e.Class != llm.InvalidRequest {
			t.Fatalf("Scan(%q): %v is no invalid request", body, err)
		}
	})
}

// chat is a request of about n bytes, mostly text.
func chat(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"model":"gpt-4.1","stream":true,"temperature":0.2,"max_tokens":1024,"user":"user-1","messages":[{"role":"system","content":"You are a helpful assistant."}`)
	text := "The quick brown fox jumps over the lazy dog, and then it does so again.\\n"
	for b.Len() < n {
		b.WriteString(`,{"role":"user","content":"`)
		b.WriteString(strings.Repeat(text, max(1, min(n/5, 20_000)/len(text))))
		b.WriteString(`"}`)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func BenchmarkScan(b *testing.B) {
	run := func(name string, body []byte) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Scan(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("2KB", chat(2<<10))
	run("100KB", chat(100<<10))
	run("1MB", chat(1<<20))
}

func BenchmarkSplice(b *testing.B) {
	body := chat(2 << 10)
	h, err := Scan(body)
	if err != nil {
		b.Fatal(err)
	}
	var dst [][]byte
	b.ReportAllocs()
	for b.Loop() {
		dst = OpenAI.Splice(dst[:0], body, &h, "gpt-4.1-mini", &Spec{})
	}
}
