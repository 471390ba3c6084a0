package provider

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// openAIMessage is a message of a reply or the delta of one.
type openAIMessage struct {
	Content          json.RawMessage  `json:"content"` // text; Mistral: parts with thinking
	Refusal          string           `json:"refusal"`
	ReasoningContent string           `json:"reasoning_content"` // DeepSeek, vLLM, z.ai
	Reasoning        json.RawMessage  `json:"reasoning"`         // Groq, Cerebras, Ollama, OpenRouter: text
	ToolCalls        []openAIToolCall `json:"tool_calls"`
	FunctionCall     *openAIFunction  `json:"function_call"` // before there were tools
	Audio            struct {
		Data       present `json:"data"`
		Transcript string  `json:"transcript"`
	} `json:"audio"`
	Executed []struct { // Groq's own tools
		Type string `json:"type"`
	} `json:"executed_tools"`
}

type openAIToolCall struct {
	Index    *int           `json:"index"`
	ID       string         `json:"id"`
	Function openAIFunction `json:"function"`
	Extra    openAIExtra    `json:"extra_content"`
}

// openAIExtra holds what Gemini wants back with a call. OpenAI's form has no
// place for it; this one is that of Google's compatible endpoint.
type openAIExtra struct {
	Google struct {
		Signature string `json:"thought_signature"`
	} `json:"google"`
}

type openAIFunction struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"` // a string; some write an object
}

// arguments is the JSON text of the arguments.
func (f *openAIFunction) arguments() string {
	if s, ok := unquote(f.Arguments); ok {
		return s
	}
	return string(f.Arguments)
}

type openAIChoice struct {
	Index        int             `json:"index"`
	Delta        *openAIMessage  `json:"delta"`
	Message      *openAIMessage  `json:"message"`
	FinishReason string          `json:"finish_reason"`
	Logprobs     json.RawMessage `json:"logprobs"`
}

type openAIReply struct {
	ID          string          `json:"id"`
	Model       string          `json:"model"`
	Choices     *[]openAIChoice `json:"choices"`
	Usage       json.RawMessage `json:"usage"`
	ServiceTier string          `json:"service_tier"`
	Error       json.RawMessage `json:"error"`
	Message     string          `json:"message"` // of an error that is not wrapped
	XGroq       struct {
		Usage json.RawMessage `json:"usage"`
	} `json:"x_groq"`
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// isError is whether the error member of a reply says anything.
func isError(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", `""`, "{}", "false":
		return false
	}
	return true
}

// texts splits a message's content into its text and thinking.
func (m *openAIMessage) texts() (text, thinking string) {
	if s, ok := unquote(m.Content); ok {
		text = s
	} else if !isNull(m.Content) {
		var parts []struct {
			Text     string          `json:"text"`
			Thinking json.RawMessage `json:"thinking"` // text, or parts of it
		}
		_ = lenient(m.Content, &parts) // parts we do not know hold no text
		for _, p := range parts {
			text += p.Text
			thinking += plainText(p.Thinking)
		}
	}
	thinking += m.ReasoningContent
	if m.ReasoningContent == "" {
		s, _ := unquote(m.Reasoning)
		thinking += s
	}
	return text + m.Audio.Transcript, thinking
}

// says is whether the message holds any content, without decoding it.
func (m *openAIMessage) says() bool {
	full := func(raw json.RawMessage) bool { return len(raw) > len(`""`) && !isNull(raw) }
	return full(m.Content) || full(m.Reasoning) || m.ReasoningContent != "" || m.Refusal != "" || m.Audio.Transcript != "" ||
		len(m.ToolCalls) > 0 || m.FunctionCall != nil && m.FunctionCall.Name+m.FunctionCall.arguments() != ""
}

// plainText is the text of a string or of parts.
func plainText(raw json.RawMessage) (s string) {
	if isNull(raw) {
		return ""
	}
	if s, ok := unquote(raw); ok {
		return s
	}
	var parts []struct {
		Text string `json:"text"`
	}
	_ = lenient(raw, &parts)
	for _, p := range parts {
		s += p.Text
	}
	return s
}

func (openAI) NewReader(*Spec) Reader {
	return &openAIReader{sum: Summary{Usage: llm.Usage{Source: llm.UsageNone}}}
}

type openAIReader struct {
	sum   Summary
	hide  bool
	done  bool // [DONE] has come
	any   bool // a chunk has come
	quiet bool // nobody hears the events
	tier  string
	calls []openAICall
	tools map[string]int64 // calls of tools that the provider ran

	light openAIReply // what scan found, and where
	room  openAIRoom

	// Of the choices, a bit each: OpenAI gives at most 128.
	begun, finished [2]uint64
}

// maxCalls bounds the tool calls of a reply that is translated; they are
// searched one by one. OpenAI takes 128 tools.
const maxCalls = 1024

// openAICall is a tool call that has begun.
type openAICall struct {
	choice, upstream int // the index as the upstream has it
	index            int // and as we have it: 0, 1, …
	id               string
}

func (r *openAIReader) Summary() *Summary { return &r.sum }
func (r *openAIReader) HideUsage()        { r.hide = true }

func (r *openAIReader) Whole(body []byte, emit func(llm.Event)) error {
	if emit == nil && r.scan(body) {
		r.take(&r.light, nil)
		r.sum.Complete = true
		return nil
	}
	return r.whole(body, emit)
}

// whole is Whole by encoding/json.
func (r *openAIReader) whole(body []byte, emit func(llm.Event)) error {
	var rep openAIReply
	if err := lenient(body, &rep); err != nil {
		return badReply("the answer is not JSON of a chat completion", err)
	}
	switch {
	case isError(rep.Error):
		return openAI{}.inBand(rep.Error)
	case rep.Choices == nil && rep.Message != "":
		return openAI{}.inBand(body)
	case rep.Choices == nil:
		return badReply("the answer has no choices", nil)
	}
	r.take(&rep, emit)
	r.sum.Complete = true
	return nil
}

// scan reads a reply or a chunk into r.light if it is an ordinary one.
func (r *openAIReader) scan(body []byte) bool {
	r.light = openAIReply{}
	return r.light.scan(body, &r.room)
}

// badReply is a reply that cannot be read. One that is nested deeper than
// encoding/json goes was made to do harm.
func badReply(msg string, err error) *llm.Error {
	e := &llm.Error{Class: llm.BadUpstream, Code: "bad_upstream", Msg: msg, Err: err}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		e.Final = strings.Contains(syntax.Error(), "exceeded max depth")
	}
	return e
}

func (r *openAIReader) Frame(f Frame, emit func(llm.Event)) (pass bool, err error) {
	data := bytes.TrimSpace(f.Data)
	switch {
	case r.done:
		return false, nil // nothing may follow the end
	case string(data) == "[DONE]":
		r.done = true
		r.sum.Ended = true
		r.sum.Complete = r.sum.Complete || r.any
		return true, nil
	case len(data) == 0:
		return false, nil
	case data[0] != '{' && f.Event != "error":
		return false, badReply("an event of the stream is not a JSON object", nil)
	case emit == nil && r.sum.Content && f.Event != "error" && plainDelta(data):
		return true, nil
	}
	if emit == nil && f.Event != "error" && r.scan(data) {
		return r.chunk(&r.light, nil), nil
	}
	return r.frame(f.Event, data, emit)
}

// frame is Frame by encoding/json.
func (r *openAIReader) frame(event string, data []byte, emit func(llm.Event)) (pass bool, err error) {
	var rep openAIReply
	if err := lenient(data, &rep); err != nil {
		return false, badReply("an event of the stream is not JSON of a chat completion", err)
	}
	switch {
	case isError(rep.Error):
		return false, openAI{}.inBand(rep.Error)
	case event == "error", rep.Choices == nil && rep.Message != "":
		return false, openAI{}.inBand(data)
	}
	return r.chunk(&rep, emit), nil
}

// chunk takes a chunk and says whether it may pass.
func (r *openAIReader) chunk(rep *openAIReply, emit func(llm.Event)) (pass bool) {
	reported := r.take(rep, emit)
	onlyUsage := reported && rep.Choices != nil && len(*rep.Choices) == 0
	return !(r.hide && onlyUsage)
}

// plainDelta reports whether a chunk is well-formed JSON and can hold nothing
// but more content of the only choice: once the first content has been seen,
// the Summary needs nothing of it. Most frames of a stream are such.
func plainDelta(data []byte) bool {
	plain, choices := true, false
	s := scanner{b: data}
	if s.peek() != '{' {
		return false
	}
	s.i++
	choice := func(key span) error {
		k := key.of(data)
		v, err := s.value(3)
		plain = plain && bytes.IndexByte(k, '\\') < 0
		switch string(k) {
		case "finish_reason":
			plain = plain && (string(v.of(data)) == "null" || string(v.of(data)) == `""`)
		case "index":
			plain = plain && string(v.of(data)) == "0"
		}
		return err
	}
	err := s.members(1, func(key span) error {
		k := key.of(data)
		c := s.peek()
		plain = plain && bytes.IndexByte(k, '\\') < 0
		switch string(k) {
		case "usage", "x_groq":
			plain = plain && c == 'n'
		case "error":
			plain = plain && c == 'n'
		case "choices":
			choices = true
			if c != '[' {
				plain = false
				break
			}
			s.i++
			return s.elements(2, func() error {
				if s.peek() != '{' {
					plain = false
					return s.skip(2)
				}
				s.i++
				return s.members(3, choice)
			})
		}
		return s.skip(1)
	})
	s.peek()
	return err == nil && plain && choices && s.i == len(data)
}

// take adds a reply or a chunk to the Summary and emits its events. It says
// whether the chunk held usage.
func (r *openAIReader) take(rep *openAIReply, emit func(llm.Event)) (reported bool) {
	r.quiet = emit == nil
	if r.quiet {
		emit = func(llm.Event) {}
	}
	r.any = true
	if r.sum.ID == "" && rep.ID != "" || r.sum.Model == "" && rep.Model != "" {
		if r.sum.ID == "" {
			r.sum.ID = rep.ID
		}
		if r.sum.Model == "" {
			r.sum.Model = rep.Model
		}
		emit(llm.Event{Kind: llm.EventStart, ID: r.sum.ID, Model: r.sum.Model})
	}
	if rep.ServiceTier != "" {
		r.tier = rep.ServiceTier
	}
	if rep.Choices != nil {
		for i := range *rep.Choices {
			r.choice(&(*rep.Choices)[i], emit)
		}
		r.sum.Complete = r.done || r.begun != [2]uint64{} && r.begun == r.finished
	}
	usage := rep.Usage
	if isNull(usage) {
		usage = rep.XGroq.Usage // Groq gives it there in streams, asked or not
	}
	if isNull(usage) {
		return false
	}
	u, ok := readOpenAIUsage(usage, r.tier)
	switch {
	case !ok:
		r.sum.BadUsage = true
		if r.sum.Usage.Source == llm.UsageNone {
			r.sum.Usage = u
		}
		return true
	case u.Source == llm.UsageNone:
		return true
	}
	for name, n := range r.tools {
		if u.ServerToolCalls == nil {
			u.ServerToolCalls = map[string]int64{}
		}
		u.ServerToolCalls[name] = n
	}
	r.sum.Usage, r.sum.BadUsage = u, false
	emit(llm.Event{Kind: llm.EventUsage, Usage: &r.sum.Usage})
	return true
}

func (r *openAIReader) choice(c *openAIChoice, emit func(llm.Event)) {
	if c.Index < 0 || c.Index > 127 {
		return
	}
	word, bit := c.Index/64, uint64(1)<<(c.Index%64)
	r.begun[word] |= bit
	m := c.Delta
	if m == nil {
		m = c.Message
	}
	send := func(e llm.Event) {
		e.Choice = c.Index
		r.sum.Content = r.sum.Content || e.Content()
		emit(e)
	}
	if m != nil {
		r.message(c.Index, m, send)
	}
	if !isNull(c.Logprobs) {
		send(llm.Event{Kind: llm.EventLogprobs, Data: c.Logprobs})
	}
	if c.FinishReason == "" || r.finished[word]&bit != 0 { // OpenRouter repeats it beside the usage
		return
	}
	r.finished[word] |= bit
	f := openAIFinish(c.FinishReason)
	if c.Index == 0 {
		r.sum.Finish, r.sum.Native = f, c.FinishReason
	}
	send(llm.Event{Kind: llm.EventFinish, Finish: f, Native: c.FinishReason})
}

func (r *openAIReader) message(choice int, m *openAIMessage, send func(llm.Event)) {
	for _, t := range m.Executed {
		name := t.Type
		switch name {
		case "search":
			name = "web_search"
		case "":
			name = "server_tool"
		}
		if r.tools == nil {
			r.tools = map[string]int64{}
		}
		r.tools[clip(name)]++
	}
	if bool(m.Audio.Data) || r.quiet && m.says() {
		r.sum.Content = true
	}
	if r.quiet {
		return
	}
	text, thinking := m.texts()
	if thinking != "" {
		send(llm.Event{Kind: llm.EventReasoning, Text: thinking})
	}
	if text != "" {
		send(llm.Event{Kind: llm.EventText, Text: text})
	}
	if m.Refusal != "" {
		send(llm.Event{Kind: llm.EventRefusal, Text: m.Refusal})
	}
	if f := m.FunctionCall; f != nil && len(m.ToolCalls) == 0 && f.Name+f.arguments() != "" { // Snowflake gives both, one empty
		r.tool(choice, 0, &openAIToolCall{Function: *m.FunctionCall}, false, send)
	}
	for i := range min(len(m.ToolCalls), maxCalls) {
		t := &m.ToolCalls[i]
		at, again := i, false
		if t.Index != nil {
			at = *t.Index
			for _, u := range m.ToolCalls[:i] { // two in one chunk are two calls, whatever their index
				again = again || u.Index != nil && *u.Index == at
			}
		}
		r.tool(choice, at, t, again, send)
	}
}

// tool emits a tool call or a piece of one. Upstreams that number all calls 0
// or not at all are told apart by the id.
func (r *openAIReader) tool(choice, upstream int, t *openAIToolCall, fresh bool, send func(llm.Event)) {
	var call *openAICall
	index := 0
	for i := range r.calls {
		if c := &r.calls[i]; c.choice == choice {
			index++
			if c.upstream == upstream {
				call = c
			}
		}
	}
	if call == nil || fresh || t.ID != "" && t.ID != call.id && t.Function.Name != "" {
		if len(r.calls) >= maxCalls {
			return
		}
		id := t.ID
		if id == "" {
			id = "call_" + rand.Text()
		}
		r.calls = append(r.calls, openAICall{choice, upstream, index, id})
		call = &r.calls[len(r.calls)-1]
		send(llm.Event{Kind: llm.EventTool, Index: index, ToolID: id, ToolName: t.Function.Name, Signature: t.Extra.Google.Signature})
	}
	if args := t.Function.arguments(); args != "" && args != "null" {
		send(llm.Event{Kind: llm.EventToolDelta, Index: call.index, Text: args})
	}
}
