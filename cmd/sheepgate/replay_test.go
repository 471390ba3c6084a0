package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// A recording is one real interaction with a provider; see TestReplay.
type recording struct {
	ID       string            `json:"id"`
	Provider string            `json:"provider"`
	Dialect  string            `json:"dialect"`
	Stream   bool              `json:"stream"`
	Model    string            `json:"model"`
	Status   int               `json:"status"`
	Headers  map[string]string `json:"headers"`
	Request  json.RawMessage   `json:"request"`
	Body     json.RawMessage   `json:"body"`
	BodyText string            `json:"body_text"`
}

// recordings reads the interactions of the dialects that the data plane
// relays. They are not part of the project: without them the test is skipped.
func recordings(t *testing.T) []recording {
	t.Helper()
	dir := os.Getenv("SHEEPGATE_RECORDINGS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "recordings")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.jsonl.gz"))
	if len(files) == 0 {
		t.Skip("no recordings: set SHEEPGATE_RECORDINGS to replay real provider traffic")
	}
	var all []recording
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		for dec := json.NewDecoder(z); ; {
			var r recording
			if err := dec.Decode(&r); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			switch r.Dialect {
			case "openai.chat", "anthropic.messages", "gemini.generate":
				all = append(all, r)
			}
		}
		f.Close()
	}
	return all
}

// TestReplay sends every recorded request through the gateway to an upstream
// that answers as recorded. The client must get the reply unchanged, the Call
// must say what the reply says, and the sums of all Calls, of /v1/metrics and
// of a query must be one number.
func TestReplay(t *testing.T) {
	recs := recordings(t)
	var current atomic.Pointer[recording]
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := current.Load()
		for k, v := range rec.Headers {
			w.Header().Set(k, v)
		}
		w.WriteHeader(rec.Status)
		if rec.BodyText != "" {
			io.WriteString(w, rec.BodyText)
			return
		}
		w.Write(rec.Body)
	}))
	defer upstream.Close()
	providers := map[string]string{}
	for _, r := range recs {
		typ := map[string]string{"openai.chat": "openai", "anthropic.messages": "anthropic", "gemini.generate": "gemini"}[r.Dialect]
		providers[r.Provider] = fmt.Sprintf("  %s: { type: %s, base_url: %s, key: upstream-secret-key }\n", r.Provider, typ, upstream.URL)
	}
	var yaml strings.Builder
	yaml.WriteString("providers:\n")
	for _, p := range providers {
		yaml.WriteString(p)
	}
	yaml.WriteString("retry: { attempts: 1 }\nkeys:\n  replay: { key: replay-key-0123456789 }\n")
	s := startTest(t, yaml.String())

	var want sums
	for _, rec := range recs {
		current.Store(&rec)
		t.Run(rec.ID, func(t *testing.T) { replayOne(t, s, &rec, &want) })
	}
	compareSums(t, s, want)
}

// sums are the integers that must be the same wherever they are shown.
type sums struct{ requests, input, output, cost int64 }

func replayOne(t *testing.T, s *testServer, rec *recording, want *sums) {
	res, body := s.send(t, rec)
	id := res.Header.Get("Sheepgate-Call-Id")
	if id == "" {
		t.Fatalf("no Sheepgate-Call-Id; status %d: %.300s", res.StatusCode, body)
	}
	c := s.call(t, id)
	if got := rec.Provider; c.Provider != got {
		t.Errorf("provider = %q, want %q", c.Provider, got)
	}
	want.requests++
	want.input += c.Usage.Input
	want.output += c.Usage.Output
	want.cost += int64(c.Cost)

	if rec.Status != http.StatusOK {
		wantStatus, wantClass := rec.Status, llm.InvalidRequest
		switch rec.Status {
		case 401, 403:
			wantStatus, wantClass = 502, llm.ProviderAuth
		case 404:
			wantClass = llm.NotFound
		case 429:
			wantClass = llm.RateLimited
		}
		if res.StatusCode != wantStatus || c.Error.Class != wantClass {
			t.Errorf("status %d, class %q; want %d, %q: %.300s", res.StatusCode, c.Error.Class, wantStatus, wantClass, body)
		}
		if wantStatus == rec.Status && !sameJSON(body, rec.Body) {
			t.Errorf("error body:\n got %.500s\nwant %.500s", body, rec.Body)
		}
		return
	}
	w := readReply(rec)
	if w.failed {
		if c.Status != call.Failed || c.Error.Class != llm.InvalidRequest {
			t.Errorf("an error within a 200: the call is %s %+v", c.Status, c.Error)
		}
		if rec.Stream && (!strings.Contains(string(body), `"error"`) || strings.Contains(string(body), "[DONE]")) {
			t.Errorf("the broken stream ends as if complete: %.300s", body)
		}
		if !rec.Stream && res.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d, want 400", res.StatusCode)
		}
		return
	}
	if res.StatusCode != http.StatusOK || c.Status != call.Success {
		t.Fatalf("status %d, call %s %+v: %.500s", res.StatusCode, c.Status, c.Error, body)
	}
	if rec.Stream {
		compareStreams(t, rec, body)
	} else if !sameJSON(body, rec.Body) {
		t.Errorf("body:\n got %.500s\nwant %.500s", body, rec.Body)
	}
	if w.reported {
		g := c.Usage
		if g.Source != llm.UsageUpstream {
			t.Errorf("usage source = %q", g.Source)
		}
		got := [...]int64{g.Input, g.Output, g.CacheRead, g.CacheWrite5m + g.CacheWrite1h, g.Reasoning}
		if got != w.usage {
			t.Errorf("usage (input, output, cache read, cache write, reasoning) = %v, want %v", got, w.usage)
		}
	} else if c.Usage.Source != llm.UsageEstimated {
		t.Errorf("usage source = %q, want estimated: the reply reports none", c.Usage.Source)
	}
	if c.NativeFinishReason != w.finish {
		t.Errorf("native finish reason = %q, want %q", c.NativeFinishReason, w.finish)
	}
	if c.ResponseID != w.id {
		t.Errorf("response id = %q, want %q", c.ResponseID, w.id)
	}
}

func sameJSON(a, b []byte) bool {
	var x, y any
	dx, dy := json.NewDecoder(bytes.NewReader(a)), json.NewDecoder(bytes.NewReader(b))
	dx.UseNumber()
	dy.UseNumber()
	return dx.Decode(&x) == nil && dy.Decode(&y) == nil && reflect.DeepEqual(x, y)
}

// dataLines is an independent, simple reader of a stream: its data lines.
func dataLines(s string) []string {
	var lines []string
	for _, l := range strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		if d, ok := strings.CutPrefix(l, "data:"); ok {
			lines = append(lines, strings.TrimSpace(d))
		}
	}
	return lines
}

// compareStreams wants every event through, but for the usage chunk of a
// client that did not ask for it.
func compareStreams(t *testing.T, rec *recording, body []byte) {
	var req struct {
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	json.Unmarshal(rec.Request, &req)
	var want []string
	for _, d := range dataLines(rec.BodyText) {
		var chunk struct {
			Choices *[]any `json:"choices"`
			Usage   *any   `json:"usage"`
		}
		json.Unmarshal([]byte(d), &chunk)
		hidden := rec.Dialect == "openai.chat" && !req.StreamOptions.IncludeUsage &&
			chunk.Choices != nil && len(*chunk.Choices) == 0 && chunk.Usage != nil
		if !hidden {
			want = append(want, d)
		}
	}
	got := dataLines(string(body))
	if rec.Dialect == "openai.chat" && len(want) > 0 && want[len(want)-1] != "[DONE]" {
		want = append(want, "[DONE]")
	}
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d; last: %q", len(got), len(want), got[max(0, len(got)-1):])
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("event %d:\n got %.300s\nwant %.300s", i, got[i], want[i])
		}
	}
}
