package token

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// A recording is what these tests read of a recorded call.
type recording struct {
	ID, Dialect, Model string
	Status             int
	Features           []string
	Request            json.RawMessage
	Body               struct {
		Usage struct {
			Prompt int64 `json:"prompt_tokens"`
			Input  int64 `json:"input_tokens"`
			Read   int64 `json:"cache_read_input_tokens"`
		}
	}
}

func recordings(t *testing.T, each func(*recording)) {
	t.Helper()
	dir := os.Getenv("SHEEPGATE_RECORDINGS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "recordings")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.jsonl.gz"))
	if len(files) == 0 {
		t.Skip("no recordings: set SHEEPGATE_RECORDINGS")
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for dec := json.NewDecoder(z); ; {
			var line struct {
				recording
				Body json.RawMessage
			}
			if err := dec.Decode(&line); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			r := line.recording
			if json.Unmarshal(line.Body, &r.Body) == nil && r.Status == 200 {
				each(&r)
			}
		}
	}
}

// openAI reads what Estimate counts of an OpenAI chat request.
func openAI(raw json.RawMessage) (*llm.Request, error) {
	var in struct {
		Messages []struct {
			Role      string
			Content   json.RawMessage
			ToolCalls []struct {
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		Tools []struct {
			Function struct {
				Name, Description string
				Parameters        json.RawMessage
			}
		}
		Functions []struct { // before tools
			Name, Description string
			Parameters        json.RawMessage
		}
		Format struct {
			Schema struct {
				Name, Description string
				Schema            json.RawMessage
			} `json:"json_schema"`
		} `json:"response_format"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, err
	}
	r := &llm.Request{}
	for _, m := range in.Messages {
		var text string
		if json.Unmarshal(m.Content, &text) != nil {
			var parts []struct{ Text string }
			_ = json.Unmarshal(m.Content, &parts) // null for a call of tools
			for _, p := range parts {
				text += p.Text
			}
		}
		kind := llm.PartText
		if m.Role == "tool" {
			kind = llm.PartToolResult
		}
		parts := []llm.Part{{Kind: kind, Text: text}}
		for _, c := range m.ToolCalls {
			parts = append(parts, llm.Part{Kind: llm.PartToolCall, ToolName: c.Function.Name, Args: json.RawMessage(c.Function.Arguments)})
		}
		if m.Role == "system" && len(r.Messages) == 0 && r.System == nil {
			r.System = parts
			continue
		}
		r.Messages = append(r.Messages, llm.Message{Role: llm.Role(m.Role), Parts: parts})
	}
	for _, tool := range in.Tools {
		r.Tools = append(r.Tools, llm.Tool{Name: tool.Function.Name, Description: tool.Function.Description, Schema: tool.Function.Parameters})
	}
	for _, f := range in.Functions {
		r.Tools = append(r.Tools, llm.Tool{Name: f.Name, Description: f.Description, Schema: f.Parameters})
	}
	if s := in.Format.Schema; s.Schema != nil {
		r.Format = &llm.Format{Name: s.Name, Description: s.Description, Schema: s.Schema}
	}
	return r, nil
}

// TestRecordings compares estimates with what OpenAI reported. Plain text is
// exact; requests with tools or a schema to gpt-4.1 come within 4 %, at most
// three tokens, and half of all within 1.5 %.
func TestRecordings(t *testing.T) {
	var all, plain, gpt41 []float64
	seen := map[string]bool{}
	recordings(t, func(r *recording) {
		want := r.Body.Usage.Prompt
		key := r.Model + string(r.Request)
		odd := slices.ContainsFunc(r.Features, func(f string) bool {
			return strings.HasSuffix(f, "_in") || f == "builtin_tool" // images and files are guessed; searches bring text of their own
		})
		if !strings.HasPrefix(r.ID, "openai-") || r.Dialect != "openai.chat" || want == 0 || odd || seen[key] || strings.Contains(string(r.Request), `"web_search_options"`) || strings.HasPrefix(r.Model, "o1-mini") {
			return
		}
		seen[key] = true
		q, err := openAI(r.Request)
		if err != nil {
			t.Fatalf("%s: %v", r.ID, err)
		}
		got := Estimate(r.Model, q)
		off := math.Abs(float64(got-want)) / float64(want)
		all = append(all, off)
		text := len(q.Tools) == 0 && q.Format == nil && !slices.Contains(r.Features, "tool_result")
		if text {
			plain = append(plain, off)
		}
		if text && got != want {
			t.Errorf("%s %s %v: %d, want %d", r.ID, r.Model, r.Features, got, want)
		}
		if strings.HasPrefix(r.Model, "gpt-4.1") {
			gpt41 = append(gpt41, off)
			if off > .04 || got-want > 3 || want-got > 3 {
				t.Errorf("%s %s %v: %d, want %d", r.ID, r.Model, r.Features, got, want)
			}
		}
		if off > .03 {
			t.Logf("%s %s %v: %d, reported %d (%+.1f %%)", r.ID, r.Model, r.Features, got, want, 100*float64(got-want)/float64(want))
		}
	})
	report := func(name string, list []float64) {
		slices.Sort(list)
		within := 0
		for _, off := range list {
			if off <= .03 {
				within++
			}
		}
		t.Logf("%s: %d requests, %d within 3 %%, median %.1f %%, p95 %.1f %%, worst %.1f %%", name, len(list), within, 100*list[len(list)/2], 100*list[len(list)*95/100], 100*list[len(list)-1])
	}
	if len(all) < 40 || len(plain) < 15 || len(gpt41) < 5 {
		t.Fatalf("only %d requests, %d plain, %d to gpt-4.1", len(all), len(plain), len(gpt41))
	}
	report("all", all)
	report("plain text", plain)
	report("gpt-4.1", gpt41)
	if m := all[len(all)/2]; m > .015 {
		t.Errorf("half of the estimates are off by more than %.1f %%", 100*m)
	}
}

// TestBytes: of the recorded requests nearly all fit what Bytes reserves.
func TestBytes(t *testing.T) {
	n, short := 0, 0
	recordings(t, func(r *recording) {
		used := r.Body.Usage.Prompt + r.Body.Usage.Input
		if strings.HasPrefix(r.Dialect, "anthropic") {
			used += r.Body.Usage.Read
		}
		if used == 0 || slices.ContainsFunc(r.Features, func(f string) bool { return strings.HasSuffix(f, "_in") || f == "builtin_tool" }) {
			return
		}
		n++
		if Bytes(r.Model, len(r.Request)) < used {
			short++
			t.Logf("%s %s %v: %d bytes, %d reserved, %d used", r.ID, r.Model, r.Features, len(r.Request), Bytes(r.Model, len(r.Request)), used)
		}
	})
	t.Logf("%d of %d requests used more than Bytes", short, n)
	if n < 100 || short*20 > n {
		t.Errorf("%d of %d requests used more than Bytes", short, n)
	}
}
