package provider

import (
	"bytes"
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
func (gemini) Splice(dst [][]byte, body []byte, _ *Head, _ string, _ *Spec) [][]byte {
	return append(dst, body)
}

// geminiUsage is usageMetadata. Every chunk of a stream has it, cumulative;
// Vertex writes one without counts in all chunks but the last.
type geminiUsage struct {
	Prompt     *count           `json:"promptTokenCount"` // cached content included
	Candidates *count           `json:"candidatesTokenCount"`
	Thoughts   count            `json:"thoughtsTokenCount"`      // not in candidates
	ToolUse    count            `json:"toolUsePromptTokenCount"` // not in prompt
	Cached     count            `json:"cachedContentTokenCount"`
	In         []geminiModality `json:"promptTokensDetails"`
	Out        []geminiModality `json:"candidatesTokensDetails"`
	Tier       geminiEnum       `json:"serviceTier"` // Gemini API
	Traffic    geminiEnum       `json:"trafficType"` // Vertex
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

// A geminiEnum is a name, or the number of one that we need not know.
type geminiEnum string

func (e *geminiEnum) UnmarshalJSON(b []byte) error {
	s, ok := unquote(b)
	if !ok && string(b) != "null" {
		s = string(b)
	}
	*e = geminiEnum(clip(s))
	return nil
}

func audio(l []geminiModality) (n int64) {
	for _, m := range l {
		if m.Modality == "AUDIO" {
			n += int64(m.Tokens)
		}
	}
	return n
}

// tier is the service tier that answered, "" for the standard one.
func (g *geminiUsage) tier() string {
	switch t := strings.ToLower(string(g.Tier)); t {
	case "batch", "flex", "priority":
		return t
	}
	switch g.Traffic {
	case "ON_DEMAND_FLEX":
		return "flex"
	case "ON_DEMAND_PRIORITY":
		return "priority"
	}
	return ""
}

// readGeminiUsage normalises a usageMetadata. reported is false for one that
// counts nothing, ok is false for one that cannot be believed.
func readGeminiUsage(raw json.RawMessage) (u llm.Usage, reported, ok bool) {
	none := llm.Usage{Source: llm.UsageNone}
	rejected := llm.Usage{Source: llm.UsageNone, Raw: compact(raw)}
	var g geminiUsage
	if err := json.Unmarshal(raw, &g); err != nil {
		return rejected, true, false
	}
	if g.Prompt == nil && g.Candidates == nil && g.Thoughts == 0 && g.ToolUse == 0 {
		return none, false, true
	}
	prompt, candidates := value(g.Prompt), value(g.Candidates)
	for _, n := range []int64{prompt, candidates, int64(g.Thoughts), int64(g.ToolUse), int64(g.Cached)} {
		if n < 0 || n > 1e15 { // also no sum of two overflows
			return rejected, true, false
		}
	}
	u, ok = validUsage(llm.Usage{
		Input: prompt + int64(g.ToolUse), Output: candidates + int64(g.Thoughts), Reasoning: int64(g.Thoughts), CacheRead: int64(g.Cached),
		AudioInput: audio(g.In), AudioOutput: audio(g.Out), Tier: g.tier(), Raw: compact(raw),
	})
	return u, true, ok
}

// geminiFinish maps a finishReason. A model that calls a function says STOP.
func geminiFinish(s string, called bool) llm.FinishReason {
	switch s {
	case "", "FINISH_REASON_UNSPECIFIED":
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
	case "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE":
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
		Reason     string `json:"reason"`     // of an ErrorInfo
		RetryDelay string `json:"retryDelay"` // of a RetryInfo
	} `json:"details"`
}

// readGeminiStatus finds the error object, also within an array of one.
func readGeminiStatus(body []byte) (s geminiStatus) {
	type wrapped struct {
		Error json.RawMessage `json:"error"`
	}
	var one wrapped
	var many []wrapped
	if body = bytes.TrimSpace(body); len(body) > 0 && body[0] == '[' {
		if lenient(body, &many) == nil && len(many) > 0 {
			one = many[0]
		}
	} else {
		_ = lenient(body, &one) // HTML or nothing leaves it empty
	}
	if text, ok := unquote(one.Error); ok {
		s.Message = text
		return s
	}
	_ = lenient(one.Error, &s)
	return s
}

func (gemini) ReadError(status int, h http.Header, body []byte) *llm.Error {
	s := readGeminiStatus(body)
	e := refusal(status, h)
	e.Msg, e.Code = upstreamMessage(status, s.Message), orElse(clip(s.Status), codeOf(e.Class))
	operators := s.Status == "FAILED_PRECONDITION" // billing is not enabled, or the place is not served
	for _, d := range s.Details {
		operators = operators || d.Reason == "API_KEY_INVALID"
		if t, err := time.ParseDuration(d.RetryDelay); err == nil && t > 0 && e.RetryAfter == 0 {
			e.RetryAfter = bounded(t.Seconds())
		}
	}
	switch {
	case status == 400 && (operators || strings.Contains(s.Message, "API key not valid") || strings.Contains(s.Message, "API key expired")):
		e.Class, e.Status = llm.ProviderAuth, http.StatusBadGateway // a wrong key is a 400 here
	case status == 400 && strings.Contains(s.Message, "exceeds the maximum number of tokens"):
		e.Code = "context_length_exceeded"
	case status == 404 && s.Status == "NOT_FOUND":
		e.Code = "model_not_found"
	case status == 429:
		e.Code = "rate_limit_exceeded"
	}
	return e
}

func (gemini) WriteError(dst []byte, e *llm.Error) []byte {
	code := e.HTTPStatus()
	status := map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT",
		429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 499: "CANCELLED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}[code]
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

// WriteStreamEnd implements Dialect: the last chunk's finishReason is the end.
func (gemini) WriteStreamEnd(dst []byte) []byte { return dst }

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
	ServerCall       json.RawMessage `json:"toolCall,omitempty"`     // of a tool that Google runs
	ServerResult     json.RawMessage `json:"toolResponse,omitempty"` // its answer
}

type geminiBlob struct {
	MIMEType string `json:"mimeType"`
	Data     string `json:"data"`
	Name     string `json:"displayName,omitempty"`
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
	Parts    []geminiPart    `json:"parts,omitempty"` // images and files, from Gemini 3 on
}

// geminiContent is what a model said.
type geminiContent struct {
	Role  string       `json:"role,omitempty"`
	Parts []geminiPart `json:"parts,omitempty"`
}
