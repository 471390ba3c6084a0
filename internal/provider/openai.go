package provider

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// OpenAI is the chat completions dialect, spoken by OpenAI and most others.
// https://platform.openai.com/docs/api-reference/chat
var OpenAI Dialect = openAI{}

type openAI struct{}

func (openAI) Name() string { return "openai.chat" }

func (openAI) Path(string, bool) string { return "/chat/completions" }

func (openAI) SetHeader(h http.Header, key string, client http.Header) {
	h["Content-Type"] = jsonType
	h["User-Agent"] = userAgent
	if key != "" {
		h["Authorization"] = []string{"Bearer " + key}
	}
	pass(h, client, "Openai-Beta", "Idempotency-Key", "X-Client-Request-Id")
}

var (
	jsonType  = []string{"application/json"}
	userAgent = []string{"sheepgate"}
)

// pass copies the named headers of a client; nothing else of them goes out.
func pass(h, client http.Header, names ...string) {
	for _, n := range names {
		if v := client[n]; len(v) > 0 {
			h[n] = v
		}
	}
}

// Splice implements Dialect. A stream is always asked for its usage.
func (openAI) Splice(dst, body []byte, head *Head, model string, s *Spec) []byte {
	at := 0
	put := func(sp span, with []byte) {
		dst = append(append(dst, body[at:sp.from]...), with...)
		at = sp.to
	}
	quoted := strconv.AppendQuote(nil, model)
	if !isPlain(model) {
		quoted, _ = json.Marshal(model) // a string always can be
	}
	ask := head.Stream && !head.IncludeUsage && !s.Quirks.NoStreamOptions
	options := func() {
		old := body[head.streamOptions.from:head.streamOptions.to]
		switch {
		case head.streamOptions.to == 0:
		case string(old) == "null" || len(bytes.TrimSpace(old[1:len(old)-1])) == 0:
			put(head.streamOptions, []byte(`{"include_usage":true}`))
		default:
			put(head.streamOptions, withUsage(old))
		}
	}
	if ask && head.streamOptions.to == 0 {
		insert := []byte(`"stream_options":{"include_usage":true}`)
		if !head.empty {
			insert = append(insert, ',')
		}
		put(span{head.open, head.open}, insert)
	}
	first := head.streamOptions.from < head.model.from
	if ask && first {
		options()
	}
	if head.model.to > 0 {
		put(head.model, quoted)
	}
	if ask && !first {
		options()
	}
	return append(dst, body[at:]...)
}

func isPlain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// withUsage is a stream_options object with include_usage true, its other
// members as they were.
func withUsage(old []byte) []byte {
	s := scanner{b: old, i: 1}
	var value span
	_ = s.members(2, func(key span) error { // it was scanned before
		s.peek()
		from := s.i
		err := s.skip(2)
		if string(old[key.from:key.to]) == "include_usage" {
			value = span{from, s.i}
		}
		return err
	})
	if value.to > 0 {
		return append(append(append([]byte{}, old[:value.from]...), "true"...), old[value.to:]...)
	}
	return append([]byte(`{"include_usage":true,`), old[1:]...)
}

// openAIUsage is the union of what OpenAI-shaped upstreams report.
type openAIUsage struct {
	Prompt        count `json:"prompt_tokens"`
	Completion    count `json:"completion_tokens"`
	Total         count `json:"total_tokens"`
	PromptDetails struct {
		Cached     count `json:"cached_tokens"`
		CacheWrite count `json:"cache_write_tokens"` // gpt-5.6 and later, OpenRouter
		Audio      count `json:"audio_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning count `json:"reasoning_tokens"`
		Audio     count `json:"audio_tokens"`
	} `json:"completion_tokens_details"`
	CacheHit  count       `json:"prompt_cache_hit_tokens"` // DeepSeek
	NumCached count       `json:"num_cached_tokens"`       // Mistral
	Cost      json.Number `json:"cost"`                    // OpenRouter, USD
	CostTicks json.Number `json:"cost_in_usd_ticks"`       // xAI, 1 USD = 1e10
	ToolUse   struct {
		WebSearch count `json:"web_search_requests"`
	} `json:"server_tool_use"`
}

// readOpenAIUsage normalises a usage object. ok is false if it cannot be
// believed.
func readOpenAIUsage(raw json.RawMessage, tier string) (u llm.Usage, ok bool) {
	var o openAIUsage
	if err := json.Unmarshal(raw, &o); err != nil {
		return llm.Usage{Source: llm.UsageNone}, false
	}
	u = llm.Usage{
		Input: int64(o.Prompt), Output: int64(o.Completion),
		CacheRead:    int64(max(o.PromptDetails.Cached, o.CacheHit, o.NumCached)),
		CacheWrite5m: int64(o.PromptDetails.CacheWrite),
		Reasoning:    int64(o.CompletionDetails.Reasoning),
		AudioInput:   int64(o.PromptDetails.Audio), AudioOutput: int64(o.CompletionDetails.Audio),
		Tier: openAITier(tier), Raw: compact(raw),
	}
	// xAI and Gemini's compatible endpoint leave reasoning out of
	// completion_tokens; the total holds it.
	// https://github.com/UKGovernmentBEIS/inspect_ai/issues/5528
	if hidden := int64(o.Total) - u.Input; o.Total != badCount && hidden > u.Output && u.Input >= 0 && u.Output >= 0 {
		u.Output = hidden
	}
	// OpenRouter has reported more reasoning than completion: the part cannot
	// exceed the whole.
	if u.Reasoning > u.Output && u.Output >= 0 {
		u.Reasoning = u.Output
	}
	if n := int64(o.ToolUse.WebSearch); n > 0 {
		u.ServerToolCalls = map[string]int64{"web_search": n}
	}
	if n, ok := nanoOf(string(o.Cost), 1e9); ok {
		u.Reported = &n
	} else if n, ok := nanoTicks(string(o.CostTicks)); ok {
		u.Reported = &n
	}
	return validUsage(u)
}

// nanoTicks reads xAI's cost: 1e10 ticks a dollar, so ten ticks a nano-dollar.
func nanoTicks(s string) (llm.Nano, bool) {
	n, ok := nanoOf(s, 1)
	return (n + 5) / 10, ok
}

// openAITier is the service tier that answered; "" for the standard one.
func openAITier(s string) string {
	switch s {
	case "flex", "priority", "batch":
		return s
	}
	return ""
}

func compact(raw json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return nil
	}
	return b.Bytes()
}

// openAIFinish maps a native finish reason. Together says eos.
func openAIFinish(s string) llm.FinishReason {
	switch s {
	case "":
		return llm.FinishNone
	case "stop", "eos", "end_turn", "stop_sequence", "COMPLETE":
		return llm.FinishStop
	case "length", "max_tokens", "model_length":
		return llm.FinishLength
	case "tool_calls", "function_call", "tool_use":
		return llm.FinishTools
	case "content_filter", "content_filtered", "refusal", "SAFETY":
		return llm.FinishFilter
	case "error", "insufficient_system_resource":
		return llm.FinishError
	}
	return llm.FinishUnknown
}
