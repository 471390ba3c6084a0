package provider

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

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

	// Read only. OutputFormat is output_config.format as it was in beta; the
	// other two exist only at Anthropic.
	OutputFormat *anthropicFormat `json:"output_format,omitempty"`
	MCPServers   json.RawMessage  `json:"mcp_servers,omitempty"`
	Container    json.RawMessage  `json:"container,omitempty"`
}

type anthropicMeta struct {
	UserID string `json:"user_id,omitempty"`
}

type anthropicThink struct {
	Type    string `json:"type"`
	Budget  int64  `json:"budget_tokens,omitempty"`
	Display string `json:"display,omitempty"` // summarized or omitted
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
	Strict      *bool           `json:"strict,omitempty"`
	Cache       *anthropicCache `json:"cache_control,omitempty"`
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
	Thinking  *string          `json:"thinking,omitempty"` // in a thinking block always, also empty
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
	switch {
	case !isNull(a.MCPServers) && string(a.MCPServers) != "[]":
		return nil, unsupported("mcp_servers", "mcp_servers exist only at Anthropic")
	case !isNull(a.Container):
		return nil, unsupported("container", "a container exists only at Anthropic")
	}
	r := &llm.Request{Model: model, Stream: stream, Temperature: a.Temperature, TopP: a.TopP, TopK: a.TopK, Stop: a.StopSequences, Tier: a.ServiceTier}
	if r.Tier == "standard_only" {
		r.Tier = "default" // OpenAI's word
	}
	if a.MaxTokens > 0 {
		r.MaxTokens = &a.MaxTokens
	}
	if a.Metadata != nil {
		r.User = a.Metadata.UserID
	}
	if err := decodeAnthropicTurns(&a, r); err != nil {
		return nil, err
	}
	for i, t := range a.Tools {
		if t.Type != "" && t.Type != "custom" {
			return nil, unsupported(fmt.Sprintf("tools[%d].type", i), "tools of type %q exist only at Anthropic", clip(t.Type))
		}
		r.Tools = append(r.Tools, llm.Tool{Name: t.Name, Description: t.Description, Schema: t.InputSchema, Strict: t.Strict})
	}
	if c := a.ToolChoice; c != nil {
		mode, ok := map[string]string{"auto": "auto", "any": "required", "none": "none", "tool": "function"}[c.Type]
		if !ok {
			return nil, unsupported("tool_choice.type", "tool_choice of type %q is not known", clip(c.Type))
		}
		r.ParallelOff, r.ToolChoice = c.ParallelOff, llm.ToolChoice{Mode: mode, Name: c.Name}
	}
	decodeAnthropicThinking(&a, r)
	format := a.OutputFormat
	if a.OutputConfig != nil && a.OutputConfig.Format != nil {
		format = a.OutputConfig.Format
	}
	if format != nil {
		r.Format = &llm.Format{Schema: format.Schema}
	}
	return r, nil
}

// decodeAnthropicThinking takes thinking, by budget or adaptive, and the effort
// beside it. Thinking turned off is what Anthropic does anyway and asks nothing
// of another provider.
func decodeAnthropicThinking(a *anthropicRequest, r *llm.Request) {
	var effort string
	if a.OutputConfig != nil {
		if effort = a.OutputConfig.Effort; effort == "max" {
			effort = "xhigh"
		}
	}
	switch t := a.Thinking; {
	case t != nil && t.Type == "enabled":
		r.Reasoning = &llm.Reasoning{Effort: effort, Budget: &t.Budget, Include: t.Display != "omitted"}
	case t != nil && t.Type == "adaptive":
		r.Reasoning = &llm.Reasoning{Effort: effort, Include: t.Display != "omitted"}
	case effort != "":
		r.Reasoning = &llm.Reasoning{Effort: effort}
	}
}

func decodeAnthropicTurns(a *anthropicRequest, r *llm.Request) (err error) {
	names := map[string]string{} // tool call id → name
	if r.System, err = decodeAnthropicParts(a.System, "system", names); err != nil {
		return err
	}
	for i, t := range a.Messages {
		parts, err := decodeAnthropicParts(t.Content, fmt.Sprintf("messages[%d].content", i), names)
		if err != nil {
			return err
		}
		switch t.Role {
		case "user", "assistant":
			addTurn(r, llm.Role(t.Role), parts)
		case "system": // an instruction given midway; elsewhere there is one place for them
			r.System = append(r.System, parts...)
		default:
			return unsupported(fmt.Sprintf("messages[%d].role", i), "role %q is not known", clip(t.Role))
		}
	}
	return nil
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
			if err := b.Source.decode(&p, field); err != nil {
				return nil, err
			}
		case "thinking":
			p.Kind, p.Signature = llm.PartReasoning, b.Signature
			if b.Thinking != nil {
				p.Text = *b.Thinking
			}
		case "redacted_thinking":
			p.Kind, p.Signature, p.Redacted = llm.PartReasoning, b.Data, true
		case "tool_use":
			p.Kind, p.ToolID, p.ToolName, p.Args = llm.PartToolCall, b.ID, b.Name, b.Input
			if isNull(p.Args) {
				p.Args = json.RawMessage("{}")
			}
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

// decode takes an image's or a document's source. Plain text is carried as
// other files are, in base64.
func (s *anthropicSource) decode(p *llm.Part, field string) error {
	if s == nil {
		return unsupported(field, "an image or document has no source")
	}
	switch s.Type {
	case "base64":
		p.MediaType, p.Data = s.MediaType, s.Data
	case "url":
		p.MediaType, p.URL = s.MediaType, s.URL
	case "text":
		p.MediaType, p.Data = orElse(s.MediaType, "text/plain"), base64.StdEncoding.EncodeToString([]byte(s.Data))
	case "file":
		return unsupported(field, "an uploaded file cannot be carried over to another provider")
	default:
		return unsupported(field, "a source of type %q cannot be carried over to this model", clip(s.Type))
	}
	return nil
}
