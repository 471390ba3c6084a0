package provider

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// Gemini is the generateContent dialect.
// https://ai.google.dev/api/generate-content
var Gemini Dialect = gemini{}

type gemini struct{}

func (gemini) Name() string { return "gemini.generate" }

func (gemini) Path(model string, stream bool) string {
	p := "/models/" + url.PathEscape(model)
	if stream {
		return p + ":streamGenerateContent?alt=sse"
	}
	return p + ":generateContent"
}

func (gemini) SetHeader(h http.Header, key string, client http.Header) {
	h["Content-Type"] = jsonType
	h["User-Agent"] = userAgent
	if key != "" {
		h["X-Goog-Api-Key"] = []string{key}
	}
	pass(h, client, "X-Goog-Api-Client")
}

// Splice implements Dialect: the model stands in the path, so nothing changes.
func (gemini) Splice(dst, body []byte, _ *Head, _ string, _ *Spec) []byte {
	return append(dst, body...)
}

// geminiUsage is usageMetadata. Every chunk of a stream has it, cumulative.
type geminiUsage struct {
	Prompt     count            `json:"promptTokenCount"` // cached content included
	Candidates count            `json:"candidatesTokenCount"`
	Thoughts   count            `json:"thoughtsTokenCount"`      // not in candidates
	ToolUse    count            `json:"toolUsePromptTokenCount"` // not in prompt
	Cached     count            `json:"cachedContentTokenCount"`
	In         []geminiModality `json:"promptTokensDetails"`
	Out        []geminiModality `json:"candidatesTokensDetails"`
}

type geminiModality struct {
	Modality modality `json:"modality"`
	Tokens   count    `json:"tokenCount"`
}

// Some Vertex clients ask for enums as their protobuf numbers.
// https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse
var (
	reasons    = []string{"", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL", "MODEL_ARMOR"}
	modalities = []string{"", "TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT"}
)

type reason string

func (r *reason) UnmarshalJSON(b []byte) error { return enum(b, reasons, (*string)(r)) }

type modality string

func (m *modality) UnmarshalJSON(b []byte) error { return enum(b, modalities, (*string)(m)) }

// enum reads a name, or a number that stands for one of names.
func enum(b []byte, names []string, to *string) error {
	if n, err := strconv.Atoi(string(b)); err == nil {
		*to = "OTHER"
		if n >= 0 && n < len(names) {
			*to = names[n]
		}
		return nil
	}
	return json.Unmarshal(b, to)
}

func audio(l []geminiModality) (n int64) {
	for _, m := range l {
		if m.Modality == "AUDIO" {
			n += int64(m.Tokens)
		}
	}
	return n
}

func readGeminiUsage(raw json.RawMessage) (llm.Usage, bool) {
	var g geminiUsage
	if err := json.Unmarshal(raw, &g); err != nil {
		return llm.Usage{Source: llm.UsageNone}, false
	}
	for _, c := range []count{g.Prompt, g.Candidates, g.Thoughts, g.ToolUse, g.Cached} {
		if c < 0 {
			return llm.Usage{Source: llm.UsageNone}, false
		}
	}
	return validUsage(llm.Usage{
		Input: int64(g.Prompt + g.ToolUse), Output: int64(g.Candidates + g.Thoughts), Reasoning: int64(g.Thoughts), CacheRead: int64(g.Cached),
		AudioInput: audio(g.In), AudioOutput: audio(g.Out), Raw: compact(raw),
	})
}

// geminiFinish maps a finishReason. A model that calls a function says STOP.
func geminiFinish(s string, called bool) llm.FinishReason {
	switch s {
	case "":
		return llm.FinishNone
	case "STOP":
		if called {
			return llm.FinishTools
		}
		return llm.FinishStop
	case "MAX_TOKENS":
		return llm.FinishLength
	case "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR":
		return llm.FinishFilter
	case "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS":
		return llm.FinishError
	}
	if strings.HasPrefix(s, "IMAGE_") {
		return llm.FinishFilter
	}
	return llm.FinishUnknown
}

type geminiStatus struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Status  string `json:"status"`
	Details []struct {
		Type       string `json:"@type"`
		RetryDelay string `json:"retryDelay"`
	} `json:"details"`
}

// readGeminiStatus finds the error object, also within an array of one.
func readGeminiStatus(body []byte) (s geminiStatus) {
	type wrapped struct {
		Error geminiStatus `json:"error"`
	}
	var one wrapped
	var many []wrapped
	if json.Unmarshal(body, &one) == nil {
		return one.Error
	}
	if json.Unmarshal(body, &many) == nil && len(many) > 0 {
		return many[0].Error
	}
	return s
}

func (gemini) ReadError(status int, h http.Header, body []byte) *llm.Error {
	s := readGeminiStatus(body)
	e := refusal(status, h)
	// A wrong key is a 400 INVALID_ARGUMENT here.
	if status == 400 && strings.Contains(s.Message, "API key not valid") {
		e.Class, e.Status = llm.ProviderAuth, http.StatusBadGateway
	}
	for _, d := range s.Details {
		if t, err := time.ParseDuration(d.RetryDelay); err == nil && t > 0 && e.RetryAfter == 0 {
			e.RetryAfter = bounded(t.Seconds())
		}
	}
	e.Msg, e.Code = upstreamMessage(status, s.Message), clip(s.Status)
	if e.Code == "" {
		e.Code = codeOf(e.Class)
	}
	return e
}

func (gemini) WriteError(dst []byte, e *llm.Error) []byte {
	code := e.HTTPStatus()
	status := map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT",
		429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}[code]
	if status == "" {
		status = "INTERNAL"
		if code < 500 {
			status = "INVALID_ARGUMENT"
		}
	}
	type inner struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Status  string `json:"status"`
	}
	return appendJSON(dst, struct {
		Error inner `json:"error"`
	}{inner{code, e.Msg, status}})
}

func (d gemini) WriteStreamError(dst []byte, e *llm.Error) []byte {
	dst = append(dst, "data: "...)
	return append(d.WriteError(dst, e), "\n\n"...)
}

// geminiPart is a piece of content, in requests and replies.
type geminiPart struct {
	Text             string          `json:"text,omitempty"`
	Thought          bool            `json:"thought,omitempty"`
	ThoughtSignature string          `json:"thoughtSignature,omitempty"`
	InlineData       *geminiBlob     `json:"inlineData,omitempty"`
	FileData         *geminiFile     `json:"fileData,omitempty"`
	FunctionCall     *geminiCall     `json:"functionCall,omitempty"`
	FunctionResponse *geminiResult   `json:"functionResponse,omitempty"`
	Executable       json.RawMessage `json:"executableCode,omitempty"`
	CodeResult       json.RawMessage `json:"codeExecutionResult,omitempty"`
}

type geminiBlob struct {
	MIMEType string `json:"mimeType"`
	Data     string `json:"data"`
}

type geminiFile struct {
	MIMEType string `json:"mimeType,omitempty"`
	URI      string `json:"fileUri"`
}

type geminiCall struct {
	ID   string          `json:"id,omitempty"`
	Name string          `json:"name"`
	Args json.RawMessage `json:"args,omitempty"`
}

type geminiResult struct {
	ID       string          `json:"id,omitempty"`
	Name     string          `json:"name"`
	Response json.RawMessage `json:"response"`
}

type geminiContent struct {
	Role  string       `json:"role,omitempty"`
	Parts []geminiPart `json:"parts,omitempty"`
}

type geminiReply struct {
	ID         string            `json:"responseId,omitempty"`
	Model      string            `json:"modelVersion,omitempty"`
	Candidates []geminiCandidate `json:"candidates,omitempty"`
	Feedback   *struct {
		BlockReason string `json:"blockReason"`
	} `json:"promptFeedback,omitempty"`
	Usage json.RawMessage `json:"usageMetadata,omitempty"`
	Error json.RawMessage `json:"error,omitempty"`
}

type geminiCandidate struct {
	Index        int            `json:"index"`
	Content      *geminiContent `json:"content,omitempty"`
	FinishReason reason         `json:"finishReason,omitempty"`
	Grounding    *struct {
		Queries []string `json:"webSearchQueries"`
	} `json:"groundingMetadata,omitempty"`
}

func (gemini) NewReader(*Spec) Reader {
	return &geminiReader{sum: Summary{Usage: llm.Usage{Source: llm.UsageNone}}}
}

type geminiReader struct {
	sum    Summary
	calls  map[int]int // choice → calls seen
	search bool
}

func (r *geminiReader) Summary() *Summary { return &r.sum }
func (r *geminiReader) HideUsage()        {}

func (r *geminiReader) Whole(body []byte, emit func(llm.Event)) error {
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
	if len(f.Data) == 0 {
		return true, nil
	}
	return true, r.take(f.Data, emit)
}

func (r *geminiReader) take(data []byte, emit func(llm.Event)) error {
	var g geminiReply
	if err := json.Unmarshal(data, &g); err != nil {
		return badReply("the answer is not JSON of generateContent", err)
	}
	if !isNull(g.Error) {
		s := readGeminiStatus(data)
		if s.Code < 400 || s.Code > 599 {
			s.Code = http.StatusBadGateway
		}
		return gemini{}.ReadError(s.Code, nil, data)
	}
	if emit == nil {
		emit = func(llm.Event) {}
	}
	if r.sum.ID == "" && r.sum.Model == "" && (g.ID != "" || g.Model != "") {
		emit(llm.Event{Kind: llm.EventStart, ID: g.ID, Model: g.Model})
	}
	if g.ID != "" {
		r.sum.ID = g.ID
	}
	if g.Model != "" {
		r.sum.Model = g.Model
	}
	for i := range g.Candidates {
		r.candidate(&g.Candidates[i], emit)
	}
	if !isNull(g.Usage) {
		u, ok := readGeminiUsage(g.Usage)
		if ok && r.search {
			u.ServerToolCalls = map[string]int64{"web_search": 1} // billed by request with grounding, not by query
		}
		if ok {
			r.sum.Usage = u
			emit(llm.Event{Kind: llm.EventUsage, Usage: &r.sum.Usage})
		} else {
			r.sum.BadUsage = true
		}
	}
	if g.Feedback != nil && g.Feedback.BlockReason != "" && r.sum.Finish == llm.FinishNone {
		r.sum.Finish, r.sum.Native, r.sum.Complete = llm.FinishFilter, g.Feedback.BlockReason, true
		emit(llm.Event{Kind: llm.EventFinish, Finish: llm.FinishFilter, Native: g.Feedback.BlockReason})
	}
	return nil
}

func (r *geminiReader) candidate(c *geminiCandidate, emit func(llm.Event)) {
	send := func(e llm.Event) {
		e.Choice = c.Index
		r.sum.Content = r.sum.Content || e.Content()
		emit(e)
	}
	if c.Grounding != nil && len(c.Grounding.Queries) > 0 {
		r.search = true
	}
	if c.Content != nil {
		for i := range c.Content.Parts {
			r.part(c.Index, &c.Content.Parts[i], send)
		}
	}
	if c.FinishReason == "" {
		return
	}
	f := geminiFinish(string(c.FinishReason), r.calls[c.Index] > 0)
	if c.Index == 0 {
		r.sum.Finish, r.sum.Native = f, string(c.FinishReason)
	}
	r.sum.Complete = true
	send(llm.Event{Kind: llm.EventFinish, Finish: f, Native: string(c.FinishReason)})
}

func (r *geminiReader) part(choice int, p *geminiPart, send func(llm.Event)) {
	switch {
	case p.FunctionCall != nil:
		if r.calls == nil {
			r.calls = map[int]int{}
		}
		i := r.calls[choice]
		r.calls[choice]++
		id := p.FunctionCall.ID
		if id == "" {
			id = "call_" + strconv.Itoa(choice) + "_" + strconv.Itoa(i) + "_" + clip(r.sum.ID)
		}
		send(llm.Event{Kind: llm.EventTool, Index: i, ToolID: id, ToolName: p.FunctionCall.Name, Signature: p.ThoughtSignature})
		args := compact(p.FunctionCall.Args)
		if isNull(args) {
			args = json.RawMessage("{}")
		}
		send(llm.Event{Kind: llm.EventToolDelta, Index: i, Text: string(args)})
	case p.Thought:
		send(llm.Event{Kind: llm.EventReasoning, Text: p.Text})
	case p.Text != "":
		send(llm.Event{Kind: llm.EventText, Text: p.Text})
	case p.InlineData != nil:
		r.sum.Content = true
	}
	if p.ThoughtSignature != "" && p.FunctionCall == nil {
		send(llm.Event{Kind: llm.EventSignature, Text: p.ThoughtSignature})
	}
}
