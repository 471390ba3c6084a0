package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// gemini is the generateContent format.
type gemini struct{}

func (gemini) key(r *http.Request) string {
	if k := r.Header.Get("x-goog-api-key"); k != "" {
		return k
	}
	if k := r.URL.Query().Get("key"); k != "" {
		return k
	}
	return bearer(r)
}

func (gemini) contentType(stream bool, q *ask) string {
	if stream && q.sse {
		return "text/event-stream"
	}
	return "application/json; charset=UTF-8"
}

type geminiPart struct {
	Text         string
	FunctionCall *struct {
		Args json.RawMessage
	} `json:"functionCall"`
	FunctionResponse *struct {
		Response json.RawMessage
	} `json:"functionResponse"`
	InlineData *struct{ Data string } `json:"inlineData"`
}

func (gemini) read(r *http.Request, body []byte) (*ask, error) {
	var in struct {
		Contents []struct {
			Role  string
			Parts []geminiPart
		}
		System struct{ Parts []geminiPart } `json:"systemInstruction"`
		Tools  []struct {
			Declarations []struct {
				Name       string
				Parameters json.RawMessage
				JSONSchema json.RawMessage `json:"parametersJsonSchema"`
			} `json:"functionDeclarations"`
		}
		ToolConfig struct {
			Calling struct {
				Mode    string
				Allowed []string `json:"allowedFunctionNames"`
			} `json:"functionCallingConfig"`
		} `json:"toolConfig"`
		Config struct {
			MaxOutputTokens    int
			StopSequences      []string
			ResponseMimeType   string
			ResponseSchema     json.RawMessage
			ResponseJSONSchema json.RawMessage `json:"responseJsonSchema"`
			ThinkingConfig     struct{ IncludeThoughts bool }
		} `json:"generationConfig"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, errors.New("Invalid JSON payload received.")
	}
	if len(in.Contents) == 0 {
		return nil, errors.New("* GenerateContentRequest.contents: contents is not specified")
	}
	model, method, _ := strings.Cut(r.PathValue("call"), ":")
	q := &ask{model: model, stream: method == "streamGenerateContent", sse: r.URL.Query().Get("alt") == "sse", messages: len(in.Contents)}
	if method != "generateContent" && !q.stream {
		return nil, errors.New("unknown method " + method)
	}
	for _, p := range in.System.Parts {
		q.read(p.Text)
	}
	for _, c := range in.Contents {
		q.answered = false
		text := ""
		for _, p := range c.Parts {
			q.read(p.Text)
			text += p.Text
			switch {
			case p.FunctionCall != nil:
				q.read(string(p.FunctionCall.Args))
			case p.FunctionResponse != nil:
				q.answered = true
				q.read(string(p.FunctionResponse.Response))
			case p.InlineData != nil:
				q.read(strings.Repeat("pixel ", 170)) // 258 tokens an image
			}
		}
		if c.Role != "model" {
			q.last = text
		}
	}
	for _, t := range in.Tools {
		for _, d := range t.Declarations {
			if d.Parameters == nil {
				d.Parameters = d.JSONSchema
			}
			q.tools = append(q.tools, tool{d.Name, d.Parameters})
		}
	}
	q.mustCall, q.noCall = in.ToolConfig.Calling.Mode == "ANY", in.ToolConfig.Calling.Mode == "NONE"
	if len(in.ToolConfig.Calling.Allowed) > 0 {
		q.only = in.ToolConfig.Calling.Allowed[0]
	}
	q.maxTokens, q.stop = in.Config.MaxOutputTokens, in.Config.StopSequences
	q.json = in.Config.ResponseMimeType == "application/json"
	q.schema, q.thoughts = in.Config.ResponseSchema, in.Config.ThinkingConfig.IncludeThoughts
	if q.schema == nil {
		q.schema = in.Config.ResponseJSONSchema
	}
	return q, nil
}

func (gemini) header(h http.Header, _ *answer) { h.Set("Server-Timing", "gfet4t7; dur=312") }

func (gemini) error(f failure) json.RawMessage {
	status, details := "INTERNAL", skip
	switch f.kind {
	case badRequest:
		status = "INVALID_ARGUMENT"
	case badKey:
		status = "UNAUTHENTICATED"
	case noModel:
		status = "NOT_FOUND"
	case overloaded:
		status = "UNAVAILABLE"
	case rateLimited:
		status = "RESOURCE_EXHAUSTED"
		details = arr(obj("@type", "type.googleapis.com/google.rpc.RetryInfo", "retryDelay", fmt.Sprintf("%ds", f.wait)))
	}
	return obj("error", obj("code", f.status, "message", f.msg, "status", status, "details", details))
}

func (g gemini) fail(w http.ResponseWriter, f failure) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(f.status)
	_, _ = w.Write(g.error(f))
}

func (gemini) broken(failure) []byte { return nil } // its streams just end

// usage is in Gemini's way of counting: thoughts are not candidates.
func (gemini) usage(a *answer, said int) json.RawMessage {
	return obj(
		"promptTokenCount", a.input,
		"cachedContentTokenCount", when(a.cacheRead > 0, a.cacheRead),
		"candidatesTokenCount", when(said > 0, said),
		"totalTokenCount", a.input+said+a.reasoning,
		"promptTokensDetails", arr(obj("modality", "TEXT", "tokenCount", a.input)),
		"thoughtsTokenCount", when(a.reasoning > 0, a.reasoning),
	)
}

func (c *choice) geminiFinish() string {
	// There is no reason of its own for tool calls.
	return [...]string{ended: "STOP", stopped: "STOP", cut: "MAX_TOKENS", calls: "STOP", filtered: "SAFETY"}[c.finish]
}

func (g gemini) reply(a *answer, parts []any, finish string, said int) json.RawMessage {
	var end, usage any = skip, g.usage(a, said)
	if finish != "" {
		end = finish
	}
	return obj(
		"candidates", arr(obj("content", obj("parts", arr(parts...), "role", "model"), "finishReason", end, "index", 0)),
		"usageMetadata", usage,
		"modelVersion", a.m.Snapshot,
		"responseId", a.id("", 22, 0),
	)
}

func (gemini) callPart(t toolCall) json.RawMessage {
	return obj("functionCall", obj("name", t.name, "args", t.args))
}

func (g gemini) whole(a *answer) []byte {
	c := &a.choices[0]
	var parts []any
	if len(a.thought) > 0 {
		parts = append(parts, obj("text", join(a.thought), "thought", true))
	}
	if len(c.pieces) > 0 {
		parts = append(parts, obj("text", c.text()))
	}
	for _, t := range c.calls {
		parts = append(parts, g.callPart(t))
	}
	return g.reply(a, parts, c.geminiFinish(), a.output-a.reasoning)
}

// frames sends larger pieces than the others do, as Gemini does. Without
// alt=sse the stream is one JSON array.
func (g gemini) frames(a *answer) []frame {
	c := &a.choices[0]
	var replies []json.RawMessage
	for _, p := range bundle(a.thought, 6) {
		replies = append(replies, g.reply(a, []any{obj("text", p, "thought", true)}, "", 0))
	}
	said := a.output - a.reasoning
	text := bundle(c.pieces, 16)
	for i, p := range text {
		finish, n := "", said*(i+1)/len(text)
		if i == len(text)-1 && len(c.calls) == 0 {
			finish = c.geminiFinish()
		}
		replies = append(replies, g.reply(a, []any{obj("text", p)}, finish, n))
	}
	for i, t := range c.calls {
		finish := ""
		if i == len(c.calls)-1 {
			finish = c.geminiFinish()
		}
		replies = append(replies, g.reply(a, []any{g.callPart(t)}, finish, said))
	}
	var fs []frame
	for i, r := range replies {
		at := pace(i, len(replies)-1)
		if a.q.sse {
			fs = append(fs, frame{at, bytes.Join([][]byte{[]byte("data: "), r, []byte("\r\n\r\n")}, nil)})
			continue
		}
		sep := ",\r\n"
		if i == 0 {
			sep = "["
		}
		fs = append(fs, frame{at, append([]byte(sep), r...)})
	}
	if !a.q.sse {
		fs = append(fs, frame{1, []byte("]")})
	}
	return fs
}
