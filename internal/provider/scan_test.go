package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sheepgate/sheepgate/internal/llm"
)

func TestScan(t *testing.T) {
	ok := func(body string, want Head) {
		t.Helper()
		got, err := Scan([]byte(body))
		if err != nil {
			t.Errorf("Scan(%s): %v", body, err)
			return
		}
		if got.Model != want.Model || got.Stream != want.Stream || got.IncludeUsage != want.IncludeUsage || got.MaxTokens != want.MaxTokens || got.User != want.User {
			t.Errorf("Scan(%s) = %+v, want %+v", body, got, want)
		}
	}
	ok(`{"model":"gpt-4.1"}`, Head{Model: "gpt-4.1"})
	ok(" \n{ \"stream\" : true , \"model\" : \"a\\u0062\\\"c\" } ", Head{Model: `ab"c`, Stream: true})
	ok(`{"messages":[{"model":"not this"}],"model":"x","stream_options":{"a":[1,{}],"include_usage":true},"max_tokens":5,"user":"u"}`,
		Head{Model: "x", IncludeUsage: true, MaxTokens: 5, User: "u"})
	ok(`{"metadata":{"user_id":"한글"},"max_tokens":null,"stream":null,"max_completion_tokens":7}`, Head{User: "한글", MaxTokens: 7})
	ok(`{}`, Head{})

	bad := func(body, want string) {
		t.Helper()
		_, err := Scan([]byte(body))
		var e *llm.Error
		if !errors.As(err, &e) || e.Class != llm.InvalidRequest || !strings.Contains(e.Msg, want) {
			t.Errorf("Scan(%.60s) = %v, want an error with %q", body, err, want)
		}
		if e != nil && strings.Contains(e.Msg, "secret") {
			t.Errorf("Scan(%.60s) echoes the body: %s", body, e.Msg)
		}
	}
	bad(``, "empty")
	bad(`[]`, "not a JSON object")
	bad(`hello`, "not a JSON object")
	bad(`{"model":"secret`, "truncated")
	bad(`{"model":"a"`, "truncated")
	bad(`{"model":"a"}{}`, "goes on")
	bad(`{"model":"a","model":"b"}`, "twice")
	bad(`{"model":"a","Model":"b"}`, "another case")
	bad(`{"model":"a","mode\u006c":"b"}`, "another case")
	bad(`{"Model":"a"}`, "another case")
	bad(`{"model":7}`, "model is not a string")
	bad(`{"stream":"yes"}`, "stream is not true or false")
	bad(`{"stream_options":[]}`, "stream_options is not an object")
	bad(`{"max_tokens":1.5}`, "max_tokens is not a whole number")
	bad(`{"max_tokens":-1}`, "max_tokens is not a whole number")
	bad(`{"a":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+`}`, "deeper")
	bad("{\"a\":\"\xff\"}", "UTF-8")
	bad("{\"a\":\"x\ny\"}", "control character")
	bad(`{"a":01}`, "not valid JSON")
	bad(`{"a":nul}`, "not valid JSON")
	bad(`{"model":"`+strings.Repeat("m", 200)+`"}`, "longer than")
}

// FuzzScan holds the scanner to encoding/json: what it accepts is valid JSON
// and means the same, and what it refuses it has a reason for.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"model":"a","stream":true,"stream_options":{"include_usage":false}}`, `{"a":[1.5e-7,"\ud83d\ude00",null]}`, `{"MODEL":"x"}`, `{"a":{"b":{}}} `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := Scan(body)
		if err != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatalf("accepted what is not JSON: %q", body)
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		var model string
		json.Unmarshal(m["model"], &model)
		if model != h.Model {
			t.Errorf("model = %q, want %q", h.Model, model)
		}
		out := OpenAI.Splice(nil, body, &h, "new/모델", &Spec{})
		var spliced map[string]json.RawMessage
		if err := json.Unmarshal(out, &spliced); err != nil {
			t.Fatalf("splicing %q made %q: %v", body, out, err)
		}
		for k, v := range m {
			if k != "model" && k != "stream_options" && !bytes.Equal(v, spliced[k]) {
				t.Errorf("splicing changed %q: %s to %s", k, v, spliced[k])
			}
		}
		if h2, err := Scan(out); err != nil || h.Stream && !h2.IncludeUsage || m["model"] != nil && h2.Model != "new/모델" {
			t.Errorf("spliced %q: %+v %v", out, h2, err)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	for name, n := range map[string]int{"2KB": 2 << 10, "100KB": 100 << 10} {
		body := []byte(`{"model":"gpt-4.1","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("All work and no play. ", n/22) + `"}],"max_tokens":100}`)
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
}
