package provider

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// anthropicBlock is a content block of a reply.
type anthropicBlock struct {
	Type      string          `json:"type"`
	Text      string          `json:"text"`
	Thinking  string          `json:"thinking"`
	Signature string          `json:"signature"`
	Data      string          `json:"data"` // redacted_thinking
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Input     json.RawMessage `json:"input"`
}

type anthropicMessage struct {
	Type       string          `json:"type"`
	ID         string          `json:"id"`
	Model      string          `json:"model"`
	Content    json.RawMessage `json:"content"` // blocks, read only to be translated
	StopReason string          `json:"stop_reason"`
	Usage      json.RawMessage `json:"usage"`
}

type anthropicEvent struct {
	Type    string            `json:"type"`
	Index   int               `json:"index"`
	Message *anthropicMessage `json:"message"`
	Block   *anthropicBlock   `json:"content_block"`
	Delta   struct {
		Type        string `json:"type"`
		Text        string `json:"text"`
		Thinking    string `json:"thinking"`
		Signature   string `json:"signature"`
		PartialJSON string `json:"partial_json"`
		StopReason  string `json:"stop_reason"`
	} `json:"delta"`
	Usage json.RawMessage `json:"usage"`
}

func (anthropic) NewReader(*Spec) Reader {
	return &anthropicReader{sum: Summary{Usage: llm.Usage{Source: llm.UsageNone}}}
}

type anthropicReader struct {
	sum    Summary
	usage  anthropicUsage
	raw    map[string]json.RawMessage // usage as merged
	tools  map[int]int                // block index → tool call index
	inputs map[int]json.RawMessage    // block index → input given at its start
	nTool  int
	begun  bool // message_start has come
}

func (r *anthropicReader) Summary() *Summary { return &r.sum }
func (r *anthropicReader) HideUsage()        {}

func (r *anthropicReader) Whole(body []byte, emit func(llm.Event)) error {
	var m anthropicMessage
	if err := lenient(body, &m); err != nil {
		return badReply("the answer is not JSON of a message", err)
	}
	switch m.Type {
	case "error":
		return anthropic{}.inBand(body)
	case "message":
	default:
		return badReply("the answer is not a message", nil)
	}
	if emit == nil {
		emit = func(llm.Event) {}
		r.start(&m, emit)
		r.glimpse(m.Content)
	} else {
		r.start(&m, emit)
		var blocks []anthropicBlock
		_ = lenient(m.Content, &blocks) // a part of m: it is JSON
		for i := range blocks {
			r.block(i, &blocks[i], emit)
			r.blockEnd(i, emit)
		}
	}
	r.report(m.Usage)
	r.finish(m.StopReason, emit)
	r.sum.Complete = true
	return nil
}

// glimpse sees whether a plain reply says anything.
func (r *anthropicReader) glimpse(content json.RawMessage) {
	var blocks []struct {
		Type     string  `json:"type"`
		Text     present `json:"text"`
		Thinking present `json:"thinking"`
	}
	_ = lenient(content, &blocks)
	for _, b := range blocks {
		r.sum.Content = r.sum.Content || bool(b.Text || b.Thinking) || b.Type != "text" && b.Type != "thinking"
	}
}

func (r *anthropicReader) start(m *anthropicMessage, emit func(llm.Event)) {
	r.sum.ID, r.sum.Model = m.ID, m.Model
	emit(llm.Event{Kind: llm.EventStart, ID: m.ID, Model: m.Model})
}

// report merges a usage object into what is known.
func (r *anthropicReader) report(raw json.RawMessage) {
	if isNull(raw) {
		return
	}
	if err := r.usage.merge(raw); err != nil {
		r.sum.BadUsage, r.sum.Usage = true, llm.Usage{Source: llm.UsageNone, Raw: compact(raw)}
		return
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) == nil {
		if r.raw == nil {
			r.raw = fields
		}
		for k, v := range fields {
			if !isNull(v) {
				r.raw[k] = v
			}
		}
	}
	u, ok := validUsage(r.usage.normal(r.sum.Model))
	if !ok {
		r.sum.BadUsage = true
	}
	u.Raw = appendJSON(nil, r.raw)
	r.sum.Usage = u
}

func (r *anthropicReader) finish(stop string, emit func(llm.Event)) {
	if r.sum.Usage.Source == llm.UsageUpstream {
		emit(llm.Event{Kind: llm.EventUsage, Usage: &r.sum.Usage})
	}
	if stop != "" {
		r.sum.Finish, r.sum.Native = anthropicFinish(stop), stop
		emit(llm.Event{Kind: llm.EventFinish, Finish: r.sum.Finish, Native: stop})
	}
}

// light are the events that need no decoding once content has been seen.
func light(event string) bool {
	switch event {
	case "content_block_delta", "content_block_stop", "ping":
		return true
	}
	return false
}

func (r *anthropicReader) Frame(f Frame, emit func(llm.Event)) (bool, error) {
	data := bytes.TrimSpace(f.Data)
	switch {
	case r.sum.Ended, string(data) == "[DONE]": // nothing may follow the end, though some gateways append OpenAI's
		return false, nil
	case len(data) == 0:
		return false, nil
	case data[0] != '{' && f.Event != "error":
		return false, badReply("an event of the stream is not a JSON object", nil)
	case emit == nil && r.sum.Content && light(f.Event) && wellFormed(data):
		return true, nil
	}
	if f.Event == "error" {
		return false, anthropic{}.inBand(data)
	}
	var e anthropicEvent
	if err := lenient(data, &e); err != nil {
		return false, badReply("an event of the stream is not JSON", err)
	}
	if emit == nil {
		emit = func(llm.Event) {}
	}
	switch e.Type {
	case "error":
		return false, anthropic{}.inBand(data)
	case "message_start":
		r.begun = true
		if e.Message != nil {
			r.start(e.Message, emit)
			r.report(e.Message.Usage)
		}
	case "content_block_start":
		if e.Block != nil {
			r.block(e.Index, e.Block, emit)
		}
	case "content_block_delta":
		r.delta(&e, emit)
	case "content_block_stop":
		r.blockEnd(e.Index, emit)
	case "message_delta":
		r.report(e.Usage)
		r.finish(e.Delta.StopReason, emit)
		r.sum.Complete = r.sum.Complete || e.Delta.StopReason != ""
	case "message_stop":
		r.sum.Ended = true
		r.sum.Complete = r.sum.Complete || r.begun
	}
	return true, nil
}

// block begins a content block; a plain reply's block is whole.
func (r *anthropicReader) block(i int, b *anthropicBlock, emit func(llm.Event)) {
	send := func(e llm.Event) {
		r.sum.Content = r.sum.Content || e.Content()
		emit(e)
	}
	switch b.Type {
	case "text":
		if b.Text != "" {
			send(llm.Event{Kind: llm.EventText, Text: b.Text})
		}
	case "thinking":
		if b.Thinking != "" {
			send(llm.Event{Kind: llm.EventReasoning, Text: b.Thinking})
		}
		if b.Signature != "" {
			send(llm.Event{Kind: llm.EventSignature, Text: b.Signature})
		}
	case "redacted_thinking":
		send(llm.Event{Kind: llm.EventRedacted, Data: appendJSON(nil, b.Data)})
	case "tool_use":
		if r.tools == nil {
			r.tools, r.inputs = map[int]int{}, map[int]json.RawMessage{}
		}
		r.tools[i] = r.nTool
		r.nTool++
		id := b.ID
		if id == "" {
			id = "toolu_" + strconv.Itoa(i)
		}
		send(llm.Event{Kind: llm.EventTool, Index: r.tools[i], ToolID: id, ToolName: b.Name})
		if in := compact(b.Input); len(in) > 0 && string(in) != "{}" && string(in) != "null" {
			r.inputs[i] = in
		}
	default: // a tool that the provider runs, or its result
		r.sum.Content = true
	}
}

func (r *anthropicReader) delta(e *anthropicEvent, emit func(llm.Event)) {
	var ev llm.Event
	switch e.Delta.Type {
	case "text_delta":
		ev = llm.Event{Kind: llm.EventText, Text: e.Delta.Text}
	case "thinking_delta":
		ev = llm.Event{Kind: llm.EventReasoning, Text: e.Delta.Thinking}
	case "signature_delta":
		ev = llm.Event{Kind: llm.EventSignature, Text: e.Delta.Signature}
	case "input_json_delta":
		i, ok := r.tools[e.Index]
		if !ok {
			return // input of a tool that the provider runs
		}
		delete(r.inputs, e.Index)
		ev = llm.Event{Kind: llm.EventToolDelta, Index: i, Text: e.Delta.PartialJSON}
	default:
		return
	}
	r.sum.Content = r.sum.Content || ev.Content()
	if ev.Text != "" {
		emit(ev)
	}
}

// blockEnd gives a tool call the input that stood in its start, if no delta
// brought one.
func (r *anthropicReader) blockEnd(i int, emit func(llm.Event)) {
	if in, ok := r.inputs[i]; ok {
		delete(r.inputs, i)
		emit(llm.Event{Kind: llm.EventToolDelta, Index: r.tools[i], Text: string(in)})
	}
}
