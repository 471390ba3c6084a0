package provider

import (
	"encoding/json"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

func (openAI) Encode(dst []byte, r *llm.Request, s *Spec) ([]byte, error) {
	o := openAIRequest{Model: r.Model, Stream: r.Stream, Temperature: r.Temperature, TopP: r.TopP, Seed: r.Seed, FrequencyPenalty: r.FrequencyPenalty,
		PresencePenalty: r.PresencePenalty, User: r.User, ServiceTier: r.Tier}
	strict := s.Quirks.MaxCompletionTokens // OpenAI itself, which refuses fields it does not know
	if !strict {
		o.TopK = r.TopK
	}
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
		turns, err := encodeOpenAITurns(m, strict)
		if err != nil {
			return nil, err
		}
		o.Messages = append(o.Messages, turns...)
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
			o.ResponseFormat = &openAIFormat{Type: "json_schema", JSONSchema: &openAISchema{
				Name: orElse(f.Name, "answer"), Description: f.Description, Schema: f.Schema, Strict: f.Strict}}
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
// their own, before what else the user says. Their images, which a tool's turn
// cannot hold, follow as the user's.
func encodeOpenAITurns(m llm.Message, strict bool) (turns []openAITurn, err error) {
	t := openAITurn{Role: string(m.Role)}
	var parts []openAIPart
	for _, p := range m.Parts {
		switch p.Kind {
		case llm.PartRefusal:
			t.Refusal += p.Text
		case llm.PartReasoning:
			if !strict {
				t.ReasoningContent += p.Text
			}
		case llm.PartToolCall:
			c := openAIRequestCall{ID: p.ToolID, Type: "function"}
			c.Function.Name, c.Function.Arguments = p.ToolName, appendJSON(nil, orElse(string(p.Args), "{}"))
			t.ToolCalls = append(t.ToolCalls, c)
		case llm.PartToolResult:
			text := p.Text
			for _, q := range p.Parts {
				if q.Kind == llm.PartText {
					text += q.Text
					continue
				}
				o, err := encodeOpenAIPart(q)
				if err != nil {
					return nil, err
				}
				parts = append(parts, o)
			}
			turns = append(turns, openAITurn{Role: "tool", ToolCallID: p.ToolID, Content: appendJSON(nil, text)})
		default:
			o, err := encodeOpenAIPart(p)
			if err != nil {
				return nil, err
			}
			parts = append(parts, o)
		}
	}
	switch {
	case len(parts) == 1 && parts[0].Type == "text":
		t.Content = appendJSON(nil, parts[0].Text)
	case len(parts) > 0:
		t.Content = appendJSON(nil, parts)
	case len(t.ToolCalls) > 0 || t.Refusal != "":
		t.Content = json.RawMessage("null")
	case t.ReasoningContent != "":
		t.Content = json.RawMessage(`""`)
	default:
		return turns, nil
	}
	return append(turns, t), nil
}

func encodeOpenAIPart(p llm.Part) (openAIPart, error) {
	switch p.Kind {
	case llm.PartText:
		return openAIPart{Type: "text", Text: p.Text}, nil
	case llm.PartImage:
		return openAIPart{Type: "image_url", ImageURL: &openAIImage{URL: urlOf(p), Detail: p.Detail}}, nil
	case llm.PartAudio:
		format := audioFormat(p.MediaType)
		if p.Data == "" || format == "" {
			return openAIPart{}, unsupported("messages", "audio must be sent to this provider as WAV or MP3 within the request")
		}
		return openAIPart{Type: "input_audio", InputAudio: &openAIAudio{Data: p.Data, Format: format}}, nil
	case llm.PartFile:
		if p.Data == "" {
			return openAIPart{}, unsupported("messages", "this provider takes no file by its address: send its content")
		}
		return openAIPart{Type: "file", File: &openAIInputFile{FileData: urlOf(p), Filename: orElse(p.Name, "file")}}, nil
	}
	return openAIPart{}, unsupported("messages", "a part of a message cannot be carried over to this provider")
}

// audioFormat is OpenAI's word for a media type, "" if it has none.
func audioFormat(mediaType string) string {
	switch strings.ToLower(mediaType) {
	case "audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave":
		return "wav"
	case "audio/mp3", "audio/mpeg":
		return "mp3"
	}
	return ""
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
