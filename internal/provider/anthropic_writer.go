package provider

import (
	"bytes"
	"encoding/json"

	"github.com/sheepgate/sheepgate/internal/llm"
)

func (anthropic) NewWriter(o WriterOptions) Writer {
	return &anthropicWriter{o: o, id: o.ID, model: o.Model, open: -1, tool: -1}
}

// anthropicWriter writes blocks one after another: a block ends where another
// begins. A tool call that arrives while another is still open is gathered and
// written behind it, because blocks cannot overlap here.
type anthropicWriter struct {
	o         WriterOptions
	id, model string
	started   bool

	blocks []*anthropicWritten // of a plain reply all, of a stream only the open one counts
	open   int                 // index of the open block, -1 if none
	tools  []anthropicPending  // by Index of the event
	tool   int                 // the tool call whose block is open, -1 if none

	usage llm.Usage
	stop  string
}

// anthropicWritten is a content block as it grows.
type anthropicWritten struct {
	kind, id, name  string
	text, signature []byte // text, thinking or redacted data
	args            []byte // a tool's, as far as they are known
}

// anthropicPending is a tool call: block is -1 until it has one.
type anthropicPending struct {
	id, name string
	args     []byte // gathered before its block was open
	block    int
}

// MarshalJSON writes the block as it is now.
func (b *anthropicWritten) MarshalJSON() ([]byte, error) {
	switch b.kind {
	case "text":
		return json.Marshal(struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}{b.kind, string(b.text)})
	case "thinking":
		return json.Marshal(struct {
			Type      string `json:"type"`
			Thinking  string `json:"thinking"`
			Signature string `json:"signature"`
		}{b.kind, string(b.text), string(b.signature)})
	case "redacted_thinking":
		return json.Marshal(struct {
			Type string `json:"type"`
			Data string `json:"data"`
		}{b.kind, string(b.text)})
	}
	input := json.RawMessage(bytes.TrimSpace(b.args))
	if len(input) == 0 || input[0] != '{' || !json.Valid(input) {
		input = json.RawMessage("{}") // clients take nothing but an object
	}
	return json.Marshal(struct {
		Type  string          `json:"type"`
		ID    string          `json:"id"`
		Name  string          `json:"name"`
		Input json.RawMessage `json:"input"`
	}{b.kind, b.id, b.name, input})
}

type anthropicWrittenUsage struct {
	Input         int64 `json:"input_tokens"`
	CacheCreation int64 `json:"cache_creation_input_tokens"`
	CacheRead     int64 `json:"cache_read_input_tokens"`
	Creation      struct {
		FiveMinutes int64 `json:"ephemeral_5m_input_tokens"`
		OneHour     int64 `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
	Output        int64 `json:"output_tokens"`
	OutputDetails struct {
		Thinking int64 `json:"thinking_tokens"`
	} `json:"output_tokens_details"`
	ServerToolUse map[string]int64 `json:"server_tool_use,omitempty"`
	ServiceTier   string           `json:"service_tier"`
}

func (w *anthropicWriter) writtenUsage() anthropicWrittenUsage {
	u := &w.usage
	writes := u.CacheWrite5m + u.CacheWrite1h
	o := anthropicWrittenUsage{Input: max(u.Input-u.CacheRead-writes, 0), CacheCreation: writes, CacheRead: u.CacheRead, Output: u.Output, ServiceTier: orElse(u.Tier, "standard")}
	o.Creation.FiveMinutes, o.Creation.OneHour, o.OutputDetails.Thinking = u.CacheWrite5m, u.CacheWrite1h, u.Reasoning
	for name, n := range u.ServerToolCalls {
		if o.ServerToolUse == nil {
			o.ServerToolUse = map[string]int64{}
		}
		o.ServerToolUse[name+"_requests"] = n
	}
	return o
}

type anthropicWrittenMessage struct {
	ID           string                `json:"id"`
	Type         string                `json:"type"`
	Role         string                `json:"role"`
	Model        string                `json:"model"`
	Content      []*anthropicWritten   `json:"content"`
	StopReason   *string               `json:"stop_reason"`
	StopSequence *string               `json:"stop_sequence"`
	Usage        anthropicWrittenUsage `json:"usage"`
}

func (w *anthropicWriter) message(content []*anthropicWritten, stop *string) anthropicWrittenMessage {
	return anthropicWrittenMessage{w.id, "message", "assistant", w.model, content, stop, nil, w.writtenUsage()}
}

// frame appends an event. Its event: line is not for decoration: the official
// SDKs see nothing without it.
func (w *anthropicWriter) frame(dst []byte, event string, v any) []byte {
	if !w.o.Stream {
		return dst
	}
	dst = append(append(append(dst, "event: "...), event...), "\ndata: "...)
	return append(appendJSON(dst, v), "\n\n"...)
}

func (w *anthropicWriter) start(dst []byte) []byte {
	if w.started {
		return dst
	}
	w.started = true
	return w.frame(dst, "message_start", struct {
		Type    string                  `json:"type"`
		Message anthropicWrittenMessage `json:"message"`
	}{"message_start", w.message([]*anthropicWritten{}, nil)})
}

// begin opens b behind the block before it.
func (w *anthropicWriter) begin(dst []byte, b *anthropicWritten) []byte {
	dst = w.close(w.start(dst))
	w.blocks = append(w.blocks, b)
	w.open = len(w.blocks) - 1
	return w.frame(dst, "content_block_start", struct {
		Type  string            `json:"type"`
		Index int               `json:"index"`
		Block *anthropicWritten `json:"content_block"`
	}{"content_block_start", w.open, b})
}

func (w *anthropicWriter) close(dst []byte) []byte {
	if w.open < 0 {
		return dst
	}
	i := w.open
	if b := w.blocks[i]; b.kind == "tool_use" && len(b.args) == 0 {
		dst = w.delta(dst, anthropicDelta{Type: "input_json_delta", PartialJSON: new("{}")})
	}
	w.open, w.tool = -1, -1
	if w.o.Stream {
		w.blocks[i] = nil // it has been said
	}
	return w.frame(dst, "content_block_stop", struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
	}{"content_block_stop", i})
}

type anthropicDelta struct {
	Type        string  `json:"type"`
	Text        *string `json:"text,omitempty"`
	Thinking    *string `json:"thinking,omitempty"`
	Signature   *string `json:"signature,omitempty"`
	PartialJSON *string `json:"partial_json,omitempty"`
}

func (w *anthropicWriter) delta(dst []byte, d anthropicDelta) []byte {
	return w.frame(dst, "content_block_delta", struct {
		Type  string         `json:"type"`
		Index int            `json:"index"`
		Delta anthropicDelta `json:"delta"`
	}{"content_block_delta", w.open, d})
}

// in is the open block if it is of a kind, else a new one.
func (w *anthropicWriter) in(dst []byte, kind string) ([]byte, *anthropicWritten) {
	if w.open >= 0 && w.blocks[w.open].kind == kind {
		return dst, w.blocks[w.open]
	}
	b := &anthropicWritten{kind: kind}
	return w.begin(dst, b), b
}

// Event implements Writer. Anthropic gives one choice.
func (w *anthropicWriter) Event(dst []byte, e llm.Event) []byte {
	if e.Choice != 0 {
		return dst
	}
	var b *anthropicWritten
	switch e.Kind {
	case llm.EventStart:
		w.id, w.model = orElse(e.ID, w.id), orElse(e.Model, w.model)
	case llm.EventText, llm.EventRefusal:
		if e.Text == "" {
			return dst
		}
		dst, b = w.in(dst, "text")
		w.keep(&b.text, e.Text)
		return w.delta(dst, anthropicDelta{Type: "text_delta", Text: &e.Text})
	case llm.EventReasoning:
		dst, b = w.in(dst, "thinking")
		w.keep(&b.text, e.Text)
		return w.delta(dst, anthropicDelta{Type: "thinking_delta", Thinking: &e.Text})
	case llm.EventSignature:
		dst, b = w.in(dst, "thinking")
		w.keep(&b.signature, e.Text)
		dst = w.delta(dst, anthropicDelta{Type: "signature_delta", Signature: &e.Text})
		return w.close(dst) // a signature ends its block
	case llm.EventRedacted:
		data, _ := unquote(e.Data)
		return w.close(w.begin(dst, &anthropicWritten{kind: "redacted_thinking", text: []byte(data)}))
	case llm.EventTool:
		return w.toolCall(dst, e)
	case llm.EventToolDelta:
		return w.toolDelta(dst, e)
	case llm.EventUsage:
		w.usage = *e.Usage
	case llm.EventFinish:
		w.stop = anthropicStop(e.Finish)
	}
	return dst
}

// keep appends to what a plain reply will hold; a stream has said it already.
func (w *anthropicWriter) keep(b *[]byte, text string) {
	if !w.o.Stream {
		*b = append(*b, text...)
	}
}

func (w *anthropicWriter) toolCall(dst []byte, e llm.Event) []byte {
	for len(w.tools) <= e.Index && e.Index < maxToolCalls {
		w.tools = append(w.tools, anthropicPending{block: -1})
	}
	if e.Index < 0 || e.Index >= len(w.tools) || w.tools[e.Index].id != "" {
		return dst
	}
	w.tools[e.Index].id, w.tools[e.Index].name = e.ToolID, e.ToolName
	if w.tool >= 0 && !w.whole() {
		return dst // until the open one is whole, or the end
	}
	return w.openTool(dst, e.Index)
}

// maxToolCalls bounds the calls of one reply.
const maxToolCalls = 1024

func (w *anthropicWriter) toolDelta(dst []byte, e llm.Event) []byte {
	if e.Index < 0 || e.Index >= len(w.tools) {
		return dst
	}
	p := &w.tools[e.Index]
	switch {
	case p.block < 0:
		p.args = append(p.args, e.Text...)
		if w.tool < 0 || w.whole() {
			dst = w.openTool(dst, e.Index)
		}
		return dst
	case p.block != w.open:
		if !w.o.Stream { // a plain reply's blocks stay open to the end
			w.blocks[p.block].args = append(w.blocks[p.block].args, e.Text...)
		}
		return dst
	}
	return w.arguments(dst, e.Text)
}

// whole reports whether the arguments of the open tool call are all there.
func (w *anthropicWriter) whole() bool {
	args := w.blocks[w.open].args
	return len(args) > 0 && args[len(args)-1] == '}' && json.Valid(args)
}

func (w *anthropicWriter) openTool(dst []byte, i int) []byte {
	p := &w.tools[i]
	dst = w.begin(dst, &anthropicWritten{kind: "tool_use", id: p.id, name: p.name})
	w.tool, p.block = i, w.open
	args := p.args
	p.args = nil
	return w.arguments(dst, string(args))
}

func (w *anthropicWriter) arguments(dst []byte, text string) []byte {
	if text == "" {
		return dst
	}
	b := w.blocks[w.open]
	b.args = append(b.args, text...)
	return w.delta(dst, anthropicDelta{Type: "input_json_delta", PartialJSON: &text})
}

// rest writes the calls that waited for another, and closes the last block.
func (w *anthropicWriter) rest(dst []byte) []byte {
	for i := range w.tools {
		if w.tools[i].block < 0 && w.tools[i].id != "" {
			dst = w.openTool(dst, i)
		}
	}
	return w.close(dst)
}

// End implements Writer.
func (w *anthropicWriter) End(dst []byte) []byte {
	dst = w.rest(w.start(dst))
	type delta struct {
		StopReason   string  `json:"stop_reason"`
		StopSequence *string `json:"stop_sequence"`
	}
	dst = w.frame(dst, "message_delta", struct {
		Type  string                `json:"type"`
		Delta delta                 `json:"delta"`
		Usage anthropicWrittenUsage `json:"usage"`
	}{"message_delta", delta{StopReason: orElse(w.stop, "end_turn")}, w.writtenUsage()})
	return w.frame(dst, "message_stop", struct {
		Type string `json:"type"`
	}{"message_stop"})
}

// Whole implements Writer.
func (w *anthropicWriter) Whole(dst []byte) []byte {
	w.rest(nil)
	stop := orElse(w.stop, "end_turn")
	content := w.blocks
	if content == nil {
		content = []*anthropicWritten{}
	}
	return appendJSON(dst, w.message(content, &stop))
}
