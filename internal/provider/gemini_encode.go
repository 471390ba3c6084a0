package provider

import (
	"encoding/json"
	"math"
	"mime"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

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
		g.System = &geminiTurn{Parts: []geminiPart{{Text: joinText(r.System)}}}
	}
	turns, err := encodeGeminiTurns(r)
	if err != nil {
		return nil, err
	}
	g.Contents = turns
	if err := encodeGeminiTools(&g, r); err != nil {
		return nil, err
	}
	if f := r.Format; f != nil {
		g.Config.MIMEType, g.Config.JSONSchema = "application/json", f.Schema
	}
	if t := r.Reasoning; t != nil {
		budget := t.Budget // Gemini 3 takes budgets beside its levels, so one form does for all
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

// encodeGeminiTools has no way to say that calls must not be parallel: a client
// that asked for it may get several.
func encodeGeminiTools(g *geminiRequest, r *llm.Request) error {
	if len(r.Tools) == 0 {
		return nil
	}
	var functions []geminiFunction
	for _, f := range r.Tools {
		functions = append(functions, geminiFunction{Name: f.Name, Description: f.Description, JSONSchema: f.Schema})
	}
	b, err := json.Marshal(functions)
	if err != nil {
		return unsupported("tools", "the schema of a tool is not JSON")
	}
	g.Tools = list[geminiTool]{{geminiFunctions: b}}
	if mode := map[string]string{"auto": "AUTO", "required": "ANY", "none": "NONE", "function": "ANY"}[r.ToolChoice.Mode]; mode != "" {
		g.ToolConfig = &geminiToolConfig{}
		g.ToolConfig.Calling.Mode = mode
		if r.ToolChoice.Name != "" {
			g.ToolConfig.Calling.Allowed = []string{r.ToolChoice.Name}
		}
	}
	return nil
}

func encodeGeminiTurns(r *llm.Request) ([]geminiTurn, error) {
	turns := []geminiTurn{}
	at := map[string]int{}       // tool call id → place among the calls
	names := map[string]string{} // tool call id → function
	for i, m := range r.Messages {
		c := geminiTurn{Role: "user"}
		parts := m.Parts
		if m.Role == llm.Assistant {
			c.Role = "model"
		} else {
			// Results are matched by their order, too: that of the calls.
			parts = slices.Clone(parts)
			slices.SortStableFunc(parts, func(x, y llm.Part) int { return place(x, at) - place(y, at) })
		}
		for _, p := range parts {
			switch p.Kind {
			case llm.PartToolCall:
				at[p.ToolID], names[p.ToolID] = len(at)+1, p.ToolName
			case llm.PartToolResult:
				if p.ToolName = orElse(p.ToolName, names[p.ToolID]); p.ToolName == "" {
					return nil, unsupported("messages["+strconv.Itoa(i)+"]", "a tool result answers no call of the conversation: Gemini needs the function's name")
				}
			}
			c.Parts = append(c.Parts, encodeGeminiPart(p)...)
		}
		if m.Role == llm.Assistant && geminiMajor(r.Model) >= 3 {
			signFirst(c.Parts)
		}
		if len(c.Parts) > 0 {
			turns = append(turns, c)
		}
	}
	return turns, nil
}

// place orders the parts of a user's turn: results as their calls were, then
// the rest.
func place(p llm.Part, at map[string]int) int {
	if p.Kind != llm.PartToolResult {
		return math.MaxInt32
	}
	return at[p.ToolID]
}

// unsigned stands for a thought signature that there is none of: Gemini 3
// refuses a turn whose first call has none, and takes this for calls that it
// did not make or whose signature the client could not keep. It is base64 of
// skip_thought_signature_validator.
// https://ai.google.dev/gemini-api/docs/thought-signatures
const unsigned = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="

func signFirst(parts []geminiPart) {
	for i := range parts {
		if parts[i].FunctionCall != nil {
			parts[i].ThoughtSignature = orElse(parts[i].ThoughtSignature, unsigned)
			return
		}
	}
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
			return []geminiPart{{FileData: &geminiFile{MIMEType: mediaType(&p), URI: p.URL}}}
		}
		return []geminiPart{{InlineData: &geminiBlob{MIMEType: mediaType(&p), Data: p.Data}}}
	case llm.PartToolCall:
		return []geminiPart{{FunctionCall: &geminiCall{ID: p.ToolID, Name: p.ToolName, Args: p.Args}, ThoughtSignature: p.Signature}}
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
		parts := []geminiPart{{FunctionResponse: &geminiResult{ID: p.ToolID, Name: p.ToolName, Response: response}}}
		for _, q := range p.Parts {
			parts = append(parts, encodeGeminiPart(q)...)
		}
		return parts
	}
	return nil // reasoning is kept by the model's own signatures
}

// mediaType is p's type, which Gemini must be told: where nobody said it, what
// the name in its URL stands for.
func mediaType(p *llm.Part) string {
	if p.MediaType != "" {
		return p.MediaType
	}
	name := p.Name
	if u, err := url.Parse(p.URL); err == nil && p.URL != "" {
		name = u.Path
	}
	t, _, _ := strings.Cut(mime.TypeByExtension(path.Ext(name)), ";")
	if t == "" && p.Kind == llm.PartImage {
		t = "image/jpeg"
	}
	return orElse(t, "application/octet-stream")
}
