package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

// A site is a console on a real store, and a server in front of it.
type site struct {
	*testing.T
	*httptest.Server
	console *Console
	store   *local.Store
	state   *state.State
	tail    call.Tail
	live    call.Live
	mu      sync.Mutex
	prices  *price.Catalogue // what was installed
	noted   []*call.Call     // what was handed to Record
}

var began = time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t}
	var err error
	if s.store, err = local.Open(t.TempDir(), local.Options{Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	kept, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.state = kept
	ring := kept.NewKeyring()
	keys, err := kept.OpenKeys([]state.Key{{Name: "a", Team: "red", Models: []string{"fast"}, Limits: state.Limits{RPM: 60}, Budget: []string{"$200/month"}}, {Name: "b"}, {Name: "grafana", Metrics: true}})
	if err != nil {
		t.Fatal(err)
	}
	keys.Check = func(k, _ *state.Key) error {
		if slices.Contains(k.Models, "nosuch") {
			return &state.KeyError{Kind: state.KeyInvalid, Field: "models", Msg: "no model nosuch; near: fast"}
		}
		return nil
	}
	keys.Changed = func() {
		table := map[state.Digest]*call.Principal{
			kept.Digest("the-admin"): {Key: "admin", Admin: true, Metrics: true, Data: true},
			kept.Digest("the-a"):     {Key: "a", Team: "red", Data: true},
			kept.Digest("the-b"):     {Key: "b", Data: true},
			kept.Digest("the-scrap"): {Key: "grafana", Metrics: true},
		}
		keys.Each(func(k *state.Key, d state.Digest, ends time.Time) {
			table[d] = &call.Principal{Key: k.Name, Team: k.Team, Expires: ends, Data: true}
		})
		ring.Set(table)
	}
	keys.Changed()
	sessions, err := kept.NewSessions(ring)
	if err != nil {
		t.Fatal(err)
	}
	s.console = New(Options{
		Store: s.store, Tail: &s.tail, Price: s.catalogue, Log: slog.New(slog.DiscardHandler), Version: "test",
		Auth: ring.Find, Sessions: sessions, Keys: keys, Audit: kept.Audit, Note: kept.Note, Install: s.install,
		Deployments: func() []Deployment {
			return []Deployment{{Provider: "openai", Model: "gpt-4.1", Aliases: []string{"smart"}}, {Provider: "openrouter", Model: "gpt-4.1"}, {Provider: "local", Model: "qwen"}}
		},
		Live: func() call.Live { return s.live }, InFlight: func() int64 { return s.live.InFlight },
		Estimate: func(_ *call.Principal, ask call.Ask) (call.Estimate, *llm.Error) {
			if strings.Contains(string(ask.Body), "nobody") {
				return call.Estimate{}, &llm.Error{Class: llm.NotFound, Code: "model_not_found", Param: "model", Msg: "no such model"}
			}
			return call.Estimate{Model: "m", Provider: "p", Answers: "m", Input: 5, Cost: &call.Expected{P50: 1, P95: 2}, Reason: "full", Wait: 1.5, At: time.Now()}, nil
		},
		Pending: func() int64 { return 0 }, Lost: func() int64 { return 0 },
		Record: func(c *call.Call) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.noted = append(s.noted, c)
		},
	})
	s.Server = httptest.NewServer(s.console)
	t.Cleanup(func() {
		s.console.Close()
		s.Close()
		if err := errors.Join(s.store.Close(), kept.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *site) catalogue() *price.Catalogue {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prices == nil {
		return price.Default()
	}
	return s.prices
}

func (s *site) install(text []byte, dry bool) (*PriceUpdate, error) {
	c, err := price.Parse(text)
	if err != nil {
		return nil, err
	}
	next := price.Default().Update(c)
	u := NewPriceUpdate(price.Diff(s.catalogue(), next), next.Version(), !dry)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !dry {
		s.prices = next
	}
	return u, nil
}

// sample is the n-th of the Calls that tests put in.
func sample(n int, key string) *call.Call {
	c := &call.Call{
		StartedAt: began.Add(time.Duration(n) * time.Second), Origin: call.OriginClient, Key: key, Ingress: "openai.chat", ModelRequested: "gpt-4.1",
		Provider: "openai", Model: "gpt-4.1", Status: call.Success, HTTPStatus: 200, Latency: time.Duration(100+n) * time.Millisecond,
		Usage:    llm.Usage{Source: llm.UsageUpstream, Input: 23, Output: 24},
		Attempts: []call.Attempt{{Provider: "openai", Model: "gpt-4.1", HTTPStatus: 200, Cost: 238_000}},
		Cost:     238_000, PriceRow: "openai/gpt-4.1/standard/1", Tags: map[string]string{"n": fmt.Sprint(n % 2)},
	}
	c.ID = call.NewID(c.StartedAt)
	return c
}

func (s *site) put(calls ...*call.Call) {
	s.Helper()
	if n, err := s.store.Import(s.Context(), calls); err != nil || n != len(calls) {
		s.Fatalf("Import = %d, %v, want %d", n, err, len(calls))
	}
}

// do asks with a key and decodes the answer into v, unless it is nil.
func (s *site) do(key, method, path, body string, want int, v any) *http.Response {
	s.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	return s.send(req, want, v)
}

func (s *site) send(req *http.Request, want int, v any) *http.Response {
	s.Helper()
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	if res.StatusCode != want {
		s.Fatalf("%s %s = %d, want %d: %s", req.Method, req.URL.Path, res.StatusCode, want, text)
	}
	if v != nil {
		if err := json.Unmarshal(text, v); err != nil {
			s.Fatalf("%s %s: %v in %.200s", req.Method, req.URL.Path, err, text)
		}
	}
	return res
}

type apiError struct {
	Error struct {
		Message string
		Type    string
		Param   *string
		Code    string
	}
}

func TestAKeySeesItsOwnCallsOnly(t *testing.T) {
	s := newSite(t)
	a, b := sample(1, "a"), sample(2, "b")
	s.put(a, b)
	var page struct{ Calls []*call.Call }
	s.do("the-admin", "GET", "/api/v1/calls", "", 200, &page)
	if got, want := len(page.Calls), 2; got != want {
		t.Errorf("the admin sees %d calls, want %d", got, want)
	}
	for _, path := range []string{"/api/v1/calls", "/api/v1/calls?key=b", "/api/v1/calls?key=the-admin"} {
		s.do("the-a", "GET", path, "", 200, &page)
		if len(page.Calls) != 1 || page.Calls[0].ID != a.ID {
			t.Errorf("GET %s with key a = %d calls, want its own", path, len(page.Calls))
		}
	}
	for _, sub := range []string{"", "/price", "/body"} {
		s.do("the-a", "GET", "/api/v1/calls/"+b.ID+sub, "", 404, nil)
	}
	var res struct{ Total []int64 }
	q := `{"from":"2026-11-23T00:00:00Z","to":"2026-11-24T00:00:00Z","measures":["requests"],"filter":{"key":["b"]}}`
	s.do("the-a", "POST", "/api/v1/query", q, 200, &res)
	if got, want := res.Total[0], int64(1); got != want {
		t.Errorf("a query of key a counts %d, want %d", got, want)
	}
	for _, path := range []string{"/api/v1/export", "/api/v1/import"} {
		method := "GET"
		if path == "/api/v1/import" {
			method = "POST"
		}
		s.do("the-a", method, path, "", 403, nil)
	}
	s.do("the-scrap", "GET", "/api/v1/calls", "", 403, nil)
	s.do("", "GET", "/api/v1/calls?key=the-admin", "", 401, nil) // a filter, never a credential
}

func TestErrorsSayWhatIsMeant(t *testing.T) {
	s := newSite(t)
	check := func(method, path, body, param, text string) {
		t.Helper()
		var e apiError
		s.do("the-admin", method, path, body, 400, &e)
		got := ""
		if e.Error.Param != nil {
			got = *e.Error.Param
		}
		if got != param || !strings.Contains(e.Error.Message, text) || e.Error.Type != "invalid_request_error" || e.Error.Code == "" {
			t.Errorf("%s %s %s = %+v (param %q), want %q with %q", method, path, body, e.Error, got, param, text)
		}
	}
	const span = `"from":"2026-11-23T00:00:00Z","to":"2026-11-24T00:00:00Z"`
	check("POST", "/api/v1/query", `{`+span+`,"measures":["request"]}`, "measures", `did you mean "requests"?`)
	check("POST", "/api/v1/query", `{`+span+`,"measures":["requests"],"group_by":["modle"]}`, "group_by", `did you mean "model"?`)
	check("POST", "/api/v1/query", `{`+span+`,"measures":["requests"],"filter":{"keys":["a"]}}`, "filter", `did you mean "key"?`)
	check("POST", "/api/v1/query", `{`+span+`,"measures":["requests"],"filter":{"key":[]}}`, "filter.key", "matches nothing")
	check("POST", "/api/v1/query", `{`+span+`,"mesures":["requests"]}`, "", `did you mean "measures"?`)
	check("POST", "/api/v1/query", `{`+span+`,"measures":["requests"],"step":"7h"}`, "step", "divide")
	check("POST", "/api/v1/query", `{`+span+`,"measures":["requests"]} x`, "", "after the JSON object")
	check("POST", "/api/v1/query", ``, "", "empty")
	check("POST", "/api/v1/query", `{"from":1}`, "", "")
	check("GET", "/api/v1/calls?modle=x", "", "modle", `did you mean "model"?`)
	check("GET", "/api/v1/calls?limit=0", "", "limit", "1 to 1000")
	check("GET", "/api/v1/calls?from=yesterday", "", "from", "2026-11-23T07:00:00Z")
	check("GET", "/api/v1/calls?tag=x", "", "tag", "NAME:VALUE")
	check("GET", "/api/v1/calls?cursor=%00nonsense", "", "", "")
}

// Names for suggestions must be names that the store knows.
func TestSuggestedNamesExist(t *testing.T) {
	s := newSite(t)
	text, err := json.Marshal(queryJSON{From: began, To: began.Add(time.Hour), GroupBy: dimensions[:8], Measures: measures})
	if err != nil {
		t.Fatal(err)
	}
	s.do("the-admin", "POST", "/api/v1/query", string(text), 200, nil)
	for _, d := range dimensions {
		s.do("the-admin", "POST", "/api/v1/query", fmt.Sprintf(`{"from":"2026-11-23T00:00:00Z","to":"2026-11-24T00:00:00Z","measures":["requests"],"group_by":[%q]}`, d), 200, nil)
	}
}

func TestArithmeticAddsUp(t *testing.T) {
	s := newSite(t)
	c := sample(1, "a")
	retried := sample(2, "a")
	retried.Attempts = append([]call.Attempt{{Provider: "openai", Model: "gpt-4.1", HTTPStatus: 500, Cost: 1000}}, retried.Attempts...)
	retried.Cost += 1000
	unknown := sample(3, "a")
	unknown.Model, unknown.Provider, unknown.Unpriced, unknown.Cost, unknown.PriceRow = "nobody-knows", "local", true, 0, ""
	s.put(c, retried, unknown)
	check := func(c *call.Call, source string, lines int, computed *llm.Nano) {
		t.Helper()
		var a arithmetic
		s.do("the-a", "GET", "/api/v1/calls/"+c.ID+"/price", "", 200, &a)
		if a.Source != source || len(a.Lines) != lines {
			t.Errorf("price of %s = %s with %d lines, want %s with %d", c.ID, a.Source, len(a.Lines), source, lines)
		}
		if (a.Computed == nil) != (computed == nil) || computed != nil && *a.Computed != *computed {
			t.Errorf("computed = %v, want %v", a.Computed, computed)
		}
	}
	check(c, "catalogue", 2, &c.Cost) // 23 × $2 + 24 × $8 a million
	check(retried, "catalogue", 2, &retried.Cost)
	check(unknown, "unknown", 0, nil)
	var a arithmetic
	s.do("the-a", "GET", "/api/v1/calls/"+c.ID+"/price", "", 200, &a)
	if got, want := a.Lines[0].Amount+" "+a.Lines[1].Amount, "46000 192000"; got != want {
		t.Errorf("amounts = %s, want %s", got, want)
	}
}

func TestExportComesBackByImport(t *testing.T) {
	s, other := newSite(t), newSite(t)
	var calls []*call.Call
	for n := range 2345 { // more than two pages
		calls = append(calls, sample(n, "a"))
	}
	s.put(calls...)
	req, _ := http.NewRequest("GET", s.URL+"/api/v1/export", nil)
	req.Header.Set("Authorization", "Bearer the-admin")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := bytes.Count(text, []byte("\n")), len(calls); got != want {
		t.Fatalf("the export has %d lines, want %d", got, want)
	}
	text = append([]byte("nonsense\n\n"+strings.Repeat("x", maxLine+10)+"\n"), text...)
	for _, want := range []Imported{{Added: len(calls), Bad: 2}, {Duplicates: len(calls), Bad: 2}} {
		var got Imported
		other.do("the-admin", "POST", "/api/v1/import", string(text), 200, &got)
		if got.Added != want.Added || got.Duplicates != want.Duplicates || got.Bad != want.Bad || got.Errors[0].Line != 1 || got.Errors[1].Line != 3 {
			t.Errorf("import = %+v, want %+v with lines 1 and 3 bad", got, want)
		}
	}
	a, err := s.store.Get(t.Context(), calls[7].ID)
	if err != nil {
		t.Fatal(err)
	}
	b, err := other.store.Get(t.Context(), calls[7].ID)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if !bytes.Equal(x, y) {
		t.Errorf("a call came back as\n%s, was\n%s", y, x)
	}
}

func TestPostedCallsBelongToTheirSender(t *testing.T) {
	s := newSite(t)
	const body = `[{"id":"req_1","started_at":"2026-11-23T07:00:00Z","key":"b","team":"x","origin":"client","model":"gpt-4.1-2025-04-14","status":"success",
		"usage":{"source":"upstream","input_tokens":23,"output_tokens":24},"cost_nano_usd":1},{"started_at":"2099-01-01T00:00:00Z","model":"gpt-4.1"},{"model":"x"}]`
	var got Imported
	s.do("the-a", "POST", "/api/v1/calls", body, 200, &got)
	if got.Added != 1 || got.Bad != 2 {
		t.Fatalf("post = %+v, want 1 added and 2 bad", got)
	}
	c := s.noted[0]
	if c.Key != "a" || c.Team != "red" || c.Origin != call.OriginMonitor || !call.ValidID(c.ID) || c.Provider != "openai" || c.Model != "gpt-4.1" || c.Cost != 238_000 {
		t.Errorf("posted call = %+v, want key a, team red, origin monitor, gpt-4.1 at 238000", c)
	}
	s.do("the-a", "POST", "/api/v1/calls", body, 200, &got) // on its way to the store
	if got.Added != 0 || got.Duplicates != 1 {
		t.Errorf("posted again = %+v, want a duplicate", got)
	}
	s.put(c)
	s.console.recent.remove(c.ID) // long ago
	s.do("the-a", "POST", "/api/v1/calls", body, 200, &got)
	if got.Added != 0 || got.Duplicates != 1 {
		t.Errorf("posted much later = %+v, want a duplicate", got)
	}
	s.do("the-b", "POST", "/api/v1/calls", strings.ReplaceAll(strings.Trim(body, "[]"), "},{", "}\n{"), 400, nil) // broken over lines: no call at all
	s.do("the-b", "POST", "/api/v1/calls", `{"id":"req_1","started_at":"2026-11-23T07:00:00Z","model":"m"}`+"\n", 200, &got)
	if got.Added != 1 {
		t.Errorf("the same id of another key = %+v, want a call of its own", got)
	}
	if c := s.noted[1]; !c.Unpriced || c.Model != "m" {
		t.Errorf("call of an unknown model = %+v, want it unpriced", c)
	}
	s.do("the-b", "POST", "/api/v1/calls", " \n", 400, nil)
	s.do("the-b", "POST", "/api/v1/calls", "[1", 400, nil)
}

func FuzzPosted(f *testing.F) {
	f.Add([]byte(`[{"started_at":"2026-11-23T07:00:00Z","model":"m"}]`))
	f.Add([]byte("{\"model\":\"m\"}\n\n{}\n"))
	f.Add([]byte(" [1,"))
	s := &Console{Options: Options{Price: price.Default}}
	p := &call.Principal{Key: "a"}
	f.Fuzz(func(t *testing.T, body []byte) {
		calls, _, err := readPosted(bytes.NewReader(body))
		if err != nil {
			return
		}
		for _, c := range calls {
			if s.adopt(c.Call, p, began) == nil && (!call.ValidID(c.ID) || c.Key != "a" || c.Origin != call.OriginMonitor) {
				t.Errorf("adopted %+v", c.Call)
			}
		}
	})
}
