package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// anthropic is the messages format.
type anthropic struct{}

func (anthropic) key(r *http.Request) string {
	if k := r.Header.Get("x-api-key"); k != "" {
		return k
	}
	return bearer(r)
}

func (anthropic) contentType(stream bool, _ *ask) string { return openai{}.contentType(stream, nil) }

func (anthropic) read(r *http.Request, body []byte) (*ask, error) {
	var in struct {
		Model    string
		Stream   bool
		System   json.RawMessage
		Messages []struct {
			Role    string
			Content json.RawMessage
		}
		MaxTokens     *int     `json:"max_tokens"`
		StopSequences []string `json:"stop_sequences"`
		Tools         []struct {
			Name        string
			InputSchema json.RawMessage `json:"input_schema"`
		}
		ToolChoice struct{ Type, Name string } `json:"tool_choice"`
		Thinking   struct{ Type string }
		Output     struct {
			Format struct {
				Type   string
				Schema json.RawMessage
			}
		} `json:"output_config"`
		OldFormat struct {
			Type   string
			Schema json.RawMessage
		} `json:"output_format"`
	}
	if json.Unmarshal(body, &in) != nil {
		return nil, errors.New("The request body is not valid JSON.")
	}
	switch {
	case r.Header.Get("anthropic-version") == "":
		return nil, errors.New("anthropic-version: header is required")
	case in.MaxTokens == nil:
		return nil, errors.New("max_tokens: Field required")
	case len(in.Messages) == 0:
		return nil, errors.New("messages: at least one message is required")
	}
	q := &ask{model: in.Model, stream: in.Stream, messages: len(in.Messages), maxTokens: *in.MaxTokens, stop: in.StopSequences,
		cache: bytes.Contains(body, []byte(`"cache_control"`)), thoughts: in.Thinking.Type == "enabled" || in.Thinking.Type == "adaptive"}
	q.content(in.System)
	for _, m := range in.Messages {
		if m.Role != "user" && m.Role != "assistant" && m.Role != "system" {
			return nil, errors.New("messages: Unexpected role \"" + m.Role + "\". Allowed roles are \"user\" or \"assistant\".")
		}
		q.answered = false
		if text := q.content(m.Content); m.Role == "user" {
			q.last = text
		}
	}
	for _, t := range in.Tools {
		q.tools = append(q.tools, tool{t.Name, t.InputSchema})
	}
	q.mustCall, q.noCall, q.only = in.ToolChoice.Type == "any", in.ToolChoice.Type == "none", in.ToolChoice.Name
	q.json = in.Output.Format.Type == "json_schema" || in.OldFormat.Type == "json_schema"
	q.schema = in.Output.Format.Schema
	if q.schema == nil {
		q.schema = in.OldFormat.Schema
	}
	return q, nil
}

func (anthropic) header(h http.Header, a *answer) {
	h.Set("request-id", a.id("req_", 24, 1))
	h.Set("anthropic-organization-id", "00000000-0000-4000-8000-000000000000")
	reset := time.Unix(a.created+30, 0).UTC().Format(time.RFC3339)
	used := a.rng.IntN(400)
	limit := func(what string, n, left int) {
		h.Set("anthropic-ratelimit-"+what+"-limit", strconv.Itoa(n))
		h.Set("anthropic-ratelimit-"+what+"-remaining", strconv.Itoa(left))
		h.Set("anthropic-ratelimit-"+what+"-reset", reset)
	}
	limit("requests", 4000, 3999-used)
	limit("tokens", 2400000, 2400000-used*1000)
	limit("input-tokens", 2000000, 2000000-used*800)
	limit("output-tokens", 400000, 400000-used*200)
}

func (anthropic) error(f failure) json.RawMessage {
	typ, msg := "api_error", f.msg
	switch f.kind {
	case badRequest:
		typ = "invalid_request_error"
		if f.status == http.StatusRequestEntityTooLarge {
			typ = "request_too_large"
		}
	case badKey:
		typ, msg = "authentication_error", "invalid x-api-key"
	case noModel:
		typ = "not_found_error"
	case rateLimited:
		typ, msg = "rate_limit_error", "This request would exceed your organization's rate limit."
	case overloaded:
		typ, msg = "overloaded_error", "Overloaded"
	case internal:
		msg = "Internal server error"
	}
	return obj("type", "error", "error", obj("type", typ, "message", msg), "request_id", "req_sim")
}

func (p anthropic) fail(w http.ResponseWriter, f failure) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("request-id", "req_sim")
	if f.wait > 0 {
		h.Set("retry-after", strconv.Itoa(f.wait))
		h.Set("anthropic-ratelimit-requests-limit", "4000")
		h.Set("anthropic-ratelimit-requests-remaining", "0")
	}
	w.WriteHeader(f.status)
	_, _ = w.Write(p.error(f))
}

func (p anthropic) broken(f failure) []byte { return sse("error", p.error(f)) }

// usage is in Anthropic's way of counting: input_tokens leaves the cache out.
func (anthropic) usage(a *answer, output int) json.RawMessage {
	return obj(
		"input_tokens", a.input-a.cacheRead-a.cacheWrite,
		"cache_creation_input_tokens", a.cacheWrite,
		"cache_read_input_tokens", a.cacheRead,
		"cache_creation", obj("ephemeral_5m_input_tokens", a.cacheWrite, "ephemeral_1h_input_tokens", 0),
		"output_tokens", output,
		"service_tier", "standard",
	)
}

func (c *choice) anthropicFinish() (reason string, sequence any) {
	if c.finish == stopped {
		sequence = c.stopped
	}
	return [...]string{ended: "end_turn", stopped: "stop_sequence", cut: "max_tokens", calls: "tool_use", filtered: "refusal"}[c.finish], sequence
}

func (p anthropic) whole(a *answer) []byte {
	c := &a.choices[0]
	var blocks []any
	if len(a.thought) > 0 {
		blocks = append(blocks, obj("type", "thinking", "thinking", join(a.thought), "signature", a.id("Eq", 60, 3)))
	}
	if len(c.pieces) > 0 {
		blocks = append(blocks, obj("type", "text", "text", c.text()))
	}
	for _, t := range c.calls {
		blocks = append(blocks, obj("type", "tool_use", "id", "toolu_"+t.id, "name", t.name, "input", t.args))
	}
	reason, sequence := c.anthropicFinish()
	return obj("model", a.m.Snapshot, "id", a.id("msg_", 24, 0), "type", "message", "role", "assistant", "content", arr(blocks...),
		"stop_reason", reason, "stop_sequence", sequence, "usage", p.usage(a, a.output))
}

func (p anthropic) frames(a *answer) []frame {
	c := &a.choices[0]
	var fs []frame
	send := func(at float64, event string, kv ...any) {
		fs = append(fs, frame{at, sse(event, obj(append([]any{"type", event}, kv...)...))})
	}
	send(0, "message_start", "message", obj("model", a.m.Snapshot, "id", a.id("msg_", 24, 0), "type", "message", "role", "assistant",
		"content", arr(), "stop_reason", nil, "stop_sequence", nil, "usage", p.usage(a, 1+a.rng.IntN(4))))
	thought, text := bundle(a.thought, maxEvents), bundle(c.pieces, maxEvents)
	total, sent, index := len(thought)+len(text), 0, 0
	for _, t := range c.calls {
		total += len(t.pieces())
	}
	block := func(start json.RawMessage, pieces []string, typ, field string, end ...json.RawMessage) {
		send(pace(sent, total), "content_block_start", "index", index, "content_block", start)
		if index == 0 {
			send(pace(sent, total), "ping")
		}
		for _, s := range pieces {
			send(pace(sent, total), "content_block_delta", "index", index, "delta", obj("type", typ, field, s))
			sent++
		}
		for _, d := range end {
			send(pace(sent, total), "content_block_delta", "index", index, "delta", d)
		}
		send(pace(sent, total), "content_block_stop", "index", index)
		index++
	}
	if len(thought) > 0 {
		block(obj("type", "thinking", "thinking", "", "signature", ""), thought, "thinking_delta", "thinking",
			obj("type", "signature_delta", "signature", a.id("Eq", 60, 3)))
	}
	if len(text) > 0 {
		block(obj("type", "text", "text", ""), text, "text_delta", "text")
	}
	for _, t := range c.calls {
		pieces := t.pieces()
		if string(t.args) == "{}" {
			pieces = []string{""} // as the API does for a tool without arguments
		}
		block(obj("type", "tool_use", "id", "toolu_"+t.id, "name", t.name, "input", obj()), pieces, "input_json_delta", "partial_json")
	}
	reason, sequence := c.anthropicFinish()
	send(1, "message_delta", "delta", obj("stop_reason", reason, "stop_sequence", sequence), "usage", obj(
		"input_tokens", a.input-a.cacheRead-a.cacheWrite, "cache_creation_input_tokens", a.cacheWrite,
		"cache_read_input_tokens", a.cacheRead, "output_tokens", a.output))
	send(1, "message_stop")
	return fs
}
