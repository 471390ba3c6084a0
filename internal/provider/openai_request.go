package provider

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"path"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// openAIRequest is a chat completion request, as far as other dialects can say
// the same.
type openAIRequest struct {
	Model               string          `json:"model"`
	Messages            []openAITurn    `json:"messages"`
	Stream              bool            `json:"stream,omitempty"`
	StreamOptions       *openAIOptions  `json:"stream_options,omitempty"`
	MaxTokens           *int64          `json:"max_tokens,omitempty"`
	MaxCompletionTokens *int64          `json:"max_completion_tokens,omitempty"`
	Temperature         *float64        `json:"temperature,omitempty"`
	TopP                *float64        `json:"top_p,omitempty"`
	TopK                *int64          `json:"top_k,omitempty"`
	N                   *int            `json:"n,omitempty"`
	Stop                any             `json:"stop,omitempty"`
	Seed                *int64          `json:"seed,omitempty"`
	FrequencyPenalty    *float64        `json:"frequency_penalty,omitempty"`
	PresencePenalty     *float64        `json:"presence_penalty,omitempty"`
	User                string          `json:"user,omitempty"`
	Tools               []openAITool    `json:"tools,omitempty"`
	ToolChoice          json.RawMessage `json:"tool_choice,omitempty"`
	ParallelToolCalls   *bool           `json:"parallel_tool_calls,omitempty"`
	ResponseFormat      *openAIFormat   `json:"response_format,omitempty"`
	ReasoningEffort     string          `json:"reasoning_effort,omitempty"`
	ServiceTier         string          `json:"service_tier,omitempty"`

	// Read, never written.
	Functions    []openAIToolFunction `json:"functions,omitempty"` // before there were tools
	FunctionCall json.RawMessage      `json:"function_call,omitempty"`
	openAIOnly
}

// openAIOnly are the fields that change what is asked for and that no other
// dialect can say. Those that only tune, such as logit_bias or store, are left
// out without a word.
type openAIOnly struct {
	Logprobs   bool            `json:"logprobs,omitempty"`
	Modalities []string        `json:"modalities,omitempty"`
	WebSearch  json.RawMessage `json:"web_search_options,omitempty"`
}

// check names the first field that cannot be carried over.
func (o *openAIOnly) check() error {
	switch {
	case o.Logprobs:
		return unsupported("logprobs", "logprobs cannot be asked of this model")
	case !isNull(o.WebSearch):
		return unsupported("web_search_options", "web_search_options exist only at OpenAI")
	}
	for _, m := range o.Modalities {
		if m != "text" {
			return unsupported("modalities", "this model answers in text alone")
		}
	}
	return nil
}

type openAIOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type openAITurn struct {
	Role             string              `json:"role"`
	Content          json.RawMessage     `json:"content,omitempty"`
	Name             string              `json:"name,omitempty"`
	Refusal          string              `json:"refusal,omitempty"`
	ReasoningContent string              `json:"reasoning_content,omitempty"`
	Reasoning        json.RawMessage     `json:"reasoning,omitempty"`     // read: Groq and OpenRouter call it so
	FunctionCall     *openAIFunction     `json:"function_call,omitempty"` // read
	ToolCalls        []openAIRequestCall `json:"tool_calls,omitempty"`
	ToolCallID       string              `json:"tool_call_id,omitempty"`
}

type openAIRequestCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	} `json:"function"`
	Extra *openAIExtra `json:"extra_content,omitempty"` // read: Gemini's signature
}

type openAITool struct {
	Type     string             `json:"type"`
	Function openAIToolFunction `json:"function"`
}

type openAIToolFunction struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

type openAIFormat struct {
	Type       string        `json:"type"`
	JSONSchema *openAISchema `json:"json_schema,omitempty"`
}

type openAISchema struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"schema,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

// openAIPart is a piece of a turn's content.
type openAIPart struct {
	Type       string           `json:"type"`
	Text       string           `json:"text,omitempty"`
	Refusal    string           `json:"refusal,omitempty"`
	ImageURL   *openAIImage     `json:"image_url,omitempty"`
	InputAudio *openAIAudio     `json:"input_audio,omitempty"`
	File       *openAIInputFile `json:"file,omitempty"`

	// Read, never written: Mistral's.
	Thinking    json.RawMessage `json:"thinking,omitempty"`
	DocumentURL string          `json:"document_url,omitempty"`
}

// UnmarshalJSON takes an image_url that is a bare string, as Mistral has it.
func (i *openAIImage) UnmarshalJSON(b []byte) error {
	if s, ok := unquote(b); ok {
		*i = openAIImage{URL: s}
		return nil
	}
	type plain openAIImage
	return json.Unmarshal(b, (*plain)(i))
}

type openAIImage struct {
	URL    string `json:"url"`
	Detail string `json:"detail,omitempty"`
}

type openAIAudio struct {
	Data   string `json:"data"`
	Format string `json:"format"`
}

type openAIInputFile struct {
	FileData string `json:"file_data,omitempty"`
	FileID   string `json:"file_id,omitempty"`
	Filename string `json:"filename,omitempty"`
}

// unsupported says that a field cannot be carried over to another dialect.
func unsupported(param, format string, args ...any) *llm.Error {
	return &llm.Error{Class: llm.InvalidRequest, Code: "unsupported_value", Param: param, Msg: fmt.Sprintf(format, args...)}
}

// wrongType is the error for a request that does not decode.
func wrongType(err error) *llm.Error {
	e := &llm.Error{Class: llm.InvalidRequest, Code: "invalid_type", Msg: "the request is not of the documented form", Err: nil}
	if t := (*json.UnmarshalTypeError)(nil); errors.As(err, &t) {
		e.Param = clip(t.Field)
		got, _, _ := strings.Cut(t.Value, " ") // number 1.5 is the client's content
		e.Msg = fmt.Sprintf("%s has the wrong type: %s is expected, not %s", clip(t.Field), typeName(t.Type.Kind().String()), got)
	}
	return e
}

func typeName(kind string) string {
	switch kind {
	case "slice", "array":
		return "an array"
	case "struct", "map":
		return "an object"
	case "bool":
		return "true or false"
	case "string":
		return "a string"
	case "int", "int64":
		return "a whole number"
	}
	return "a number"
}

func (openAI) Decode(body []byte, model string, stream bool) (*llm.Request, error) {
	var o openAIRequest
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, wrongType(err)
	}
	r := &llm.Request{Model: model, Stream: stream, MaxTokens: o.MaxCompletionTokens, Temperature: o.Temperature, TopP: o.TopP, TopK: o.TopK,
		Seed: o.Seed, FrequencyPenalty: o.FrequencyPenalty, PresencePenalty: o.PresencePenalty, User: o.User, Tier: o.ServiceTier}
	if err := o.check(); err != nil {
		return nil, err
	}
	if len(o.Messages) == 0 {
		return nil, unsupported("messages", "messages is missing or empty")
	}
	if r.MaxTokens == nil {
		r.MaxTokens = o.MaxTokens
	}
	if o.N != nil {
		if r.N = *o.N; r.N < 1 || r.N > 128 {
			return nil, unsupported("n", "n is not between 1 and 128")
		}
	}
	switch s := o.Stop.(type) {
	case nil:
	case string:
		r.Stop = []string{s}
	case []any:
		for _, v := range s {
			t, ok := v.(string)
			if !ok {
				return nil, unsupported("stop", "stop is neither a string nor an array of strings")
			}
			r.Stop = append(r.Stop, t)
		}
	default:
		return nil, unsupported("stop", "stop is neither a string nor an array of strings")
	}
	if o.ReasoningEffort != "" {
		r.Reasoning = &llm.Reasoning{Effort: o.ReasoningEffort}
	}
	if err := decodeOpenAITools(&o, r); err != nil {
		return nil, err
	}
	names := map[string]string{} // tool call id → function
	for i := range o.Messages {
		if err := decodeOpenAITurn(&o.Messages[i], i, r, names); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func decodeOpenAITools(o *openAIRequest, r *llm.Request) error {
	for i, t := range o.Tools {
		if t.Type != "function" && (t.Type != "" || t.Function.Name == "") {
			return unsupported(fmt.Sprintf("tools[%d].type", i), "tools of type %q exist only at OpenAI", clip(t.Type))
		}
		r.Tools = append(r.Tools, t.Function.neutral())
	}
	for _, f := range o.Functions {
		r.Tools = append(r.Tools, f.neutral())
	}
	r.ParallelOff = o.ParallelToolCalls != nil && !*o.ParallelToolCalls
	choice := o.ToolChoice
	if isNull(choice) {
		choice = o.FunctionCall
	}
	if err := decodeOpenAIToolChoice(choice, r); err != nil {
		return err
	}
	return decodeOpenAIFormat(o, r)
}

func (f *openAIToolFunction) neutral() llm.Tool {
	t := llm.Tool{Name: f.Name, Description: f.Description, Strict: f.Strict}
	if !isNull(f.Parameters) {
		t.Schema = f.Parameters
	}
	return t
}

func decodeOpenAIToolChoice(raw json.RawMessage, r *llm.Request) error {
	if isNull(raw) {
		return nil
	}
	if s, ok := unquote(raw); ok {
		switch s {
		case "auto", "none", "required":
			r.ToolChoice.Mode = s
		case "any": // Mistral's word
			r.ToolChoice.Mode = "required"
		default:
			return unsupported("tool_choice", "tool_choice is none of auto, none, required and a function")
		}
		return nil
	}
	var c struct {
		Name     string `json:"name"` // of function_call
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if json.Unmarshal(raw, &c) != nil || c.Function.Name+c.Name == "" {
		return unsupported("tool_choice", "tool_choice names no function")
	}
	r.ToolChoice = llm.ToolChoice{Mode: "function", Name: orElse(c.Function.Name, c.Name)}
	return nil
}

func decodeOpenAIFormat(o *openAIRequest, r *llm.Request) error {
	if f := o.ResponseFormat; f != nil {
		switch f.Type {
		case "", "text":
		case "json_object":
			r.Format = &llm.Format{}
		case "json_schema":
			if f.JSONSchema == nil {
				return unsupported("response_format.json_schema", "response_format.json_schema is missing")
			}
			r.Format = &llm.Format{Name: f.JSONSchema.Name, Description: f.JSONSchema.Description, Schema: f.JSONSchema.Schema, Strict: f.JSONSchema.Strict}
		default:
			return unsupported("response_format.type", "response_format of type %q cannot be carried over to this model", clip(f.Type))
		}
	}
	return nil
}

func decodeOpenAITurn(t *openAITurn, i int, r *llm.Request, names map[string]string) error {
	parts, err := decodeOpenAIContent(t.Content, i)
	if err != nil {
		return err
	}
	switch t.Role {
	case "system", "developer":
		r.System = append(r.System, parts...)
	case "user":
		addTurn(r, llm.User, parts)
	case "assistant":
		if think := orElse(t.ReasoningContent, plainText(t.Reasoning)); think != "" {
			parts = append([]llm.Part{{Kind: llm.PartReasoning, Text: think}}, parts...)
		}
		if t.Refusal != "" {
			parts = append(parts, llm.Part{Kind: llm.PartRefusal, Text: t.Refusal})
		}
		if t.FunctionCall != nil && len(t.ToolCalls) == 0 {
			c := openAIRequestCall{ID: t.FunctionCall.Name}
			c.Function.Name, c.Function.Arguments = t.FunctionCall.Name, t.FunctionCall.Arguments
			t.ToolCalls = []openAIRequestCall{c}
		}
		for j := range t.ToolCalls {
			p, err := t.ToolCalls[j].neutral(fmt.Sprintf("messages[%d].tool_calls[%d]", i, j))
			if err != nil {
				return err
			}
			names[p.ToolID] = p.ToolName
			parts = append(parts, p)
		}
		addTurn(r, llm.Assistant, parts)
	case "tool", "function":
		id := orElse(t.ToolCallID, t.Name) // a function result has its name alone
		p := llm.Part{Kind: llm.PartToolResult, ToolID: id, ToolName: orElse(names[id], t.Name)}
		for _, q := range parts {
			if q.Kind == llm.PartText {
				p.Text += q.Text
			} else {
				p.Parts = append(p.Parts, q)
			}
		}
		addTurn(r, llm.User, []llm.Part{p})
	default:
		return unsupported(fmt.Sprintf("messages[%d].role", i), "role %q is not known", clip(t.Role))
	}
	return nil
}

// neutral is a call of the conversation so far. Arguments that the model itself
// got wrong are refused: other dialects hold an object there.
func (c *openAIRequestCall) neutral(field string) (llm.Part, error) {
	f := openAIFunction{Arguments: c.Function.Arguments}
	args := strings.TrimSpace(f.arguments())
	if args == "" || args == "null" {
		args = "{}"
	}
	if args[0] != '{' || !json.Valid([]byte(args)) {
		return llm.Part{}, unsupported(field, "the arguments of %s are not a JSON object", field)
	}
	p := llm.Part{Kind: llm.PartToolCall, ToolID: c.ID, ToolName: c.Function.Name, Args: json.RawMessage(args)}
	if c.Extra != nil {
		p.Signature = c.Extra.Google.Signature
	}
	return p, nil
}

// addTurn appends parts, to the turn before where it is the same speaker's: all
// tool results of a turn must stand together.
func addTurn(r *llm.Request, role llm.Role, parts []llm.Part) {
	if n := len(r.Messages); n > 0 && r.Messages[n-1].Role == role {
		r.Messages[n-1].Parts = append(r.Messages[n-1].Parts, parts...)
		return
	}
	r.Messages = append(r.Messages, llm.Message{Role: role, Parts: parts})
}

func decodeOpenAIContent(raw json.RawMessage, i int) ([]llm.Part, error) {
	if isNull(raw) {
		return nil, nil
	}
	if s, ok := unquote(raw); ok {
		if s == "" {
			return nil, nil
		}
		return []llm.Part{{Kind: llm.PartText, Text: s}}, nil
	}
	field := fmt.Sprintf("messages[%d].content", i)
	var in []openAIPart
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, unsupported(field, "%s is neither a string nor an array of parts", field)
	}
	var parts []llm.Part
	for j := range in {
		p, err := in[j].neutral(fmt.Sprintf("%s[%d]", field, j))
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (p *openAIPart) neutral(field string) (llm.Part, error) {
	switch {
	case p.Type == "text":
		return llm.Part{Kind: llm.PartText, Text: p.Text}, nil
	case p.Type == "refusal":
		return llm.Part{Kind: llm.PartRefusal, Text: p.Refusal}, nil
	case p.Type == "thinking":
		return llm.Part{Kind: llm.PartReasoning, Text: plainText(p.Thinking)}, nil
	case p.Type == "image_url" && p.ImageURL != nil && p.ImageURL.URL != "":
		q := llm.Part{Kind: llm.PartImage, Detail: p.ImageURL.Detail}
		q.MediaType, q.Data, q.URL = dataURL(p.ImageURL.URL)
		return q, nil
	case p.Type == "input_audio" && p.InputAudio != nil && p.InputAudio.Data != "":
		return llm.Part{Kind: llm.PartAudio, MediaType: "audio/" + orElse(p.InputAudio.Format, "wav"), Data: p.InputAudio.Data}, nil
	case p.Type == "document_url" && p.DocumentURL != "":
		q := llm.Part{Kind: llm.PartFile}
		q.MediaType, q.Data, q.URL = dataURL(p.DocumentURL)
		return q, nil
	case p.Type == "file" && p.File != nil && p.File.FileData != "":
		q := llm.Part{Kind: llm.PartFile, Name: p.File.Filename}
		q.MediaType, q.Data, q.URL = dataURL(p.File.FileData)
		if q.MediaType == "" {
			q.MediaType = mime.TypeByExtension(path.Ext(q.Name))
			if !strings.Contains(q.URL, "://") { // bare base64
				q.Data, q.URL = q.URL, ""
			}
		}
		return q, nil
	case p.Type == "file" && p.File != nil && p.File.FileID != "":
		return llm.Part{}, unsupported(field, "%s is a file kept at OpenAI: it cannot be carried over to another provider; send its content", field)
	case p.Type == "image_url", p.Type == "input_audio", p.Type == "file":
		return llm.Part{}, unsupported(field, "%s is of type %s and holds none", field, p.Type)
	}
	return llm.Part{}, unsupported(field, "%s is of type %q, which cannot be carried over to this model", field, clip(p.Type))
}

// dataURL splits data:TYPE;base64,DATA; anything else is a plain URL. Data that
// is percent-encoded comes out as base64 too.
// https://www.rfc-editor.org/rfc/rfc2397
func dataURL(s string) (mediaType, data, plain string) {
	if len(s) < 5 || !strings.EqualFold(s[:5], "data:") {
		return "", "", s
	}
	head, data, _ := strings.Cut(s[5:], ",")
	mediaType, _, _ = strings.Cut(head, ";")
	if strings.HasSuffix(strings.ToLower(head), ";base64") {
		return mediaType, data, ""
	}
	if text, err := url.PathUnescape(data); err == nil {
		data = text
	}
	return orElse(mediaType, "text/plain"), base64.StdEncoding.EncodeToString([]byte(data)), ""
}
