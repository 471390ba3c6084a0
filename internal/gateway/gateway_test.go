package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/provider"
)

const upstreamKey = "sk-upstream-0123456789abcdef"

// A rig is a gateway before upstreams that a test scripts.
type rig struct {
	*httptest.Server
	calls chan *call.Call
	g     *Gateway
}

// newRig has the providers one and two, both of the OpenAI dialect, and the
// alias both, over handlers in the same order.
func newRig(t *testing.T, change func(*Config), handlers ...http.HandlerFunc) *rig {
	t.Helper()
	c := &Config{Prices: price.Default(), Secrets: []string{upstreamKey}, Auth: func(s string) (*call.Principal, bool) {
		return &call.Principal{Key: "test", Data: true}, s == "client-key"
	}}
	for i, h := range handlers {
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body) // a server sees a client leave only once the body is read
			r.Body = io.NopCloser(strings.NewReader(string(b)))
			h(w, r)
		}))
		t.Cleanup(up.Close)
		c.Providers = append(c.Providers, Provider{Name: []string{"one", "two"}[i], Keys: []ProviderKey{{Secret: upstreamKey}}, Spec: provider.Spec{BaseURL: up.URL, Dialect: provider.OpenAI}})
	}
	both := Route{Alias: "both"}
	for i := range c.Providers {
		both.Targets = append(both.Targets, Target{&c.Providers[i], "gpt-4.1"})
	}
	c.Aliases = []Route{both}
	if change != nil {
		change(c)
	}
	r := &rig{calls: make(chan *call.Call, 16)}
	g := New(c, nil, func(c *call.Call, _ *call.Exchange) { r.calls <- c }, func() {}, slog.New(slog.DiscardHandler))
	r.g = g
	mux := http.NewServeMux()
	g.Register(mux)
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *rig) post(t *testing.T, path, body string) (int, http.Header, string) {
	t.Helper()
	req, _ := http.NewRequest("POST", r.URL+path, strings.NewReader(body))
	req.Header.Set("X-Api-Key", "client-key")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body) // a broken answer ends early
	return res.StatusCode, res.Header, string(b)
}

// recorded is the one Call of a request.
func (r *rig) recorded(t *testing.T) *call.Call {
	t.Helper()
	select {
	case c := <-r.calls:
		return c
	case <-time.After(5 * time.Second):
		t.Fatal("no Call was recorded")
		return nil
	}
}

const (
	chat  = `{"model":"one/gpt-4.1","messages":[{"role":"user","content":"hi"}]}`
	reply = `{"id":"r1","object":"chat.completion","model":"gpt-4.1-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}`
)

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestRetryIsOneCall(t *testing.T) {
	n := 0
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		if n++; n < 3 {
			say(503, `{"error":{"message":"busy"}}`)(w, req)
			return
		}
		say(200, reply)(w, req)
	})
	status, _, body := r.post(t, "/v1/chat/completions", chat)
	if status != 200 || body != reply {
		t.Errorf("answer = %d %s", status, body)
	}
	c := r.recorded(t)
	if len(c.Attempts) != 3 || c.Attempts[0].ErrorClass != llm.Overloaded || c.Attempts[2].ErrorClass != "" {
		t.Errorf("attempts = %+v", c.Attempts)
	}
	if c.Cost != 8*2000+8000 || c.Usage.Input != 8 || c.PriceRow != "openai/gpt-4.1/standard/1" || c.Code() != "2xx" {
		t.Errorf("call = %+v", c)
	}
}

func TestFallback(t *testing.T) {
	r := newRig(t, nil, say(401, `{"error":{"message":"bad key `+upstreamKey+`"}}`), say(200, reply))
	status, _, _ := r.post(t, "/v1/chat/completions", `{"model":"both","messages":[]}`)
	c := r.recorded(t)
	if status != 200 || c.Provider != "two" || len(c.Attempts) != 2 || c.Attempts[0].ErrorClass != llm.ProviderAuth {
		t.Errorf("status %d, call %+v", status, c)
	}
}

// TestRace: an upstream that closes the idle connection on which a request is
// coming costs the client nothing, even where nothing is to be retried, and
// leads to no other target. The Call has both attempts.
func TestRace(t *testing.T) {
	var seen sync.Map
	closing := func(w http.ResponseWriter, req *http.Request) {
		if _, again := seen.LoadOrStore(req.RemoteAddr, true); again {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
			return
		}
		say(200, reply)(w, req)
	}
	r := newRig(t, func(c *Config) {
		c.Retry = Retry{Attempts: 1, On: map[llm.ErrorClass]bool{llm.RateLimited: true}}
	}, closing, say(200, reply))
	for i := range 6 {
		status, _, body := r.post(t, "/v1/chat/completions", `{"model":"both","messages":[]}`)
		c := r.recorded(t)
		if status != 200 || body != reply || c.Provider != "one" || c.Status != call.Success || len(c.Attempts) != 1+i%2 {
			t.Errorf("%d: status %d, call %+v", i, status, c)
		}
		if i%2 == 1 && (len(c.Attempts) != 2 || c.Attempts[0].ErrorClass != llm.UpstreamError || c.Attempts[1].ErrorClass != "") {
			t.Errorf("%d: attempts %+v", i, c.Attempts)
		}
	}
}

// TestErrors: what the client sees and what is recorded, for what an upstream
// may answer. The provider's key never shows.
func TestErrors(t *testing.T) {
	check := func(name string, h http.HandlerFunc, wantStatus int, wantClass llm.ErrorClass, wantAttempts int) {
		t.Helper()
		r := newRig(t, func(c *Config) { c.Timeouts.Total = 3 * time.Second }, h)
		status, header, body := r.post(t, "/v1/chat/completions", chat)
		c := r.recorded(t)
		if status != wantStatus || c.Error.Class != wantClass || len(c.Attempts) != wantAttempts || c.Status != call.Failed {
			t.Errorf("%s: %d %s, %d attempts; want %d %s, %d", name, status, c.Error.Class, len(c.Attempts), wantStatus, wantClass, wantAttempts)
		}
		if strings.Contains(body, upstreamKey) || strings.Contains(fmt.Sprint(c), upstreamKey) {
			t.Errorf("%s: the provider's key shows: %s", name, body)
		}
		var e struct {
			Error map[string]any `json:"error"`
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil || e.Error["message"] == "" || len(body) > 2048 {
			t.Errorf("%s: body %.300s", name, body)
		}
		if wantAttempts > 1 && header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: the client is not told that we have retried", name)
		}
	}
	check("400", say(400, `{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}`), 400, llm.InvalidRequest, 1)
	check("401 that echoes the key", say(401, `{"error":{"message":"wrong key: `+upstreamKey+`"}}`), 502, llm.ProviderAuth, 1)
	check("400 that echoes the key", say(400, `{"error":{"message":"key `+upstreamKey+`"}}`), 400, llm.InvalidRequest, 1)
	check("500", say(500, `oops`), 502, llm.UpstreamError, 3)
	check("502 HTML", say(502, `<html>bad gateway</html>`), 502, llm.UpstreamError, 3)
	check("429", say(429, `{"error":{"message":"slow down"}}`), 429, llm.RateLimited, 3)
	check("200 HTML", say(200, `<html>`), 502, llm.BadUpstream, 2)
	check("200 empty", say(200, ``), 502, llm.BadUpstream, 2)
	check("200 half", say(200, reply[:60]), 502, llm.BadUpstream, 2)
	check("200 with an error", say(200, `{"error":{"message":"quota","code":429}}`), 429, llm.RateLimited, 3)
	check("redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/steal", http.StatusTemporaryRedirect)
	}, 502, llm.UpstreamError, 1)
	check("day of Retry-After", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "86400")
		say(429, `{}`)(w, r)
	}, 429, llm.RateLimited, 1)
	check("hang", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 504, llm.Timeout, 1)
}

func streamed(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range events {
			io.WriteString(w, "data: "+e+"\n\n")
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond) // so that each event goes out before the next comes
		}
	}
}

const (
	piece  = `{"id":"s1","model":"gpt-4.1","choices":[{"index":0,"delta":{"content":"word "}}]}`
	finish = `{"id":"s1","model":"gpt-4.1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	usage  = `{"id":"s1","model":"gpt-4.1","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}`
	stream = `{"model":"one/gpt-4.1","stream":true,"messages":[{"role":"user","content":"hi"}]}`
)

func TestStream(t *testing.T) {
	var asked string
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		asked = string(b)
		streamed(piece, piece, finish, usage, "[DONE]")(w, req)
	})
	_, _, body := r.post(t, "/v1/chat/completions", stream)
	if !strings.Contains(asked, `"include_usage":true`) {
		t.Errorf("usage was not asked for: %s", asked)
	}
	if strings.Contains(body, "prompt_tokens") || !strings.HasSuffix(body, "data: [DONE]\n\n") || strings.Count(body, "word") != 2 {
		t.Errorf("stream = %s", body)
	}
	c := r.recorded(t)
	if c.Usage.Source != llm.UsageUpstream || c.Usage.Input != 8 || c.Usage.Output != 2 || c.TTFT <= 0 || c.FinishReason != llm.FinishStop {
		t.Errorf("call = %+v", c)
	}
}

// TestBrokenStream: a stream that dies ends in an error event, never as if it
// were complete, and what came is billed as an estimate.
// Comments before the first event are held back, but not without end.
func TestComments(t *testing.T) {
	comment := ": " + strings.Repeat("x", 1000) + "\n\n"
	r := newRig(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, ": first\n\n"+strings.Repeat(comment, 8<<10)+"data: "+piece+"\n\n: last\n\ndata: "+finish+"\n\ndata: [DONE]\n\n")
	})
	_, _, body := r.post(t, "/v1/chat/completions", stream)
	if len(body) > maxComments+1000 || !strings.HasPrefix(body, ": first\n\n: xxx") || !strings.Contains(body, piece+"\n\n: last\n\n") || !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("%d bytes: %.40q … %q", len(body), body, body[max(0, len(body)-60):])
	}
	if c := r.recorded(t); c.Status != call.Success {
		t.Errorf("%+v", c.Error)
	}
}

func TestBrokenStream(t *testing.T) {
	check := func(name string, h http.HandlerFunc, class llm.ErrorClass) {
		t.Helper()
		r := newRig(t, func(c *Config) { c.Timeouts.Idle = 200 * time.Millisecond }, h)
		status, _, body := r.post(t, "/v1/chat/completions", stream)
		c := r.recorded(t)
		if status != 200 || !strings.Contains(body, `"error"`) || strings.Contains(body, "[DONE]") || !strings.Contains(body, "word") {
			t.Errorf("%s: %d %s", name, status, body)
		}
		if c.Status != call.Failed || c.Error.Class != class || c.Code() != "5xx" || c.Usage.Source != llm.UsageEstimated || c.Usage.Output < 1 || c.Usage.Input < 1 || len(c.Attempts) != 1 {
			t.Errorf("%s: call %s %+v %+v", name, c.Status, c.Error, c.Usage)
		}
	}
	check("EOF", streamed(piece, piece), llm.StreamBroken)
	check("reset", func(w http.ResponseWriter, r *http.Request) {
		streamed(piece)(w, r)
		panic(http.ErrAbortHandler)
	}, llm.StreamBroken)
	check("error event", streamed(piece, `{"error":{"message":"died","code":500}}`), llm.UpstreamError)
	check("garbage", streamed(piece, "\x00\x01"), llm.BadUpstream)
	check("stall", func(w http.ResponseWriter, r *http.Request) {
		streamed(piece)(w, r)
		<-r.Context().Done()
	}, llm.Timeout)

	before := func(name string, h http.HandlerFunc, status int, class llm.ErrorClass) {
		t.Helper()
		r := newRig(t, func(c *Config) { c.Timeouts.FirstToken = 200 * time.Millisecond; c.Retry.Attempts = 1 }, h)
		got, _, body := r.post(t, "/v1/chat/completions", stream)
		if c := r.recorded(t); got != status || c.Error.Class != class || !strings.HasPrefix(body, `{"error"`) {
			t.Errorf("%s: %d %s %s", name, got, c.Error.Class, body)
		}
	}
	before("no event", streamed(), 502, llm.BadUpstream)
	before("first event is an error", streamed(`{"error":{"message":"busy","code":503}}`), 503, llm.Overloaded)
	before("never begins", func(w http.ResponseWriter, r *http.Request) {
		streamed()(w, r)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, 504, llm.Timeout)
	before("a plain error", say(200, `{"error":{"message":"slow","code":429}}`), 429, llm.RateLimited)
}

// A panicking reader stands for a bug of ours.
type panicking struct {
	provider.Dialect
	after int
}

func (d panicking) NewReader(s *provider.Spec) provider.Reader {
	return &panickingReader{d.Dialect.NewReader(s), d.after}
}

type panickingReader struct {
	provider.Reader
	left int
}

func (r *panickingReader) Frame(f provider.Frame, emit func(llm.Event)) (bool, error) {
	if r.left--; r.left < 0 {
		panic("a bug, near " + upstreamKey)
	}
	return r.Reader.Frame(f, emit)
}

// TestPanic: a bug of ours ends one request, with an error that its client can
// see, and no other.
func TestPanic(t *testing.T) {
	for _, after := range []int{0, 2} {
		r := newRig(t, func(c *Config) { c.Providers[0].Spec.Dialect = panicking{c.Providers[0].Spec.Dialect, after} },
			streamed(piece, piece, piece, finish, "[DONE]"))
		status, _, body := r.post(t, "/v1/messages", `{"model":"one/gpt-4.1","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}`)
		c := r.recorded(t)
		if c.Status != call.Failed || c.Error.Class != llm.Internal || strings.Contains(body, "bug") || !strings.Contains(body, "internal error") || strings.Contains(body, "message_stop") {
			t.Errorf("after %d frames: %d, %s %+v: %s", after, status, c.Status, c.Error, body)
		}
		if want := map[int]int{0: 500, 2: 200}[after]; status != want {
			t.Errorf("after %d frames: status %d, want %d", after, status, want)
		}
		if status, _, _ := r.post(t, "/v1/chat/completions", `{"model":"nobody"}`); status != 404 {
			t.Errorf("the next request: %d", status)
		}
	}
}

// TestClientLeaves: the upstream is closed within a second and what was relayed
// is billed.
func TestClientLeaves(t *testing.T) {
	closed := make(chan time.Time, 1)
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		streamed(piece, piece, piece)(w, req)
		<-req.Context().Done()
		closed <- time.Now()
	})
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "POST", r.URL+"/v1/chat/completions", strings.NewReader(stream))
	req.Header.Set("Authorization", "Bearer client-key")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	left := time.Now()
	cancel()
	res.Body.Close()
	if d := (<-closed).Sub(left); d > time.Second {
		t.Errorf("the upstream was closed after %v", d)
	}
	c := r.recorded(t)
	if c.Status != call.Canceled || c.Code() != "canceled" || c.Usage.Source != llm.UsageEstimated || c.Usage.Output < 1 || c.Cost <= 0 {
		t.Errorf("call = %s %+v cost %v", c.Status, c.Usage, c.Cost)
	}
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxBody = 1 << 20 }, say(200, reply))
	check := func(path, body string, status int, parts ...string) {
		t.Helper()
		got, h, answer := r.post(t, path, body)
		if got != status || !json.Valid([]byte(answer)) || h.Get("Sheepgate-Call-Id") == "" {
			t.Errorf("%s %.40q: %d %s, want %d", path, body, got, answer, status)
		}
		for _, p := range parts {
			if !strings.Contains(answer, p) {
				t.Errorf("%s %.40q: %s lacks %s", path, body, answer, p)
			}
		}
		if c := r.recorded(t); c.HTTPStatus != status || c.Status != call.Failed || c.Unpriced {
			t.Errorf("%s %.40q: call %+v", path, body, c)
		}
	}
	check("/v1/chat/completions", `{"model":"nobody"}`, 404, `"model_not_found"`, `"param":"model"`)
	check("/v1/chat/completions", `{"model":"gpt-4.1"}`, 404, "openai", "not configured")
	check("/v1/chat/completions", `{"messages":[]}`, 400, "model is missing")
	check("/v1/chat/completions", `not json`, 400, "not a JSON object")
	check("/v1/chat/completions", `{"model":"one/x","messages":[`, 400, "truncated")
	check("/v1/chat/completions", `{"a":"`+strings.Repeat("x", 1<<20)+`"}`, 413, "1 MiB")
	check("/v1/messages", `{"model":"nobody"}`, 404, `"type":"error"`, `"not_found_error"`)
	check("/v1beta/models/nobody:generateContent", `{}`, 404, `"status":"NOT_FOUND"`, `"code":404`)
	check("/v1/messages", `{"model":"one/gpt-4.1","messages":[{"role":"user","content":7}]}`, 400, "invalid_request_error")

	for _, path := range []string{"/v1/nothing", "/v1beta/models/x:fly"} {
		if got, _, answer := r.post(t, path, `{}`); got != 404 || !strings.Contains(answer, "no such route") {
			t.Errorf("%s: %d %s", path, got, answer)
		}
	}
	res, err := http.Post(r.URL+"/v1/messages", "application/json", strings.NewReader(chat))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != 401 || !strings.Contains(string(b), "authentication_error") {
		t.Errorf("no key: %d %s", res.StatusCode, b)
	}
	if len(r.calls) != 0 {
		t.Error("a request without a key made a Call")
	}
}

// TestTranslation: a client of each dialect is answered by an upstream of
// another, streamed and plain.
func TestTranslation(t *testing.T) {
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		if strings.Contains(string(b), `"stream":true`) {
			streamed(piece, piece, finish, usage, "[DONE]")(w, req)
			return
		}
		say(200, reply)(w, req)
	})
	check := func(path, body string, parts ...string) {
		t.Helper()
		status, _, answer := r.post(t, path, body)
		if status != 200 {
			t.Errorf("%s: %d %s", path, status, answer)
		}
		for _, p := range parts {
			if !strings.Contains(answer, p) {
				t.Errorf("%s: %s lacks %s", path, answer, p)
			}
		}
		if c := r.recorded(t); c.Usage.Input != 8 || c.Usage.Source != llm.UsageUpstream {
			t.Errorf("%s: usage %+v", path, c.Usage)
		}
	}
	check("/v1/messages", `{"model":"one/gpt-4.1","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`, `"type":"message"`, `"text":"hello"`, `"stop_reason":"end_turn"`, `"input_tokens":8`)
	check("/v1/messages", `{"model":"one/gpt-4.1","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}`, "event: message_start", "event: content_block_delta", "event: message_stop", `"output_tokens":2`)
	check("/v1beta/models/one/gpt-4.1:generateContent", `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`, `"text":"hello"`, `"finishReason":"STOP"`, `"promptTokenCount":8`)
	check("/v1beta/models/one%2Fgpt-4.1:streamGenerateContent?alt=sse", `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`, `"text":"word "`, `"promptTokenCount":8`)
}
