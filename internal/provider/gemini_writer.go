package provider

import (
	"encoding/json"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

func (gemini) NewWriter(o WriterOptions) Writer { return &geminiWriter{o: o, id: o.ID, model: o.Model} }

// geminiWriter writes a chunk an event. A function call has no pieces here, so
// its arguments are gathered and written when it is whole.
type geminiWriter struct {
	o         WriterOptions
	id, model string
	usage     *llm.Usage
	choices   []*geminiGathered
}

type geminiGathered struct {
	parts  []geminiPart
	calls  []geminiPart // gathered; args as text in the call
	args   []string
	finish string
}

func (w *geminiWriter) choice(i int) *geminiGathered {
	for len(w.choices) <= i {
		w.choices = append(w.choices, &geminiGathered{})
	}
	return w.choices[i]
}

func geminiReason(f llm.FinishReason) string {
	switch f {
	case llm.FinishLength:
		return "MAX_TOKENS"
	case llm.FinishFilter:
		return "SAFETY"
	case llm.FinishError, llm.FinishUnknown:
		return "OTHER"
	}
	return "STOP"
}

// Event implements Writer.
func (w *geminiWriter) Event(dst []byte, e llm.Event) []byte {
	if e.Choice < 0 || e.Choice > 127 {
		return dst
	}
	switch e.Kind {
	case llm.EventStart:
		w.id, w.model = orElse(e.ID, w.id), orElse(e.Model, w.model)
		return dst
	case llm.EventUsage:
		u := *e.Usage
		w.usage = &u
		return dst
	}
	c := w.choice(e.Choice)
	switch e.Kind {
	case llm.EventText, llm.EventRefusal:
		return w.part(dst, e.Choice, geminiPart{Text: e.Text})
	case llm.EventReasoning:
		return w.part(dst, e.Choice, geminiPart{Text: e.Text, Thought: true})
	case llm.EventTool:
		c.calls = append(c.calls, geminiPart{FunctionCall: &geminiCall{ID: e.ToolID, Name: e.ToolName}, ThoughtSignature: e.Signature})
		c.args = append(c.args, "")
	case llm.EventToolDelta:
		if e.Index < len(c.args) {
			c.args[e.Index] += e.Text
		}
	case llm.EventFinish:
		c.finish = geminiReason(e.Finish)
		for i := range c.calls {
			args := json.RawMessage(strings.TrimSpace(c.args[i]))
			if len(args) == 0 || !json.Valid(args) {
				args = json.RawMessage("{}")
			}
			c.calls[i].FunctionCall.Args = args
			dst = w.part(dst, e.Choice, c.calls[i])
		}
		c.calls, c.args = nil, nil
	}
	return dst
}

// part adds p, joining text with the text before it in a plain reply.
func (w *geminiWriter) part(dst []byte, choice int, p geminiPart) []byte {
	c := w.choice(choice)
	if w.o.Stream {
		return w.chunk(dst, geminiReply{Candidates: []geminiCandidate{{Index: choice, Content: &geminiContent{Role: "model", Parts: []geminiPart{p}}}}})
	}
	if n := len(c.parts); n > 0 && p.FunctionCall == nil && c.parts[n-1].FunctionCall == nil && c.parts[n-1].Thought == p.Thought {
		c.parts[n-1].Text += p.Text
		return dst
	}
	c.parts = append(c.parts, p)
	return dst
}

func (w *geminiWriter) chunk(dst []byte, r geminiReply) []byte {
	r.ID, r.Model = w.id, w.model
	dst = append(dst, "data: "...)
	return append(appendJSON(dst, r), "\n\n"...)
}

func (w *geminiWriter) usageJSON() json.RawMessage {
	u := w.usage
	if u == nil {
		u = &llm.Usage{}
	}
	return appendJSON(nil, map[string]int64{"promptTokenCount": u.Input, "candidatesTokenCount": u.Output - u.Reasoning, "thoughtsTokenCount": u.Reasoning,
		"cachedContentTokenCount": u.CacheRead, "totalTokenCount": u.Input + u.Output})
}

func (w *geminiWriter) last(whole bool) geminiReply {
	w.choice(0)
	r := geminiReply{ID: w.id, Model: w.model, Usage: w.usageJSON()}
	for i, c := range w.choices {
		cand := geminiCandidate{Index: i, FinishReason: reason(orElse(c.finish, "STOP")), Content: &geminiContent{Role: "model"}}
		if whole {
			cand.Content.Parts = c.parts
		}
		r.Candidates = append(r.Candidates, cand)
	}
	return r
}

// End implements Writer.
func (w *geminiWriter) End(dst []byte) []byte { return w.chunk(dst, w.last(false)) }

// Whole implements Writer.
func (w *geminiWriter) Whole(dst []byte) []byte { return appendJSON(dst, w.last(true)) }
