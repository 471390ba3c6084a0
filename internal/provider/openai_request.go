package provider

import (
	"encoding/json"
	"fmt"
	"mime"
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
}

type openAITool struct {
	Type     string `json:"type"`
	Function struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Parameters  json.RawMessage `json:"parameters,omitempty"`
		Strict      *bool           `json:"strict,omitempty"`
	} `json:"function"`
}

type openAIFormat struct {
	Type       string `json:"type"`
	JSONSchema *struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Schema      json.RawMessage `json:"schema,omitempty"`
		Strict      *bool           `json:"strict,omitempty"`
	} `json:"json_schema,omitempty"`
}

// openAIPart is a piece of a turn's content.
type openAIPart struct {
	Type       string           `json:"type"`
	Text       string           `json:"text,omitempty"`
	Refusal    string           `json:"refusal,omitempty"`
	ImageURL   *openAIImage     `json:"image_url,omitempty"`
	InputAudio *openAIAudio     `json:"input_audio,omitempty"`
	File       *openAIInputFile `json:"file,omitempty"`
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
	if t, ok := err.(*json.UnmarshalTypeError); ok {
		e.Param = clip(t.Field)
		e.Msg = fmt.Sprintf("%s has the wrong type: %s is expected, not %s", clip(t.Field), typeName(t.Type.Kind().String()), t.Value)
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
	if r.MaxTokens == nil {
		r.MaxTokens = o.MaxTokens
	}
	if o.N != nil {
		r.N = *o.N
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
		if t.Type != "function" {
			return unsupported(fmt.Sprintf("tools[%d].type", i), "tools of type %q exist only at OpenAI", clip(t.Type))
		}
		r.Tools = append(r.Tools, llm.Tool{Name: t.Function.Name, Description: t.Function.Description, Schema: t.Function.Parameters, Strict: t.Function.Strict})
	}
	r.ParallelOff = o.ParallelToolCalls != nil && !*o.ParallelToolCalls
	if !isNull(o.ToolChoice) {
		if s, ok := unquote(o.ToolChoice); ok {
			r.ToolChoice.Mode = s
		} else {
			var c struct {
				Function struct {
					Name string `json:"name"`
				} `json:"function"`
			}
			if json.Unmarshal(o.ToolChoice, &c) != nil || c.Function.Name == "" {
				return unsupported("tool_choice", "tool_choice names no function")
			}
			r.ToolChoice = llm.ToolChoice{Mode: "function", Name: c.Function.Name}
		}
	}
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
		if t.ReasoningContent != "" {
			parts = append([]llm.Part{{Kind: llm.PartReasoning, Text: t.ReasoningContent}}, parts...)
		}
		if t.Refusal != "" {
			parts = append(parts, llm.Part{Kind: llm.PartRefusal, Text: t.Refusal})
		}
		for _, c := range t.ToolCalls {
			f := openAIFunction{Arguments: c.Function.Arguments}
			args := f.arguments()
			if strings.TrimSpace(args) == "" {
				args = "{}"
			}
			if !json.Valid([]byte(args)) || strings.TrimSpace(args)[0] != '{' {
				return unsupported(fmt.Sprintf("messages[%d].tool_calls", i), "the arguments of tool call %q are not a JSON object", clip(c.ID))
			}
			names[c.ID] = c.Function.Name
			parts = append(parts, llm.Part{Kind: llm.PartToolCall, ToolID: c.ID, ToolName: c.Function.Name, Args: json.RawMessage(args)})
		}
		addTurn(r, llm.Assistant, parts)
	case "tool", "function":
		name := names[t.ToolCallID]
		if name == "" {
			name = t.Name
		}
		p := llm.Part{Kind: llm.PartToolResult, ToolID: t.ToolCallID, ToolName: name}
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
	for _, p := range in {
		switch {
		case p.Type == "text":
			parts = append(parts, llm.Part{Kind: llm.PartText, Text: p.Text})
		case p.Type == "refusal":
			parts = append(parts, llm.Part{Kind: llm.PartRefusal, Text: p.Refusal})
		case p.Type == "image_url" && p.ImageURL != nil:
			q := llm.Part{Kind: llm.PartImage, Detail: p.ImageURL.Detail}
			q.MediaType, q.Data, q.URL = dataURL(p.ImageURL.URL)
			parts = append(parts, q)
		case p.Type == "input_audio" && p.InputAudio != nil:
			parts = append(parts, llm.Part{Kind: llm.PartAudio, MediaType: "audio/" + p.InputAudio.Format, Data: p.InputAudio.Data})
		case p.Type == "file" && p.File != nil && p.File.FileData != "":
			q := llm.Part{Kind: llm.PartFile, Name: p.File.Filename}
			q.MediaType, q.Data, q.URL = dataURL(p.File.FileData)
			if q.MediaType == "" {
				q.MediaType = mime.TypeByExtension(path.Ext(q.Name))
			}
			parts = append(parts, q)
		default:
			return nil, unsupported(field, "content of type %q cannot be carried over to this model", clip(p.Type))
		}
	}
	return parts, nil
}

// dataURL splits data:TYPE;base64,DATA; anything else is a plain URL.
func dataURL(s string) (mediaType, data, url string) {
	rest, ok := strings.CutPrefix(s, "data:")
	if !ok {
		return "", "", s
	}
	head, data, _ := strings.Cut(rest, ",")
	mediaType, _, _ = strings.Cut(head, ";")
	return mediaType, data, ""
}

func (openAI) Encode(dst []byte, r *llm.Request, s *Spec) ([]byte, error) {
	o := openAIRequest{Model: r.Model, Stream: r.Stream, Temperature: r.Temperature, TopP: r.TopP, Seed: r.Seed, FrequencyPenalty: r.FrequencyPenalty,
		PresencePenalty: r.PresencePenalty, User: r.User, ServiceTier: r.Tier}
	if s.Quirks.MaxCompletionTokens {
		o.MaxCompletionTokens = r.MaxTokens
	} else {
		o.MaxTokens = r.MaxTokens
	}
	if r.Stream && !s.Quirks.NoStreamOptions {
		o.StreamOptions = &openAIOptions{IncludeUsage: true}
	}
	if r.N > 1 {
		o.N = &r.N
	}
	if len(r.Stop) > 0 {
		o.Stop = r.Stop
	}
	if r.Reasoning != nil {
		o.ReasoningEffort = r.Reasoning.Effort
		if o.ReasoningEffort == "" && r.Reasoning.Budget != nil {
			o.ReasoningEffort = effortOf(*r.Reasoning.Budget)
		}
	}
	if len(r.System) > 0 {
		o.Messages = append(o.Messages, openAITurn{Role: "system", Content: appendJSON(nil, joinText(r.System))})
	}
	for _, m := range r.Messages {
		o.Messages = append(o.Messages, encodeOpenAITurns(m)...)
	}
	for _, t := range r.Tools {
		out := openAITool{Type: "function"}
		out.Function.Name, out.Function.Description, out.Function.Parameters, out.Function.Strict = t.Name, t.Description, t.Schema, t.Strict
		o.Tools = append(o.Tools, out)
	}
	if r.ParallelOff {
		off := false
		o.ParallelToolCalls = &off
	}
	switch r.ToolChoice.Mode {
	case "":
	case "function":
		o.ToolChoice = appendJSON(nil, map[string]any{"type": "function", "function": map[string]string{"name": r.ToolChoice.Name}})
	default:
		o.ToolChoice = appendJSON(nil, r.ToolChoice.Mode)
	}
	if f := r.Format; f != nil {
		o.ResponseFormat = &openAIFormat{Type: "json_object"}
		if f.Schema != nil {
			b := appendJSON(nil, map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": orElse(f.Name, "answer"), "schema": f.Schema, "strict": f.Strict}})
			o.ResponseFormat = nil
			_ = json.Unmarshal(b, &o.ResponseFormat) // just written
		}
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, unsupported("", "the request holds a schema that is not JSON")
	}
	return append(dst, b...), nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func joinText(parts []llm.Part) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString(p.Text)
	}
	return b.String()
}

// encodeOpenAITurns writes a turn as OpenAI has it: tool results are turns of
// their own, before what else the user says.
func encodeOpenAITurns(m llm.Message) (turns []openAITurn) {
	t := openAITurn{Role: string(m.Role)}
	var parts []openAIPart
	for _, p := range m.Parts {
		switch p.Kind {
		case llm.PartText:
			parts = append(parts, openAIPart{Type: "text", Text: p.Text})
		case llm.PartRefusal:
			t.Refusal += p.Text
		case llm.PartReasoning:
			t.ReasoningContent += p.Text
		case llm.PartImage:
			parts = append(parts, openAIPart{Type: "image_url", ImageURL: &openAIImage{URL: urlOf(p), Detail: p.Detail}})
		case llm.PartAudio:
			parts = append(parts, openAIPart{Type: "input_audio", InputAudio: &openAIAudio{Data: p.Data, Format: strings.TrimPrefix(p.MediaType, "audio/")}})
		case llm.PartFile:
			parts = append(parts, openAIPart{Type: "file", File: &openAIInputFile{FileData: urlOf(p), Filename: orElse(p.Name, "file")}})
		case llm.PartToolCall:
			c := openAIRequestCall{ID: p.ToolID, Type: "function"}
			c.Function.Name, c.Function.Arguments = p.ToolName, appendJSON(nil, string(p.Args))
			t.ToolCalls = append(t.ToolCalls, c)
		case llm.PartToolResult:
			turns = append(turns, openAITurn{Role: "tool", ToolCallID: p.ToolID, Content: appendJSON(nil, p.Text)})
		}
	}
	switch {
	case len(parts) == 1 && parts[0].Type == "text":
		t.Content = appendJSON(nil, parts[0].Text)
	case len(parts) > 0:
		t.Content = appendJSON(nil, parts)
	case len(t.ToolCalls) > 0:
		t.Content = json.RawMessage("null")
	case t.ReasoningContent == "" && t.Refusal == "":
		return turns
	}
	return append(turns, t)
}

func urlOf(p llm.Part) string {
	if p.URL != "" {
		return p.URL
	}
	return "data:" + orElse(p.MediaType, "application/octet-stream") + ";base64," + p.Data
}

// effortOf is the effort nearest to a budget of reasoning tokens; budgetOf the
// other way round. The steps are those of Gemini's OpenAI-compatible endpoint.
// https://ai.google.dev/gemini-api/docs/openai
func effortOf(budget int64) string {
	switch {
	case budget == 0:
		return "none"
	case budget > 0 && budget <= 1024:
		return "low"
	case budget > 0 && budget <= 8192:
		return "medium"
	}
	return "high"
}

func budgetOf(effort string) int64 {
	switch effort {
	case "none":
		return 0
	case "minimal", "low":
		return 1024
	case "medium":
		return 8192
	}
	return 24576
}
