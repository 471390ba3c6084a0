package provider

import (
	"encoding/json"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

func (openAI) NewWriter(o WriterOptions) Writer {
	return &openAIWriter{o: o, id: o.ID, model: o.Model}
}

// openAIWriter writes chunks as events come; for a plain reply it gathers them.
type openAIWriter struct {
	o         WriterOptions
	id, model string
	usage     *llm.Usage
	choices   []*openAIGathered
}

// openAIGathered is what has been said in one choice.
type openAIGathered struct {
	begun                   bool // the role went out
	text, thinking, refusal strings.Builder
	hasText                 bool
	tools                   []openAIWrittenCall
	logprobs                json.RawMessage
	finish                  llm.FinishReason
	native                  string
}

type openAIWrittenCall struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type openAIDelta struct {
	Role             string              `json:"role,omitempty"`
	Content          *string             `json:"content,omitempty"`
	ReasoningContent string              `json:"reasoning_content,omitempty"`
	Refusal          string              `json:"refusal,omitempty"`
	ToolCalls        []openAIWrittenCall `json:"tool_calls,omitempty"`
}

type openAIChunk struct {
	ID      string              `json:"id"`
	Object  string              `json:"object"`
	Created int64               `json:"created"`
	Model   string              `json:"model"`
	Choices []openAIChunkChoice `json:"choices"`
	Usage   *openAIWrittenUsage `json:"usage,omitempty"`
}

type openAIChunkChoice struct {
	Index        int             `json:"index"`
	Delta        openAIDelta     `json:"delta"`
	Logprobs     json.RawMessage `json:"logprobs"`
	FinishReason *string         `json:"finish_reason"`
	Native       string          `json:"native_finish_reason,omitempty"`
}

type openAIWrittenUsage struct {
	Prompt        int64 `json:"prompt_tokens"`
	Completion    int64 `json:"completion_tokens"`
	Total         int64 `json:"total_tokens"`
	PromptDetails struct {
		Cached     int64 `json:"cached_tokens"`
		CacheWrite int64 `json:"cache_write_tokens,omitempty"`
		Audio      int64 `json:"audio_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning int64 `json:"reasoning_tokens"`
		Audio     int64 `json:"audio_tokens"`
	} `json:"completion_tokens_details"`
}

func writtenUsage(u *llm.Usage) *openAIWrittenUsage {
	w := &openAIWrittenUsage{}
	if u != nil {
		w.Prompt, w.Completion, w.Total = u.Input, u.Output, u.Input+u.Output
		w.PromptDetails.Cached, w.PromptDetails.CacheWrite, w.PromptDetails.Audio = u.CacheRead, u.CacheWrite5m+u.CacheWrite1h, u.AudioInput
		w.CompletionDetails.Reasoning, w.CompletionDetails.Audio = u.Reasoning, u.AudioOutput
	}
	return w
}

func (w *openAIWriter) choice(i int) *openAIGathered {
	for len(w.choices) <= i {
		w.choices = append(w.choices, &openAIGathered{})
	}
	return w.choices[i]
}

// Event implements Writer.
func (w *openAIWriter) Event(dst []byte, e llm.Event) []byte {
	switch e.Kind {
	case llm.EventStart:
		if e.ID != "" {
			w.id = e.ID
		}
		if e.Model != "" {
			w.model = e.Model
		}
		return dst
	case llm.EventUsage:
		u := *e.Usage
		w.usage = &u
		return dst
	}
	if e.Choice < 0 || e.Choice > 127 { // OpenAI allows 128
		return dst
	}
	c := w.choice(e.Choice)
	var d openAIDelta
	switch e.Kind {
	case llm.EventText:
		c.hasText = true
		c.text.WriteString(e.Text)
		d.Content = &e.Text
	case llm.EventReasoning:
		c.thinking.WriteString(e.Text)
		d.ReasoningContent = e.Text
	case llm.EventRefusal:
		c.refusal.WriteString(e.Text)
		d.Refusal = e.Text
	case llm.EventTool:
		t := openAIWrittenCall{ID: e.ToolID, Type: "function"}
		t.Function.Name = e.ToolName
		c.tools = append(c.tools, t)
		at := len(c.tools) - 1
		t.Index = &at
		d.ToolCalls = []openAIWrittenCall{t}
	case llm.EventToolDelta:
		if len(c.tools) == 0 || e.Index >= len(c.tools) {
			return dst
		}
		c.tools[e.Index].Function.Arguments += e.Text
		t := openAIWrittenCall{Index: &e.Index}
		t.Function.Arguments = e.Text
		d.ToolCalls = []openAIWrittenCall{t}
	case llm.EventLogprobs:
		c.logprobs = e.Data
		return dst
	case llm.EventFinish:
		c.finish, c.native = e.Finish, e.Native
		if !w.o.Stream {
			return dst
		}
		// A call without arguments is {} and not "".
		for i := range c.tools {
			if c.tools[i].Function.Arguments == "" {
				c.tools[i].Function.Arguments = "{}"
				t := openAIWrittenCall{Index: &i}
				t.Function.Arguments = "{}"
				dst = w.chunk(dst, e.Choice, c, openAIDelta{ToolCalls: []openAIWrittenCall{t}}, nil)
			}
		}
		f := string(e.Finish)
		return w.chunk(dst, e.Choice, c, openAIDelta{}, &f)
	default:
		return dst
	}
	if !w.o.Stream {
		return dst
	}
	return w.chunk(dst, e.Choice, c, d, nil)
}

func (w *openAIWriter) chunk(dst []byte, i int, c *openAIGathered, d openAIDelta, finish *string) []byte {
	if !c.begun {
		c.begun = true
		d.Role = "assistant"
		if d.Content == nil && len(d.ToolCalls) == 0 {
			empty := ""
			d.Content = &empty
		}
	}
	ch := openAIChunkChoice{Index: i, Delta: d, FinishReason: finish}
	if finish != nil && c.native != *finish {
		ch.Native = c.native
	}
	return w.write(dst, openAIChunk{Choices: []openAIChunkChoice{ch}})
}

func (w *openAIWriter) write(dst []byte, c openAIChunk) []byte {
	c.ID, c.Object, c.Created, c.Model = w.id, "chat.completion.chunk", w.o.Created, w.model
	dst = append(dst, "data: "...)
	return append(appendJSON(dst, c), "\n\n"...)
}

// End implements Writer.
func (w *openAIWriter) End(dst []byte) []byte {
	if w.o.Usage {
		dst = w.write(dst, openAIChunk{Choices: []openAIChunkChoice{}, Usage: writtenUsage(w.usage)})
	}
	return append(dst, "data: [DONE]\n\n"...)
}

// Whole implements Writer.
func (w *openAIWriter) Whole(dst []byte) []byte {
	type message struct {
		Role             string              `json:"role"`
		Content          *string             `json:"content"`
		ReasoningContent string              `json:"reasoning_content,omitempty"`
		Refusal          *string             `json:"refusal"`
		ToolCalls        []openAIWrittenCall `json:"tool_calls,omitempty"`
	}
	type choice struct {
		Index        int             `json:"index"`
		Message      message         `json:"message"`
		Logprobs     json.RawMessage `json:"logprobs"`
		FinishReason string          `json:"finish_reason"`
		Native       string          `json:"native_finish_reason,omitempty"`
	}
	w.choice(0)
	choices := make([]choice, len(w.choices))
	for i, c := range w.choices {
		m := message{Role: "assistant", ReasoningContent: c.thinking.String(), ToolCalls: c.tools}
		if c.hasText || len(c.tools) == 0 {
			s := c.text.String()
			m.Content = &s
		}
		if c.refusal.Len() > 0 {
			s := c.refusal.String()
			m.Refusal = &s
		}
		for j := range m.ToolCalls {
			if m.ToolCalls[j].Function.Arguments == "" {
				m.ToolCalls[j].Function.Arguments = "{}"
			}
		}
		finish := c.finish
		if finish == llm.FinishNone {
			finish = llm.FinishStop
		}
		choices[i] = choice{Index: i, Message: m, Logprobs: c.logprobs, FinishReason: string(finish)}
		if c.native != string(finish) {
			choices[i].Native = c.native
		}
	}
	return appendJSON(dst, struct {
		ID      string              `json:"id"`
		Object  string              `json:"object"`
		Created int64               `json:"created"`
		Model   string              `json:"model"`
		Choices []choice            `json:"choices"`
		Usage   *openAIWrittenUsage `json:"usage"`
	}{w.id, "chat.completion", w.o.Created, w.model, choices, writtenUsage(w.usage)})
}
