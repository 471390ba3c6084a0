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
func (anthropic) Splice(dst, body []byte, head *Head, model string, _ *Spec) []byte {
	if head.model.to == 0 {
		return append(dst, body...)
	}
	dst = append(dst, body[:head.model.from]...)
	dst = appendJSON(dst, model)
	return append(dst, body[head.model.to:]...)
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

// merge takes over what v says.
func (u *anthropicUsage) merge(raw json.RawMessage) error { return json.Unmarshal(raw, u) }

func value(c *count) int64 {
	if c == nil {
		return 0
	}
	return int64(*c)
}

// normal is u normalised: input_tokens leaves the cache parts out, Input does
// not. Iterations on another model than the answering one (an advisor) are not
// in the top-level counts.
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
			if c != 0 {
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
		if it := &u.Iterations[i]; it.Model != "" && it.Model != model {
			n.Others = append(n.Others, llm.ModelUsage{Model: it.Model, Usage: it.normal(it.Model)})
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
	var o struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &o) // HTML or nothing leaves it empty
	e.Msg, e.Code = upstreamMessage(status, o.Error.Message), o.Error.Type
	if e.Code == "" {
		e.Code = codeOf(e.Class)
	}
	return e
}

// inBand is an error that came within a 200.
func (d anthropic) inBand(raw []byte) *llm.Error {
	var o struct {
		Error struct {
			Type string `json:"type"`
		} `json:"error"`
	}
	_ = json.Unmarshal(raw, &o)
	status := map[string]int{"invalid_request_error": 400, "authentication_error": 401, "permission_error": 403, "not_found_error": 404,
		"request_too_large": 413, "rate_limit_error": 429, "timeout_error": 504, "overloaded_error": 529, "billing_error": 402}[o.Error.Type]
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

func (d anthropic) WriteStreamError(dst []byte, e *llm.Error) []byte {
	dst = append(dst, "event: error\ndata: "...)
	return append(d.WriteError(dst, e), "\n\n"...)
}
