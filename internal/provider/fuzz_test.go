package provider

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/sheepgate/sheepgate/internal/llm"
)

var dialects = []Dialect{OpenAI, Anthropic, Gemini}

// seeds are small replies and requests of each dialect.
var seeds = []string{
	`{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":9}}`,
	`{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"x"}}]}`,
	`{"type":"message","id":"m","model":"c","content":[{"type":"text","text":"x"},{"type":"tool_use","id":"t","name":"f","input":{"a":1}}],"stop_reason":"end_turn","usage":{"input_tokens":1,"cache_creation_input_tokens":2,"cache_creation":{"ephemeral_1h_input_tokens":2},"output_tokens":1}}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}`,
	`{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"}}]},"finishReason":1}],"usageMetadata":{"promptTokenCount":1,"thoughtsTokenCount":4}}`,
	`{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"3s"}]}}`,
	`{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]},{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}],"tools":[{"type":"function","function":{"name":"f"}}]}`,
	`{"contents":[{"role":"user","parts":[{"text":"a"}]}],"generationConfig":{"responseSchema":{"type":"OBJECT"},"responseMimeType":"application/json"}}`,
	`<html>`, `null`, `[]`, ``,
}

// FuzzReply: no reply, event or refusal of an upstream breaks a Reader, and
// what it accepts is a usage that can be billed.
func FuzzReply(f *testing.F) {
	for i, s := range seeds {
		f.Add([]byte(s), uint8(i), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, body []byte, which uint8, plain bool) {
		d := dialects[int(which)%len(dialects)]
		for _, to := range dialects {
			r := d.NewReader(&Spec{})
			w := to.NewWriter(WriterOptions{ID: "id", Model: "m", Stream: !plain, Usage: true})
			var out []byte
			emit := func(e llm.Event) { out = w.Event(out, e) }
			if plain {
				if r.Whole(body, emit) == nil {
					if out = w.Whole(nil); !json.Valid(out) {
						t.Fatalf("%s to %s: %q", d.Name(), to.Name(), out)
					}
				}
			} else if _, err := r.Frame(Frame{Data: body}, emit); err == nil {
				out = w.End(out)
				for _, line := range bytes.Split(out, []byte("\n")) {
					if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok && string(data) != "[DONE]" && !json.Valid(data) {
						t.Fatalf("%s to %s: %q", d.Name(), to.Name(), data)
					}
				}
			}
			if u := r.Summary().Usage; u.Source == llm.UsageUpstream && !u.Valid() {
				t.Fatalf("%s: usage %+v", d.Name(), u)
			}
		}
		light := d.NewReader(&Spec{})
		if plain {
			_ = light.Whole(body, nil) // only must not panic
		} else {
			_, _ = light.Frame(Frame{Data: body}, nil)
		}
		e := d.ReadError(500, nil, body)
		for _, to := range dialects {
			if !json.Valid(to.WriteError(nil, e)) {
				t.Fatalf("%s: an error that is not JSON", to.Name())
			}
		}
	})
}

// FuzzRequest: any request either is refused with a reason or becomes valid
// JSON of every dialect.
func FuzzRequest(f *testing.F) {
	for i, s := range seeds {
		f.Add([]byte(s), uint8(i))
	}
	f.Fuzz(func(t *testing.T, body []byte, which uint8) {
		r, err := dialects[int(which)%len(dialects)].Decode(body, "m", false)
		if err != nil {
			return
		}
		for _, to := range dialects {
			if out, err := to.Encode(nil, r, &Spec{}); err == nil && !json.Valid(out) {
				t.Fatalf("%s: %q", to.Name(), out)
			}
		}
	})
}
