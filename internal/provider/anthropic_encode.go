package provider

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

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
	switch r.Tier {
	case "auto":
		a.ServiceTier = "auto"
	case "default":
		a.ServiceTier = "standard_only"
	}
	if err := encodeAnthropicTurns(&a, r); err != nil {
		return nil, err
	}
	encodeAnthropicTools(&a, r)
	if r.Format != nil {
		if isNull(r.Format.Schema) {
			return nil, unsupported("response_format", "this provider wants a JSON schema: response_format of type json_object has none")
		}
		a.OutputConfig = &anthropicOutput{Format: &anthropicFormat{Type: "json_schema", Schema: r.Format.Schema}}
	}
	think(&a, r)
	b, err := json.Marshal(a)
	if err != nil {
		return nil, unsupported("", "the request holds a schema or arguments that are not JSON")
	}
	return append(dst, b...), nil
}

// encodeAnthropicTools leaves strict out: clients set it as a matter of course,
// and the models before Claude 4.5 refuse a request that holds it.
func encodeAnthropicTools(a *anthropicRequest, r *llm.Request) {
	for _, t := range r.Tools {
		schema := t.Schema
		if isNull(schema) {
			schema = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		a.Tools = append(a.Tools, anthropicTool{Name: t.Name, Description: t.Description, InputSchema: schema})
	}
	if len(r.Tools) > 0 && (r.ToolChoice.Mode != "" || r.ParallelOff) {
		kind := map[string]string{"required": "any", "none": "none", "function": "tool"}[r.ToolChoice.Mode]
		kind = orElse(kind, "auto")
		a.ToolChoice = &anthropicChoice{Type: kind, Name: r.ToolChoice.Name, ParallelOff: r.ParallelOff && kind != "none"}
	}
}

func encodeAnthropicTurns(a *anthropicRequest, r *llm.Request) error {
	system, err := encodeAnthropicParts(r.System, "system")
	if err != nil {
		return err
	}
	if len(system) > 0 {
		a.System = appendJSON(nil, system)
	}
	a.Messages = []anthropicTurn{}
	for i, m := range r.Messages {
		parts, err := encodeAnthropicParts(m.Parts, "messages["+strconv.Itoa(i)+"].content")
		if err != nil {
			return err
		}
		if len(parts) == 0 {
			continue
		}
		if m.Role == llm.User { // the results of a turn's calls stand first
			slices.SortStableFunc(parts, func(x, y anthropicPart) int { return order(x) - order(y) })
		}
		if last := &parts[len(parts)-1]; i == len(r.Messages)-1 && m.Role == llm.Assistant && last.Type == "text" {
			last.Text = strings.TrimRight(last.Text, " \t\r\n") // a beginning to go on from may not end in white space
		}
		a.Messages = append(a.Messages, anthropicTurn{Role: string(m.Role), Content: appendJSON(nil, parts)})
	}
	return nil
}

func order(p anthropicPart) int {
	if p.Type == "tool_result" {
		return 0
	}
	return 1
}

// think asks for thinking; sampling and a forced tool are refused beside it.
// From Claude 4.6 on the model finds its own measure, guided by an effort
// (4.7 and later take nothing else); before, it has a budget of at least 1,024
// tokens and less than max_tokens.
// https://docs.anthropic.com/en/docs/build-with-claude/adaptive-thinking
// https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking
func think(a *anthropicRequest, r *llm.Request) {
	q := r.Reasoning
	if q == nil || q.Effort == "none" || q.Budget != nil && *q.Budget == 0 {
		return
	}
	if a.ToolChoice != nil && (a.ToolChoice.Type == "any" || a.ToolChoice.Type == "tool") {
		return
	}
	major, minor := claudeVersion(r.Model)
	if major > 4 || major == 4 && minor >= 6 {
		a.Thinking = &anthropicThink{Type: "adaptive"}
		if q.Include && major > 4 { // left out of the reply unless asked for
			a.Thinking.Display = "summarized"
		}
		if effort := claudeEffort(q, major > 4 || minor >= 7); effort != "" {
			if a.OutputConfig == nil {
				a.OutputConfig = &anthropicOutput{}
			}
			a.OutputConfig.Effort = effort
		}
		a.Temperature, a.TopK, a.TopP = nil, nil, nil
		return
	}
	budget := budgetOf(orElse(q.Effort, "medium"))
	if q.Budget != nil && *q.Budget > 0 { // -1 is Gemini's word for its own measure
		budget = *q.Budget
	}
	budget = max(budget, 1024)
	if r.MaxTokens == nil {
		a.MaxTokens = budget + defaultMaxTokens
	}
	if a.MaxTokens <= 1024 || unthinking(r.Messages) {
		return
	}
	a.Thinking = &anthropicThink{Type: "enabled", Budget: min(budget, a.MaxTokens-1)}
	a.Temperature, a.TopK, a.TopP = nil, nil, nil
}

// unthinking reports whether the turn that goes on has tool calls made without
// thinking, or whose thinking the client could not give back. With a budget,
// Anthropic refuses to think on from there.
func unthinking(turns []llm.Message) bool {
	for i := len(turns) - 1; i >= 0; i-- {
		m := &turns[i]
		if m.Role == llm.User {
			if !slices.ContainsFunc(m.Parts, func(p llm.Part) bool { return p.Kind == llm.PartToolResult }) {
				return false // the turn began here
			}
			continue
		}
		signed := slices.ContainsFunc(m.Parts, func(p llm.Part) bool { return p.Kind == llm.PartReasoning && p.Signature != "" })
		return !signed
	}
	return false
}

// claudeEffort is the effort in Anthropic's words; xhigh only where it is one.
func claudeEffort(q *llm.Reasoning, xhigh bool) string {
	effort := q.Effort
	if effort == "" && q.Budget != nil && *q.Budget > 0 {
		effort = effortOf(*q.Budget)
	}
	switch {
	case effort == "minimal":
		return "low"
	case effort == "xhigh" && !xhigh:
		return "high"
	}
	return effort
}

// claudeVersion reads claude-FAMILY-MAJOR[-MINOR][-DATE]; 0, 0 for any other
// name (claude-3-7-sonnet: the version first, and old enough).
func claudeVersion(model string) (major, minor int) {
	f := strings.Split(model, "-")
	if len(f) < 3 || f[0] != "claude" {
		return 0, 0
	}
	n, err := strconv.Atoi(f[2])
	if _, e := strconv.Atoi(f[1]); err != nil || e == nil || len(f[2]) > 2 {
		return 0, 0
	}
	if len(f) > 3 && len(f[3]) <= 2 {
		minor, _ = strconv.Atoi(f[3])
	}
	return n, minor
}

func encodeAnthropicParts(parts []llm.Part, field string) ([]anthropicPart, error) {
	var out []anthropicPart
	for i := range parts {
		b, err := encodeAnthropicPart(&parts[i], field)
		if err != nil {
			return nil, err
		}
		if b.Type == "" {
			continue
		}
		if c := parts[i].Cache; c != "" && b.Type != "thinking" && b.Type != "redacted_thinking" { // may not be marked
			b.Cache = &anthropicCache{Type: "ephemeral"}
			if c != "5m" {
				b.Cache.TTL = c
			}
		}
		out = append(out, b)
	}
	return out, nil
}

// encodeAnthropicPart is p as a block, of no Type if there is nothing to say.
func encodeAnthropicPart(p *llm.Part, field string) (b anthropicPart, err error) {
	switch p.Kind {
	case llm.PartText, llm.PartRefusal:
		if strings.TrimSpace(p.Text) != "" { // an empty block is refused
			b.Type, b.Text = "text", p.Text
		}
	case llm.PartImage, llm.PartFile:
		b.Type = "image"
		if p.Kind == llm.PartFile {
			b.Type, b.Title = "document", p.Name
		}
		b.Source = encodeAnthropicSource(p)
	case llm.PartReasoning:
		switch {
		case p.Redacted:
			b.Type, b.Data = "redacted_thinking", p.Signature
		case p.Signature != "": // thinking without its signature is refused
			b.Type, b.Thinking, b.Signature = "thinking", &p.Text, p.Signature
		}
	case llm.PartToolCall:
		b.Type, b.ID, b.Name, b.Input = "tool_use", claudeID(p.ToolID), p.ToolName, p.Args
		if isNull(b.Input) {
			b.Input = json.RawMessage("{}")
		}
	case llm.PartToolResult:
		b.Type, b.ToolUseID, b.IsError = "tool_result", claudeID(p.ToolID), p.IsError
		inner, err := encodeAnthropicParts(p.Parts, field)
		if err != nil {
			return b, err
		}
		if strings.TrimSpace(p.Text) != "" {
			inner = append([]anthropicPart{{Type: "text", Text: p.Text}}, inner...)
		}
		if len(inner) > 0 {
			b.Content = appendJSON(nil, inner)
		}
	case llm.PartAudio:
		return b, unsupported(field, "this provider takes no audio")
	default:
		return b, fmt.Errorf("provider: part of kind %d", p.Kind)
	}
	return b, nil
}

func encodeAnthropicSource(p *llm.Part) *anthropicSource {
	if p.URL != "" {
		return &anthropicSource{Type: "url", URL: p.URL}
	}
	if p.Kind == llm.PartFile && strings.HasPrefix(p.MediaType, "text/") {
		if text, err := base64.StdEncoding.DecodeString(p.Data); err == nil {
			return &anthropicSource{Type: "text", MediaType: "text/plain", Data: string(text)}
		}
	}
	return &anthropicSource{Type: "base64", MediaType: p.MediaType, Data: p.Data}
}

// claudeID is an id of another provider's call as Anthropic takes one: letters,
// digits, _ and - only.
func claudeID(id string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' {
			return c
		}
		return '_'
	}, id)
}
