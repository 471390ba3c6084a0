package provider

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// Anthropic is the Messages dialect.
// https://docs.anthropic.com/en/api/messages
var Anthropic Dialect = anthropic{}

type anthropic struct{}

// anthropicVersion is sent where the client named none.
const anthropicVersion = "2023-06-01"

func (anthropic) Name() string { return "anthropic.messages" }

func (anthropic) Path(string, bool) string { return "/messages" }

func (anthropic) SetHeader(h http.Header, key string, client http.Header) {
	h["Content-Type"] = jsonType
	h["User-Agent"] = userAgent
	if key != "" {
		h["X-Api-Key"] = []string{key}
	}
	h["Anthropic-Version"] = []string{anthropicVersion}
	pass(h, client, "Anthropic-Version", "Anthropic-Beta")
}

// Splice implements Dialect: only the model changes.
func (anthropic) Splice(dst [][]byte, body []byte, head *Head, model string, _ *Spec) [][]byte {
	if head.named(body, model) {
		return append(dst, body)
	}
	return append(dst, body[:head.model.from], appendName(nil, model), body[head.model.to:])
}

// anthropicUsage is a usage object. In a stream it comes in pieces, each field
// cumulative: a later value replaces an earlier one, an absent one does not.
type anthropicUsage struct {
	Input         *count `json:"input_tokens"`
	Output        *count `json:"output_tokens"`
	CacheRead     *count `json:"cache_read_input_tokens"`
	CacheCreation *count `json:"cache_creation_input_tokens"`
	Creation      *struct {
		FiveMinutes count `json:"ephemeral_5m_input_tokens"`
		OneHour     count `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
	OutputDetails *struct {
		Thinking count `json:"thinking_tokens"`
	} `json:"output_tokens_details"`
	ServerToolUse *map[string]count `json:"server_tool_use"`
	ServiceTier   string            `json:"service_tier"`
	Speed         string            `json:"speed"`
	Iterations    []struct {
		Type  string `json:"type"`
		Model string `json:"model"`
		anthropicUsage
	} `json:"iterations"`
}

// merge takes over what raw says.
func (u *anthropicUsage) merge(raw json.RawMessage) error {
	old := u.Iterations
	u.Iterations = nil // decoding into old elements would mix their fields
	err := json.Unmarshal(raw, u)
	if u.Iterations == nil {
		u.Iterations = old
	}
	return err
}

func value(c *count) int64 {
	if c == nil {
		return 0
	}
	return int64(*c)
}

// normal is u normalised: input_tokens leaves the cache parts out, Input does
// not. What an advisor or a compaction used is not in the top-level counts, on
// whichever model it ran.
// https://docs.anthropic.com/en/docs/build-with-claude/compaction
func (u *anthropicUsage) normal(model string) llm.Usage {
	n := llm.Usage{Input: value(u.Input) + value(u.CacheRead) + value(u.CacheCreation), Output: value(u.Output), CacheRead: value(u.CacheRead)}
	for _, c := range []*count{u.Input, u.CacheRead, u.CacheCreation} {
		if c != nil && *c < 0 {
			n.Input = int64(badCount)
		}
	}
	n.CacheWrite5m = value(u.CacheCreation)
	if u.Creation != nil && u.Creation.OneHour > 0 && int64(u.Creation.OneHour) <= n.CacheWrite5m {
		n.CacheWrite1h = int64(u.Creation.OneHour)
		n.CacheWrite5m -= n.CacheWrite1h
	}
	if u.OutputDetails != nil {
		n.Reasoning = int64(u.OutputDetails.Thinking)
	}
	if u.ServerToolUse != nil {
		for name, c := range *u.ServerToolUse {
			if c != 0 && strings.HasSuffix(name, "_requests") {
				if n.ServerToolCalls == nil {
					n.ServerToolCalls = map[string]int64{}
				}
				n.ServerToolCalls[strings.TrimSuffix(name, "_requests")] = int64(c)
			}
		}
	}
	switch {
	case u.Speed == "fast":
		n.Tier = "fast"
	case u.ServiceTier == "batch" || u.ServiceTier == "priority":
		n.Tier = u.ServiceTier
	}
	for i := range u.Iterations {
		it := &u.Iterations[i]
		if it.Type == "advisor_message" || it.Type == "compaction" || it.Model != "" && it.Model != model {
			name := orElse(it.Model, model)
			o := it.normal(name)
			o.Source = llm.UsageUpstream
			n.Others = append(n.Others, llm.ModelUsage{Model: name, Usage: o})
		}
	}
	return n
}

func anthropicFinish(s string) llm.FinishReason {
	switch s {
	case "":
		return llm.FinishNone
	case "end_turn", "stop_sequence", "pause_turn": // pause_turn is resent by the client, and ends this reply
		return llm.FinishStop
	case "max_tokens", "model_context_window_exceeded":
		return llm.FinishLength
	case "tool_use":
		return llm.FinishTools
	case "refusal":
		return llm.FinishFilter
	}
	return llm.FinishUnknown
}

// anthropicStop is the stop_reason for a finish reason.
func anthropicStop(f llm.FinishReason) string {
	switch f {
	case llm.FinishLength:
		return "max_tokens"
	case llm.FinishTools:
		return "tool_use"
	case llm.FinishFilter:
		return "refusal"
	}
	return "end_turn"
}

func (anthropic) ReadError(status int, h http.Header, body []byte) *llm.Error {
	e := refusal(status, h)
	kind, msg := anthropicError(body)
	lower := strings.ToLower(msg)
	switch {
	case status == 400 && (strings.Contains(lower, "credit balance") || strings.Contains(lower, "usage limits")):
		// An empty account or a spent limit is the operator's matter, as 402 is:
		// another provider may answer, the client's request is fine.
		e.Class, e.Status, e.Code = llm.ProviderAuth, http.StatusBadGateway, "billing_error"
	case status == 400 && strings.Contains(lower, "prompt is too long"):
		e.Code = "context_length_exceeded"
	case status == 404 && strings.HasPrefix(lower, "model"):
		e.Code = "model_not_found"
	case kind == "rate_limit_error":
		e.Code = "rate_limit_exceeded"
	default:
		e.Code = orElse(clip(kind), codeOf(e.Class))
	}
	e.Msg = upstreamMessage(status, msg)
	return e
}

// anthropicError finds the type and message of an error body; proxies also
// write {"error":"text"} and {"message":"text"}. HTML or nothing gives neither.
func anthropicError(body []byte) (kind, msg string) {
	var o struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
	}
	var in struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	_ = lenient(body, &o)
	if s, ok := unquote(o.Error); ok {
		in.Message = s
	} else {
		_ = lenient(o.Error, &in)
	}
	return in.Type, orElse(in.Message, o.Message)
}

// inBand is an error that came within a 200.
func (d anthropic) inBand(raw []byte) *llm.Error {
	kind, _ := anthropicError(raw)
	status := map[string]int{"invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
		"not_found_error": 404, "conflict_error": 409, "request_too_large": 413, "rate_limit_error": 429, "timeout_error": 504, "overloaded_error": 529}[kind]
	if status == 0 {
		status = 500
	}
	return d.ReadError(status, nil, raw)
}

func (anthropic) WriteError(dst []byte, e *llm.Error) []byte {
	kind := "api_error"
	switch s := e.HTTPStatus(); {
	case s == 401:
		kind = "authentication_error"
	case s == 403:
		kind = "permission_error"
	case s == 404:
		kind = "not_found_error"
	case s == 413:
		kind = "request_too_large"
	case s == 429:
		kind = "rate_limit_error"
	case s < 500:
		kind = "invalid_request_error"
	case s == 503 || s == 529:
		kind = "overloaded_error"
	case s == 504:
		kind = "timeout_error"
	}
	type inner struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	return appendJSON(dst, struct {
		Type  string `json:"type"`
		Error inner  `json:"error"`
	}{"error", inner{kind, e.Msg}})
}

func (anthropic) WriteStreamEnd(dst []byte) []byte {
	return append(dst, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"...)
}

func (d anthropic) WriteStreamError(dst []byte, e *llm.Error) []byte {
	dst = append(dst, "event: error\ndata: "...)
	return append(d.WriteError(dst, e), "\n\n"...)
}
