package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
)

// closed makes every object of a schema that lists its properties hold no
// others.
func closed(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, is := v["properties"].(map[string]any); is && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
		for _, x := range v {
			closed(x)
		}
	case []any:
		for _, x := range v {
			closed(x)
		}
	}
}

// Every answer is of the form that openapi.json describes for its route and
// status, and holds no field that it does not name; every route's success is
// among them.
func TestAnswersAreAsDescribed(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(openapiText))
	if err != nil {
		t.Fatal(err)
	}
	closed(doc)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	schema := func(route string, status int, kind string) *jsonschema.Schema {
		t.Helper()
		method, path, _ := strings.Cut(route, " ")
		escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace
		s, err := c.Compile(fmt.Sprintf("openapi.json#/paths/%s/%s/responses/%d/content/%s/schema", escape(path), strings.ToLower(method), status, escape(kind)))
		if err != nil {
			t.Fatalf("%s %d: %v", route, status, err)
		}
		return s
	}

	s := newSite(t)
	plain, odd, failed, reported := sample(1, "a"), sample(2, "a"), sample(3, "b"), sample(4, "b")
	odd.Usage = llm.Usage{Source: llm.UsageUpstream, Input: 400, Output: 20, CacheRead: 100, CacheWrite5m: 50, CacheWrite1h: 20, Reasoning: 7, AudioInput: 3, AudioOutput: 2,
		ServerToolCalls: map[string]int64{"web_search": 2}, Tier: "flex", Raw: json.RawMessage(`{"x":1}`), Others: []llm.ModelUsage{{Model: "m", Usage: llm.Usage{Input: 1}}}}
	odd.Unpriced, odd.PriceRow, odd.Model, odd.Provider, odd.Cost = true, "", "nobody-knows", "local", 0
	odd.User, odd.Session, odd.Quality, odd.TTFT, odd.Stream = "u", "s", map[string]string{"truncated": "fail"}, 1000, true
	failed.Status, failed.HTTPStatus, failed.Error = call.Failed, 429, call.Error{Class: llm.RateLimited, Code: "rate", Message: "slow down"}
	usd := llm.Nano(5)
	reported.Usage.Reported, reported.PriceRow, reported.Cost = &usd, "openrouter/reported", 5
	s.put(plain, odd, failed, reported)
	if err := s.store.Write(t.Context(), []call.Entry{{Call: sample(5, "a"), Exchange: &call.Exchange{Request: []byte(`{"a":1}`), Response: []byte(`{"b":2}`)}}}); err != nil {
		t.Fatal(err)
	}
	kept := ""
	for page := (struct{ Calls []*call.Call }{}); kept == ""; {
		s.do("the-admin", "GET", "/api/v1/calls?limit=1", "", 200, &page)
		kept = page.Calls[0].ID
	}

	at := time.Now()
	s.live = call.Live{
		Limits:    []call.LiveLimit{{Rule: "key a", Key: "a", Team: "t", Requested: "m", Provider: "p", Model: "m", Budgets: []call.LiveBudget{{Period: "day", From: at, To: at, Exhausted: at}}}},
		Models:    []call.LiveModel{{State: "open", CoolUntil: at, Rooms: []call.LiveRoom{{Kind: "tokens", Full: at}}}, {Model: "other"}},
		Forecasts: []call.LiveForecast{{Key: "a", Model: "m"}},
		Marks:     []call.LiveMark{{At: at, Rule: "key a", Period: "day", Percent: 80}},
	}
	good := map[string]bool{}
	check := func(key, route, path, body string, status int) {
		t.Helper()
		method, pattern, _ := strings.Cut(route, " ")
		if path == "" {
			path = pattern
		}
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("%s %s = %d, want %d", method, path, res.StatusCode, status)
			return
		}
		if status < 300 {
			good[route] = true
		}
		if status == http.StatusNoContent {
			return
		}
		kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
		want := schema(route, status, kind)
		for dec := json.NewDecoder(res.Body); ; {
			var raw json.RawMessage
			if dec.Decode(&raw) != nil {
				break
			}
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if err := want.Validate(v); err != nil {
				t.Errorf("%s %s: %v\n%.600s", method, path, err, raw)
			}
		}
	}
	const query = `{"from":"2026-11-23T00:00:00Z","to":"2026-11-24T00:00:00Z","step":"1h","group_by":["model","tag:n"],"measures":["requests","latency_p95","ttft_p95","cost_nano_usd","output_tokens_per_second"]}`
	for _, key := range []string{"the-admin", "the-a"} {
		check(key, "GET /api/v1/calls", "", "", 200)
		check(key, "GET /api/v1/calls", "/api/v1/calls?limit=1&key=a&tag=n:1&status=success", "", 200)
		check(key, "POST /api/v1/query", "", query, 200)
		check(key, "GET /api/v1/models", "/api/v1/models?from=2026-11-23T00:00:00Z&to=2026-11-24T00:00:00Z", "", 200)
		check(key, "GET /api/v1/limits", "", "", 200)
		check(key, "POST /api/v1/estimate", "/api/v1/estimate?key=a", `{"model":"m"}`, 200)
		check(key, "GET /api/v1/session", "", "", 200)
		check(key, "POST /api/v1/session", "", `{"key":"`+key+`"}`, 200)
		check(key, "POST /api/v1/calls", "", `{"started_at":"2026-11-23T07:00:00Z","model":"gpt-4.1"}`+"\n{}\n", 200)
	}
	for _, k := range []*call.Call{plain, odd, failed, reported} {
		check("the-admin", "GET /api/v1/calls/{id}", "/api/v1/calls/"+k.ID, "", 200)
		check("the-admin", "GET /api/v1/calls/{id}/price", "/api/v1/calls/"+k.ID+"/price", "", 200)
	}
	check("the-admin", "GET /api/v1/calls/{id}/body", "/api/v1/calls/"+kept+"/body", "", 200)
	check("the-admin", "POST /api/v1/keys", "", `{"name":"new","team":"t","models":["fast"],"limits":{"rpm":1},"budget":["$1/day"],"metadata":{"a":"b"},"expires_at":"2099-01-01T00:00:00Z"}`, 201)
	check("the-admin", "GET /api/v1/keys/{name}", "/api/v1/keys/new", "", 200)
	check("the-admin", "GET /api/v1/keys/{name}", "/api/v1/keys/grafana", "", 200)
	check("the-admin", "PATCH /api/v1/keys/{name}", "/api/v1/keys/new", `{"limits":{"tpm":5}}`, 200)
	check("the-admin", "POST /api/v1/keys/{name}/rotate", "/api/v1/keys/new/rotate", `{"grace":"1h"}`, 200)
	check("the-admin", "GET /api/v1/usage", "/api/v1/usage?key=new", "", 200)
	check("the-a", "GET /api/v1/usage", "", "", 200)
	check("the-admin", "GET /api/v1/keys", "", "", 200)
	check("the-admin", "DELETE /api/v1/keys/{name}", "/api/v1/keys/new", "", 200)
	check("the-admin", "GET /api/v1/audit", "", "", 200)
	check("the-admin", "GET /api/v1/export", "", "", 200)
	check("the-admin", "POST /api/v1/import", "", "nonsense\n{\"started_at\":\"2026-11-23T07:00:00Z\",\"model\":\"m\"}\n", 200)
	const file = `{"version":"2026-12-01","models":[{"provider":"openai","id":"gpt-4.1","rows":[{"row":"standard/1","rates":{"input":3,"output":12}},{"row":"standard/2","rates":{"input":1},"from":"2027-01-01","label":"later"}]}]}`
	check("the-admin", "POST /api/v1/prices", "/api/v1/prices?dry_run=true", file, 200)
	check("the-admin", "POST /api/v1/prices", "", file, 200)
	check("the-admin", "GET /api/v1/models", "/api/v1/models?configured=true", "", 200)
	const anew = `{"from":"2026-11-23T00:00:00Z","to":"2026-11-24T00:00:00Z","filter":{"key":["a"]}}`
	check("the-admin", "POST /api/v1/prices/recompute", "", anew, 200)
	check("", "GET /api/v1/session", "", "", 200)
	check("", "DELETE /api/v1/session", "", "", 204)
	check("", "GET /openapi.json", "", "", 200)

	check("", "GET /api/v1/calls", "", "", 401)
	check("the-a", "POST /api/v1/prices", "", file, 403)
	check("the-a", "POST /api/v1/prices/recompute", "", anew, 403)
	check("the-admin", "POST /api/v1/prices", "", "models: 3", 400)
	check("the-admin", "POST /api/v1/prices", "/api/v1/prices?dry=true", file, 400)
	check("the-admin", "POST /api/v1/prices", "", strings.Repeat(" ", price.MaxFile+1), 413)
	check("the-admin", "POST /api/v1/prices/recompute", "", `{"form":1}`, 400)
	check("the-admin", "GET /api/v1/models", "/api/v1/models?configured=maybe", "", 400)
	check("the-a", "POST /api/v1/estimate", "", `{"model":"nobody"}`, 404)
	check("the-a", "POST /api/v1/estimate", "", strings.Repeat(" ", maxEstimate+1), 413)
	check("the-scrap", "GET /api/v1/limits", "", "", 403)
	check("the-scrap", "POST /api/v1/query", "", query, 403)
	check("the-a", "GET /api/v1/export", "", "", 403)
	check("the-admin", "GET /api/v1/calls", "/api/v1/calls?to=never", "", 400)
	check("the-admin", "POST /api/v1/query", "", `{}`, 400)
	check("the-admin", "POST /api/v1/calls", "", "", 400)
	check("the-admin", "POST /api/v1/calls", "", strings.Repeat(" ", maxPost+1), 413)
	check("the-admin", "POST /api/v1/keys", "", `{"name":"a"}`, 409)
	check("the-admin", "POST /api/v1/keys", "", `{"name":"b","limits":{"rpm":0}}`, 400)
	check("the-admin", "PATCH /api/v1/keys/{name}", "/api/v1/keys/nobody", `{}`, 404)
	check("the-a", "GET /api/v1/audit", "", "", 403)
	check("the-admin", "POST /api/v1/session", "", `{"key":"wrong"}`, 401)
	check("the-admin", "POST /api/v1/session", "", `{"key":"the-scrap"}`, 403)
	check("the-admin", "GET /api/v1/calls/{id}", "/api/v1/calls/none", "", 404)
	check("the-b", "GET /api/v1/calls/{id}/body", "/api/v1/calls/"+plain.ID+"/body", "", 404)
	for route := range s.console.routes() {
		if !good[route] && route != "GET /api/v1/stream" { // TestStream
			t.Errorf("no success of %s was looked at", route)
		}
	}

	// An event of the live stream.
	var e any
	text, err := json.Marshal(event{Deltas: []*delta{{Model: "m"}}, Calls: []*call.Call{plain, odd}})
	if err != nil {
		t.Fatal(err)
	}
	if e, err = jsonschema.UnmarshalJSON(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if err := schema("GET /api/v1/stream", 200, "text/event-stream").Validate(e); err != nil {
		t.Errorf("an event: %v", err)
	}
}
