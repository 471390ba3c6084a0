package provider

import (
	"bytes"
	"encoding/json"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// geminiReply is a reply or a chunk of one. C is what is looked at of a
// candidate's content.
type geminiReply[C any] struct {
	ID         string               `json:"responseId,omitempty"`
	Model      string               `json:"modelVersion,omitempty"`
	Candidates []geminiCandidate[C] `json:"candidates,omitempty"`
	Feedback   *geminiFeedback      `json:"promptFeedback,omitempty"`
	Usage      json.RawMessage      `json:"usageMetadata,omitempty"`
	Error      json.RawMessage      `json:"error,omitempty"`
}

type geminiFeedback struct {
	BlockReason geminiEnum `json:"blockReason"`
}

type geminiCandidate[C any] struct {
	Index        int              `json:"index"`
	Content      *C               `json:"content,omitempty"`
	FinishReason reason           `json:"finishReason,omitempty"`
	Grounding    *geminiGrounding `json:"groundingMetadata,omitempty"`
}

type geminiGrounding struct {
	Queries []string `json:"webSearchQueries"`
}

// geminiGlimpse is all that accounting asks of a content.
type geminiGlimpse struct {
	Parts []struct {
		Text       present `json:"text"`
		Call       present `json:"functionCall"`
		InlineData present `json:"inlineData"`
	} `json:"parts"`
}

func (gemini) NewReader(*Spec) Reader {
	return &geminiReader{sum: Summary{Usage: llm.Usage{Source: llm.UsageNone}}, ended: map[int]llm.FinishReason{}, calls: map[int]int{}}
}

type geminiReader struct {
	sum     Summary
	started bool                     // EventStart went out
	ended   map[int]llm.FinishReason // by choice, FinishNone for one not at its end
	calls   map[int]int              // by choice, tool calls seen
	queries map[string]bool          // searches made to ground the answer
}

func (r *geminiReader) Summary() *Summary { return &r.sum }
func (r *geminiReader) HideUsage()        {}

func (r *geminiReader) Whole(body []byte, emit func(llm.Event)) error {
	if body = bytes.TrimSpace(body); len(body) > 0 && body[0] == '[' {
		if s := readGeminiStatus(body); s.Code != 0 || s.Message != "" {
			return inBandGemini(s.Code, body)
		}
		return badReply("the answer is an array and not a reply of generateContent", nil)
	}
	if err := r.take(body, emit); err != nil {
		return err
	}
	if !r.sum.Complete && r.sum.Usage.Source == llm.UsageNone && !r.sum.Content {
		return badReply("the answer holds neither candidates nor a reason for none", nil)
	}
	r.sum.Complete = true
	return nil
}

func (r *geminiReader) Frame(f Frame, emit func(llm.Event)) (bool, error) {
	data := bytes.TrimSpace(f.Data)
	switch {
	case string(data) == "[DONE]": // some gateways append it; no client of Gemini knows it
		return false, nil
	case len(data) == 0:
		return false, nil
	case data[0] != '{':
		return false, badReply("an event of the stream is not a JSON object", nil)
	}
	if err := r.take(data, emit); err != nil {
		return false, err
	}
	return true, nil
}

func (r *geminiReader) take(data []byte, emit func(llm.Event)) error {
	if emit == nil {
		return takeGemini(r, data, func(llm.Event) {}, r.glimpse)
	}
	return takeGemini(r, data, emit, r.content)
}

// inBandGemini is an error that came within a 200.
func inBandGemini(code int, data []byte) *llm.Error {
	if code < 400 || code > 599 {
		code = http.StatusBadGateway
	}
	return gemini{}.ReadError(code, nil, data)
}

// takeGemini adds a reply or a chunk to the Summary.
func takeGemini[C any](r *geminiReader, data []byte, emit func(llm.Event), content func(int, *C, func(llm.Event))) error {
	var g geminiReply[C]
	if err := lenient(data, &g); err != nil {
		return badReply("the answer is not JSON of generateContent", err)
	}
	if !isNull(g.Error) {
		return inBandGemini(readGeminiStatus(data).Code, data)
	}
	r.sum.ID, r.sum.Model = orElse(g.ID, r.sum.ID), orElse(g.Model, r.sum.Model)
	if !r.started && (g.ID != "" || g.Model != "") {
		r.started = true
		emit(llm.Event{Kind: llm.EventStart, ID: g.ID, Model: g.Model})
	}
	for i := range g.Candidates {
		c := &g.Candidates[i]
		if c.Index < 0 {
			continue
		}
		if c.Grounding != nil {
			r.search(c.Grounding.Queries)
		}
		if c.Content != nil {
			content(c.Index, c.Content, emit)
		}
		r.end(c.Index, string(c.FinishReason), emit)
	}
	r.report(g.Usage, emit)
	if g.Feedback != nil && g.Feedback.BlockReason != "" && r.sum.Finish == llm.FinishNone {
		r.sum.Finish, r.sum.Native, r.sum.Complete = llm.FinishFilter, string(g.Feedback.BlockReason), true
		emit(llm.Event{Kind: llm.EventFinish, Finish: llm.FinishFilter, Native: r.sum.Native})
	}
	return nil
}

func (r *geminiReader) search(queries []string) {
	for _, q := range queries {
		if r.queries == nil {
			r.queries = map[string]bool{}
		}
		if q != "" {
			r.queries[q] = true
		}
	}
}

// searches is what is billed: each query from Gemini 3 on, before that each
// grounded answer.
// https://ai.google.dev/gemini-api/docs/google-search
func (r *geminiReader) searches() int64 {
	n := int64(len(r.queries))
	if n > 1 && geminiMajor(r.sum.Model) < 3 {
		n = 1
	}
	return n
}

// geminiMajor is the version of a model's name, 0 if it has none.
func geminiMajor(model string) int {
	_, rest, _ := strings.Cut(model, "gemini-")
	n := 0
	for _, c := range rest {
		if c < '0' || c > '9' || n > 999 {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

func (r *geminiReader) report(raw json.RawMessage, emit func(llm.Event)) {
	fresh := false
	if !isNull(raw) {
		u, reported, ok := readGeminiUsage(raw)
		switch {
		case !ok:
			r.sum.BadUsage, r.sum.Usage = true, u
		case reported:
			r.sum.Usage, fresh = u, true
		}
	}
	if n := r.searches(); n > 0 && r.sum.Usage.Source == llm.UsageUpstream && r.sum.Usage.ServerToolCalls["web_search"] != n {
		r.sum.Usage.ServerToolCalls = map[string]int64{"web_search": n}
		fresh = true
	}
	if fresh {
		emit(llm.Event{Kind: llm.EventUsage, Usage: &r.sum.Usage})
	}
}

// end takes a candidate's finishReason. The reply is complete when each choice
// has one. Older models write it in every chunk: it goes out once, and again
// only if it has become another.
func (r *geminiReader) end(choice int, reason string, emit func(llm.Event)) {
	old := r.ended[choice]
	f := geminiFinish(reason, r.calls[choice] > 0)
	if f == llm.FinishNone {
		r.ended[choice] = old
	} else {
		r.ended[choice] = f
		if choice == 0 {
			r.sum.Finish, r.sum.Native = f, reason
		}
	}
	r.sum.Complete = true
	for _, f := range r.ended {
		r.sum.Complete = r.sum.Complete && f != llm.FinishNone
	}
	if f != llm.FinishNone && f != old {
		emit(llm.Event{Kind: llm.EventFinish, Choice: choice, Finish: f, Native: reason})
	}
}

func (r *geminiReader) glimpse(choice int, c *geminiGlimpse, _ func(llm.Event)) {
	for _, p := range c.Parts {
		if p.Call {
			r.calls[choice]++
		}
		r.sum.Content = r.sum.Content || bool(p.Call || p.Text || p.InlineData)
	}
}

func (r *geminiReader) content(choice int, c *geminiContent, emit func(llm.Event)) {
	for i := range c.Parts {
		r.part(&c.Parts[i], choice, func(e llm.Event) {
			e.Choice = choice
			r.sum.Content = r.sum.Content || e.Content()
			emit(e)
		})
	}
}

func (r *geminiReader) part(p *geminiPart, choice int, send func(llm.Event)) {
	switch {
	case p.FunctionCall != nil:
		i := r.calls[choice]
		r.calls[choice]++
		args := compact(p.FunctionCall.Args)
		if isNull(args) {
			args = json.RawMessage("{}")
		}
		id := p.FunctionCall.ID
		if id == "" {
			id = r.madeUp(choice, i, p.FunctionCall.Name, args)
		}
		send(llm.Event{Kind: llm.EventTool, Index: i, ToolID: id, ToolName: p.FunctionCall.Name, Signature: p.ThoughtSignature})
		send(llm.Event{Kind: llm.EventToolDelta, Index: i, Text: string(args)})
	case p.Thought:
		if p.Text != "" {
			send(llm.Event{Kind: llm.EventReasoning, Text: p.Text})
		}
		// A signature of plain text need not come back: only a thought's is kept.
		// https://ai.google.dev/gemini-api/docs/thought-signatures
		if p.ThoughtSignature != "" {
			send(llm.Event{Kind: llm.EventSignature, Text: p.ThoughtSignature})
		}
	case p.Text != "":
		send(llm.Event{Kind: llm.EventText, Text: p.Text})
	case p.InlineData != nil:
		r.sum.Content = true
	}
}

// madeUp is an id for a call that came without one: the same each time the
// reply is read, and another in each reply.
func (r *geminiReader) madeUp(choice, i int, name string, args []byte) string {
	h := fnv.New64a()
	for _, s := range []string{r.sum.ID, strconv.Itoa(choice), strconv.Itoa(i), name} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	h.Write(args)
	return "call_" + strconv.FormatUint(h.Sum64(), 36)
}
