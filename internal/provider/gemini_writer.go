package provider

import (
	"bytes"
	"encoding/base64"
	"encoding/json"

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
	parts  []geminiGatheredPart // of a plain reply
	calls  []geminiGatheredPart // not written yet; text is the arguments
	base   int                  // calls written: the Index of calls[0]
	finish string
}

type geminiGatheredPart struct {
	geminiPart
	text []byte
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
	case llm.EventText, llm.EventRefusal, llm.EventReasoning:
		if e.Text == "" {
			return dst
		}
	}
	switch e.Kind {
	case llm.EventText, llm.EventRefusal:
		return w.part(dst, e.Choice, geminiPart{Text: e.Text})
	case llm.EventReasoning:
		return w.part(dst, e.Choice, geminiPart{Text: e.Text, Thought: true})
	case llm.EventSignature:
		if isBase64(e.Text) { // the field is bytes: clients decode it
			return w.part(dst, e.Choice, geminiPart{Thought: true, ThoughtSignature: e.Text})
		}
	case llm.EventTool:
		if e.Index == c.base+len(c.calls) {
			p := geminiPart{FunctionCall: &geminiCall{ID: e.ToolID, Name: e.ToolName}}
			if isBase64(e.Signature) {
				p.ThoughtSignature = e.Signature
			}
			c.calls = append(c.calls, geminiGatheredPart{geminiPart: p})
		}
	case llm.EventToolDelta:
		if i := e.Index - c.base; i >= 0 && i < len(c.calls) {
			c.calls[i].text = append(c.calls[i].text, e.Text...)
		}
	case llm.EventFinish:
		c.finish = geminiReason(e.Finish)
		return w.flush(dst, e.Choice)
	}
	return dst
}

// flush writes the calls gathered.
func (w *geminiWriter) flush(dst []byte, choice int) []byte {
	c := w.choice(choice)
	for _, p := range c.calls {
		args := json.RawMessage(bytes.TrimSpace(p.text))
		if len(args) == 0 || args[0] != '{' || !json.Valid(args) {
			args = json.RawMessage("{}") // a Struct: nothing but an object can be read
		}
		p.FunctionCall.Args = args
		dst = w.part(dst, choice, p.geminiPart)
	}
	c.base += len(c.calls)
	c.calls = nil
	return dst
}

func isBase64(s string) bool {
	_, err := base64.StdEncoding.DecodeString(s)
	return err == nil && s != ""
}

// part adds p, joining text with the text before it in a plain reply.
func (w *geminiWriter) part(dst []byte, choice int, p geminiPart) []byte {
	if w.o.Stream {
		return w.chunk(dst, geminiReply[geminiContent]{Candidates: []geminiCandidate[geminiContent]{{Index: choice, Content: &geminiContent{Role: "model", Parts: []geminiPart{p}}}}})
	}
	c := w.choice(choice)
	if n := len(c.parts); n > 0 && p.FunctionCall == nil {
		if last := &c.parts[n-1]; last.FunctionCall == nil && last.Thought == p.Thought && last.ThoughtSignature == "" {
			last.text = append(last.text, p.Text...)
			last.ThoughtSignature = p.ThoughtSignature
			return dst
		}
	}
	c.parts = append(c.parts, geminiGatheredPart{p, []byte(p.Text)})
	return dst
}

func (w *geminiWriter) chunk(dst []byte, r geminiReply[geminiContent]) []byte {
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

// candidates are the choices at their end; those of a plain reply with parts.
func (w *geminiWriter) candidates() (l []geminiCandidate[geminiContent]) {
	w.choice(0)
	for i, c := range w.choices {
		content := &geminiContent{Role: "model"}
		for _, p := range c.parts {
			p.Text = string(p.text)
			content.Parts = append(content.Parts, p.geminiPart)
		}
		l = append(l, geminiCandidate[geminiContent]{Index: i, FinishReason: reason(orElse(c.finish, "STOP")), Content: content})
	}
	return l
}

// End implements Writer.
func (w *geminiWriter) End(dst []byte) []byte {
	for i := range w.choices {
		dst = w.flush(dst, i)
	}
	return w.chunk(dst, geminiReply[geminiContent]{Candidates: w.candidates(), Usage: w.usageJSON()})
}

// Whole implements Writer.
func (w *geminiWriter) Whole(dst []byte) []byte {
	for i := range w.choices {
		w.flush(nil, i)
	}
	return appendJSON(dst, geminiReply[geminiContent]{ID: w.id, Model: w.model, Candidates: w.candidates(), Usage: w.usageJSON()})
}
