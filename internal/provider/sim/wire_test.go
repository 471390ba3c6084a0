package sim

import (
	"encoding/json"
	"strings"
	"testing"
)

// What is asked for is what comes, in the format's own words.
func TestAnswers(t *testing.T) {
	calm := New(Options{Speed: 1e9, Calm: true})
	has := func(path, body string, want ...string) {
		t.Helper()
		w := post(calm, path, body)
		for _, s := range want {
			if !strings.Contains(w.Body.String(), s) {
				t.Errorf("%s %s: no %s in\n%.1500s", path, body, s, w.Body)
			}
		}
		if w.Body.Len() > 0 && !strings.Contains(path, "stream") && !strings.Contains(body, `"stream":true`) && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: not JSON: %.500s", path, w.Body)
		}
	}
	const chat, messages = "/openai/v1/chat/completions", "/anthropic/v1/messages"
	const gen, stream = "/gemini/v1beta/models/gemini-2.5-flash:generateContent", "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent"
	has(chat, `{"model":"gpt-4.1","max_tokens":3,"messages":[{"role":"user","content":"hi"}]}`, `"finish_reason":"length"`, `"completion_tokens":3,`)
	has(chat, `{"model":"gpt-4.1","stop":" ","messages":[{"role":"user","content":"hi"}]}`, `"finish_reason":"stop"`)
	has(chat, `{"model":"gpt-4.1","n":2,"messages":[{"role":"user","content":"hi"}]}`, `"index":0`, `"index":1`)
	has(chat, `{"model":"gpt-4.1","stream":true,"messages":[{"role":"user","content":"hi"}]}`, `"role":"assistant"`, `"finish_reason":"stop"`, "data: [DONE]\n\n")
	has(chat, `{"model":"gpt-4.1","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`, `"usage":null`, `"choices":[],"usage":{`)
	has(chat, `{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"hi"}]}`, `"code":"model_not_found"`)
	has("/v1/chat/completions", `{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"hi"}]}`, `"object":"chat.completion"`)
	has("/deepseek/v1/chat/completions", `{"model":"deepseek-reasoner","messages":[{"role":"user","content":"hi"}]}`, `"reasoning_content":`, `"prompt_cache_miss_tokens":`)
	has(messages, `{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"hi"}]}`, `"type":"invalid_request_error"`, "max_tokens")
	has(messages, `{"model":"claude-sonnet-4-5","max_tokens":2,"messages":[{"role":"user","content":"hi"}]}`, `"stop_reason":"max_tokens"`, `"output_tokens":2,`)
	has(messages, `{"model":"claude-sonnet-4-5","max_tokens":4000,"stop_sequences":["e"],"messages":[{"role":"user","content":"hi"}]}`, `"stop_reason":"stop_sequence","stop_sequence":"e"`)
	has(messages, `{"model":"claude-sonnet-4-5","max_tokens":500,"stream":true,"tools":[{"name":"now","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":"hi"}]}`,
		"event: message_start\n", `"type":"tool_use"`, `"partial_json":""`, `"stop_reason":"tool_use"`, "event: message_stop\n")
	has(gen, `{"contents":[{"parts":[{"text":"안녕하세요"}]}]}`, `"finishReason":"STOP"`, "습니다")
	has(gen, `{"contents":[{"parts":[{"text":"hi"}]}],"tools":[{"functionDeclarations":[{"name":"now"}]}]}`, `"functionCall":{"name":"now","args":{}}`, `"finishReason":"STOP"`)
	has(stream+"?alt=sse", `{"contents":[{"parts":[{"text":"hi"}]}]}`, "data: {", "}\r\n\r\n", `"finishReason":"STOP"`)
	var replies []json.RawMessage
	if w := post(calm, stream, `{"contents":[{"parts":[{"text":"hi"}]}]}`); json.Unmarshal(w.Body.Bytes(), &replies) != nil || len(replies) < 2 {
		t.Errorf("stream without alt=sse is not a list: %.300s", w.Body)
	}
}

// Over many requests of an ordinary kind every failure and every reason to
// stop comes up, and usage always adds up.
func TestVariety(t *testing.T) {
	s := New(Options{Speed: 1e9, Seed: 3})
	seen := map[string]bool{}
	for range 4000 {
		w := post(s, "/openai/v1/chat/completions", `{"model":"gpt-4.1","max_tokens":400,"tools":[{"function":{"name":"f"}}],"messages":[{"role":"user","content":"`+strings.Repeat("hello ", 1000)+`"}]}`)
		var r struct {
			Choices []struct {
				Finish string `json:"finish_reason"`
			}
			Usage struct {
				Prompt     int `json:"prompt_tokens"`
				Completion int `json:"completion_tokens"`
				Total      int `json:"total_tokens"`
				Details    struct {
					Cached int `json:"cached_tokens"`
				} `json:"prompt_tokens_details"`
			}
			Error *struct{ Message, Type string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
		if r.Error != nil {
			seen[r.Error.Type] = true
			if w.Code < 400 || r.Error.Message == "" {
				t.Fatalf("status %d with %s", w.Code, w.Body)
			}
			continue
		}
		u := r.Usage
		if u.Total != u.Prompt+u.Completion || u.Details.Cached > u.Prompt || u.Completion < 1 {
			t.Fatalf("usage %+v", u)
		}
		seen[r.Choices[0].Finish] = true
		seen["cached"] = seen["cached"] || u.Details.Cached > 0
	}
	for _, want := range []string{"stop", "length", "tool_calls", "content_filter", "tokens", "server_error", "cached"} {
		if !seen[want] {
			t.Errorf("in 4000 requests no %s: %v", want, seen)
		}
	}
}
