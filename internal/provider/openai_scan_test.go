package provider

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// compare reads a reply by scan and by encoding/json. light is false when scan
// leaves it to encoding/json. What it takes must come to the same.
func compare(t *testing.T, body []byte, stream bool) (light bool) {
	t.Helper()
	a := OpenAI.NewReader(&Spec{}).(*openAIReader)
	if !a.scan(body) {
		return false
	}
	b := OpenAI.NewReader(&Spec{}).(*openAIReader)
	a.hide, b.hide = true, true
	var pass, passJSON bool
	var err error
	if stream {
		pass = a.chunk(&a.light, nil)
		passJSON, err = b.frame("", body, nil)
	} else {
		a.take(&a.light, nil)
		a.sum.Complete = true
		err = b.whole(body, nil)
	}
	if err != nil || pass != passJSON || !reflect.DeepEqual(a.sum, b.sum) || a.begun != b.begun || a.finished != b.finished || a.tier != b.tier || !reflect.DeepEqual(a.tools, b.tools) {
		t.Fatalf("%s\nscan: %v %+v\nJSON: %v %+v, error %v", body, pass, a.sum, passJSON, b.sum, err)
	}
	return true
}

// TestScanRecorded: recorded replies read the same by scan, and most are read
// by it.
func TestScanRecorded(t *testing.T) {
	plain, light, chunks, lightChunks := 0, 0, 0, 0
	for _, r := range recordings(t, "openai.chat") {
		if r.Status != 200 {
			continue
		}
		if !r.Stream {
			plain++
			if compare(t, r.Body, false) {
				light++
			}
			continue
		}
		for f := NewFrameReader(strings.NewReader(r.BodyText)); ; {
			frame, err := f.Next()
			if err != nil {
				break
			}
			if len(frame.Data) == 0 || string(frame.Data) == "[DONE]" {
				continue
			}
			chunks++
			if compare(t, bytes.Clone(frame.Data), true) {
				lightChunks++
			}
		}
	}
	t.Logf("%d of %d plain replies and %d of %d chunks are scanned", light, plain, lightChunks, chunks)
	if light < plain*3/4 || lightChunks < chunks*3/4 || plain < 50 || chunks < 500 {
		t.Error("too few of them")
	}
}

// TestScanUnusual: what encoding/json reads in a way of its own is left to it.
func TestScanUnusual(t *testing.T) {
	const usage = `"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}`
	check := func(body string, light bool) {
		t.Helper()
		for _, stream := range []bool{false, true} {
			if got := compare(t, []byte(body), stream); got != light {
				t.Errorf("%s: scanned = %v, want %v", body, got, light)
			}
		}
	}
	check(`{"id":"a","model":"m","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],`+usage+`}`, true)
	check(` { "id" : null , "choices" : [ ] , "error" : null , "x_groq" : null , `+usage+` } `, true)
	check(`{"choices":[{"index":0,"message":{"content":null,"tool_calls":[{}]}},{"index":1,"delta":{"refusal":"no"},"message":null}]}`, true)
	check(`{"choices":[{"message":{"content":"","reasoning":"","refusal":null,"tool_calls":[ ]}}],"error":{},"service_tier":"flex",`+usage+`}`, true)
	for _, body := range []string{
		``, `{`, `[]`, `null`, `{}`, `{"choices":null}`, `{"choices":{}}`, `{"choices":[{}],"choices":null}`, `{"choices":[],"choices":[{}]}`,
		`{"choices":[null]}`, `{"choices":[5]}`, `{"choices":[{}]}x`, `{"choices":[{}],}`, `{"choices":[{}],"a":01}`,
		`{"choices":[{}],"Usage":{"prompt_tokens":1}}`, `{"choices":[{}],"u\u0073age":{"prompt_tokens":1}}`, `{"choices":[{}],"uſage":{"prompt_tokens":1}}`,
		`{"choices":[{}],` + usage + `,` + usage + `}`, `{"choices":[{}],"id":5}`, `{"choices":[{}],"id":"a\n"}`, `{"choices":[{}],"id":"é"}`, `{"choices":[{}],"id":"a","id":null}`,
		`{"choices":[{}],"error":{"message":"x"}}`, `{"choices":[{}],"error":"x"}`, `{"choices":[{}],"x_groq":{"usage":{"prompt_tokens":1}}}`,
		`{"choices":[{"Index":1}]}`, `{"choices":[{"index":1.0}]}`, `{"choices":[{"index":10}]}`, `{"choices":[{"index":-1}]}`, `{"choices":[{"index":null}]}`,
		`{"choices":[{"message":{"content":"x"},"message":null}]}`, `{"choices":[{"message":{"content":"x"},"delta":{"content":"y"}}]}`, `{"choices":[{"message":5}]}`,
		`{"choices":[{"finish_reason":"s\u0074op"}]}`, `{"choices":[{"finish_reason":5}]}`, `{"choices":[{"finish_reason":"a","finish_reason":null}]}`,
		`{"choices":[{"message":{"Content":"x"}}]}`, `{"choices":[{"message":{"refusal":5}}]}`, `{"choices":[{"message":{"tool_calls":{}}}]}`, `{"choices":[{"message":{"content":"x","content":null}}]}`,
		`{"choices":[{"message":{"audio":{"data":"x"}}}]}`, `{"choices":[{"message":{"function_call":{"name":"f"}}}]}`, `{"choices":[{"message":{"executed_tools":[{"type":"search"}]}}]}`,
	} {
		check(body, false)
	}
}

// TestScanUsage: a usage object reads the same by scan.
func TestScanUsage(t *testing.T) {
	check := func(raw string, light bool) {
		t.Helper()
		var a, b openAIUsage
		if got := a.scan([]byte(raw)); got != light {
			t.Errorf("%s: scanned = %v, want %v", raw, got, light)
			return
		}
		if err := lenient([]byte(raw), &b); light && (err != nil || !sameUsage(&a, &b)) {
			t.Errorf("%s\nscan: %+v\nJSON: %+v, error %v", raw, a, b, err)
		}
	}
	check(`{"prompt_tokens":10,"completion_tokens":2.0,"total_tokens":1e1,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":1,"audio_tokens":null,"x":{}},"completion_tokens_details":{"reasoning_tokens":1,"audio_tokens":2}}`, true)
	check(`{"prompt_tokens":null,"completion_tokens":"5","total_tokens":-1,"prompt_tokens_details":null,"cost":0.5,"cost_details":{"upstream_inference_cost":0.1,"a":1},"is_byok":true,"cost_in_usd_ticks":7}`, true)
	check(`{"prompt_tokens":{},"num_cached_tokens":1,"cached_tokens":2,"prompt_cache_hit_tokens":3,"cost":null,"cost_details":null,"is_byok":null,"server_tool_use":null}`, true)
	for _, raw := range []string{`[]`, `5`, `{"prompt_tokens":1,"prompt_tokens":2}`, `{"Prompt_tokens":1}`, `{"prompt_tokens_details":5}`, `{"prompt_tokens_details":{"cached_tokens":1,"cached_tokens":2}}`,
		`{"prompt_tokens_details":{"Cached_tokens":1}}`, `{"is_byok":1}`, `{"cost_details":[]}`, `{"cost_details":{"Upstream_inference_cost":1}}`, `{"server_tool_use":{"web_search_requests":1}}`} {
		check(raw, false)
	}
}

func sameUsage(a, b *openAIUsage) bool {
	null := func(o openAIUsage) openAIUsage { // as absent
		if isNull(o.Cost) {
			o.Cost = nil
		}
		if isNull(o.CostTicks) {
			o.CostTicks = nil
		}
		if isNull(o.CostDetails.Upstream) {
			o.CostDetails.Upstream = nil
		}
		return o
	}
	return reflect.DeepEqual(null(*a), null(*b))
}

// FuzzLight: whatever scan takes for an ordinary reply, chunk or usage it reads
// as encoding/json does.
func FuzzLight(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Add([]byte(`{"id":"c","model":"m","choices":[{"index":0,"message":{"content":[{"type":"text"}],"reasoning":"r","reasoning_content":"","refusal":null,"tool_calls":[],"function_call":null,"audio":null},"finish_reason":"length","logprobs":null}],"error":{},"x_groq":null,"service_tier":"flex","usage":{"prompt_tokens":3,"completion_tokens":1.0,"total_tokens":"9","prompt_tokens_details":{"cached_tokens":1,"audio_tokens":null},"completion_tokens_details":{"reasoning_tokens":1},"cost":1e-3,"is_byok":false,"cost_details":{"upstream_inference_cost":1}}}`), false)
	f.Fuzz(func(t *testing.T, body []byte, stream bool) {
		compare(t, body, stream)
		var a, b openAIUsage
		if a.scan(body) {
			if err := lenient(body, &b); err != nil || !sameUsage(&a, &b) {
				t.Fatalf("%s\nscan: %+v\nJSON: %+v, error %v", body, a, b, err)
			}
		}
	})
}

var lightSink llm.UsageSource

// BenchmarkWhole reads a plain reply that passes through.
func BenchmarkWhole(b *testing.B) {
	content := strings.Repeat("All of the answer must arrive, and in order. ", 16)
	body := []byte(`{"id":"chatcmpl-bench0123456789","object":"chat.completion","created":1790000000,"model":"gpt-4.1-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"` + content + `","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":420,"completion_tokens":180,"total_tokens":600,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"service_tier":"default"}`)
	for _, how := range []string{"scan", "json"} {
		b.Run(how, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := OpenAI.NewReader(&Spec{}).(*openAIReader)
				var err error
				if how == "json" {
					err = r.whole(body, nil)
				} else {
					err = r.Whole(body, nil)
				}
				if err != nil {
					b.Fatal(err)
				}
				lightSink = r.Summary().Usage.Source
			}
		})
	}
}
