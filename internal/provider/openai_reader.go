package provider

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// openAIMessage is a message of a reply or the delta of one.
type openAIMessage struct {
	Role             string           `json:"role"`
	Content          json.RawMessage  `json:"content"` // text; Mistral: parts with thinking
	Refusal          string           `json:"refusal"`
	ReasoningContent string           `json:"reasoning_content"` // DeepSeek, vLLM
	Reasoning        json.RawMessage  `json:"reasoning"`         // Groq, OpenRouter: text
	ToolCalls        []openAIToolCall `json:"tool_calls"`
	FunctionCall     *openAIFunction  `json:"function_call"` // before tools
	Audio            json.RawMessage  `json:"audio"`
}

type openAIToolCall struct {
	Index    *int           `json:"index"`
	ID       string         `json:"id"`
	Function openAIFunction `json:"function"`
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
	XGroq       struct {
		Usage json.RawMessage `json:"usage"`
	} `json:"x_groq"`
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// texts splits a message's content into its text and thinking.
func (m *openAIMessage) texts() (text, thinking string) {
	if s, ok := unquote(m.Content); ok {
		text = s
	} else if !isNull(m.Content) {
		var parts []struct {
			Type     string `json:"type"`
			Text     string `json:"text"`
			Thinking []struct {
				Text string `json:"text"`
			} `json:"thinking"`
		}
		_ = json.Unmarshal(m.Content, &parts) // parts we do not know hold no text
		for _, p := range parts {
			text += p.Text
			for _, t := range p.Thinking {
				thinking += t.Text
			}
		}
	}
	thinking += m.ReasoningContent
	if s, ok := unquote(m.Reasoning); ok && m.ReasoningContent == "" {
		thinking += s
	}
	return text, thinking
}

func (openAI) NewReader(s *Spec) Reader {
	return &openAIReader{sum: Summary{Usage: llm.Usage{Source: llm.UsageNone}}}
}

type openAIReader struct {
	sum   Summary
	hide  bool
	tier  string
	tools map[[2]int]int // (choice, upstream index) → ours
	nTool int
}

func (r *openAIReader) Summary() *Summary { return &r.sum }
func (r *openAIReader) HideUsage()        { r.hide = true }

func (r *openAIReader) Whole(body []byte, emit func(llm.Event)) error {
	var rep openAIReply
	if err := json.Unmarshal(body, &rep); err != nil {
		return badReply("the answer is not JSON of a chat completion", err)
	}
	if !isNull(rep.Error) {
		return openAI{}.inBand(rep.Error)
	}
	if rep.Choices == nil {
		return badReply("the answer has no choices", nil)
	}
	r.take(&rep, emit)
	r.sum.Complete = true
	return nil
}

func badReply(msg string, err error) *llm.Error {
	return &llm.Error{Class: llm.BadUpstream, Code: "bad_upstream", Msg: msg, Err: err}
}

var (
	needleUsage  = []byte(`"usage":{`)
	needleUsage2 = []byte(`"usage": {`)
	needleFinish = []byte(`"finish_reason":"`)
	needleFin2   = []byte(`"finish_reason": "`)
	needleError  = []byte(`"error":`)
	done         = []byte("[DONE]")
)

// worth reports whether a frame may hold something that the Summary needs once
// the first content has been seen.
func worth(data []byte) bool {
	return bytes.Contains(data, needleFinish) || bytes.Contains(data, needleUsage) ||
		bytes.Contains(data, needleUsage2) || bytes.Contains(data, needleFin2) || bytes.Contains(data, needleError)
}

func (r *openAIReader) Frame(f Frame, emit func(llm.Event)) (pass bool, err error) {
	data := bytes.TrimSpace(f.Data)
	if bytes.Equal(data, done) {
		r.sum.Complete = r.sum.Complete || r.sum.Content
		return true, nil
	}
	if len(data) == 0 {
		return true, nil
	}
	if emit == nil && r.sum.Content && f.Event != "error" && !worth(data) && data[0] == '{' && data[len(data)-1] == '}' {
		return true, nil
	}
	var rep openAIReply
	if err := json.Unmarshal(data, &rep); err != nil {
		return false, badReply("an event of the stream is not JSON of a chat completion", err)
	}
	if !isNull(rep.Error) {
		return false, openAI{}.inBand(rep.Error)
	}
	if f.Event == "error" {
		return false, openAI{}.inBand(data)
	}
	reported := r.take(&rep, emit)
	onlyUsage := reported && rep.Choices != nil && len(*rep.Choices) == 0
	return !(r.hide && onlyUsage), nil
}

// take adds a reply or a chunk to the Summary and emits its events. It says
// whether the chunk held usage.
func (r *openAIReader) take(rep *openAIReply, emit func(llm.Event)) (reported bool) {
	if emit == nil {
		emit = func(llm.Event) {}
	}
	if r.sum.ID == "" && rep.ID != "" || r.sum.Model == "" && rep.Model != "" {
		if r.sum.ID == "" {
			r.sum.ID = rep.ID
		}
		if r.sum.Model == "" {
			r.sum.Model = rep.Model
		}
		emit(llm.Event{Kind: llm.EventStart, ID: rep.ID, Model: rep.Model})
	}
	if rep.ServiceTier != "" {
		r.tier = rep.ServiceTier
	}
	if rep.Choices != nil {
		for i := range *rep.Choices {
			r.choice(&(*rep.Choices)[i], emit)
		}
	}
	usage := rep.Usage
	if isNull(usage) {
		usage = rep.XGroq.Usage
	}
	if isNull(usage) {
		return false
	}
	u, ok := readOpenAIUsage(usage, r.tier)
	if !ok {
		r.sum.BadUsage = true
		return true
	}
	r.sum.Usage = u
	emit(llm.Event{Kind: llm.EventUsage, Usage: &r.sum.Usage})
	return true
}

func (r *openAIReader) choice(c *openAIChoice, emit func(llm.Event)) {
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
		if m.FunctionCall != nil {
			r.tool(c.Index, &openAIToolCall{Function: *m.FunctionCall}, send)
		}
		for i := range m.ToolCalls {
			if m.ToolCalls[i].Index == nil {
				m.ToolCalls[i].Index = &i
			}
			r.tool(c.Index, &m.ToolCalls[i], send)
		}
		if !isNull(m.Audio) {
			r.sum.Content = true
		}
	}
	if !isNull(c.Logprobs) {
		send(llm.Event{Kind: llm.EventLogprobs, Data: c.Logprobs})
	}
	if c.FinishReason != "" {
		f := openAIFinish(c.FinishReason)
		if c.Index == 0 {
			r.sum.Finish, r.sum.Native = f, c.FinishReason
		}
		r.sum.Complete = true
		send(llm.Event{Kind: llm.EventFinish, Finish: f, Native: c.FinishReason})
	}
}

// tool emits a tool call or a piece of one.
func (r *openAIReader) tool(choice int, t *openAIToolCall, send func(llm.Event)) {
	up := 0
	if t.Index != nil {
		up = *t.Index
	}
	if r.tools == nil {
		r.tools = map[[2]int]int{}
	}
	i, begun := r.tools[[2]int{choice, up}]
	if !begun {
		i = r.nTool
		r.tools[[2]int{choice, up}] = i
		r.nTool++
		id := t.ID
		if id == "" {
			id = "call_" + strconv.Itoa(i)
		}
		send(llm.Event{Kind: llm.EventTool, Index: i, ToolID: id, ToolName: t.Function.Name})
	}
	if args := t.Function.arguments(); args != "" && args != "null" {
		send(llm.Event{Kind: llm.EventToolDelta, Index: i, Text: args})
	}
}
