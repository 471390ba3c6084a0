package provider

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

type anthropicRequest struct {
	Model         string           `json:"model"`
	MaxTokens     int64            `json:"max_tokens"`
	System        json.RawMessage  `json:"system,omitempty"`
	Messages      []anthropicTurn  `json:"messages"`
	Stream        bool             `json:"stream,omitempty"`
	Temperature   *float64         `json:"temperature,omitempty"`
	TopP          *float64         `json:"top_p,omitempty"`
	TopK          *int64           `json:"top_k,omitempty"`
	StopSequences []string         `json:"stop_sequences,omitempty"`
	Tools         []anthropicTool  `json:"tools,omitempty"`
	ToolChoice    *anthropicChoice `json:"tool_choice,omitempty"`
	Thinking      *anthropicThink  `json:"thinking,omitempty"`
	OutputConfig  *anthropicOutput `json:"output_config,omitempty"`
	Metadata      *anthropicMeta   `json:"metadata,omitempty"`
	ServiceTier   string           `json:"service_tier,omitempty"`
}

type anthropicMeta struct {
	UserID string `json:"user_id,omitempty"`
}

type anthropicThink struct {
	Type   string `json:"type"`
	Budget int64  `json:"budget_tokens,omitempty"`
}

type anthropicOutput struct {
	Format *anthropicFormat `json:"format,omitempty"`
	Effort string           `json:"effort,omitempty"`
}

type anthropicFormat struct {
	Type   string          `json:"type"`
	Schema json.RawMessage `json:"schema,omitempty"`
}

type anthropicChoice struct {
	Type        string `json:"type"`
	Name        string `json:"name,omitempty"`
	ParallelOff bool   `json:"disable_parallel_tool_use,omitempty"`
}

type anthropicTool struct {
	Type        string          `json:"type,omitempty"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	InputSchema json.RawMessage `json:"input_schema,omitempty"`
}

type anthropicTurn struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// anthropicPart is a content block of a request.
type anthropicPart struct {
	Type      string           `json:"type"`
	Text      string           `json:"text,omitempty"`
	Source    *anthropicSource `json:"source,omitempty"`
	Title     string           `json:"title,omitempty"`
	ID        string           `json:"id,omitempty"`
	Name      string           `json:"name,omitempty"`
	Input     json.RawMessage  `json:"input,omitempty"`
	ToolUseID string           `json:"tool_use_id,omitempty"`
	Content   json.RawMessage  `json:"content,omitempty"`
	IsError   bool             `json:"is_error,omitempty"`
	Thinking  string           `json:"thinking,omitempty"`
	Signature string           `json:"signature,omitempty"`
	Data      string           `json:"data,omitempty"`
	Cache     *anthropicCache  `json:"cache_control,omitempty"`
}

type anthropicCache struct {
	Type string `json:"type"`
	TTL  string `json:"ttl,omitempty"`
}

type anthropicSource struct {
	Type      string `json:"type"`
	MediaType string `json:"media_type,omitempty"`
	Data      string `json:"data,omitempty"`
	URL       string `json:"url,omitempty"`
}

func (anthropic) Decode(body []byte, model string, stream bool) (*llm.Request, error) {
	var a anthropicRequest
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, wrongType(err)
	}
	r := &llm.Request{Model: model, Stream: stream, Temperature: a.Temperature, TopP: a.TopP, TopK: a.TopK, Stop: a.StopSequences, Tier: a.ServiceTier}
	if a.MaxTokens > 0 {
		r.MaxTokens = &a.MaxTokens
	}
	if a.Metadata != nil {
		r.User = a.Metadata.UserID
	}
	names := map[string]string{}
	var err error
	if r.System, err = decodeAnthropicParts(a.System, "system", names); err != nil {
		return nil, err
	}
	for i, t := range a.Messages {
		parts, err := decodeAnthropicParts(t.Content, fmt.Sprintf("messages[%d].content", i), names)
		if err != nil {
			return nil, err
		}
		switch t.Role {
		case "user", "assistant":
			addTurn(r, llm.Role(t.Role), parts)
		default:
			return nil, unsupported(fmt.Sprintf("messages[%d].role", i), "role %q is not known", clip(t.Role))
		}
	}
	for i, t := range a.Tools {
		if t.Type != "" && t.Type != "custom" {
			return nil, unsupported(fmt.Sprintf("tools[%d].type", i), "tools of type %q exist only at Anthropic", clip(t.Type))
		}
		r.Tools = append(r.Tools, llm.Tool{Name: t.Name, Description: t.Description, Schema: t.InputSchema})
	}
	if c := a.ToolChoice; c != nil {
		r.ParallelOff = c.ParallelOff
		r.ToolChoice = llm.ToolChoice{Mode: map[string]string{"auto": "auto", "any": "required", "none": "none", "tool": "function"}[c.Type], Name: c.Name}
	}
	if t := a.Thinking; t != nil && t.Type == "enabled" {
		r.Reasoning = &llm.Reasoning{Budget: &t.Budget, Include: true}
	}
	if o := a.OutputConfig; o != nil && o.Format != nil {
		r.Format = &llm.Format{Schema: o.Format.Schema}
	}
	return r, nil
}

func decodeAnthropicParts(raw json.RawMessage, field string, names map[string]string) ([]llm.Part, error) {
	if isNull(raw) {
		return nil, nil
	}
	if s, ok := unquote(raw); ok {
		return []llm.Part{{Kind: llm.PartText, Text: s}}, nil
	}
	var in []anthropicPart
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, unsupported(field, "%s is neither a string nor an array of blocks", field)
	}
	var parts []llm.Part
	for _, b := range in {
		p := llm.Part{Text: b.Text}
		if b.Cache != nil {
			p.Cache = orElse(b.Cache.TTL, "5m")
		}
		switch b.Type {
		case "text":
			p.Kind = llm.PartText
		case "image", "document":
			p.Kind = llm.PartImage
			if b.Type == "document" {
				p.Kind, p.Name = llm.PartFile, b.Title
			}
			if b.Source == nil || b.Source.Type == "file" {
				return nil, unsupported(field, "an uploaded file cannot be carried over to another provider")
			}
			p.MediaType, p.Data, p.URL = b.Source.MediaType, b.Source.Data, b.Source.URL
		case "thinking":
			p.Kind, p.Text, p.Signature = llm.PartReasoning, b.Thinking, b.Signature
		case "redacted_thinking":
			p.Kind, p.Signature, p.Redacted = llm.PartReasoning, b.Data, true
		case "tool_use":
			p.Kind, p.ToolID, p.ToolName, p.Args = llm.PartToolCall, b.ID, b.Name, b.Input
			names[b.ID] = b.Name
		case "tool_result":
			p.Kind, p.ToolID, p.ToolName, p.IsError = llm.PartToolResult, b.ToolUseID, names[b.ToolUseID], b.IsError
			inner, err := decodeAnthropicParts(b.Content, field, names)
			if err != nil {
				return nil, err
			}
			for _, q := range inner {
				if q.Kind == llm.PartText {
					p.Text += q.Text
				} else {
					p.Parts = append(p.Parts, q)
				}
			}
		default:
			return nil, unsupported(field, "a block of type %q cannot be carried over to this model", clip(b.Type))
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// defaultMaxTokens is asked for where the client set no bound: Anthropic wants
// one, and every model since Claude 3.5 takes this.
const defaultMaxTokens = 8192

func (anthropic) Encode(dst []byte, r *llm.Request, _ *Spec) ([]byte, error) {
	if r.N > 1 {
		return nil, unsupported("n", "n is %d, and this provider gives one answer a request", r.N)
	}
	a := anthropicRequest{Model: r.Model, Stream: r.Stream, MaxTokens: defaultMaxTokens, Temperature: r.Temperature, TopP: r.TopP, TopK: r.TopK, StopSequences: r.Stop}
	if r.MaxTokens != nil {
		a.MaxTokens = *r.MaxTokens
	}
	if a.Temperature != nil && *a.Temperature > 1 { // OpenAI's scale goes to 2, Anthropic's to 1
		one := 1.0
		a.Temperature = &one
	}
	if r.User != "" {
		a.Metadata = &anthropicMeta{UserID: r.User}
	}
	if len(r.System) > 0 {
		a.System = appendJSON(nil, encodeAnthropicParts(r.System))
	}
	for _, m := range r.Messages {
		parts := encodeAnthropicParts(m.Parts)
		if len(parts) > 0 {
			a.Messages = append(a.Messages, anthropicTurn{Role: string(m.Role), Content: appendJSON(nil, parts)})
		}
	}
	for _, t := range r.Tools {
		schema := t.Schema
		if isNull(schema) {
			schema = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		a.Tools = append(a.Tools, anthropicTool{Name: t.Name, Description: t.Description, InputSchema: schema})
	}
	if len(r.Tools) > 0 && (r.ToolChoice.Mode != "" || r.ParallelOff) {
		kind := map[string]string{"": "auto", "auto": "auto", "required": "any", "none": "none", "function": "tool"}[r.ToolChoice.Mode]
		a.ToolChoice = &anthropicChoice{Type: orElse(kind, "auto"), Name: r.ToolChoice.Name, ParallelOff: r.ParallelOff && kind != "none"}
	}
	think(&a, r)
	if r.Format != nil && r.Format.Schema != nil {
		a.OutputConfig = &anthropicOutput{Format: &anthropicFormat{Type: "json_schema", Schema: r.Format.Schema}}
	} else if r.Format != nil {
		return nil, unsupported("response_format", "this provider wants a JSON schema: response_format of type json_object has none")
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil, unsupported("", "the request holds a schema or arguments that are not JSON")
	}
	return append(dst, b...), nil
}

// think asks for thinking. Its budget is at least 1,024 and less than
// max_tokens; sampling and a forced tool are refused beside it.
// https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking
func think(a *anthropicRequest, r *llm.Request) {
	if r.Reasoning == nil || r.Reasoning.Effort == "none" {
		return
	}
	budget := budgetOf(r.Reasoning.Effort)
	if r.Reasoning.Budget != nil {
		budget = *r.Reasoning.Budget
	}
	budget = max(budget, 1024)
	if r.MaxTokens == nil {
		a.MaxTokens = budget + defaultMaxTokens
	}
	if a.MaxTokens <= 1024 || a.ToolChoice != nil && (a.ToolChoice.Type == "any" || a.ToolChoice.Type == "tool") {
		return
	}
	a.Thinking = &anthropicThink{Type: "enabled", Budget: min(budget, a.MaxTokens-1)}
	a.Temperature, a.TopK, a.TopP = nil, nil, nil
}

func encodeAnthropicParts(parts []llm.Part) []anthropicPart {
	var out []anthropicPart
	for _, p := range parts {
		b := anthropicPart{}
		if p.Cache != "" {
			b.Cache = &anthropicCache{Type: "ephemeral"}
			if p.Cache != "5m" {
				b.Cache.TTL = p.Cache
			}
		}
		switch p.Kind {
		case llm.PartText, llm.PartRefusal:
			if strings.TrimSpace(p.Text) == "" {
				continue // an empty block is refused
			}
			b.Type, b.Text = "text", p.Text
		case llm.PartImage, llm.PartFile:
			b.Type = "image"
			if p.Kind == llm.PartFile {
				b.Type, b.Title = "document", p.Name
			}
			b.Source = &anthropicSource{Type: "base64", MediaType: p.MediaType, Data: p.Data}
			if p.URL != "" {
				b.Source = &anthropicSource{Type: "url", URL: p.URL}
			}
		case llm.PartReasoning:
			switch {
			case p.Redacted:
				b.Type, b.Data = "redacted_thinking", p.Signature
			case p.Signature == "":
				continue // thinking without its signature is refused
			default:
				b.Type, b.Thinking, b.Signature = "thinking", p.Text, p.Signature
			}
		case llm.PartToolCall:
			b.Type, b.ID, b.Name, b.Input = "tool_use", p.ToolID, p.ToolName, p.Args
		case llm.PartToolResult:
			b.Type, b.ToolUseID, b.IsError = "tool_result", p.ToolID, p.IsError
			inner := encodeAnthropicParts(p.Parts)
			if p.Text != "" {
				inner = append([]anthropicPart{{Type: "text", Text: p.Text}}, inner...)
			}
			if len(inner) > 0 {
				b.Content = appendJSON(nil, inner)
			}
		default:
			continue
		}
		out = append(out, b)
	}
	return out
}
