package provider

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

type geminiRequest struct {
	Contents   []geminiContent   `json:"contents"`
	System     *geminiContent    `json:"systemInstruction,omitempty"`
	Tools      []geminiTool      `json:"tools,omitempty"`
	ToolConfig *geminiToolConfig `json:"toolConfig,omitempty"`
	Config     *geminiConfig     `json:"generationConfig,omitempty"`
}

type geminiTool struct {
	Functions []geminiFunction `json:"functionDeclarations,omitempty"`
	Search    json.RawMessage  `json:"googleSearch,omitempty"`
	Code      json.RawMessage  `json:"codeExecution,omitempty"`
	URLs      json.RawMessage  `json:"urlContext,omitempty"`
}

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
}

type geminiThinking struct {
	Budget  *int64 `json:"thinkingBudget,omitempty"`
	Level   string `json:"thinkingLevel,omitempty"`
	Include bool   `json:"includeThoughts,omitempty"`
}

func (gemini) Decode(body []byte, model string, stream bool) (*llm.Request, error) {
	var g geminiRequest
	if err := json.Unmarshal(body, &g); err != nil {
		return nil, wrongType(err)
	}
	r := &llm.Request{Model: model, Stream: stream}
	if g.System != nil {
		for _, p := range g.System.Parts {
			r.System = append(r.System, llm.Part{Kind: llm.PartText, Text: p.Text})
		}
	}
	var open []string // ids of calls not answered yet, in order
	for i, c := range g.Contents {
		role := llm.User
		if c.Role == "model" {
			role = llm.Assistant
		}
		var parts []llm.Part
		for j := range c.Parts {
			p, err := decodeGeminiPart(&c.Parts[j], fmt.Sprintf("contents[%d].parts[%d]", i, j), fmt.Sprintf("call_%d_%d", i, j), &open)
			if err != nil {
				return nil, err
			}
			parts = append(parts, p)
		}
		addTurn(r, role, parts)
	}
	for i, t := range g.Tools {
		if !isNull(t.Search) || !isNull(t.Code) || !isNull(t.URLs) {
			return nil, unsupported(fmt.Sprintf("tools[%d]", i), "a tool that Google runs cannot be carried over to another provider")
		}
		for _, f := range t.Functions {
			schema := f.JSONSchema
			if isNull(schema) {
				schema = lowerTypes(f.Parameters)
			}
			r.Tools = append(r.Tools, llm.Tool{Name: f.Name, Description: f.Description, Schema: schema})
		}
	}
	if g.ToolConfig != nil {
		c := g.ToolConfig.Calling
		r.ToolChoice.Mode = map[string]string{"AUTO": "auto", "ANY": "required", "NONE": "none"}[c.Mode]
		if c.Mode == "ANY" && len(c.Allowed) == 1 {
			r.ToolChoice = llm.ToolChoice{Mode: "function", Name: c.Allowed[0]}
		}
	}
	if c := g.Config; c != nil {
		r.MaxTokens, r.Temperature, r.TopP, r.Seed, r.N, r.Stop = c.MaxOutput, c.Temperature, c.TopP, c.Seed, c.Candidates, c.Stop
		r.PresencePenalty, r.FrequencyPenalty = c.PresencePenalty, c.FrequencyPenalty
		if c.TopK != nil {
			k := int64(*c.TopK)
			r.TopK = &k
		}
		if c.MIMEType == "application/json" {
			r.Format = &llm.Format{Schema: c.JSONSchema}
			if isNull(c.JSONSchema) && !isNull(c.Schema) {
				r.Format.Schema = lowerTypes(c.Schema)
			}
		}
		if t := c.Thinking; t != nil {
			r.Reasoning = &llm.Reasoning{Budget: t.Budget, Effort: strings.ToLower(t.Level), Include: t.Include}
		}
	}
	return r, nil
}

func decodeGeminiPart(g *geminiPart, field, id string, open *[]string) (llm.Part, error) {
	switch {
	case g.FunctionCall != nil:
		id = orElse(g.FunctionCall.ID, id)
		*open = append(*open, g.FunctionCall.Name+"\x00"+id)
		args := g.FunctionCall.Args
		if isNull(args) {
			args = json.RawMessage("{}")
		}
		return llm.Part{Kind: llm.PartToolCall, ToolID: id, ToolName: g.FunctionCall.Name, Args: args, Signature: g.ThoughtSignature}, nil
	case g.FunctionResponse != nil:
		p := llm.Part{Kind: llm.PartToolResult, ToolID: g.FunctionResponse.ID, ToolName: g.FunctionResponse.Name, Text: string(compact(g.FunctionResponse.Response))}
		for i, o := range *open { // results answer calls by name, in order
			if name, id, _ := strings.Cut(o, "\x00"); name == p.ToolName && (p.ToolID == "" || p.ToolID == id) {
				p.ToolID = id
				*open = append((*open)[:i:i], (*open)[i+1:]...)
				break
			}
		}
		return p, nil
	case g.Thought:
		return llm.Part{Kind: llm.PartReasoning, Text: g.Text, Signature: g.ThoughtSignature}, nil
	case g.InlineData != nil:
		return llm.Part{Kind: kindOf(g.InlineData.MIMEType), MediaType: g.InlineData.MIMEType, Data: g.InlineData.Data}, nil
	case g.FileData != nil:
		return llm.Part{Kind: kindOf(g.FileData.MIMEType), MediaType: g.FileData.MIMEType, URL: g.FileData.URI}, nil
	case !isNull(g.Executable) || !isNull(g.CodeResult):
		return llm.Part{}, unsupported(field, "executed code cannot be carried over to another provider")
	}
	return llm.Part{Kind: llm.PartText, Text: g.Text}, nil
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
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return raw
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if t, ok := v["type"].(string); ok {
				v["type"] = strings.ToLower(t)
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(v)
	return appendJSON(nil, v)
}

func (gemini) Encode(dst []byte, r *llm.Request, _ *Spec) ([]byte, error) {
	g := geminiRequest{Config: &geminiConfig{MaxOutput: r.MaxTokens, Temperature: r.Temperature, TopP: r.TopP, Seed: r.Seed, Stop: r.Stop,
		PresencePenalty: r.PresencePenalty, FrequencyPenalty: r.FrequencyPenalty}}
	if r.N > 1 {
		g.Config.Candidates = r.N
	}
	if r.TopK != nil {
		k := float64(*r.TopK)
		g.Config.TopK = &k
	}
	if len(r.System) > 0 {
		g.System = &geminiContent{Parts: []geminiPart{{Text: joinText(r.System)}}}
	}
	for _, m := range r.Messages {
		c := geminiContent{Role: "user"}
		if m.Role == llm.Assistant {
			c.Role = "model"
		}
		for _, p := range m.Parts {
			c.Parts = append(c.Parts, encodeGeminiPart(p)...)
		}
		if len(c.Parts) > 0 {
			g.Contents = append(g.Contents, c)
		}
	}
	if len(r.Tools) > 0 {
		t := geminiTool{}
		for _, f := range r.Tools {
			t.Functions = append(t.Functions, geminiFunction{Name: f.Name, Description: f.Description, JSONSchema: f.Schema})
		}
		g.Tools = []geminiTool{t}
		if mode := map[string]string{"auto": "AUTO", "required": "ANY", "none": "NONE", "function": "ANY"}[r.ToolChoice.Mode]; mode != "" {
			g.ToolConfig = &geminiToolConfig{}
			g.ToolConfig.Calling.Mode = mode
			if r.ToolChoice.Name != "" {
				g.ToolConfig.Calling.Allowed = []string{r.ToolChoice.Name}
			}
		}
	}
	if f := r.Format; f != nil {
		g.Config.MIMEType, g.Config.JSONSchema = "application/json", f.Schema
	}
	if t := r.Reasoning; t != nil {
		budget := t.Budget
		if budget == nil && t.Effort != "" {
			b := budgetOf(t.Effort)
			budget = &b
		}
		g.Config.Thinking = &geminiThinking{Budget: budget, Include: t.Include}
	}
	b, err := json.Marshal(g)
	if err != nil {
		return nil, unsupported("", "the request holds a schema or arguments that are not JSON")
	}
	return append(dst, b...), nil
}

func encodeGeminiPart(p llm.Part) []geminiPart {
	switch p.Kind {
	case llm.PartText, llm.PartRefusal:
		if p.Text == "" {
			return nil
		}
		return []geminiPart{{Text: p.Text}}
	case llm.PartImage, llm.PartAudio, llm.PartFile:
		if p.URL != "" {
			return []geminiPart{{FileData: &geminiFile{MIMEType: p.MediaType, URI: p.URL}}}
		}
		return []geminiPart{{InlineData: &geminiBlob{MIMEType: p.MediaType, Data: p.Data}}}
	case llm.PartToolCall:
		return []geminiPart{{FunctionCall: &geminiCall{Name: p.ToolName, Args: p.Args}, ThoughtSignature: p.Signature}}
	case llm.PartToolResult:
		// The response is an object; text that is none is put into one.
		var object map[string]any
		response := json.RawMessage(p.Text)
		if json.Unmarshal(response, &object) != nil || object == nil {
			key := "result"
			if p.IsError {
				key = "error"
			}
			response = appendJSON(nil, map[string]string{key: p.Text})
		}
		parts := []geminiPart{{FunctionResponse: &geminiResult{Name: p.ToolName, Response: response}}}
		for _, q := range p.Parts {
			parts = append(parts, encodeGeminiPart(q)...)
		}
		return parts
	}
	return nil // reasoning is kept by the model's own signatures
}
