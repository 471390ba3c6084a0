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

// openAIGathered is what has been said in one choice; of a stream, only what
// is needed to end it.
type openAIGathered struct {
	begun                   bool // the role went out
	text, thinking, refusal strings.Builder
	hasText                 bool
	tools                   []*openAIGatheredCall
	logprobs                json.RawMessage
	finished                bool
	finish                  llm.FinishReason
	native                  string
}

type openAIGatheredCall struct {
	openAIWrittenCall
	args    strings.Builder
	hasArgs bool
}

type openAIWrittenCall struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	} `json:"function"`
	Extra *openAIExtra `json:"extra_content,omitempty"`
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
	if !w.o.Stream {
		c.add(e)
		return dst
	}
	switch e.Kind {
	case llm.EventText:
		return w.chunk(dst, e.Choice, openAIChunkChoice{Delta: openAIDelta{Content: &e.Text}})
	case llm.EventReasoning:
		return w.chunk(dst, e.Choice, openAIChunkChoice{Delta: openAIDelta{ReasoningContent: e.Text}})
	case llm.EventRefusal:
		return w.chunk(dst, e.Choice, openAIChunkChoice{Delta: openAIDelta{Refusal: e.Text}})
	case llm.EventLogprobs:
		return w.chunk(dst, e.Choice, openAIChunkChoice{Logprobs: e.Data})
	case llm.EventTool:
		t := writtenCall(e)
		at := len(c.tools)
		t.Index = &at
		c.tools = append(c.tools, &openAIGatheredCall{})
		return w.call(dst, e.Choice, t)
	case llm.EventToolDelta:
		if e.Index < 0 || e.Index >= len(c.tools) || e.Text == "" {
			return dst
		}
		c.tools[e.Index].hasArgs = true
		return w.call(dst, e.Choice, argumentsDelta(e.Index, e.Text))
	case llm.EventFinish:
		return w.finish(dst, e.Choice, c, e.Finish, e.Native)
	}
	return dst
}

// add gathers what an event says for a plain reply.
func (c *openAIGathered) add(e llm.Event) {
	switch e.Kind {
	case llm.EventText:
		c.hasText = true
		c.text.WriteString(e.Text)
	case llm.EventReasoning:
		c.thinking.WriteString(e.Text)
	case llm.EventRefusal:
		c.refusal.WriteString(e.Text)
	case llm.EventLogprobs:
		c.logprobs = e.Data
	case llm.EventTool:
		c.tools = append(c.tools, &openAIGatheredCall{openAIWrittenCall: writtenCall(e)})
	case llm.EventToolDelta:
		if e.Index >= 0 && e.Index < len(c.tools) {
			c.tools[e.Index].args.WriteString(e.Text)
		}
	case llm.EventFinish:
		c.finish, c.native = e.Finish, e.Native
	}
}

func writtenCall(e llm.Event) openAIWrittenCall {
	t := openAIWrittenCall{ID: e.ToolID, Type: "function"}
	t.Function.Name = e.ToolName
	if e.Signature != "" {
		t.Extra = &openAIExtra{}
		t.Extra.Google.Signature = e.Signature
	}
	return t
}

func argumentsDelta(i int, text string) openAIWrittenCall {
	t := openAIWrittenCall{Index: &i}
	t.Function.Arguments = text
	return t
}

func (w *openAIWriter) call(dst []byte, choice int, t openAIWrittenCall) []byte {
	return w.chunk(dst, choice, openAIChunkChoice{Delta: openAIDelta{ToolCalls: []openAIWrittenCall{t}}})
}

// finish ends a choice, once. A call without arguments is {} and not "".
func (w *openAIWriter) finish(dst []byte, choice int, c *openAIGathered, reason llm.FinishReason, native string) []byte {
	if c.finished {
		return dst
	}
	c.finished = true
	for i, t := range c.tools {
		if !t.hasArgs {
			dst = w.call(dst, choice, argumentsDelta(i, "{}"))
		}
	}
	f := string(reason)
	end := openAIChunkChoice{FinishReason: &f}
	if native != f {
		end.Native = native
	}
	return w.chunk(dst, choice, end)
}

// unsaid is the finish reason of a choice that gave none.
func (c *openAIGathered) unsaid() llm.FinishReason {
	if len(c.tools) > 0 {
		return llm.FinishTools
	}
	return llm.FinishStop
}

// chunk writes a chunk of one choice, the first of a choice with the role.
func (w *openAIWriter) chunk(dst []byte, choice int, ch openAIChunkChoice) []byte {
	if c := w.choices[choice]; !c.begun {
		c.begun = true
		ch.Delta.Role = "assistant"
		if ch.Delta.Content == nil && len(ch.Delta.ToolCalls) == 0 {
			empty := ""
			ch.Delta.Content = &empty
		}
	}
	ch.Index = choice
	return w.write(dst, openAIChunk{Choices: []openAIChunkChoice{ch}})
}

func (w *openAIWriter) write(dst []byte, c openAIChunk) []byte {
	c.ID, c.Object, c.Created, c.Model = w.id, "chat.completion.chunk", w.o.Created, w.model
	dst = append(dst, "data: "...)
	return append(appendJSON(dst, c), "\n\n"...)
}

// End implements Writer.
func (w *openAIWriter) End(dst []byte) []byte {
	w.choice(0)
	for i, c := range w.choices { // a client waits for the end of each
		dst = w.finish(dst, i, c, c.unsaid(), "")
	}
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
		m := message{Role: "assistant", ReasoningContent: c.thinking.String()}
		for _, t := range c.tools {
			t.Function.Arguments = orElse(t.args.String(), "{}")
			m.ToolCalls = append(m.ToolCalls, t.openAIWrittenCall)
		}
		if c.hasText || len(c.tools) == 0 {
			s := c.text.String()
			m.Content = &s
		}
		if c.refusal.Len() > 0 {
			s := c.refusal.String()
			m.Refusal = &s
		}
		finish := c.finish
		if finish == llm.FinishNone {
			finish = c.unsaid()
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
