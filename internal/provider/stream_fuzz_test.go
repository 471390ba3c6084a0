package provider

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// FuzzStream: any stream of Claude's or Gemini's, whatever its frames say and
// in what order, becomes a stream of each dialect whose frames are JSON.
func FuzzStream(f *testing.F) {
	f.Add([]byte("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{}}}\n\n"+
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":3}}\n\n"), false)
	f.Add([]byte("data: {\"candidates\":[{\"index\":1,\"content\":{\"parts\":[{\"thought\":true,\"text\":\"t\",\"thoughtSignature\":\"c2ln\"}]}}]}\r\n\r\n"+
		"data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\",\"args\":{\"a\":1}}},{\"text\":\"x\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":1,\"candidatesTokenCount\":2}}\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, body []byte, google bool) {
		from := Anthropic
		if google {
			from = Gemini
		}
		for _, to := range dialects {
			for _, stream := range []bool{false, true} {
				w := to.NewWriter(WriterOptions{ID: "id", Model: "m", Stream: stream, Usage: true})
				var out []byte
				sum, _ := read(from, true, body, func(e llm.Event) { out = w.Event(out, e) })
				if u := sum.Usage; u.Source == llm.UsageUpstream && !u.Valid() {
					t.Fatalf("usage %+v", u)
				}
				if !stream {
					if whole := w.Whole(nil); !json.Valid(whole) || len(out) > 0 {
						t.Fatalf("%s: %q %q", to.Name(), whole, out)
					}
					continue
				}
				for _, line := range bytes.Split(w.End(out), []byte("\n")) {
					if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok && string(data) != "[DONE]" && !json.Valid(data) {
						t.Fatalf("%s: %q", to.Name(), data)
					}
				}
			}
		}
		light, errLight := read(from, true, body, nil)
		full, errFull := read(from, true, body, func(llm.Event) {})
		if errLight == nil && errFull == nil && !reflect.DeepEqual(light.Usage, full.Usage) {
			t.Fatalf("light %+v, full %+v", light.Usage, full.Usage)
		}
	})
}

// FuzzAgain: what a request was encoded to can be decoded, and says the same
// text and calls.
func FuzzAgain(f *testing.F) {
	f.Add([]byte(`{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","ttl":"1h"}}],"max_tokens":9,"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},
		"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"c2ln"},{"type":"tool_use","id":"a","name":"f","input":{"x":1}}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"r"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}],"is_error":true}]}]}`), false)
	f.Add([]byte(`{"system_instruction":{"parts":{"text":"s"}},"contents":[{"parts":[{"text":"q"},{"inlineData":{"mimeType":"image/png","data":"AA=="}}]},{"role":"model","parts":[{"functionCall":{"name":"f","args":{"x":1}},"thoughtSignature":"c2ln"}]},
		{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"r"}}}]}],"tools":{"functionDeclarations":[{"name":"f","parameters":{"type":"OBJECT","nullable":true}}]},"toolConfig":{"functionCallingConfig":{"mode":"ANY"}}}`), true)
	f.Fuzz(func(t *testing.T, body []byte, google bool) {
		d := Anthropic
		if google {
			d = Gemini
		}
		r, err := d.Decode(body, "gemini-3-pro", true)
		if err != nil {
			return
		}
		out, err := d.Encode(nil, r, &Spec{})
		if err != nil {
			return
		}
		again, err := d.Decode(out, "gemini-3-pro", true)
		if err != nil {
			t.Fatalf("%v: %s from %s", err, out, body)
		}
		if len(again.Tools) != len(r.Tools) || again.ToolChoice != r.ToolChoice && len(r.Tools) > 0 {
			t.Fatalf("tools %+v, want %+v", again.Tools, r.Tools)
		}
	})
}
