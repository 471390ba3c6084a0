package provider

import (
	"encoding/json"

	"github.com/sheepgate/sheepgate/internal/llm"
)

func (anthropic) NewWriter(o WriterOptions) Writer {
	return &anthropicWriter{o: o, id: o.ID, model: o.Model, open: -1}
}

// anthropicWriter writes blocks one after another: a block ends where another
// kind begins.
type anthropicWriter struct {
	o         WriterOptions
	id, model string
	started   bool
	open      int // index of the open block, -1 if none
	tool      int // tool call of the open block, where it is one
	blocks    []map[string]any
	args      map[int]string // of a tool_use block, as text
	usage     llm.Usage
	stop      string
}

func (w *anthropicWriter) frame(dst []byte, event string, v map[string]any) []byte {
	if !w.o.Stream {
		return dst
	}
	v["type"] = event
	dst = append(append(append(dst, "event: "...), event...), "\ndata: "...)
	return append(appendJSON(dst, v), "\n\n"...)
}

func (w *anthropicWriter) usageJSON() map[string]any {
	u := &w.usage
	return map[string]any{"input_tokens": u.Input - u.CacheRead - u.CacheWrite5m - u.CacheWrite1h, "output_tokens": u.Output,
		"cache_read_input_tokens": u.CacheRead, "cache_creation_input_tokens": u.CacheWrite5m + u.CacheWrite1h}
}

func (w *anthropicWriter) message(content any) map[string]any {
	var stop any
	if w.stop != "" {
		stop = w.stop
	}
	return map[string]any{"id": w.id, "type": "message", "role": "assistant", "model": w.model, "content": content,
		"stop_reason": stop, "stop_sequence": nil, "usage": w.usageJSON()}
}

func (w *anthropicWriter) start(dst []byte) []byte {
	if w.started {
		return dst
	}
	w.started = true
	return w.frame(dst, "message_start", map[string]any{"message": w.message([]any{})})
}

func (w *anthropicWriter) close(dst []byte) []byte {
	if w.open < 0 {
		return dst
	}
	i := w.open
	w.open = -1
	return w.frame(dst, "content_block_stop", map[string]any{"index": i})
}

// begin opens a block of a kind unless the open one is of it.
func (w *anthropicWriter) begin(dst []byte, kind string, block map[string]any) []byte {
	if w.open >= 0 && w.blocks[w.open]["type"] == kind && kind != "tool_use" {
		return dst
	}
	dst = w.close(w.start(dst))
	block["type"] = kind
	w.blocks = append(w.blocks, block)
	w.open = len(w.blocks) - 1
	shown := map[string]any{}
	for k, v := range block {
		shown[k] = v
	}
	return w.frame(dst, "content_block_start", map[string]any{"index": w.open, "content_block": shown})
}

func (w *anthropicWriter) delta(dst []byte, kind, field, text string) []byte {
	if s, ok := w.blocks[w.open][field].(string); ok {
		w.blocks[w.open][field] = s + text
	}
	name := field
	if field == "input" {
		name = "partial_json"
		w.args[w.open] += text
	}
	return w.frame(dst, "content_block_delta", map[string]any{"index": w.open, "delta": map[string]any{"type": kind, name: text}})
}

// Event implements Writer. Anthropic gives one choice.
func (w *anthropicWriter) Event(dst []byte, e llm.Event) []byte {
	if e.Choice != 0 {
		return dst
	}
	switch e.Kind {
	case llm.EventStart:
		if e.ID != "" {
			w.id = e.ID
		}
		if e.Model != "" {
			w.model = e.Model
		}
	case llm.EventText, llm.EventRefusal:
		dst = w.begin(dst, "text", map[string]any{"text": ""})
		dst = w.delta(dst, "text_delta", "text", e.Text)
	case llm.EventReasoning:
		dst = w.begin(dst, "thinking", map[string]any{"thinking": "", "signature": ""})
		dst = w.delta(dst, "thinking_delta", "thinking", e.Text)
	case llm.EventSignature:
		dst = w.begin(dst, "thinking", map[string]any{"thinking": "", "signature": ""})
		dst = w.delta(dst, "signature_delta", "signature", e.Text)
	case llm.EventRedacted:
		dst = w.begin(dst, "redacted_thinking", map[string]any{"data": e.Data})
		dst = w.close(dst)
	case llm.EventTool:
		dst = w.begin(dst, "tool_use", map[string]any{"id": e.ToolID, "name": e.ToolName, "input": map[string]any{}})
		w.tool = e.Index
		if w.args == nil {
			w.args = map[int]string{}
		}
	case llm.EventToolDelta:
		if w.open >= 0 && w.tool == e.Index && w.args != nil {
			dst = w.delta(dst, "input_json_delta", "input", e.Text)
		}
	case llm.EventUsage:
		w.usage = *e.Usage
	case llm.EventFinish:
		w.stop = anthropicStop(e.Finish)
	}
	return dst
}

// End implements Writer.
func (w *anthropicWriter) End(dst []byte) []byte {
	dst = w.close(w.start(dst))
	stop := orElse(w.stop, "end_turn")
	dst = w.frame(dst, "message_delta", map[string]any{"delta": map[string]any{"stop_reason": stop, "stop_sequence": nil}, "usage": w.usageJSON()})
	return w.frame(dst, "message_stop", map[string]any{})
}

// Whole implements Writer.
func (w *anthropicWriter) Whole(dst []byte) []byte {
	for i, b := range w.blocks {
		if args, ok := w.args[i]; ok && json.Valid([]byte(args)) {
			b["input"] = json.RawMessage(args)
		}
	}
	w.stop = orElse(w.stop, "end_turn")
	content := w.blocks
	if content == nil {
		content = []map[string]any{}
	}
	return appendJSON(dst, w.message(content))
}
