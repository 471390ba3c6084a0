// Package clients runs openai-go, OpenAI's official client, against the real
// sheepgate binary. It is a module of its own, so that what it needs is no
// dependency of the project.
package clients

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

var models = []string{"gpt-4.1", "claude-sonnet-4-5", "gemini-2.5-flash"}

// A gateway is a running one. Its books fill as calls are told what they used.
type gateway struct {
	URL    string `json:"url"`
	Key    string `json:"key"`
	client openai.Client
	told   map[string]openai.CompletionUsage // by call id
}

func start(t *testing.T) *gateway {
	t.Helper()
	cmd := exec.Command("go", "run", "./test/clients/gateway")
	cmd.Dir = filepath.Join("..", "..", "..")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("gateway: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("gateway did not start: %v", err)
	}
	g := &gateway{told: map[string]openai.CompletionUsage{}}
	if err := json.Unmarshal(line, g); err != nil {
		t.Fatal(err)
	}
	g.client = g.as(g.Key)
	return g
}

func (g *gateway) as(key string) openai.Client {
	return openai.NewClient(option.WithBaseURL(g.URL+"/v1"), option.WithAPIKey(key), option.WithMaxRetries(0))
}

var weather = openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
	Name: "get_weather",
	Parameters: shared.FunctionParameters{
		"type":       "object",
		"properties": map[string]any{"city": map[string]any{"type": "string"}, "days": map[string]any{"type": "integer"}},
		"required":   []string{"city", "days"},
	},
})

func params(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Be brief."), openai.UserMessage("What is the weather in Seoul?")},
	}
}

// ask makes one call, plain or streamed, checks what every answer must have,
// and notes what the client was told that it used.
func (g *gateway) ask(t *testing.T, p openai.ChatCompletionNewParams, streamed bool) openai.ChatCompletionChoice {
	t.Helper()
	var resp *http.Response
	var c openai.ChatCompletion
	if streamed {
		p.StreamOptions.IncludeUsage = openai.Bool(true)
		var acc openai.ChatCompletionAccumulator
		s := g.client.Chat.Completions.NewStreaming(t.Context(), p, option.WithResponseInto(&resp))
		defer s.Close()
		for s.Next() {
			if !acc.AddChunk(s.Current()) {
				t.Fatalf("a chunk that does not fit: %s", s.Current().RawJSON())
			}
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		c = acc.ChatCompletion
	} else {
		got, err := g.client.Chat.Completions.New(t.Context(), p, option.WithResponseInto(&resp))
		if err != nil {
			t.Fatal(err)
		}
		c = *got
	}
	if c.ID == "" || c.Model == "" || c.Created == 0 || len(c.Choices) != 1 {
		t.Fatalf("answer lacks id, model, created or a choice: %+v", c)
	}
	u := c.Usage
	if u.PromptTokens <= 0 || u.CompletionTokens <= 0 || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
		t.Errorf("usage = %+v", u)
	}
	id := resp.Header.Get("Sheepgate-Call-Id")
	if id == "" {
		t.Error("no Sheepgate-Call-Id")
	}
	g.told[id] = u
	return c.Choices[0]
}

func TestOpenAIGo(t *testing.T) {
	g := start(t)
	for _, model := range models {
		for _, streamed := range []bool{false, true} {
			name := fmt.Sprintf("%s/streamed=%v/", model, streamed)
			t.Run(name+"text", func(t *testing.T) {
				c := g.ask(t, params(model), streamed)
				if c.Message.Content == "" || c.FinishReason != "stop" || c.Message.Role != "assistant" {
					t.Errorf("choice = %+v", c)
				}
			})
			t.Run(name+"length", func(t *testing.T) {
				p := params(model)
				p.MaxTokens = openai.Int(5)
				if c := g.ask(t, p, streamed); c.FinishReason != "length" {
					t.Errorf("finish_reason = %q, want length", c.FinishReason)
				}
			})
			t.Run(name+"tools", func(t *testing.T) { g.tools(t, model, streamed) })
			t.Run(name+"schema", func(t *testing.T) { g.schema(t, model, streamed) })
		}
	}
	t.Run("errors", g.errors)
	t.Run("books", g.books)
}

func (g *gateway) tools(t *testing.T, model string, streamed bool) {
	p := params(model)
	p.Tools = []openai.ChatCompletionToolUnionParam{weather}
	c := g.ask(t, p, streamed)
	if c.FinishReason != "tool_calls" || len(c.Message.ToolCalls) != 1 {
		t.Fatalf("choice = %+v, want one tool call", c)
	}
	call := c.Message.ToolCalls[0]
	var args struct {
		City *string
		Days *int
	}
	if err := json.Unmarshal([]byte(call.Function.Arguments), &args); err != nil || args.City == nil || args.Days == nil {
		t.Fatalf("arguments %q: %v", call.Function.Arguments, err)
	}
	if call.ID == "" || call.Function.Name != "get_weather" {
		t.Errorf("call = %+v", call)
	}
	// The accumulated message has no JSON of its own: say it anew.
	said := openai.ChatCompletionAssistantMessageParam{ToolCalls: []openai.ChatCompletionMessageToolCallUnionParam{{
		OfFunction: &openai.ChatCompletionMessageFunctionToolCallParam{ID: call.ID,
			Function: openai.ChatCompletionMessageFunctionToolCallFunctionParam{Name: call.Function.Name, Arguments: call.Function.Arguments}},
	}}}
	p.Messages = append(p.Messages, openai.ChatCompletionMessageParamUnion{OfAssistant: &said}, openai.ToolMessage(`{"sky":"clear"}`, call.ID))
	if c := g.ask(t, p, streamed); c.FinishReason != "stop" || c.Message.Content == "" {
		t.Errorf("after the tool's result: %+v", c)
	}
}

func (g *gateway) schema(t *testing.T, model string, streamed bool) {
	p := params(model)
	p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
		Name: "trip", Strict: openai.Bool(true),
		Schema: map[string]any{"type": "object", "additionalProperties": false, "required": []string{"city", "units"},
			"properties": map[string]any{"city": map[string]any{"type": "string"}, "units": map[string]any{"type": "string", "enum": []string{"metric", "imperial"}}}},
	}}
	c := g.ask(t, p, streamed)
	var got map[string]string
	if err := json.Unmarshal([]byte(c.Message.Content), &got); err != nil {
		t.Fatalf("%q: %v", c.Message.Content, err)
	}
	if len(got) != 2 || got["city"] == "" || !slices.Contains([]string{"metric", "imperial"}, got["units"]) {
		t.Errorf("answer %v does not fit the schema", got)
	}
}

func (g *gateway) errors(t *testing.T) {
	fails := func(key, model string, status int, code string) {
		t.Helper()
		client := g.as(key)
		_, err := client.Chat.Completions.New(t.Context(), params(model))
		var e *openai.Error
		if !errors.As(err, &e) || e.StatusCode != status || e.Code != code || e.Message == "" || e.Type == "" {
			t.Errorf("error = %v, want %d %s", err, status, code)
		}
	}
	fails("wrong", "gpt-4.1", 401, "invalid_api_key")
	fails(g.Key, "no-such-model", 404, "model_not_found")
}

// books compares what each call's client was told with the Call as stored.
func (g *gateway) books(t *testing.T) {
	for id, u := range g.told {
		var c struct {
			Status string
			Cost   *int64 `json:"cost_nano_usd"`
			Usage  struct {
				Source string
				Input  int64 `json:"input_tokens"`
				Output int64 `json:"output_tokens"`
			}
		}
		for range 20 { // readable at most 1 s after the answer
			if g.get(t, "/api/v1/calls/"+id, &c) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if c.Status != "success" || c.Usage.Source != "upstream" || c.Usage.Input != u.PromptTokens || c.Usage.Output != u.CompletionTokens || c.Cost == nil || *c.Cost <= 0 {
			t.Errorf("call %s is stored as %+v; its client was told %d in, %d out", id, c, u.PromptTokens, u.CompletionTokens)
		}
	}
	if want := len(models) * 2 * 5; len(g.told) != want {
		t.Errorf("%d calls with an id, want %d", len(g.told), want)
	}
}

func (g *gateway) get(t *testing.T, path string, into any) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.Key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(into) == nil
}
