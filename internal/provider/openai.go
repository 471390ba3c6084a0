package provider

import (
	"bytes"
	"encoding/json"
	"net/http"

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
	h["Accept-Encoding"] = identity
	if key != "" {
		h["Authorization"] = []string{"Bearer " + key}
	}
	pass(h, client, "Openai-Beta", "Idempotency-Key", "X-Client-Request-Id")
}

var (
	jsonType  = []string{"application/json"}
	userAgent = []string{"sheepgate"}
	identity  = []string{"identity"} // what we meter we must be able to read
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
func (openAI) Splice(dst [][]byte, body []byte, head *Head, model string, s *Spec) [][]byte {
	ask := head.Stream && !head.IncludeUsage && !s.Quirks.NoStreamOptions
	at := 0
	if ask && head.streamOptions.to == 0 {
		member := askUsage
		if head.empty {
			member = member[:len(member)-1] // no comma
		}
		dst = append(dst, body[:head.open], member)
		at = head.open
	}
	var first, second span
	if !head.named(body, model) {
		first = head.model
	}
	if ask && head.streamOptions.to > 0 {
		second = head.streamOptions
		if first.to > 0 && second.from < first.from {
			first, second = second, first
		}
	}
	for _, sp := range [...]span{first, second} {
		if sp.to == 0 {
			continue
		}
		dst = append(dst, body[at:sp.from])
		if sp == head.model {
			dst = append(dst, appendName(nil, model))
		} else {
			dst = append(dst, appendOptions(nil, sp.of(body)))
		}
		at = sp.to
	}
	return append(dst, body[at:])
}

var askUsage = []byte(`"stream_options":{"include_usage":true},`)

// appendName appends a model name as JSON.
func appendName(dst []byte, name string) []byte {
	for i := range len(name) {
		if c := name[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return appendJSON(dst, name)
		}
	}
	return append(append(append(dst, '"'), name...), '"')
}

// appendOptions appends a stream_options value with include_usage true, its
// other members as they are.
func appendOptions(dst, old []byte) []byte {
	dst = append(dst, `{"include_usage":true`...)
	if old[0] == '{' {
		s := scanner{b: old, i: 1}
		_ = s.members(2, func(key span) error { // it was scanned before
			v, err := s.value(2)
			if fold(key.of(old)) != includeUsage {
				dst = append(append(dst, ','), old[key.from-1:v.to]...)
			}
			return err
		})
	}
	return append(dst, '}')
}

var includeUsage = fold([]byte("include_usage"))

// openAIUsage is the union of what OpenAI-shaped upstreams report.
type openAIUsage struct {
	Prompt        *count `json:"prompt_tokens"`
	Completion    *count `json:"completion_tokens"`
	Total         *count `json:"total_tokens"`
	PromptDetails struct {
		Cached     count `json:"cached_tokens"`
		CacheWrite count `json:"cache_write_tokens"` // gpt-5.6 and later, OpenRouter
		Audio      count `json:"audio_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning count `json:"reasoning_tokens"`
		Audio     count `json:"audio_tokens"`
	} `json:"completion_tokens_details"`
	CacheHit    count           `json:"prompt_cache_hit_tokens"` // DeepSeek
	NumCached   count           `json:"num_cached_tokens"`       // Mistral
	Cached      count           `json:"cached_tokens"`           // Hugging Face's router
	Cost        json.RawMessage `json:"cost"`                    // OpenRouter, USD
	OwnKey      bool            `json:"is_byok"`                 // then cost is OpenRouter's fee alone
	CostDetails struct {
		Upstream json.RawMessage `json:"upstream_inference_cost"` // USD
	} `json:"cost_details"`
	CostTicks   json.RawMessage `json:"cost_in_usd_ticks"` // xAI, 1 USD = 1e10
	ToolUse     openAIToolUse   `json:"server_tool_use"`
	ToolDetails openAIToolUse   `json:"server_tool_use_details"` // OpenRouter
}

type openAIToolUse struct {
	WebSearch count `json:"web_search_requests"`
	Executed  count `json:"tool_calls_executed"`
}

// readOpenAIUsage normalises a usage object. Its source is none if the object
// counts nothing; ok is false if it cannot be believed.
func readOpenAIUsage(raw json.RawMessage, tier string) (u llm.Usage, ok bool) {
	none := llm.Usage{Source: llm.UsageNone}
	rejected := llm.Usage{Source: llm.UsageNone, Raw: compact(raw)}
	var o openAIUsage
	if !o.scan(raw) {
		o = openAIUsage{}
		if err := lenient(raw, &o); err != nil {
			return rejected, false
		}
	}
	if o.Prompt == nil && o.Completion == nil && o.Total == nil {
		if raw[0] != '{' {
			return rejected, false
		}
		return none, true
	}
	n := func(c *count) int64 {
		if c == nil {
			return 0
		}
		return int64(*c)
	}
	u = llm.Usage{
		Input: n(o.Prompt), Output: n(o.Completion),
		CacheRead:    int64(highest(o.PromptDetails.Cached, o.CacheHit, o.NumCached, o.Cached)),
		CacheWrite5m: int64(o.PromptDetails.CacheWrite),
		Reasoning:    int64(o.CompletionDetails.Reasoning),
		AudioInput:   int64(o.PromptDetails.Audio), AudioOutput: int64(o.CompletionDetails.Audio),
		Tier: openAITier(tier), Raw: rejected.Raw,
	}
	total := n(o.Total)
	if total < 0 || u.Input < 0 || u.Output < 0 {
		return rejected, false
	}
	// xAI and Gemini's compatible endpoint leave reasoning out of
	// completion_tokens; the total holds it.
	// https://github.com/UKGovernmentBEIS/inspect_ai/issues/5528
	u.Output = max(u.Output, total-u.Input)
	// OpenRouter has reported more reasoning than completion: the part cannot
	// exceed the whole.
	u.Reasoning = min(u.Reasoning, u.Output)
	u.ServerToolCalls = o.toolCalls()
	u.Reported = o.cost()
	return validUsage(u)
}

// highest is the largest of the counts, or a bad one.
func highest(counts ...count) (most count) {
	for _, c := range counts {
		if c < 0 {
			return badCount
		}
		most = max(most, c)
	}
	return most
}

func (o *openAIUsage) toolCalls() map[string]int64 {
	search := highest(o.ToolUse.WebSearch, o.ToolDetails.WebSearch)
	other := highest(o.ToolUse.Executed, o.ToolDetails.Executed) - search
	calls := map[string]int64{}
	if search != 0 {
		calls["web_search"] = int64(search)
	}
	if other > 0 {
		calls["server_tool"] = int64(other)
	}
	if len(calls) == 0 {
		return nil
	}
	return calls
}

// cost is what the provider itself says the reply cost, nil if it does not.
func (o *openAIUsage) cost() *llm.Nano {
	cost, ok := nanoOf(string(o.Cost), 1e9)
	if ok && o.OwnKey {
		if more, also := nanoOf(string(o.CostDetails.Upstream), 1e9); also {
			cost += more
		}
	}
	if !ok {
		cost, ok = nanoTicks(string(o.CostTicks))
	}
	if !ok {
		return nil
	}
	return &cost
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

// compact is raw without white space, in memory of its own.
func compact(raw json.RawMessage) json.RawMessage {
	dense := true
	for _, c := range raw {
		dense = dense && c > ' '
	}
	if dense {
		return bytes.Clone(raw)
	}
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
