package provider

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// objects are the JSON objects of a reply, one of a plain one.
func objects(t *testing.T, r *recording) (all []map[string]any) {
	t.Helper()
	texts := []string{string(r.Body)}
	if r.Stream {
		texts = nil
		for _, l := range strings.Split(strings.ReplaceAll(r.BodyText, "\r", ""), "\n") {
			if data, ok := strings.CutPrefix(l, "data:"); ok {
				texts = append(texts, data)
			}
		}
	}
	for _, s := range texts {
		var o map[string]any
		if err := json.Unmarshal([]byte(s), &o); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// at is the value behind keys and indexes, nil if there is none.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func number(v any) int64 { f, _ := v.(float64); return int64(f) }

// The usage of each recorded Anthropic reply is what its JSON adds up to.
func TestAnthropicUsage(t *testing.T) {
	finishes := map[string]llm.FinishReason{"end_turn": llm.FinishStop, "stop_sequence": llm.FinishStop, "pause_turn": llm.FinishStop,
		"max_tokens": llm.FinishLength, "tool_use": llm.FinishTools, "refusal": llm.FinishFilter}
	replies(t, Anthropic, func(t *testing.T, r *recording) {
		last := map[string]any{} // each field as it was last
		var stop string
		for _, o := range objects(t, r) {
			for _, u := range []any{o["usage"], at(o, "message", "usage")} {
				m, _ := u.(map[string]any)
				for k, v := range m {
					if v != nil {
						last[k] = v
					}
				}
			}
			for _, s := range []any{o["stop_reason"], at(o, "delta", "stop_reason")} {
				if s, ok := s.(string); ok {
					stop = s
				}
			}
		}
		sum, err := read(Anthropic, r.Stream, r.reply(), nil)
		if err != nil {
			t.Fatal(err)
		}
		u := sum.Usage
		count := func(name string, got, want int64) {
			t.Helper()
			if got != want {
				t.Errorf("%s = %d, want %d", name, got, want)
			}
		}
		read, write := number(last["cache_read_input_tokens"]), number(last["cache_creation_input_tokens"])
		count("Input", u.Input, number(last["input_tokens"])+read+write)
		count("Output", u.Output, number(last["output_tokens"]))
		count("CacheRead", u.CacheRead, read)
		count("cache writes", u.CacheWrite5m+u.CacheWrite1h, write)
		count("CacheWrite1h", u.CacheWrite1h, number(at(last, "cache_creation", "ephemeral_1h_input_tokens")))
		count("Reasoning", u.Reasoning, number(at(last, "output_tokens_details", "thinking_tokens")))
		count("web_search", u.ServerToolCalls["web_search"], number(at(last, "server_tool_use", "web_search_requests")))
		count("web_fetch", u.ServerToolCalls["web_fetch"], number(at(last, "server_tool_use", "web_fetch_requests")))
		// What the iterations of the answering model and the others come to.
		if l, _ := last["iterations"].([]any); len(l) > 0 {
			var all, others int64
			for i := range l {
				all += number(at(l, i, "input_tokens"))
			}
			for _, o := range u.Others {
				others += o.Input
			}
			count("iterations", u.Input-read-write+others, all)
		}
		if sum.Finish != finishes[stop] || sum.Native != stop {
			t.Errorf("finish %q (%q), want that of %q", sum.Finish, sum.Native, stop)
		}
		if !json.Valid(u.Raw) || bytes.Contains(u.Raw, []byte("\n")) {
			t.Errorf("Raw %q", u.Raw)
		}
	})
}

// The usage of each recorded Gemini reply is that of its last usageMetadata.
func TestGeminiUsage(t *testing.T) {
	replies(t, Gemini, func(t *testing.T, r *recording) {
		var last map[string]any
		var finish any
		calls, blocked := false, false
		for _, o := range objects(t, r) {
			if u, _ := o["usageMetadata"].(map[string]any); u["promptTokenCount"] != nil {
				last = u
			}
			blocked = blocked || at(o, "promptFeedback", "blockReason") != nil
			if f := at(o, "candidates", 0, "finishReason"); f != nil {
				finish = f
			}
			parts, _ := at(o, "candidates", 0, "content", "parts").([]any)
			for i := range parts {
				calls = calls || at(parts, i, "functionCall") != nil
			}
		}
		sum, err := read(Gemini, r.Stream, r.reply(), nil)
		if err != nil {
			t.Fatal(err)
		}
		audio := func(key string) (n int64) {
			l, _ := last[key].([]any)
			for i := range l {
				if at(l, i, "modality") == "AUDIO" {
					n += number(at(l, i, "tokenCount"))
				}
			}
			return n
		}
		thoughts := number(last["thoughtsTokenCount"])
		want := llm.Usage{Source: llm.UsageUpstream, Input: number(last["promptTokenCount"]) + number(last["toolUsePromptTokenCount"]),
			Output: number(last["candidatesTokenCount"]) + thoughts, Reasoning: thoughts, CacheRead: number(last["cachedContentTokenCount"]),
			AudioInput: audio("promptTokensDetails"), AudioOutput: audio("candidatesTokensDetails")}
		if last == nil {
			want = llm.Usage{Source: llm.UsageNone}
		} else if total := number(last["totalTokenCount"]); total != want.Input+want.Output {
			t.Errorf("total %d, but Input %d and Output %d", total, want.Input, want.Output)
		}
		got := sum.Usage
		got.Raw, got.ServerToolCalls = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("usage %+v, want %+v", got, want)
		}
		wantFinish := map[any]llm.FinishReason{"STOP": llm.FinishStop, 1.0: llm.FinishStop, "MAX_TOKENS": llm.FinishLength,
			"UNEXPECTED_TOOL_CALL": llm.FinishError, "MODEL_ARMOR": llm.FinishFilter}[finish]
		if calls && wantFinish == llm.FinishStop {
			wantFinish = llm.FinishTools
		}
		if blocked {
			wantFinish = llm.FinishFilter
		}
		if sum.Finish != wantFinish {
			t.Errorf("finish %q (%q), want %q", sum.Finish, sum.Native, wantFinish)
		}
	})
}

// usageOf reads a plain reply with this usage.
func usageOf(t *testing.T, d Dialect, usage string) *Summary {
	t.Helper()
	body := `{"type":"message","id":"m","model":"claude","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","usage":` + usage + `}`
	if d == Gemini {
		body = `{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}],"usageMetadata":` + usage + `}`
	}
	sum, err := read(d, false, []byte(body), nil)
	if err != nil {
		t.Fatalf("%s: %v", usage, err)
	}
	return sum
}

func TestUsageThatIsNotRecorded(t *testing.T) {
	good := func(d Dialect, usage string, want llm.Usage) {
		t.Helper()
		sum := usageOf(t, d, usage)
		got := sum.Usage
		got.Raw = nil
		want.Source = llm.UsageUpstream
		if !reflect.DeepEqual(got, want) || sum.BadUsage {
			t.Errorf("%s:\ngot  %+v\nwant %+v", usage, got, want)
		}
	}
	bad := func(d Dialect, usage string) {
		t.Helper()
		if sum := usageOf(t, d, usage); !sum.BadUsage || sum.Usage.Source != llm.UsageNone || sum.Usage.Input != 0 {
			t.Errorf("%s is believed: %+v", usage, sum.Usage)
		}
	}
	none := func(d Dialect, usage string) {
		t.Helper()
		if sum := usageOf(t, d, usage); sum.BadUsage || sum.Usage.Source != llm.UsageNone {
			t.Errorf("%s is a report: %+v", usage, sum.Usage)
		}
	}
	good(Anthropic, `{"input_tokens":3,"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"cache_read_input_tokens":7,"output_tokens":1,"service_tier":"priority"}`,
		llm.Usage{Input: 40, Output: 1, CacheRead: 7, CacheWrite5m: 10, CacheWrite1h: 20, Tier: "priority"})
	good(Anthropic, `{"input_tokens":3,"output_tokens":1,"service_tier":"standard","speed":"fast"}`, llm.Usage{Input: 3, Output: 1, Tier: "fast"})
	good(Anthropic, `{"input_tokens":3,"output_tokens":2,"iterations":[{"type":"compaction","input_tokens":90,"output_tokens":9},{"type":"message","input_tokens":3,"output_tokens":2}]}`,
		llm.Usage{Input: 3, Output: 2, Others: []llm.ModelUsage{{Model: "claude", Usage: llm.Usage{Source: llm.UsageUpstream, Input: 90, Output: 9}}}})
	good(Anthropic, `{"input_tokens":3.0,"output_tokens":2,"cache_read_input_tokens":null,"tomorrow":{"x":1}}`, llm.Usage{Input: 3, Output: 2})
	bad(Anthropic, `{"input_tokens":-3,"output_tokens":2}`)
	bad(Anthropic, `{"input_tokens":9,"cache_read_input_tokens":-3,"output_tokens":2}`)
	bad(Anthropic, `{"input_tokens":9,"output_tokens":1e300}`)
	bad(Anthropic, `{"input_tokens":9,"output_tokens":9223372036854775807}`)
	bad(Anthropic, `{"input_tokens":"9","output_tokens":2}`)
	bad(Anthropic, `{"input_tokens":9,"output_tokens":2,"output_tokens_details":{"thinking_tokens":3}}`)
	bad(Anthropic, `[1]`)
	none(Anthropic, `null`)

	good(Gemini, `{"promptTokenCount":10,"cachedContentTokenCount":4,"thoughtsTokenCount":5,"toolUsePromptTokenCount":2,"serviceTier":"FLEX"}`,
		llm.Usage{Input: 12, Output: 5, Reasoning: 5, CacheRead: 4, Tier: "flex"})
	good(Gemini, `{"promptTokenCount":10,"candidatesTokenCount":3,"promptTokensDetails":[{"modality":4,"tokenCount":6},{"modality":"AUDIO","tokenCount":1}],"trafficType":"ON_DEMAND_PRIORITY"}`,
		llm.Usage{Input: 10, Output: 3, AudioInput: 7, Tier: "priority"})
	bad(Gemini, `{"promptTokenCount":10,"candidatesTokenCount":-3}`)
	bad(Gemini, `{"promptTokenCount":10,"thoughtsTokenCount":-3,"candidatesTokenCount":5}`)
	bad(Gemini, `{"promptTokenCount":10,"cachedContentTokenCount":11}`)
	bad(Gemini, `{"promptTokenCount":"ten"}`)
	none(Gemini, `{"trafficType":"ON_DEMAND"}`)
	none(Gemini, `{"totalTokenCount":9}`)
}

// A later value of a stream replaces an earlier one; what is absent does not.
func TestAnthropicUsageIsCumulative(t *testing.T) {
	stream := `event: message_start
data: {"type":"message_start","message":{"id":"m","type":"message","model":"claude","usage":{"input_tokens":10,"cache_read_input_tokens":5,"cache_creation_input_tokens":8,"cache_creation":{"ephemeral_1h_input_tokens":8},"output_tokens":1}}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":20}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":11,"output_tokens":30}}

`
	sum, err := read(Anthropic, true, []byte(stream), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !sum.Complete || sum.Ended {
		t.Errorf("at the stop_reason: complete %t, ended %t", sum.Complete, sum.Ended)
	}
	if u := sum.Usage; u.Input != 24 || u.Output != 30 || u.CacheRead != 5 || u.CacheWrite1h != 8 || u.CacheWrite5m != 0 {
		t.Errorf("usage %+v", u)
	}
	sum, _ = read(Anthropic, true, []byte(stream+"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), nil)
	if !sum.Ended {
		t.Error("not ended at message_stop")
	}
	if sum, _ = read(Anthropic, true, []byte("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), nil); sum.Complete {
		t.Error("the end of nothing is complete")
	}
}

// Searches count as the provider bills them.
func TestGeminiSearches(t *testing.T) {
	check := func(model string, want int64) {
		t.Helper()
		chunk := func(text, more string) string {
			return `data: {"modelVersion":"` + model + `","candidates":[{"content":{"parts":[{"text":"` + text + `"}]}` + more + `}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1}}` + "\r\n\r\n"
		}
		stream := chunk("a", `,"groundingMetadata":{"webSearchQueries":["x","y"]}`) + chunk("b", `,"groundingMetadata":{"webSearchQueries":["y"]}`) + chunk("c", `,"finishReason":"STOP"`)
		sum, err := read(Gemini, true, []byte(stream), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := sum.Usage.ServerToolCalls["web_search"]; got != want || !sum.Complete {
			t.Errorf("%s: %d searches, want %d; complete %v", model, got, want, sum.Complete)
		}
	}
	check("gemini-2.5-flash", 1)
	check("gemini-3-flash-preview", 2)
}
