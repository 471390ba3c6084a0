package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// failing are the recorded replies of status 200 that hold an error.
var failing = map[string]int{"azure-0007": 400, "groq-0020": 400}

// openAIReplies calls f for each recorded reply that is no error.
func openAIReplies(t *testing.T, f func(t *testing.T, r *recording)) {
	n := 0
	for _, r := range recordings(t, OpenAI.Name()) {
		if r.Status != 200 || failing[r.ID] != 0 {
			continue
		}
		n++
		t.Run(r.ID, func(t *testing.T) { f(t, &r) })
	}
	if n < 190 {
		t.Errorf("%d recorded replies, want at least 190", n)
	}
}

// chunks are the JSON values of a recorded reply, cut out by plain means.
func (r *recording) chunks(t *testing.T) (all []map[string]any) {
	t.Helper()
	texts := []string{string(r.Body)}
	if r.Stream {
		texts = strings.Split(strings.ReplaceAll(r.BodyText, "\r", ""), "\n")
	}
	for _, s := range texts {
		if r.Stream {
			data, ok := strings.CutPrefix(s, "data:")
			if data = strings.TrimSpace(data); !ok || data == "[DONE]" {
				continue
			}
			s = data
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(s), &m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// member follows a path of members; 0 and "" where there is none.
func member(v any, path ...string) (n float64, s string) {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	n, _ = v.(float64)
	s, _ = v.(string)
	return n, s
}

// The usage of every recorded reply is what the rules of the providers make of
// its raw JSON, computed here a second time.
func TestOpenAIUsage(t *testing.T) {
	reported := 0
	openAIReplies(t, func(t *testing.T, r *recording) {
		sum, err := read(OpenAI, r.Stream, r.reply(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var usage any
		var model, id, tier, finish string
		for _, c := range r.chunks(t) {
			if u := c["usage"]; u != nil {
				usage = u
			} else if x, ok := c["x_groq"].(map[string]any); ok && x["usage"] != nil {
				usage = x["usage"]
			}
			if _, s := member(c, "service_tier"); s != "" {
				tier = s
			}
			if _, s := member(c, "model"); model == "" {
				model = s
			}
			if _, s := member(c, "id"); id == "" {
				id = s
			}
			choices, _ := c["choices"].([]any)
			for _, ch := range choices {
				if i, _ := member(ch, "index"); i == 0 && finish == "" {
					_, finish = member(ch, "finish_reason")
				}
			}
		}
		if sum.Model != model || sum.ID != id || sum.Native != finish || sum.BadUsage {
			t.Errorf("Summary %+v, want model %q, id %q, finish %q", sum, model, id, finish)
		}
		if usage == nil {
			if sum.Usage.Source != llm.UsageNone {
				t.Errorf("usage %+v where none was reported", sum.Usage)
			}
			return
		}
		n := func(path ...string) int64 { f, _ := member(usage, path...); return int64(f) }
		in, out := n("prompt_tokens"), n("completion_tokens")
		out = max(out, n("total_tokens")-in)
		want := llm.Usage{
			Source: llm.UsageUpstream, Input: in, Output: out,
			CacheRead:    max(n("prompt_tokens_details", "cached_tokens"), n("prompt_cache_hit_tokens"), n("num_cached_tokens"), n("cached_tokens")),
			CacheWrite5m: n("prompt_tokens_details", "cache_write_tokens"),
			Reasoning:    min(out, n("completion_tokens_details", "reasoning_tokens")),
			AudioInput:   n("prompt_tokens_details", "audio_tokens"),
			AudioOutput:  n("completion_tokens_details", "audio_tokens"),
		}
		if tier == "flex" || tier == "priority" {
			want.Tier = tier
		}
		got := sum.Usage
		if cost, ok := usage.(map[string]any)["cost"].(float64); ok {
			reported++
			if byok, _ := usage.(map[string]any)["is_byok"].(bool); byok {
				more, _ := member(usage, "cost_details", "upstream_inference_cost")
				cost += more
			}
			if got.Reported == nil || math.Abs(float64(*got.Reported)-cost*1e9) > 0.51 {
				t.Errorf("reported cost %v, want %v USD", got.Reported, cost)
			}
		} else if got.Reported != nil {
			t.Errorf("reported cost %v, want none", *got.Reported)
		}
		var raw any
		if json.Unmarshal(got.Raw, &raw) != nil || !reflect.DeepEqual(raw, usage) || bytes.ContainsAny(got.Raw, "\n\t") {
			t.Errorf("raw usage %s, want %v", got.Raw, usage)
		}
		got.Raw, got.Reported, got.ServerToolCalls = nil, nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("usage %+v, want %+v", got, want)
		}
	})
	if reported < 20 {
		t.Errorf("%d replies report their cost, want at least 20", reported)
	}
}

// The Summary is the same whether or not the reply is translated, but for
// fields that only the end of the stream decides.
func TestOpenAILightPath(t *testing.T) {
	openAIReplies(t, func(t *testing.T, r *recording) {
		light, err := read(OpenAI, r.Stream, r.reply(), nil)
		if err != nil {
			t.Fatal(err)
		}
		full, err := read(OpenAI, r.Stream, r.reply(), func(llm.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(light, full) {
			t.Errorf("light %+v\n full %+v", light, full)
		}
		if !full.Complete {
			t.Errorf("not complete: %+v", full)
		}
	})
}

// What a Reader hears in a recording is what stands there, and says the same
// when a Writer of any dialect has written it and a Reader read it again.
func TestOpenAIRoundTrip(t *testing.T) {
	openAIReplies(t, func(t *testing.T, r *recording) {
		var events []llm.Event
		var first said
		if _, err := read(OpenAI, r.Stream, r.reply(), func(e llm.Event) {
			if e.Usage != nil {
				u := *e.Usage
				e.Usage = &u
			}
			if e.Choice == 0 {
				events = append(events, e)
			}
			first.hear(t, e)
		}); err != nil {
			t.Fatal(err)
		}
		first = first.done(t)
		if text, thinking, args := r.plainly(t); first.text != text || first.thinking != thinking {
			t.Errorf("text %q, %q; want %q, %q", first.text, first.thinking, text, thinking)
		} else if got := len(first.calls); got != len(args) {
			t.Errorf("%d tool calls, want %d", got, len(args))
		} else {
			for i := range args {
				if got, want := first.calls[i].Args, canonical(t, []byte(args[i])); !bytes.Equal(got, want) {
					t.Errorf("arguments %s, want %s", got, want)
				}
			}
		}
		if first.finish == "" {
			return // recorded without its end
		}
		for _, to := range dialects {
			for _, stream := range []bool{false, true} {
				t.Run(to.Name()+"_stream_"+strconv.FormatBool(stream), func(t *testing.T) { rewrite(t, to, stream, events, first) })
			}
		}
	})
}

// plainly is what the first choice says, put together without our types.
func (r *recording) plainly(t *testing.T) (text, thinking string, args []string) {
	for _, c := range r.chunks(t) {
		choices, _ := c["choices"].([]any)
		for _, ch := range choices {
			if i, _ := member(ch, "index"); i != 0 {
				continue
			}
			m, ok := ch.(map[string]any)["delta"].(map[string]any)
			if !ok {
				m, _ = ch.(map[string]any)["message"].(map[string]any)
			}
			_, content := member(m, "content")
			_, refusal := member(m, "refusal")
			text += content + refusal
			parts, _ := m["content"].([]any)
			for _, p := range parts {
				_, s := member(p, "text")
				text += s
				thoughts, _ := p.(map[string]any)["thinking"].([]any)
				for _, th := range thoughts {
					_, s := member(th, "text")
					thinking += s
				}
			}
			_, a := member(m, "reasoning_content")
			_, b := member(m, "reasoning")
			if a == "" {
				a = b
			}
			thinking += a
			calls, _ := m["tool_calls"].([]any)
			for j, call := range calls {
				i := j
				if f, ok := call.(map[string]any)["index"].(float64); ok && r.Stream {
					i = int(f)
				}
				for len(args) <= i {
					args = append(args, "")
				}
				_, s := member(call, "function", "arguments")
				args[i] += s
			}
			_, name := member(m, "function_call", "name")
			if _, s := member(m, "function_call", "arguments"); name+s != "" && len(calls) == 0 {
				if len(args) == 0 {
					args = []string{""}
				}
				args[0] += s
			}
		}
	}
	for i, s := range args {
		if strings.TrimSpace(s) == "" {
			args[i] = "{}"
		}
	}
	return text, thinking, args
}

func TestOpenAIErrorsRecorded(t *testing.T) {
	n := 0
	for _, r := range recordings(t, OpenAI.Name()) {
		var e *llm.Error
		switch {
		case failing[r.ID] != 0:
			if _, err := read(OpenAI, r.Stream, r.reply(), nil); !errors.As(err, &e) {
				t.Errorf("%s: %v, want an error", r.ID, err)
				continue
			}
			r.Status = failing[r.ID]
		case r.Status != 200:
			e = OpenAI.ReadError(r.Status, nil, r.reply())
		default:
			continue
		}
		n++
		var body struct{ Error struct{ Message string } }
		if !r.Stream {
			if err := json.Unmarshal(r.reply(), &body); err != nil {
				t.Fatal(err)
			}
		}
		if e.HTTPStatus() != r.Status || e.Upstream != r.Status || !strings.Contains(e.Msg, clip(body.Error.Message)[:min(60, len(clip(body.Error.Message)))]) || e.Code == "" {
			t.Errorf("%s: %+v, want status %d and %q", r.ID, e, r.Status, body.Error.Message)
		}
	}
	if n < 9 {
		t.Errorf("%d recorded errors, want at least 9", n)
	}
}

// A recorded request says the same after Decode and Encode.
func TestOpenAIRequestRoundTrip(t *testing.T) {
	refused := map[string]int{}
	for _, r := range recordings(t, OpenAI.Name()) {
		t.Run(r.ID, func(t *testing.T) {
			first, err := OpenAI.Decode(r.Request, "m", r.Stream)
			var e *llm.Error
			if errors.As(err, &e) {
				if e.Param == "" || e.HTTPStatus() != 400 {
					t.Errorf("%+v names no field", e)
				}
				refused[e.Param]++
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(first.Messages)+len(first.System) == 0 {
				t.Error("no messages")
			}
			body, err := OpenAI.Encode(nil, first, &Spec{})
			if errors.As(err, &e) { // a file by its address
				refused["encode "+e.Param]++
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			h, err := Scan(body)
			if err != nil || h.Model != "m" || h.Stream != r.Stream || h.IncludeUsage != r.Stream {
				t.Errorf("%+v, %v: %s", h, err, body)
			}
			again, err := OpenAI.Decode(body, "m", r.Stream)
			if err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if len(first.System) > 1 { // several become one
				first.System = []llm.Part{{Kind: llm.PartText, Text: joinText(first.System)}}
			}
			if first.N == 1 {
				first.N = 0 // the same
			}
			for _, m := range first.Messages {
				for i := range m.Parts {
					if p := &m.Parts[i]; p.Kind == llm.PartFile {
						p.Name = orElse(p.Name, "file") // OpenAI wants a name
					}
				}
			}
			a, b := canonical(t, appendJSON(nil, first)), canonical(t, appendJSON(nil, again))
			if !bytes.Equal(a, b) {
				t.Errorf("got  %.3000s\nwant %.3000s", b, a)
			}
		})
	}
	sum := 0
	for _, n := range refused {
		sum += n
	}
	if sum > 12 {
		t.Errorf("%d recorded requests are refused: %v", sum, refused)
	}
	t.Log(refused)
}

func TestOpenAIDecode(t *testing.T) {
	r, err := OpenAI.Decode([]byte(`{"model":"x","messages":[
		{"role":"developer","content":"be brief"},
		{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}},
			{"type":"input_audio","input_audio":{"data":"BBBB","format":"wav"}},{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,CCCC"}},
			{"type":"image_url","image_url":"https://example.com/i.png"},{"type":"image_url","image_url":{"url":"data:image/svg+xml,%3Csvg/%3E"}}]},
		{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"c2","type":"function","function":{"name":"g","arguments":""}}]},
		{"role":"tool","tool_call_id":"c1","content":"one"},
		{"role":"tool","tool_call_id":"c2","content":[{"type":"text","text":"two"}]},
		{"role":"user","content":"go on"}],
		"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":true}}],
		"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,"stop":["a","b"],"max_completion_tokens":5,"n":2,"seed":7,
		"reasoning_effort":"low","response_format":{"type":"json_schema","json_schema":{"name":"n","description":"d","schema":{"type":"object"},"strict":true}},"user":"u","logit_bias":{"1":2}}`), "m", true)
	if err != nil {
		t.Fatal(err)
	}
	got := string(canonical(t, appendJSON(nil, r)))
	yes, five, seven := true, int64(5), int64(7)
	want := string(canonical(t, appendJSON(nil, &llm.Request{
		Model: "m", Stream: true, System: []llm.Part{{Kind: llm.PartText, Text: "be brief"}},
		Messages: []llm.Message{
			{Role: llm.User, Parts: []llm.Part{
				{Kind: llm.PartText, Text: "see"},
				{Kind: llm.PartImage, MediaType: "image/png", Data: "AAAA", Detail: "low"},
				{Kind: llm.PartAudio, MediaType: "audio/wav", Data: "BBBB"},
				{Kind: llm.PartFile, MediaType: "application/pdf", Data: "CCCC", Name: "a.pdf"},
				{Kind: llm.PartImage, URL: "https://example.com/i.png"},
				{Kind: llm.PartImage, MediaType: "image/svg+xml", Data: "PHN2Zy8+"}}},
			{Role: llm.Assistant, Parts: []llm.Part{
				{Kind: llm.PartToolCall, ToolID: "c1", ToolName: "f", Args: json.RawMessage(`{"a":1}`)},
				{Kind: llm.PartToolCall, ToolID: "c2", ToolName: "g", Args: json.RawMessage(`{}`)}}},
			{Role: llm.User, Parts: []llm.Part{
				{Kind: llm.PartToolResult, ToolID: "c1", ToolName: "f", Text: "one"},
				{Kind: llm.PartToolResult, ToolID: "c2", ToolName: "g", Text: "two"},
				{Kind: llm.PartText, Text: "go on"}}}},
		MaxTokens: &five, Seed: &seven, N: 2, Stop: []string{"a", "b"}, User: "u",
		Tools:      []llm.Tool{{Name: "f", Description: "d", Schema: json.RawMessage(`{"type":"object"}`), Strict: &yes}},
		ToolChoice: llm.ToolChoice{Mode: "function", Name: "f"}, ParallelOff: true,
		Format:    &llm.Format{Name: "n", Description: "d", Schema: json.RawMessage(`{"type":"object"}`), Strict: &yes},
		Reasoning: &llm.Reasoning{Effort: "low"},
	})))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestOpenAIDecodeRefuses(t *testing.T) {
	refuse := func(body, param, want string) {
		t.Helper()
		_, err := OpenAI.Decode([]byte(body), "m", false)
		var e *llm.Error
		if !errors.As(err, &e) || e.Class != llm.InvalidRequest || e.Param != param || !strings.Contains(e.Msg, want) {
			t.Errorf("%s: %+v, want %s: %q", body, err, param, want)
		}
	}
	user := `"messages":[{"role":"user","content":"x"}]`
	refuse(`{}`, "messages", "missing")
	refuse(`{"messages":7}`, "messages", "an array is expected")
	refuse(`{"messages":[{"role":"king","content":"x"}]}`, "messages[0].role", "not known")
	refuse(`{"messages":[{"role":"user","content":7}]}`, "messages[0].content", "neither")
	refuse(`{"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"video_url"}]}]}`, "messages[0].content[1]", "video_url")
	refuse(`{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]}`, "messages[0].content[0]", "send its content")
	refuse(`{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, "messages[0].content[0]", "holds none")
	refuse(`{"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"[1]"}}]}]}`, "messages[0].tool_calls[0]", "not a JSON object")
	refuse(`{`+user+`,"tools":[{"type":"custom","custom":{"name":"f"}}]}`, "tools[0].type", "custom")
	refuse(`{`+user+`,"tool_choice":"sometimes"}`, "tool_choice", "none of")
	refuse(`{`+user+`,"tool_choice":{"type":"function"}}`, "tool_choice", "no function")
	refuse(`{`+user+`,"response_format":{"type":"xml"}}`, "response_format.type", "xml")
	refuse(`{`+user+`,"stop":7}`, "stop", "neither")
	refuse(`{`+user+`,"n":0}`, "n", "between")
	refuse(`{`+user+`,"max_tokens":1.5}`, "max_tokens", "a whole number is expected, not number")
	refuse(`{`+user+`,"logprobs":true}`, "logprobs", "cannot")
	refuse(`{`+user+`,"modalities":["text","audio"]}`, "modalities", "text alone")
	refuse(`{`+user+`,"web_search_options":{}}`, "web_search_options", "only at OpenAI")
}

func TestOpenAIUsageRules(t *testing.T) {
	usage := func(raw, tier string, want llm.Usage, wantOK bool) {
		t.Helper()
		got, ok := readOpenAIUsage(json.RawMessage(raw), tier)
		got.Raw = nil
		if ok != wantOK || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v, %v", raw, got, ok, want, wantOK)
		}
	}
	none := llm.Usage{Source: llm.UsageNone}
	nano := func(n llm.Nano) *llm.Nano { return &n }
	up := llm.UsageUpstream
	usage(`{"prompt_tokens":23,"completion_tokens":24,"total_tokens":47}`, "default", llm.Usage{Source: up, Input: 23, Output: 24}, true)
	usage(`{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}`, "", llm.Usage{Source: up, Input: 35, Output: 74}, true) // Gemini's endpoint
	usage(`{"prompt_tokens":10120,"completion_tokens":1499,"total_tokens":14428,"completion_tokens_details":{"reasoning_tokens":2809},"cost_in_usd_ticks":375480001}`, "",
		llm.Usage{Source: up, Input: 10120, Output: 4308, Reasoning: 2809, Reported: nano(37548000)}, true) // xAI
	usage(`{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":2}`, "", llm.Usage{Source: up, Input: 10, Output: 1, CacheRead: 8}, true)
	usage(`{"prompt_tokens":10,"completion_tokens":1,"num_cached_tokens":7,"prompt_tokens_details":null}`, "flex", llm.Usage{Source: up, Input: 10, Output: 1, CacheRead: 7, Tier: "flex"}, true)
	usage(`{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2,"cache_write_tokens":3,"audio_tokens":4},"completion_tokens_details":{"audio_tokens":1}}`, "",
		llm.Usage{Source: up, Input: 10, Output: 1, CacheRead: 2, CacheWrite5m: 3, AudioInput: 4, AudioOutput: 1}, true)
	usage(`{"prompt_tokens":1,"completion_tokens":1,"cost":0.0160614}`, "", llm.Usage{Source: up, Input: 1, Output: 1, Reported: nano(16061400)}, true)
	usage(`{"prompt_tokens":1,"completion_tokens":1,"cost":4.1400000000000003e-05}`, "", llm.Usage{Source: up, Input: 1, Output: 1, Reported: nano(41400)}, true)
	usage(`{"prompt_tokens":1,"completion_tokens":1,"cost":9007199.254740993}`, "", llm.Usage{Source: up, Input: 1, Output: 1, Reported: nano(9007199254740993)}, true) // no float64 holds it
	usage(`{"prompt_tokens":1,"completion_tokens":1,"cost":0,"is_byok":true,"cost_details":{"upstream_inference_cost":0.0002265}}`, "", llm.Usage{Source: up, Input: 1, Output: 1, Reported: nano(226500)}, true)
	usage(`{"prompt_tokens":1,"completion_tokens":1,"cost":-1}`, "", llm.Usage{Source: up, Input: 1, Output: 1}, true)
	usage(`{"prompt_tokens":1,"completion_tokens":1,"server_tool_use_details":{"web_search_requests":2}}`, "", llm.Usage{Source: up, Input: 1, Output: 1, ServerToolCalls: map[string]int64{"web_search": 2}}, true)
	usage(`{"prompt_tokens":5.0,"completion_tokens":null}`, "", llm.Usage{Source: up, Input: 5}, true)
	usage(`{}`, "", none, true)
	usage(`{"queue_time":1}`, "", none, true)
	usage(`[]`, "", none, false)
	usage(`"12"`, "", none, false)
	usage(`{"prompt_tokens":-1,"completion_tokens":1}`, "", none, false)
	usage(`{"prompt_tokens":1,"completion_tokens":-1,"total_tokens":5}`, "", none, false)
	usage(`{"prompt_tokens":"12","completion_tokens":1}`, "", none, false)
	usage(`{"prompt_tokens":1e300,"completion_tokens":1}`, "", none, false)
	usage(`{"prompt_tokens":9223372036854775807,"completion_tokens":1}`, "", none, false)
	usage(`{"prompt_tokens":1,"completion_tokens":1,"total_tokens":9223372036854775807}`, "", none, false)
	usage(`{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}`, "", none, false)
	usage(`{"prompt_tokens":1.5,"completion_tokens":1}`, "", none, false)
}

// stream gives frames to a Reader and says which of them pass.
func stream(r Reader, emit func(llm.Event), data ...string) (passed string, err error) {
	for _, d := range data {
		pass, err := r.Frame(Frame{Data: []byte(d)}, emit)
		if err != nil {
			return passed, err
		}
		if pass {
			passed += "y"
		} else {
			passed += "n"
		}
	}
	return passed, nil
}

func TestOpenAIStream(t *testing.T) {
	const (
		role   = `{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}`
		word   = `{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"w"},"finish_reason":null}],"usage":null}`
		finish = `{"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}`
		usage  = `{"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`
	)
	r := OpenAI.NewReader(&Spec{})
	r.HideUsage()
	if _, err := stream(r, nil, role); err != nil || r.Summary().Content {
		t.Errorf("a frame of the role alone is content: %v", err)
	}
	passed, err := stream(r, nil, word, word, finish)
	if s := r.Summary(); err != nil || passed != "yyy" || !s.Content || !s.Complete || s.Finish != llm.FinishStop {
		t.Errorf("%q, %v, %+v", passed, err, s)
	}
	passed, err = stream(r, nil, usage, "[DONE]", word)
	if s := r.Summary(); err != nil || passed != "nyn" || s.Usage.Input != 3 || s.Usage.Output != 1 {
		t.Errorf("%q, %v, %+v", passed, err, s)
	}

	// Cumulative usage in each chunk is overwritten, never summed; a lie drops nothing known.
	r = OpenAI.NewReader(&Spec{})
	r.HideUsage()
	cum := func(n string) string {
		return `{"choices":[{"index":0,"delta":{"content":"w"}}],"usage":{"prompt_tokens":3,"completion_tokens":` + n + `}}`
	}
	if passed, err = stream(r, nil, cum("1"), cum("2"), cum("5")); err != nil || passed != "yyy" || r.Summary().Usage.Output != 5 {
		t.Errorf("cumulative: %q, %v, %+v", passed, err, r.Summary())
	}
	if _, err = stream(r, nil, cum("-7")); err != nil || !r.Summary().BadUsage || r.Summary().Usage.Output != 5 {
		t.Errorf("a lie: %v, %+v", err, r.Summary())
	}

	// Two choices are complete when both are.
	r = OpenAI.NewReader(&Spec{})
	second := strings.NewReplacer(`"index":0`, `"index":1`)
	for i, step := range []struct {
		data     string
		complete bool
	}{{word, false}, {finish, true}, {second.Replace(word), false}, {second.Replace(finish), true}} {
		if _, err := stream(r, nil, step.data); err != nil || r.Summary().Complete != step.complete {
			t.Errorf("step %d: %v, Complete = %v, want %v", i, err, r.Summary().Complete, step.complete)
		}
	}

	// What is broken does not pass, before the first content nor after it.
	for _, bad := range []string{`{"choices":[{"delta":{"content":"w}}]}`, `{"choices":[`, "\x00\x01", `{"choices":[{"delta":{"content":"` + "\x02" + `"}}]}`, `<html>`, `{"choices":[]} {}`} {
		for _, before := range [][]string{nil, {word}} {
			r := OpenAI.NewReader(&Spec{})
			_, _ = stream(r, nil, before...)
			var e *llm.Error
			if _, err := stream(r, nil, bad); !errors.As(err, &e) || e.Class != llm.BadUpstream {
				t.Errorf("%q behind %q: %v, want %s", bad, before, err, llm.BadUpstream)
			}
		}
	}

	// Errors within a stream.
	for data, want := range map[string]llm.ErrorClass{
		`{"error":{"code":429,"message":"slow"}}`:                               llm.RateLimited,
		`{"error":{"message":"x","type":"server_error"}}`:                       llm.UpstreamError,
		`{"choices":[{"delta":{}}],"error":{"code":"overloaded","message":""}}`: llm.Overloaded,
		`{"object":"error","message":"no","code":404}`:                          llm.NotFound,
		`{"error":"out of memory"}`:                                             llm.UpstreamError,
	} {
		r := OpenAI.NewReader(&Spec{})
		_, _ = stream(r, nil, word)
		var e *llm.Error
		if _, err := stream(r, nil, data); !errors.As(err, &e) || e.Class != want || r.Summary().Complete {
			t.Errorf("%s: %v, want %s", data, err, want)
		}
	}
}

func TestOpenAIToolCalls(t *testing.T) {
	calls := func(want string, data ...string) {
		t.Helper()
		var s said
		r := OpenAI.NewReader(&Spec{})
		for _, d := range data {
			if _, err := r.Frame(Frame{Data: []byte(`{"choices":[{"index":0,"delta":{"tool_calls":` + d + `}}]}`)}, func(e llm.Event) { s.hear(t, e) }); err != nil {
				t.Fatal(err)
			}
		}
		got, ids := "", map[string]bool{}
		for _, c := range s.calls {
			got += c.ToolName + string(c.Args) + " "
			ids[c.ToolID] = true
		}
		if strings.TrimSpace(got) != want || len(ids) != len(s.calls) {
			t.Errorf("%s: %q with ids %v, want %q", data, got, ids, want)
		}
	}
	calls(`f{"a":1}`, `[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]`, `[{"index":0,"function":{"arguments":"{\"a\""}}]`, `[{"index":0,"function":{"arguments":":1}"}}]`)
	calls(`f{} g{}`, `[{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}]`, `[{"index":1,"id":"y","function":{"name":"g","arguments":"{}"}}]`)
	calls(`f{} g{}`, `[{"index":0,"id":"","function":{"name":"f","arguments":"{}"}},{"index":0,"id":"","function":{"name":"g","arguments":"{}"}}]`)              // Gemini's endpoint
	calls(`f{} g{}`, `[{"id":"x","function":{"name":"f","arguments":"{}"}}]`, `[{"id":"y","function":{"name":"g","arguments":"{}"}}]`)                           // no index
	calls(`f{"a":1}`, `[{"index":0,"id":"x","function":{"name":"f","arguments":{"a":1}}}]`)                                                                      // an object
	calls(`f{"a":1}`, `[{"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":"}}]`, `[{"index":0,"id":"x","function":{"name":"f","arguments":"1}"}}]`) // repeated
}

func TestOpenAIReadError(t *testing.T) {
	check := func(status int, body string, class llm.ErrorClass, out int, code, msg string) {
		t.Helper()
		e := OpenAI.ReadError(status, http.Header{}, []byte(body))
		if e.Class != class || e.HTTPStatus() != out || e.Code != code || !strings.Contains(e.Msg, msg) || len(e.Msg) > 600 || e.Upstream != status {
			t.Errorf("%d %.60s: %+v, want %s, %d, %s, %q", status, body, e, class, out, code, msg)
		}
	}
	check(400, `{"error":{"message":"bad","type":"invalid_request_error","param":"x","code":"unknown_parameter"}}`, llm.InvalidRequest, 400, "unknown_parameter", "bad")
	check(422, `{"detail":[{"loc":["body"],"msg":"field required"}]}`, llm.InvalidRequest, 422, "invalid_request", "field required")
	check(404, `{"error":{"code":"DeploymentNotFound","message":"no"}}`, llm.NotFound, 404, "DeploymentNotFound", "no")
	check(413, ``, llm.TooLarge, 413, "too_large", "413")
	check(401, `{"error":{"message":"Incorrect API key provided: sk-abcd1234","code":"invalid_api_key"}}`, llm.ProviderAuth, 502, "provider_auth", "refuses the gateway's key")
	if e := OpenAI.ReadError(401, nil, []byte(`{"error":{"message":"key sk-abcd1234"}}`)); strings.Contains(e.Error(), "sk-") {
		t.Errorf("a key is quoted: %v", e)
	}
	check(403, `{"error":{"message":"region"}}`, llm.ProviderAuth, 502, "provider_auth", "region")
	check(429, `{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"{\"error\":{\"message\":\"quota\"}}"}}}`, llm.RateLimited, 429, "rate_limit_exceeded", "Provider returned error: quota")
	check(429, `{"error":{"code":"insufficient_quota","message":"pay"}}`, llm.RateLimited, 429, "insufficient_quota", "pay")
	check(500, `<html><body>oops</body></html>`, llm.UpstreamError, 502, "upstream_error", "answered 500")
	check(502, ``, llm.UpstreamError, 502, "upstream_error", "answered 502")
	check(503, `{"message":"busy"}`, llm.Overloaded, 503, "overloaded", "busy")
	check(529, `[{"error":{"code":529,"message":"busy"}}]`, llm.Overloaded, 503, "overloaded", "busy")
	check(307, ``, llm.UpstreamError, 502, "upstream_error", "307")
	check(500, `{"error":"text"}`, llm.UpstreamError, 502, "upstream_error", "text")
	check(500, `{"error":{"message":"`+strings.Repeat("한", 1000)+`"}}`, llm.UpstreamError, 502, "upstream_error", "한")

	wait := func(want time.Duration, header ...string) {
		t.Helper()
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		if got := OpenAI.ReadError(429, h, nil).RetryAfter; (got-want).Abs() > 2*time.Second && want > 5*time.Second || want < 5*time.Second && got != want {
			t.Errorf("%v: wait %v, want %v", header, got, want)
		}
	}
	wait(0)
	wait(1500*time.Millisecond, "Retry-After", "1.5")
	wait(250*time.Millisecond, "Retry-After-Ms", "250", "Retry-After", "9")
	wait(time.Minute, "Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
	wait(0, "Retry-After", "-3")
	wait(0, "Retry-After", "NaN")
	wait(0, "Retry-After", "soon")
	wait(240*time.Hour, "Retry-After", "1e30")
}

func TestOpenAIWriter(t *testing.T) {
	finish := llm.Event{Kind: llm.EventFinish, Finish: llm.FinishTools, Native: "tool_use"}
	usage := llm.Event{Kind: llm.EventUsage, Usage: &llm.Usage{Source: llm.UsageUpstream, Input: 5, Output: 2, CacheRead: 1}}
	events := []llm.Event{{Kind: llm.EventStart, ID: "id", Model: "mm"}, {Kind: llm.EventReasoning, Text: "hm"}, {Kind: llm.EventText, Text: "<a>"},
		{Kind: llm.EventTool, ToolID: "t", ToolName: "f", Signature: "sig"}, finish, usage}
	write := func(o WriterOptions) string {
		w := OpenAI.NewWriter(o)
		var out []byte
		for _, e := range events {
			out = w.Event(out, e)
		}
		if o.Stream {
			return string(w.End(out))
		}
		return string(w.Whole(out))
	}
	const chunk = `data: {"id":"id","object":"chat.completion.chunk","created":9,"model":"mm","choices":[`
	want := chunk + `{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":"hm"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		chunk + `{"index":0,"delta":{"content":"\u003ca\u003e"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		chunk + `{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":""},"extra_content":{"google":{"thought_signature":"sig"}}}]},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		chunk + `{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		chunk + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls","native_finish_reason":"tool_use"}]}` + "\n\n"
	if got := write(WriterOptions{Created: 9, Stream: true}); got != want+"data: [DONE]\n\n" {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := write(WriterOptions{Created: 9, Stream: true, Usage: true}); !strings.HasPrefix(got, want+chunk+`],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,`) || !strings.HasSuffix(got, "data: [DONE]\n\n") {
		t.Errorf("with usage: %s", got)
	}
	var whole struct {
		ID, Object, Model string
		Created           *int64
		Choices           []struct {
			Index        *int
			Message      map[string]any
			FinishReason string `json:"finish_reason"`
		}
		Usage map[string]any
	}
	got := write(WriterOptions{Created: 9})
	if err := json.Unmarshal([]byte(got), &whole); err != nil {
		t.Fatal(err)
	}
	m := whole.Choices[0].Message
	if whole.ID != "id" || whole.Object != "chat.completion" || whole.Model != "mm" || *whole.Created != 9 || *whole.Choices[0].Index != 0 || whole.Choices[0].FinishReason != "tool_calls" ||
		m["role"] != "assistant" || m["content"] != "<a>" || m["reasoning_content"] != "hm" || whole.Usage["total_tokens"] != 7.0 || !strings.Contains(got, `"type":"function","function":{"name":"f","arguments":"{}"}`) {
		t.Errorf("whole: %s", got)
	}
	// Nothing came at all: still a proper end, and usage is never null.
	events = nil
	if got := write(WriterOptions{ID: "x", Model: "m", Stream: true}); !strings.Contains(got, `"finish_reason":"stop"`) || strings.Contains(got, "usage") {
		t.Errorf("empty stream: %s", got)
	}
	if got := write(WriterOptions{ID: "x", Model: "m"}); strings.Contains(got, `"usage":null`) || !strings.Contains(got, `"content":""`) {
		t.Errorf("empty reply: %s", got)
	}
	e := &llm.Error{Class: llm.StreamBroken, Msg: "it \"broke\""}
	if got, want := string(OpenAI.WriteStreamError(nil, e)), `data: {"error":{"message":"it \"broke\"","type":"server_error","param":null,"code":"stream_broken"}}`+"\n\n"; got != want {
		t.Errorf("error event %s, want %s", got, want)
	}
}

func TestOpenAISplice(t *testing.T) {
	splice := func(body, model, want string, q Quirks) {
		t.Helper()
		h, err := Scan([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(bytes.Join(OpenAI.Splice([][]byte{{'^'}}, []byte(body), &h, model, &Spec{Quirks: q}), nil)); got != "^"+want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
	none := Quirks{}
	splice(`{"model":"a", "x":1 }`, "b", `{"model":"b", "x":1 }`, none)
	splice(`{"model":"a", "x":1 }`, "a", `{"model":"a", "x":1 }`, none)
	splice(`{"model":"a\bc"}`, `a\bc`, `{"model":"a\\bc"}`, none)
	splice(`{"stream":true,"model":"a"}`, "a", `{"stream_options":{"include_usage":true},"stream":true,"model":"a"}`, none)
	splice(`{"model":"a","stream":true,"stream_options":null}`, "a", `{"model":"a","stream":true,"stream_options":{"include_usage":true}}`, none)
	splice(`{"model":"a","stream":true}`, `b"`, `{"stream_options":{"include_usage":true},"model":"b\"","stream":true}`, none)
	splice(`{"model":"a","stream":true}`, "b", `{"model":"b","stream":true}`, Quirks{NoStreamOptions: true})
	splice(`{"stream_options":{"include_obfuscation":false},"model":"a","stream":true}`, "b", `{"stream_options":{"include_usage":true,"include_obfuscation":false},"model":"b","stream":true}`, none)
	splice(`{"model":"a","stream":true,"stream_options":{"include_usage":false,"x":[1]}}`, "b", `{"model":"b","stream":true,"stream_options":{"include_usage":true,"x":[1]}}`, none)
	splice(`{"model":"a","stream":true,"stream_options": null}`, "b", `{"model":"b","stream":true,"stream_options": {"include_usage":true}}`, none)
	splice(`{"model":"a","stream":true,"stream_options":{"include_usage":true}}`, "b", `{"model":"b","stream":true,"stream_options":{"include_usage":true}}`, none)
	splice(`{"stream":true}`, "b", `{"stream_options":{"include_usage":true},"stream":true}`, none)
}

func TestOpenAIHeader(t *testing.T) {
	h := http.Header{}
	client := http.Header{"Authorization": {"Bearer ours"}, "Cookie": {"c"}, "Openai-Organization": {"o"}, "X-Api-Key": {"k"}, "Openai-Beta": {"b"}, "Accept-Encoding": {"gzip"}, "User-Agent": {"u"}}
	OpenAI.SetHeader(h, "sk-up", client)
	if h.Get("Authorization") != "Bearer sk-up" || h.Get("OpenAI-Beta") != "b" || h.Get("Content-Type") != "application/json" || h.Get("Accept-Encoding") != "identity" ||
		h.Get("Cookie")+h.Get("OpenAI-Organization")+h.Get("X-Api-Key") != "" || h.Get("User-Agent") == "u" {
		t.Errorf("header %v", h)
	}
	h = http.Header{}
	OpenAI.SetHeader(h, "", nil)
	if _, ok := h["Authorization"]; ok {
		t.Errorf("header %v", h)
	}
}

func TestSpecs(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Specs {
		if seen[s.Name] || s.Dialect == nil || !strings.HasPrefix(s.BaseURL, "http") || strings.HasSuffix(s.BaseURL, "/") || (s.KeyEnv == "") != (s.Name == "ollama") {
			t.Errorf("Spec %+v", s)
		}
		seen[s.Name] = true
		if got, ok := Lookup(s.Name); !ok || got != s {
			t.Errorf("Lookup(%q) = %+v, %v", s.Name, got, ok)
		}
	}
	if _, ok := Lookup("nobody"); ok {
		t.Error("a vendor that is not there was found")
	}
}

func BenchmarkOpenAIFrame(b *testing.B) {
	data := []byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4.1","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"abcdef"}`)
	for name, emit := range map[string]func(llm.Event){"light": nil, "full": func(llm.Event) {}} {
		b.Run(name, func(b *testing.B) {
			r := OpenAI.NewReader(&Spec{})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Frame(Frame{Data: data}, emit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenAIWriter(b *testing.B) {
	w := OpenAI.NewWriter(WriterOptions{ID: "id", Model: "m", Stream: true})
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = w.Event(dst[:0], llm.Event{Kind: llm.EventText, Text: " word"})
	}
	_, _ = io.Discard.Write(dst)
}

// FuzzPlainDelta: a frame that the light path waves through is JSON, and
// decoding it whole would have told the Summary nothing either.
func FuzzPlainDelta(f *testing.F) {
	for _, s := range []string{
		`{"choices":[{"index":0,"delta":{"content":"w"},"finish_reason":null}],"usage":null}`,
		`{"choices":[{"finish_reason":"","index":0}],"x_groq":null,"error":null,"a":[{}]}`,
		`{"choices":[{"index":1}]}`, `{"choices":[]}`, `{"choices":null}`, `{"us\u0061ge":{"prompt_tokens":1},"choices":[]}`, `{"choices":[{"finish_reason":"stop"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !plainDelta(data) {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q is not JSON", data)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(data, &keys); err != nil {
			t.Fatal(err)
		}
		lower := bytes.ToLower(data)
		for _, word := range []string{"choices", "usage", "error", "x_groq", "message", "index", "finish_reason"} {
			if bytes.Count(lower, []byte(word)) > 1 || bytes.Count(lower, []byte(word)) != bytes.Count(data, []byte(word)) || bytes.Contains(data, []byte{0xc5}) || bytes.Contains(data, []byte{0xe2}) {
				return // twice, or in a case that only encoding/json takes
			}
		}
		r := OpenAI.NewReader(&Spec{})
		pass, err := r.Frame(Frame{Data: data}, func(e llm.Event) {
			if e.Kind == llm.EventFinish || e.Kind == llm.EventUsage || e.Choice != 0 {
				t.Fatalf("%q holds %+v", data, e)
			}
		})
		if err != nil || !pass || r.Summary().Complete {
			t.Fatalf("%q: %v, %v", data, pass, err)
		}
	})
}

func BenchmarkOpenAIWhole(b *testing.B) {
	body := []byte(`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4.1","choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat(`The quick brown fox.\n`, 100) +
		`","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":23,"completion_tokens":24,"total_tokens":47,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"service_tier":"default"}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := OpenAI.NewReader(&Spec{}).Whole(body, nil); err != nil {
			b.Fatal(err)
		}
	}
}
