package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

type geminiRequest struct {
	Contents   list[geminiTurn]  `json:"contents"`
	System     *geminiTurn       `json:"systemInstruction,omitempty"`
	Tools      list[geminiTool]  `json:"tools,omitempty"`
	ToolConfig *geminiToolConfig `json:"toolConfig,omitempty"`
	Config     *geminiConfig     `json:"generationConfig,omitempty"`

	// Read only: they exist only at Google.
	Cached string          `json:"cachedContent,omitempty"`
	Armor  json.RawMessage `json:"modelArmorConfig,omitempty"`
}

// geminiTurn is what a user or a model said before.
type geminiTurn struct {
	Role  string           `json:"role,omitempty"`
	Parts list[geminiPart] `json:"parts,omitempty"`
}

// A list is an array, or its only element: protobuf's JSON reader takes both.
type list[T any] []T

func (l *list[T]) UnmarshalJSON(b []byte) error {
	if b[0] == '{' {
		*l = make([]T, 1)
		return json.Unmarshal(b, &(*l)[0])
	}
	return json.Unmarshal(b, (*[]T)(l))
}

// geminiTool is functions, or a tool that Google runs under a name of its own.
type geminiTool map[string]json.RawMessage

const geminiFunctions = "functionDeclarations"

type geminiFunction struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`           // Gemini's subset of OpenAPI
	JSONSchema  json.RawMessage `json:"parametersJsonSchema,omitempty"` // JSON Schema
}

type geminiToolConfig struct {
	Calling struct {
		Mode    string   `json:"mode,omitempty"`
		Allowed []string `json:"allowedFunctionNames,omitempty"`
	} `json:"functionCallingConfig"`
}

type geminiConfig struct {
	MaxOutput        *int64          `json:"maxOutputTokens,omitempty"`
	Temperature      *float64        `json:"temperature,omitempty"`
	TopP             *float64        `json:"topP,omitempty"`
	TopK             *float64        `json:"topK,omitempty"`
	Seed             *int64          `json:"seed,omitempty"`
	Candidates       int             `json:"candidateCount,omitempty"`
	Stop             []string        `json:"stopSequences,omitempty"`
	PresencePenalty  *float64        `json:"presencePenalty,omitempty"`
	FrequencyPenalty *float64        `json:"frequencyPenalty,omitempty"`
	MIMEType         string          `json:"responseMimeType,omitempty"`
	Schema           json.RawMessage `json:"responseSchema,omitempty"`
	JSONSchema       json.RawMessage `json:"responseJsonSchema,omitempty"`
	Thinking         *geminiThinking `json:"thinkingConfig,omitempty"`

	// Read only.
	Modalities []string `json:"responseModalities,omitempty"`
	Logprobs   bool     `json:"responseLogprobs,omitempty"`
}

type geminiThinking struct {
	Budget  *int64 `json:"thinkingBudget,omitempty"`
	Level   string `json:"thinkingLevel,omitempty"`
	Include bool   `json:"includeThoughts,omitempty"`
}

func (gemini) Decode(body []byte, model string, stream bool) (*llm.Request, error) {
	var g geminiRequest
	if err := json.Unmarshal(camelKeys(body), &g); err != nil {
		return nil, wrongType(err)
	}
	switch {
	case g.Cached != "":
		return nil, unsupported("cachedContent", "cachedContent exists only at Google")
	case !isNull(g.Armor):
		return nil, unsupported("modelArmorConfig", "modelArmorConfig exists only at Google")
	}
	r := &llm.Request{Model: model, Stream: stream}
	if g.System != nil {
		for _, p := range g.System.Parts {
			r.System = append(r.System, llm.Part{Kind: llm.PartText, Text: p.Text})
		}
	}
	if err := decodeGeminiTurns(g.Contents, r); err != nil {
		return nil, err
	}
	if err := decodeGeminiTools(&g, r); err != nil {
		return nil, err
	}
	if g.Config != nil {
		if err := decodeGeminiConfig(g.Config, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func decodeGeminiConfig(c *geminiConfig, r *llm.Request) error {
	for _, m := range c.Modalities {
		if m != "TEXT" {
			return unsupported("generationConfig.responseModalities", "an answer in %s cannot be carried over from another provider", clip(m))
		}
	}
	if c.Logprobs {
		return unsupported("generationConfig.responseLogprobs", "log probabilities cannot be carried over from another provider")
	}
	r.MaxTokens, r.Temperature, r.TopP, r.Seed, r.N, r.Stop = c.MaxOutput, c.Temperature, c.TopP, c.Seed, c.Candidates, c.Stop
	r.PresencePenalty, r.FrequencyPenalty = c.PresencePenalty, c.FrequencyPenalty
	if c.TopK != nil {
		k := int64(*c.TopK)
		r.TopK = &k
	}
	switch c.MIMEType {
	case "", "text/plain":
	case "application/json":
		r.Format = &llm.Format{}
		if !isNull(c.JSONSchema) {
			r.Format.Schema = c.JSONSchema
		} else if !isNull(c.Schema) {
			r.Format.Schema = lowerTypes(c.Schema)
		}
	default:
		return unsupported("generationConfig.responseMimeType", "an answer of type %s cannot be carried over from another provider", clip(c.MIMEType))
	}
	if t := c.Thinking; t != nil && (t.Budget != nil || t.Level != "" || t.Include) {
		r.Reasoning = &llm.Reasoning{Budget: t.Budget, Effort: strings.ToLower(t.Level), Include: t.Include}
	}
	return nil
}

func decodeGeminiTools(g *geminiRequest, r *llm.Request) error {
	for i, t := range g.Tools {
		for name, raw := range t {
			if name != geminiFunctions {
				return unsupported(fmt.Sprintf("tools[%d].%s", i, clip(name)), "%s is a tool that Google runs, and cannot be carried over to another provider", clip(name))
			}
			var functions list[geminiFunction]
			if err := json.Unmarshal(raw, &functions); err != nil {
				return wrongType(err)
			}
			for _, f := range functions {
				schema := f.JSONSchema
				if isNull(schema) {
					schema = lowerTypes(f.Parameters)
				}
				r.Tools = append(r.Tools, llm.Tool{Name: f.Name, Description: f.Description, Schema: schema})
			}
		}
	}
	if g.ToolConfig == nil {
		return nil
	}
	c := g.ToolConfig.Calling
	// VALIDATED leaves the choice to the model, as AUTO does, and holds it to the schema.
	r.ToolChoice.Mode = map[string]string{"AUTO": "auto", "VALIDATED": "auto", "ANY": "required", "NONE": "none"}[strings.ToUpper(c.Mode)]
	if len(c.Allowed) == 1 && r.ToolChoice.Mode == "required" {
		r.ToolChoice = llm.ToolChoice{Mode: "function", Name: c.Allowed[0]}
	} else if len(c.Allowed) > 0 { // no other dialect names several: they are all there is
		r.Tools = slices.DeleteFunc(r.Tools, func(t llm.Tool) bool { return !slices.Contains(c.Allowed, t.Name) })
	}
	return nil
}

// geminiCalls are the calls of a conversation that a result may answer: results
// without an id answer those of their name, in order.
type geminiCalls struct {
	open     map[string][]string // function → ids
	answered map[string]bool     // by id
}

func (c *geminiCalls) answer(name, id string) (string, bool) {
	if id != "" {
		c.answered[id] = true
		return id, true
	}
	for q := c.open[name]; len(q) > 0; q = c.open[name] {
		id, c.open[name] = q[0], q[1:]
		if !c.answered[id] {
			return id, true
		}
	}
	return "", false
}

func decodeGeminiTurns(contents []geminiTurn, r *llm.Request) error {
	calls := geminiCalls{open: map[string][]string{}, answered: map[string]bool{}}
	for i, c := range contents {
		role := llm.User
		switch c.Role {
		case "", "user", "function":
		case "model":
			role = llm.Assistant
		default:
			return unsupported(fmt.Sprintf("contents[%d].role", i), "role %q is not known: use user or model", clip(c.Role))
		}
		var parts []llm.Part
		for j := range c.Parts {
			field := fmt.Sprintf("contents[%d].parts[%d]", i, j)
			p, err := decodeGeminiPart(&c.Parts[j], field, fmt.Sprintf("call_%d_%d", i, j), &calls)
			if err != nil {
				return err
			}
			if n := len(parts); n > 0 && p.Kind == llm.PartReasoning && parts[n-1].Kind == llm.PartReasoning && parts[n-1].Signature == "" {
				parts[n-1].Text += p.Text // a stream's pieces, and the signature at their end
				parts[n-1].Signature = p.Signature
				continue
			}
			parts = append(parts, p)
		}
		addTurn(r, role, parts)
	}
	return nil
}

func decodeGeminiPart(g *geminiPart, field, id string, calls *geminiCalls) (p llm.Part, err error) {
	switch {
	case g.FunctionCall != nil:
		f := g.FunctionCall
		id = orElse(f.ID, id)
		calls.open[f.Name] = append(calls.open[f.Name], id)
		args := f.Args
		if isNull(args) {
			args = json.RawMessage("{}")
		}
		return llm.Part{Kind: llm.PartToolCall, ToolID: id, ToolName: f.Name, Args: args, Signature: g.ThoughtSignature}, nil
	case g.FunctionResponse != nil:
		f := g.FunctionResponse
		id, ok := calls.answer(f.Name, f.ID)
		if !ok {
			return p, unsupported(field, "the response of function %q answers no call", clip(f.Name))
		}
		p = llm.Part{Kind: llm.PartToolResult, ToolID: id, ToolName: f.Name}
		p.Text, p.IsError = resultText(f.Response)
		for i := range f.Parts {
			q, err := decodeGeminiPart(&f.Parts[i], field, "", calls)
			if err != nil || q.Kind == llm.PartToolCall || q.Kind == llm.PartToolResult {
				return p, unsupported(field, "the response of function %q holds what is neither text nor a file", clip(f.Name))
			}
			p.Parts = append(p.Parts, q)
		}
		return p, nil
	case g.Thought:
		return llm.Part{Kind: llm.PartReasoning, Text: g.Text, Signature: g.ThoughtSignature}, nil
	case g.InlineData != nil:
		return llm.Part{Kind: kindOf(g.InlineData.MIMEType), MediaType: g.InlineData.MIMEType, Data: g.InlineData.Data, Name: g.InlineData.Name}, nil
	case g.FileData != nil:
		return llm.Part{Kind: kindOf(g.FileData.MIMEType), MediaType: g.FileData.MIMEType, URL: g.FileData.URI}, nil
	case !isNull(g.Executable) || !isNull(g.CodeResult) || !isNull(g.ServerCall) || !isNull(g.ServerResult):
		return p, unsupported(field, "the work of a tool that Google runs cannot be carried over to another provider")
	}
	return llm.Part{Kind: llm.PartText, Text: g.Text}, nil
}

// resultText is a function's response as text: what stands alone under output,
// result or error as it is, anything else as JSON.
// https://ai.google.dev/api/caching#FunctionResponse
func resultText(response json.RawMessage) (text string, failed bool) {
	var o map[string]json.RawMessage
	if json.Unmarshal(response, &o) == nil && len(o) == 1 {
		for _, key := range []string{"output", "result", "error"} {
			if s, ok := unquote(o[key]); ok && o[key] != nil {
				return s, key == "error"
			}
		}
	}
	return string(compact(response)), false
}

func kindOf(mediaType string) llm.PartKind {
	switch {
	case strings.HasPrefix(mediaType, "image/"):
		return llm.PartImage
	case strings.HasPrefix(mediaType, "audio/"):
		return llm.PartAudio
	}
	return llm.PartFile
}

// lowerTypes turns Gemini's schema, with types like STRING, into JSON Schema.
func lowerTypes(raw json.RawMessage) json.RawMessage {
	if isNull(raw) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // a bound of 2^53 and more stays exact
	var v any
	if d.Decode(&v) != nil {
		return raw
	}
	lowerType(v)
	return appendJSON(nil, v)
}

func lowerType(v any) {
	switch v := v.(type) {
	case map[string]any:
		if t, ok := v["type"].(string); ok {
			v["type"] = strings.ToLower(t)
			if v["nullable"] == true {
				v["type"] = []any{strings.ToLower(t), "null"}
				delete(v, "nullable")
			}
		}
		for key, x := range v {
			if key != "enum" && key != "default" && key != "example" && key != "const" { // values, no schemas
				lowerType(x)
			}
		}
	case []any:
		for _, x := range v {
			lowerType(x)
		}
	}
}
