package sim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// openai is the chat completions format, with DeepSeek's differences.
type openai struct{ deepseek bool }

func (openai) key(r *http.Request) string { return bearer(r) }

func (openai) contentType(stream bool, _ *ask) string {
	if stream {
		return "text/event-stream; charset=utf-8"
	}
	return "application/json"
}

func (openai) read(_ *http.Request, body []byte) (*ask, error) {
	var in struct {
		Model         string
		Stream        bool
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
		Messages []struct {
			Role      string
			Content   json.RawMessage
			ToolCalls []struct {
				Function struct{ Arguments string }
			} `json:"tool_calls"`
		}
		MaxTokens           int `json:"max_tokens"`
		MaxCompletionTokens int `json:"max_completion_tokens"`
		Stop                json.RawMessage
		N                   int
		Tools               []struct {
			Function struct {
				Name       string
				Parameters json.RawMessage
			}
		}
		ToolChoice     json.RawMessage `json:"tool_choice"`
		ResponseFormat struct {
			Type       string
			JSONSchema struct{ Schema json.RawMessage } `json:"json_schema"`
		} `json:"response_format"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, errNotJSON
	}
	if len(in.Messages) == 0 {
		return nil, fmt.Errorf("Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.")
	}
	q := &ask{model: in.Model, stream: in.Stream, usage: in.StreamOptions.IncludeUsage, n: in.N, messages: len(in.Messages)}
	for _, m := range in.Messages {
		q.answered = m.Role == "tool"
		text := q.content(m.Content)
		if m.Role == "user" {
			q.last = text
		}
		for _, c := range m.ToolCalls {
			q.read(c.Function.Arguments)
		}
	}
	q.maxTokens = max(in.MaxTokens, in.MaxCompletionTokens)
	q.stop = oneOrMany(in.Stop)
	for _, t := range in.Tools {
		q.tools = append(q.tools, tool{t.Function.Name, t.Function.Parameters})
	}
	var mode string
	var named struct{ Function struct{ Name string } }
	if json.Unmarshal(in.ToolChoice, &mode) == nil {
		q.mustCall, q.noCall = mode == "required", mode == "none"
	} else if json.Unmarshal(in.ToolChoice, &named) == nil {
		q.only = named.Function.Name
	}
	q.json = in.ResponseFormat.Type == "json_object" || in.ResponseFormat.Type == "json_schema"
	q.schema = in.ResponseFormat.JSONSchema.Schema
	return q, nil
}

// oneOrMany reads a string or a list of strings.
func oneOrMany(raw json.RawMessage) []string {
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		return []string{one}
	}
	var many []string
	_ = json.Unmarshal(raw, &many) // anything else means none
	return many
}

func (o openai) header(h http.Header, a *answer) {
	h.Set("x-request-id", "req_"+a.hex())
	if o.deepseek {
		return // none seen
	}
	h.Set("openai-processing-ms", strconv.Itoa(40+a.rng.IntN(900)))
	h.Set("openai-version", "2020-10-01")
	used := a.rng.IntN(4000)
	h.Set("x-ratelimit-limit-requests", "10000")
	h.Set("x-ratelimit-remaining-requests", strconv.Itoa(9999-used/10))
	h.Set("x-ratelimit-reset-requests", "6ms")
	h.Set("x-ratelimit-limit-tokens", "30000000")
	h.Set("x-ratelimit-remaining-tokens", strconv.Itoa(30000000-a.input-used*700))
	h.Set("x-ratelimit-reset-tokens", strconv.Itoa(1+used/8)+"ms")
}

func (openai) error(f failure) json.RawMessage {
	var typ, code any
	var param any
	switch f.kind {
	case badRequest:
		typ = "invalid_request_error"
	case badKey:
		typ, code = "invalid_request_error", "invalid_api_key"
	case noModel:
		typ, code, param = "invalid_request_error", "model_not_found", "model"
	case rateLimited:
		typ, code = "tokens", "rate_limit_exceeded"
	case overloaded:
		typ, code = "server_error", "overloaded"
	default:
		typ = "server_error"
	}
	return obj("error", obj("message", f.msg, "type", typ, "param", param, "code", code))
}

func (o openai) fail(w http.ResponseWriter, f failure) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if f.wait > 0 {
		h.Set("retry-after", strconv.Itoa(f.wait))
		h.Set("retry-after-ms", strconv.Itoa(f.wait*1000))
		h.Set("x-ratelimit-limit-tokens", "30000000")
		h.Set("x-ratelimit-remaining-tokens", "0")
		h.Set("x-ratelimit-reset-tokens", strconv.Itoa(f.wait)+"s")
	}
	w.WriteHeader(f.status)
	_, _ = w.Write(o.error(f))
}

func (o openai) broken(f failure) []byte { return sse("", o.error(f)) }

func (o openai) usage(a *answer) json.RawMessage {
	return obj(
		"prompt_tokens", a.input,
		"completion_tokens", a.output,
		"total_tokens", a.input+a.output,
		"prompt_tokens_details", obj("cached_tokens", a.cacheRead, "audio_tokens", when(!o.deepseek, 0)),
		"completion_tokens_details", when(!o.deepseek || a.reasoning > 0, obj("reasoning_tokens", a.reasoning)),
		"prompt_cache_hit_tokens", when(o.deepseek, a.cacheRead),
		"prompt_cache_miss_tokens", when(o.deepseek, a.input-a.cacheRead),
	)
}

func (c *choice) openaiFinish() string {
	return [...]string{ended: "stop", stopped: "stop", cut: "length", calls: "tool_calls", filtered: "content_filter"}[c.finish]
}

func (o openai) whole(a *answer) []byte {
	var choices []any
	for i := range a.choices {
		c := &a.choices[i]
		var content, tools any = c.text(), skip
		if len(c.calls) > 0 {
			content = nil
			var ts []any
			for _, t := range c.calls {
				ts = append(ts, obj("id", "call_"+t.id, "type", "function", "function", obj("name", t.name, "arguments", string(t.args))))
			}
			tools = arr(ts...)
		}
		choices = append(choices, obj(
			"index", i,
			"message", obj("role", "assistant", "content", content,
				"reasoning_content", when(o.deepseek && len(a.thought) > 0, join(a.thought)),
				"tool_calls", tools, "refusal", when(!o.deepseek, nil)),
			"logprobs", nil,
			"finish_reason", c.openaiFinish(),
		))
	}
	return obj("id", o.id(a), "object", "chat.completion", "created", a.created, "model", a.m.Snapshot,
		"choices", arr(choices...), "usage", o.usage(a), "service_tier", when(!o.deepseek, "default"),
		"system_fingerprint", "fp_"+a.hex()[:10])
}

func (o openai) id(a *answer) string {
	if o.deepseek {
		return a.hex()
	}
	return a.id("chatcmpl-", 29, 0)
}

func (o openai) frames(a *answer) []frame {
	var fs []frame
	id, fp := o.id(a), "fp_"+a.hex()[:10]
	chunk := func(at float64, choices json.RawMessage, usage any) {
		if usage == skip && a.q.usage {
			usage = nil
		}
		fs = append(fs, frame{at, sse("", obj("id", id, "object", "chat.completion.chunk", "created", a.created, "model", a.m.Snapshot,
			"service_tier", when(!o.deepseek, "default"), "system_fingerprint", fp, "choices", choices, "usage", usage))})
	}
	one := func(i int, delta json.RawMessage, finish any) json.RawMessage {
		return arr(obj("index", i, "delta", delta, "logprobs", nil, "finish_reason", finish))
	}
	for i := range a.choices {
		c := &a.choices[i]
		chunk(0, one(i, obj("role", "assistant", "content", when(len(c.calls) == 0, ""), "refusal", when(!o.deepseek, nil)), nil), skip)
		var deltas []json.RawMessage
		if o.deepseek {
			for _, p := range bundle(a.thought, maxEvents) {
				deltas = append(deltas, obj("content", nil, "reasoning_content", p))
			}
		}
		for _, p := range bundle(c.pieces, maxEvents) {
			deltas = append(deltas, obj("content", p))
		}
		for j, t := range c.calls {
			deltas = append(deltas, obj("tool_calls", arr(obj("index", j, "id", "call_"+t.id, "type", "function",
				"function", obj("name", t.name, "arguments", "")))))
			for _, p := range t.pieces() {
				deltas = append(deltas, obj("tool_calls", arr(obj("index", j, "function", obj("arguments", p)))))
			}
		}
		for j, d := range deltas {
			chunk(pace(i*len(deltas)+j, len(a.choices)*len(deltas)), one(i, d, nil), skip)
		}
		usage := any(skip)
		if o.deepseek && i == len(a.choices)-1 { // it rides with the finish reason
			usage = o.usage(a)
		}
		chunk(1, one(i, obj(), c.openaiFinish()), usage)
	}
	if a.q.usage && !o.deepseek {
		chunk(1, arr(), o.usage(a))
	}
	return append(fs, frame{1, []byte("data: [DONE]\n\n")})
}

// pace is when the i-th of n deltas leaves: the first at once.
func pace(i, n int) float64 { return float64(i) / float64(max(1, n)) }

func join(p []string) string {
	s := ""
	for _, p := range p {
		s += p
	}
	return s
}

// sse makes one event of a stream.
func sse(event string, data json.RawMessage) []byte {
	var b []byte
	if event != "" {
		b = append(append(append(b, "event: "...), event...), '\n')
	}
	b = append(append(b, "data: "...), data...)
	return append(b, "\n\n"...)
}
