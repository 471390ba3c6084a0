package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// limited puts rules before a rig.
func limited(rules ...limit.Rule) (*limit.Limiter, func(*Config)) {
	l := limit.New(time.UTC, nil)
	l.Set(rules)
	return l, func(c *Config) { c.Limits = l }
}

// idle fails unless nothing is reserved any more.
func idle(t *testing.T, l *limit.Limiter) {
	t.Helper()
	for _, r := range rulesOf(l) {
		for _, b := range r.Budgets {
			if b.Reserved != 0 {
				t.Errorf("%s: %v stays reserved", r.Rule, b.Reserved)
			}
		}
		if r.Concurrent.Used != 0 {
			t.Errorf("%s: %d calls are under way", r.Rule, r.Concurrent.Used)
		}
	}
}

// TestRefusals: what there is no room for is refused in the route's dialect, with
// the name of the limit, when it resets, and the headers that clients read.
func TestRefusals(t *testing.T) {
	perMinute, change := limited(limit.Rule{Name: "key test", Match: limit.Match{Key: "test"}, Bounds: limit.Bounds{Requests: 2, Tokens: 1 << 20}})
	r := newRig(t, change, say(200, reply))
	const (
		message = `{"model":"one/gpt-4.1","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}`
		content = `{"contents":[{"parts":[{"text":"hi"}]}]}`
	)
	for left := 1; left >= 0; left-- {
		status, h, _ := r.post(t, "/v1/chat/completions", chat)
		if status != 200 || h.Get("X-Ratelimit-Limit-Requests") != "2" || h.Get("X-Ratelimit-Remaining-Requests") != fmt.Sprint(left) || h.Get("X-Ratelimit-Limit-Tokens") != "1048576" {
			t.Errorf("%d %v", status, h)
		}
		if d, err := time.ParseDuration(h.Get("X-Ratelimit-Reset-Requests")); err != nil || d <= 50*time.Second || d > 61*time.Second {
			t.Errorf("reset %v, %v", d, err)
		}
		r.recorded(t)
	}
	for path, want := range map[string]struct{ body, in, header string }{
		"/v1/chat/completions": {chat, `{"error":{"message":"key test may have 2 requests per minute; 2 are used or reserved, and this request needs 1; it resets `, "X-Ratelimit-Remaining-Requests"},
		"/v1/messages":         {message, `{"type":"error","error":{"type":"rate_limit_error","message":"key test may have 2 `, "Anthropic-Ratelimit-Requests-Remaining"},
		"/v1beta/models/one%2Fgpt-4.1:generateContent": {content, `"code":429,"message":"key test may have 2 requests per minute`, "X-Ratelimit-Remaining-Requests"},
	} {
		status, h, body := r.post(t, path, want.body)
		if status != 429 || !strings.Contains(body, want.in) || h.Get("Retry-After") == "" || h.Get(want.header) != "0" || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %v %s", path, status, h, body)
		}
		c := r.recorded(t)
		if c.Error.Class != llm.LimitExceeded || c.Code() != "429" || len(c.Attempts) != 0 {
			t.Errorf("%s: %+v", path, c)
		}
	}
	idle(t, perMinute)

	money, change := limited(limit.Rule{Name: "team t", Match: limit.Match{Key: "test"}, Bounds: limit.Bounds{Budgets: []limit.Budget{{Amount: 1_000_000, Period: limit.Month}}}})
	r = newRig(t, change, say(200, reply))
	for path, want := range map[string]string{
		"/v1/chat/completions": `"code":"insufficient_quota"}}`, "/v1/messages": `"message":"the budget of team t, $0.001000000 a month, has $0.001000000 left, and this request may cost $`,
	} {
		status, h, body := r.post(t, path, strings.Replace(strings.Replace(message, "5", "30000", 1), "hi", "hello", 1))
		if status != 429 || !strings.Contains(body, want) || h.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: %d %v %s", path, status, h, body)
		}
		if c := r.recorded(t); c.Error.Class != llm.BudgetExceeded {
			t.Errorf("%s: %+v", path, c)
		}
	}
	if status, _, body := r.post(t, "/v1/chat/completions", strings.Replace(message, "5", "20", 1)); status != 200 {
		t.Errorf("a request that the budget has room for: %d %s", status, body)
	}
	r.recorded(t)
	if b := rulesOf(money)[0].Budgets[0]; b.Spent != 8*2000+8000 {
		t.Errorf("%+v", b)
	}
	idle(t, money)
}

// TestBudgetInParallel: 200 calls at once whose usage equals their reservation,
// at a budget for 50: exactly 50 pass, and all of it is spent.
func TestBudgetInParallel(t *testing.T) {
	body := `{"model":"one/gpt-4.1","max_tokens":40,"messages":[{"role":"user","content":"hi"}]}`
	input := int64(float64(len(body))*firstRatio) + overhead
	cost := llm.Nano(input*2000 + 40*8000)
	l, change := limited(limit.Rule{Name: "key test", Match: limit.Match{Key: "test"}, Bounds: limit.Bounds{Budgets: []limit.Budget{{Amount: 50 * cost, Period: limit.Day}}}})
	answer := strings.NewReplacer(`"prompt_tokens":8`, fmt.Sprintf(`"prompt_tokens":%d`, input), `"completion_tokens":1`, `"completion_tokens":40`, `"total_tokens":9`, fmt.Sprintf(`"total_tokens":%d`, input+40)).Replace(reply)
	open := make(chan struct{})
	var arrived atomic.Int64
	r := newRig(t, change, func(w http.ResponseWriter, req *http.Request) {
		arrived.Add(1)
		<-open
		say(200, answer)(w, req)
	})
	statuses := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			status, _, _ := r.post(t, "/v1/chat/completions", body)
			mu.Lock()
			defer mu.Unlock()
			if statuses[status]++; status == 429 && statuses[429] == 150 {
				close(open)
			}
		})
	}
	for range 200 {
		<-r.calls
	}
	wg.Wait()
	if statuses[200] != 50 || statuses[429] != 150 || arrived.Load() != 50 {
		t.Errorf("%v, of which %d reached the provider", statuses, arrived.Load())
	}
	if b := rulesOf(l)[0].Budgets[0]; b.Spent != b.Amount {
		t.Errorf("%+v", b)
	}
	idle(t, l)
}

// TestEveryWayOut: whatever becomes of a call, nothing of it stays reserved, and
// what it came to is counted once.
func TestEveryWayOut(t *testing.T) {
	l, change := limited(
		limit.Rule{Name: "key test", Match: limit.Match{Key: "test"}, Bounds: limit.Bounds{Requests: 1000, Tokens: 1 << 30, Concurrent: 100, Budgets: []limit.Budget{{Amount: 1e12, Period: limit.Total}}}},
		limit.Rule{Name: "provider one", Match: limit.Match{Provider: "one"}, Bounds: limit.Bounds{Requests: 1000, Concurrent: 100, Budgets: []limit.Budget{{Amount: 1e12, Period: limit.Day}}}})
	var mode atomic.Value
	mode.Store("")
	stream := "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hello world\"}}]}\n\n"
	r := newRig(t, func(c *Config) { change(c); c.Timeouts.Total = 2 * time.Second; c.Timeouts.Idle = time.Second }, func(w http.ResponseWriter, req *http.Request) {
		switch mode.Load() {
		case "ok":
			say(200, reply)(w, req)
		case "400":
			say(400, `{"error":{"message":"no"}}`)(w, req)
		case "500":
			say(500, `{"error":{"message":"no"}}`)(w, req)
		case "429":
			w.Header().Set("Retry-After", "100")
			say(429, `{"error":{"message":"no"}}`)(w, req)
		case "html":
			say(200, "<html>")(w, req)
		case "hang":
			<-req.Context().Done()
		case "break":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, stream)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "stall":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, stream)
			w.(http.Flusher).Flush()
			<-req.Context().Done()
		}
	})
	streamed := strings.Replace(chat, "{", `{"stream":true,`, 1)
	cost := llm.Nano(0)
	for _, m := range []string{"ok", "400", "500", "429", "html", "hang", "break", "stall"} {
		for _, body := range []string{chat, streamed} {
			mode.Store(m)
			r.post(t, "/v1/chat/completions", body)
			cost += r.recorded(t).Cost
			idle(t, l)
		}
	}
	mode.Store("hang") // and a client that leaves
	c := &http.Client{Timeout: 200 * time.Millisecond}
	req, _ := http.NewRequest("POST", r.URL+"/v1/chat/completions", strings.NewReader(chat))
	req.Header.Set("X-Api-Key", "client-key")
	if res, err := c.Do(req); err == nil {
		res.Body.Close()
		t.Error("an answer came")
	}
	last := r.recorded(t)
	if cost += last.Cost; last.Status != call.Canceled {
		t.Errorf("%+v", last)
	}
	idle(t, l)
	for _, rule := range rulesOf(l) {
		if rule.Budgets[0].Spent != cost || cost == 0 {
			t.Errorf("%s: %v spent, the Calls cost %v", rule.Rule, rule.Budgets[0].Spent, cost)
		}
	}
}

// TestLimitedTarget: a target that has no room of ours is passed over; if none
// has, the client hears of the one that has room first.
func TestLimitedTarget(t *testing.T) {
	l, change := limited(limit.Rule{Name: "provider one", Match: limit.Match{Provider: "one"}, Bounds: limit.Bounds{Requests: 1}},
		limit.Rule{Name: "gpt at two", Match: limit.Match{Provider: "two", Model: "gpt-4.1"}, Bounds: limit.Bounds{Requests: 2}})
	r := newRig(t, change, say(200, reply), say(200, reply))
	var by []string
	for range 4 {
		r.post(t, "/v1/chat/completions", `{"model":"both","messages":[]}`)
		c := r.recorded(t)
		by = append(by, c.Provider+string(c.Error.Class))
	}
	if !slices.Equal(by, []string{"one", "two", "two", "limit_exceeded"}) {
		t.Errorf("answered by %v", by)
	}
	if live := rulesOf(l); live[0].Refused != 3 || live[1].Refused != 1 {
		t.Errorf("%+v", live)
	}
}

// TestEstimate: before a request is sent it can be told what it will come to.
func TestEstimate(t *testing.T) {
	l, change := limited(limit.Rule{Name: "key test", Match: limit.Match{Key: "test"}, Bounds: limit.Bounds{Requests: 40, Budgets: []limit.Budget{{Amount: 1e9, Period: limit.Day}}}})
	n := 0
	r := newRig(t, change, func(w http.ResponseWriter, req *http.Request) {
		n++
		out := 100
		if n%10 == 0 {
			out = 900
		}
		say(200, strings.NewReplacer(`"completion_tokens":1`, fmt.Sprintf(`"completion_tokens":%d`, out), `"total_tokens":9`, fmt.Sprintf(`"total_tokens":%d`, out+8)).Replace(reply))(w, req)
	})
	who := &call.Principal{Key: "test", Data: true}
	e, err := r.g.Estimate(who, call.Ask{Body: []byte(chat)})
	if err != nil || e.Basis != 0 || e.Input < 5 || e.Input > 12 || !e.Fits || e.Provider != "one" || e.Answers != "gpt-4.1" || e.Cost == nil {
		t.Fatalf("%+v %v", e, err)
	}
	for range 40 {
		r.post(t, "/v1/chat/completions", chat)
		r.recorded(t)
	}
	e, err = r.g.Estimate(who, call.Ask{Body: []byte(chat)})
	if err != nil || e.Basis < 40 {
		t.Fatalf("%+v %v", e, err)
	}
	near := func(got, want int64) bool { return math.Abs(float64(got-want)) <= 0.2*float64(want) }
	if !near(e.Output.P50, 100) || !near(e.Output.P95, 900) || !near(e.Cost.P50, e.Input*2000+100*8000) || e.Cost.P95 <= e.Cost.P50 || e.Reserved.Output != e.Output.P95 {
		t.Errorf("%+v %+v", e, e.Cost)
	}
	if e.Fits || !strings.Contains(e.Reason, "key test may have 40 requests per minute") || e.Wait <= 0 {
		t.Errorf("%+v", e)
	}
	e, err = r.g.Estimate(who, call.Ask{Body: []byte(strings.Replace(chat, "{", `{"max_tokens":50,"n":2,`, 1))})
	if err != nil || e.Output.P95 != 100 || e.Reserved.Output != 100 {
		t.Errorf("%+v %v", e, err)
	}
	for body, class := range map[string]llm.ErrorClass{`{"model":"nobody"}`: llm.NotFound, `{`: llm.InvalidRequest, `{"model":"one/gpt-4.1","messages":7}`: llm.InvalidRequest} {
		if _, err := r.g.Estimate(who, call.Ask{Body: []byte(body)}); err == nil || err.Class != class {
			t.Errorf("%s: %v", body, err)
		}
	}
	if e, err := r.g.Estimate(who, call.Ask{Ingress: "gemini.generate", Model: "one/unheard-of", Body: []byte(`{"contents":[{"parts":[{"text":"hi"}]}]}`)}); err != nil || e.Cost != nil || e.Reserved.Cost != 0 {
		t.Errorf("%+v %v", e, err)
	}
	idle(t, l)
}

// TestTextBytes: a picture in a request is not taken for text.
func TestTextBytes(t *testing.T) {
	picture := strings.Repeat("iVBORw0KGgo/+", 100_000)
	for name, body := range map[string]string{
		"openai":    `{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + picture + `"}},{"type":"text","text":"hello"}]}]}`,
		"anthropic": `{"messages":[{"content":[{"type":"image","source":{"type":"base64","data":"` + picture + `"}}]}]}`,
		"gemini":    `{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"` + picture + `"}}]}]}`,
	} {
		if n := textBytes([]byte(body)); n < fileTokens || n > 3*fileTokens {
			t.Errorf("%s: %d bytes of %d", name, n, len(body))
		}
	}
	long := `{"messages":[{"content":"` + strings.Repeat("all of this is text ", 5000) + `"}]}`
	if n := textBytes([]byte(long)); n != len(long) {
		t.Errorf("%d bytes of %d are text", n, len(long))
	}
}

// FuzzTextBytes: any body has between nothing and all of its bytes.
func FuzzTextBytes(f *testing.F) {
	f.Add([]byte(`{"a":"` + strings.Repeat("A", 5000) + `"}`))
	f.Add([]byte(strings.Repeat(`"`, 5000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := textBytes(b); n < 0 || n > len(b) {
			t.Errorf("%d of %d", n, len(b))
		}
	})
}

// TestForecast: quantiles are within a fifth of the exact ones, and the past is
// forgotten.
func TestForecast(t *testing.T) {
	var f forecasts
	learn := func(from, to int64) {
		for n := from; n < to; n++ {
			f.learn(&call.Call{Key: "k", Model: "m", Status: call.Success, Usage: llm.Usage{Source: llm.UsageUpstream, Input: 100, Output: n}}, 400)
		}
	}
	learn(1, 1001)
	if p50, p95, n := f.answer("k", "m"); n != 1000 || p50 < 500 || p50 > 600 || p95 < 950 || p95 > 1140 {
		t.Errorf("%d %d of %d", p50, p95, n)
	}
	if p50, _, n := f.answer("other", "m"); n != 1000 || p50 < 500 {
		t.Errorf("of all keys: %d of %d", p50, n)
	}
	if _, _, n := f.answer("k", "other"); n != 0 {
		t.Errorf("of a model that never answered: %d", n)
	}
	for range 10 {
		learn(10_000, 11_000)
	}
	if p50, _, n := f.answer("k", "m"); p50 < 10_000 || p50 > 12_500 || n > maxLengths {
		t.Errorf("later %d of %d", p50, n)
	}
	if in := f.input("m", 400); in < 100 || in > 250 {
		t.Errorf("400 bytes that were 100 tokens are taken for %d", in)
	}
	var h lengths
	for _, n := range []int64{0, -5, math.MaxInt64} {
		h.add(n)
	}
	if h.quantile(0.01) != 1 || h.quantile(1) != 1<<24 {
		t.Errorf("%d %d", h.quantile(0.01), h.quantile(1))
	}
	for i := range maxForecasts + 10 {
		f.learn(&call.Call{Key: fmt.Sprint(i), Model: fmt.Sprint(i), Status: call.Success, Usage: llm.Usage{Source: llm.UsageUpstream}}, 1)
	}
	if len(f.output) > maxForecasts || len(f.ratio) > maxForecasts {
		t.Errorf("%d and %d are kept", len(f.output), len(f.ratio))
	}
}

// rulesOf is what a Limiter has counted.
func rulesOf(l *limit.Limiter) []call.LiveLimit {
	rules, _ := l.Live()
	return rules
}
