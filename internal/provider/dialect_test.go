package provider

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// names are the event: lines of a stream.
func names(out []byte) (l []string) {
	for _, line := range strings.Split(string(out), "\n") {
		if n, ok := strings.CutPrefix(line, "event: "); ok {
			l = append(l, n)
		}
	}
	return l
}

func TestAnthropicStreamOrder(t *testing.T) {
	w := Anthropic.NewWriter(WriterOptions{ID: "01", Model: "m", Stream: true})
	var out []byte
	for _, e := range []llm.Event{
		{Kind: llm.EventStart, ID: "msg_1", Model: "claude"},
		{Kind: llm.EventReasoning, Text: "hm"},
		{Kind: llm.EventSignature, Text: "c2ln"},
		{Kind: llm.EventText, Text: "a"},
		{Kind: llm.EventText, Text: "b"},
		{Kind: llm.EventTool, Index: 0, ToolID: "t0", ToolName: "f"},
		{Kind: llm.EventToolDelta, Index: 0, Text: `{"x":`},
		{Kind: llm.EventTool, Index: 1, ToolID: "t1", ToolName: "g"},
		{Kind: llm.EventToolDelta, Index: 1, Text: `{"y"`}, // before the first is whole
		{Kind: llm.EventToolDelta, Index: 0, Text: `1}`},
		{Kind: llm.EventToolDelta, Index: 1, Text: `:2}`},
		{Kind: llm.EventTool, Index: 2, ToolID: "t2", ToolName: "h"}, // without arguments
		{Kind: llm.EventFinish, Finish: llm.FinishTools},
		{Kind: llm.EventUsage, Usage: &llm.Usage{Input: 9, CacheRead: 4, Output: 5}},
	} {
		out = w.Event(out, e)
	}
	out = w.End(out)
	want := strings.Fields(`message_start
		content_block_start content_block_delta content_block_delta content_block_stop
		content_block_start content_block_delta content_block_delta content_block_stop
		content_block_start content_block_delta content_block_delta content_block_stop
		content_block_start content_block_delta content_block_stop
		content_block_start content_block_delta content_block_stop
		message_delta message_stop`)
	if got := names(out); !reflect.DeepEqual(got, want) {
		t.Errorf("events %v\nwant   %v", got, want)
	}
	var s said
	sum, err := read(Anthropic, true, out, func(e llm.Event) { s.hear(t, e) })
	if err != nil {
		t.Fatal(err)
	}
	s = s.done(t)
	calls := []llm.Part{{ToolID: "t0", ToolName: "f", Args: json.RawMessage(`{"x":1}`)}, {ToolID: "t1", ToolName: "g", Args: json.RawMessage(`{"y":2}`)}, {ToolID: "t2", ToolName: "h", Args: json.RawMessage(`{}`)}}
	if s.text != "ab" || s.thinking != "hm" || !reflect.DeepEqual(s.calls, calls) || s.finish != llm.FinishTools {
		t.Errorf("said %+v", s)
	}
	if u := sum.Usage; sum.ID != "msg_1" || u.Input != 9 || u.CacheRead != 4 || u.Output != 5 {
		t.Errorf("Summary %+v", sum)
	}
	// Indexes count up by one, and each frame names its type as its event.
	index := -1.0
	frames := strings.Split(strings.TrimSpace(string(out)), "\n\n")
	for _, f := range frames {
		event, data, _ := strings.Cut(f, "\ndata: ")
		var o map[string]any
		if err := json.Unmarshal([]byte(data), &o); err != nil {
			t.Fatal(err)
		}
		if "event: "+o["type"].(string) != event {
			t.Errorf("frame %s", f)
		}
		if o["type"] == "content_block_start" {
			index++
		}
		if i, ok := o["index"]; ok && i != index {
			t.Errorf("index %v, want %v: %s", i, index, f)
		}
	}
}

// A delta costs the same late in a long reply as early, and a stream keeps no
// text that it has written.
func TestWritersDoNotCopyWhatTheyHaveSaid(t *testing.T) {
	for _, d := range translated {
		for _, stream := range []bool{false, true} {
			w := d.NewWriter(WriterOptions{Stream: stream})
			var buf []byte
			piece := strings.Repeat("x", 100)
			buf = w.Event(buf[:0], llm.Event{Kind: llm.EventText, Text: piece})
			allocs := testing.AllocsPerRun(2000, func() { buf = w.Event(buf[:0], llm.Event{Kind: llm.EventText, Text: piece}) })
			if allocs > 20 {
				t.Errorf("%s: %v allocations a delta", d.Name(), allocs)
			}
		}
	}
	w := Anthropic.NewWriter(WriterOptions{Stream: true}).(*anthropicWriter)
	for range 100 {
		w.Event(nil, llm.Event{Kind: llm.EventText, Text: "x"})
	}
	if n := len(w.blocks[w.open].text); n != 0 {
		t.Errorf("a stream keeps %d bytes of text it has written", n)
	}
}

func TestGeminiWholeCallsWithoutFinish(t *testing.T) {
	for _, stream := range []bool{false, true} {
		w := Gemini.NewWriter(WriterOptions{ID: "01", Model: "m", Stream: stream})
		out := w.Event(nil, llm.Event{Kind: llm.EventTool, ToolID: "a", ToolName: "f", Signature: "not base64!"})
		out = w.Event(out, llm.Event{Kind: llm.EventToolDelta, Text: `{"a":1}`})
		if stream {
			out = w.End(out)
		} else {
			out = w.Whole(out)
		}
		var s said
		if _, err := read(Gemini, stream, out, func(e llm.Event) { s.hear(t, e) }); err != nil {
			t.Fatal(err)
		}
		if len(s.calls) != 1 || string(s.calls[0].Args) != `{"a":1}` || strings.Contains(string(out), "not base64") {
			t.Errorf("%s", out)
		}
	}
}

// encoded is what d makes of a request in the dialect from.
func encoded(t *testing.T, from Dialect, body, model string, d Dialect) map[string]any {
	t.Helper()
	r, err := from.Decode([]byte(body), model, false)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	out, err := d.Encode(nil, r, &Spec{})
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	var o map[string]any
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func show(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestThinkingAskedOfClaude(t *testing.T) {
	ask := func(model, more string, thinking, output, maxTokens string) {
		t.Helper()
		o := encoded(t, OpenAI, `{"messages":[{"role":"user","content":"q"}],"temperature":0.5`+more+`}`, model, Anthropic)
		if got := show(o["thinking"]); got != thinking {
			t.Errorf("%s %s: thinking %s, want %s", model, more, got, thinking)
		}
		if got := show(o["output_config"]); got != output {
			t.Errorf("%s %s: output_config %s, want %s", model, more, got, output)
		}
		if got := show(o["max_tokens"]); got != maxTokens {
			t.Errorf("%s %s: max_tokens %s, want %s", model, more, got, maxTokens)
		}
		if _, sampling := o["temperature"]; sampling == (thinking != "null") {
			t.Errorf("%s %s: temperature %v beside thinking %s", model, more, o["temperature"], thinking)
		}
	}
	ask("claude-sonnet-4-5", ``, `null`, `null`, `8192`)
	ask("claude-sonnet-4-5", `,"reasoning_effort":"none"`, `null`, `null`, `8192`)
	ask("claude-sonnet-4-5-20250929", `,"reasoning_effort":"low"`, `{"budget_tokens":1024,"type":"enabled"}`, `null`, `9216`)
	ask("claude-3-7-sonnet-20250219", `,"reasoning_effort":"high","max_tokens":4000`, `{"budget_tokens":3999,"type":"enabled"}`, `null`, `4000`)
	ask("claude-sonnet-4-0", `,"reasoning_effort":"high","max_tokens":1000`, `null`, `null`, `1000`)
	ask("claude-opus-4-6", `,"reasoning_effort":"xhigh"`, `{"type":"adaptive"}`, `{"effort":"high"}`, `8192`)
	ask("claude-opus-5", `,"reasoning_effort":"xhigh"`, `{"type":"adaptive"}`, `{"effort":"xhigh"}`, `8192`)
	ask("claude-sonnet-4-20250514", `,"reasoning_effort":"minimal"`, `{"budget_tokens":1024,"type":"enabled"}`, `null`, `9216`)
	ask("claude-opus-5", `,"reasoning_effort":"low","tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required"`, `null`, `null`, `8192`)
}

// A tool call whose thinking an OpenAI client could not keep: Claude would
// refuse to think on.
func TestNoThinkingBehindACallWithoutIt(t *testing.T) {
	body := `{"reasoning_effort":"low","tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"q"},
		{"role":"assistant","content":null,"tool_calls":[{"id":"c.1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c.1","content":"r"}`
	if o := encoded(t, OpenAI, body+`]}`, "claude-sonnet-4-5", Anthropic); o["thinking"] != nil || !strings.Contains(show(o), `"id":"c_1"`) || !strings.Contains(show(o), `"tool_use_id":"c_1"`) {
		t.Errorf("%s", show(o))
	}
	if o := encoded(t, OpenAI, body+`,{"role":"assistant","content":"a"},{"role":"user","content":"q"}]}`, "claude-sonnet-4-5", Anthropic); o["thinking"] == nil {
		t.Errorf("%s", show(o))
	}
}

func TestTurnsForClaude(t *testing.T) {
	// Two results, one late, and text before them: one user's turn, results first, thinking and its signature kept.
	body := `{"systemInstruction":{"parts":[{"text":"be brief"}]},"contents":[{"role":"user","parts":[{"text":"q"}]},
		{"role":"model","parts":[{"thought":true,"text":"h"},{"thought":true,"text":"m","thoughtSignature":"c2ln"},{"functionCall":{"name":"f","args":{"a":1}}},{"functionCall":{"name":"f"}}]},
		{"role":"user","parts":[{"text":"note"},{"functionResponse":{"name":"f","response":{"result":"one"}}}]},{"role":"function","parts":{"function_response":{"name":"f","response":{"error":"two"}}}}]}`
	o := encoded(t, Gemini, body, "claude-sonnet-4-5", Anthropic)
	want := `[{"content":[{"text":"q","type":"text"}],"role":"user"},` +
		`{"content":[{"signature":"c2ln","thinking":"hm","type":"thinking"},{"id":"call_1_2","input":{"a":1},"name":"f","type":"tool_use"},{"id":"call_1_3","input":{},"name":"f","type":"tool_use"}],"role":"assistant"},` +
		`{"content":[{"content":[{"text":"one","type":"text"}],"tool_use_id":"call_1_2","type":"tool_result"},{"content":[{"text":"two","type":"text"}],"is_error":true,"tool_use_id":"call_1_3","type":"tool_result"},{"text":"note","type":"text"}],"role":"user"}]`
	if got := show(o["messages"]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := show(o["system"]), `[{"text":"be brief","type":"text"}]`; got != want {
		t.Errorf("system %s, want %s", got, want)
	}
}

func TestTurnsForGemini(t *testing.T) {
	// Results in another order than their calls, which Gemini matches by order.
	body := `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://h/a.png?x"}},{"type":"image_url","image_url":{"url":"data:image/gif;base64,AA=="}}]},
		{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"b","content":"{\"n\":2}"},{"role":"tool","tool_call_id":"a","content":"one"}],"n":2,"max_tokens":7,"stop":"S","seed":3,"reasoning_effort":"low"}`
	for model, signature := range map[string]string{"gemini-2.5-pro": "", "gemini-3-pro-preview": `,"thoughtSignature":"` + unsigned + `"`} {
		o := encoded(t, OpenAI, body, model, Gemini)
		want := `[{"parts":[{"fileData":{"fileUri":"https://h/a.png?x","mimeType":"image/png"}},{"inlineData":{"data":"AA==","mimeType":"image/gif"}}],"role":"user"},` +
			`{"parts":[{"functionCall":{"args":{},"id":"a","name":"f"}` + signature + `},{"functionCall":{"args":{},"id":"b","name":"f"}}],"role":"model"},` +
			`{"parts":[{"functionResponse":{"id":"a","name":"f","response":{"result":"one"}}},{"functionResponse":{"id":"b","name":"f","response":{"n":2}}}],"role":"user"}]`
		if got := show(o["contents"]); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got, want := show(o["generationConfig"]), `{"candidateCount":2,"maxOutputTokens":7,"seed":3,"stopSequences":["S"],"thinkingConfig":{"thinkingBudget":1024}}`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestRefusedByName(t *testing.T) {
	check := func(from, to Dialect, body, param string) {
		t.Helper()
		r, err := from.Decode([]byte(body), "m", false)
		if err == nil {
			_, err = to.Encode(nil, r, &Spec{})
		}
		e := (*llm.Error)(nil)
		if !errors.As(err, &e) || e.Class != llm.InvalidRequest || e.Param != param {
			t.Errorf("%s: %v, want an InvalidRequest naming %s", body, err, param)
		}
	}
	check(OpenAI, Anthropic, `{"messages":[{"role":"user","content":"q"}],"n":2}`, "n")
	check(OpenAI, Anthropic, `{"messages":[{"role":"user","content":"q"}],"response_format":{"type":"json_object"}}`, "response_format")
	check(OpenAI, Anthropic, `{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]}]}`, "messages[0].content")
	check(Anthropic, OpenAI, `{"messages":[],"tools":[{"type":"web_search_20250305","name":"web_search"}]}`, "tools[0].type")
	check(Anthropic, OpenAI, `{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}]}`, "messages[0].content")
	check(Anthropic, OpenAI, `{"messages":[{"role":"tool","content":"x"}]}`, "messages[0].role")
	check(Gemini, OpenAI, `{"contents":[],"tools":[{"google_search":{}}]}`, "tools[0].googleSearch")
	check(Gemini, OpenAI, `{"contents":[],"cached_content":"c"}`, "cachedContent")
	check(Gemini, OpenAI, `{"contents":[],"generationConfig":{"response_modalities":["IMAGE"]}}`, "generationConfig.responseModalities")
	check(Gemini, OpenAI, `{"contents":[{"role":"user","parts":[{"functionResponse":{"name":"f","response":{}}}]}]}`, "contents[0].parts[0]")
	check(OpenAI, Gemini, `{"messages":[{"role":"tool","tool_call_id":"x","content":"r"}]}`, "messages[0]")
	check(Gemini, OpenAI, `{"contents":[],"generationConfig":{"temperature":"hot"}}`, "generationConfig.temperature")
}

func TestClaudeVersion(t *testing.T) {
	check := func(model string, major, minor int) {
		t.Helper()
		if a, b := claudeVersion(model); a != major || b != minor {
			t.Errorf("claudeVersion(%q) = %d, %d, want %d, %d", model, a, b, major, minor)
		}
	}
	check("claude-sonnet-4-5-20250929", 4, 5)
	check("claude-sonnet-4-20250514", 4, 0)
	check("claude-opus-5", 5, 0)
	check("claude-fable-5-1", 5, 1)
	check("claude-3-7-sonnet-20250219", 0, 0)
	check("claude-2.1", 0, 0)
	check("other", 0, 0)
}

func TestCamelKeys(t *testing.T) {
	check := func(in, want string) {
		t.Helper()
		if got := string(camelKeys([]byte(in))); got != want {
			t.Errorf("camelKeys(%s) = %s, want %s", in, got, want)
		}
	}
	check(`{"a_b": [ {"c_d_e" :"x_y"} ], "args":{"k_k":1}, "_x":1,"y_":2}`, `{"aB": [ {"cDE" :"x_y"} ], "args":{"k_k":1}, "_x":1,"y_":2}`)
	check(`{"function_declarations":[{"parameters_json_schema":{"my_key":1}}]}`, `{"functionDeclarations":[{"parametersJsonSchema":{"my_key":1}}]}`)
	check(`{"no":1}`, `{"no":1}`)
	check(`{"a_b":`, `{"a_b":`)
	check(strings.Repeat(`{"a_b":`, 2000), strings.Repeat(`{"a_b":`, 2000))
}
