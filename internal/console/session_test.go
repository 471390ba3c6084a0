package console

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

func TestSession(t *testing.T) {
	s := newSite(t)
	s.do("", "POST", "/api/v1/session", `{"key":"wrong"}`, 401, nil)
	s.do("", "POST", "/api/v1/session", `{"key":""}`, 401, nil)
	s.do("", "POST", "/api/v1/session", `{"key":"the-scrap"}`, 403, nil)
	s.do("", "POST", "/api/v1/session", `{"kee":"x"}`, 400, nil)
	res := s.do("", "POST", "/api/v1/session", `{"key":"the-admin"}`, 200, nil)
	c := res.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || strings.Contains(c.Value, "admin") || len(c.Value) < 26 {
		t.Fatalf("cookie = %+v, want HttpOnly, SameSite=Strict, Path=/, random", c)
	}
	ask := func(method, path, body, site string, want int, v any) {
		t.Helper()
		req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.AddCookie(c)
		if site != "" {
			req.Header.Set("Sec-Fetch-Site", site)
		}
		s.send(req, want, v)
	}
	var me struct {
		SignedIn bool `json:"signed_in"`
		Admin    bool
	}
	ask("GET", "/api/v1/session", "", "", 200, &me)
	if !me.SignedIn || !me.Admin {
		t.Errorf("session = %+v, want the admin's", me)
	}
	ask("GET", "/api/v1/calls?key=a", "", "same-origin", 200, nil)
	const q = `{"from":"2026-11-23T00:00:00Z","to":"2026-11-24T00:00:00Z","measures":["requests"]}`
	ask("POST", "/api/v1/query", q, "same-origin", 200, nil)
	ask("POST", "/api/v1/query", q, "cross-site", 403, nil)
	ask("POST", "/api/v1/import", "", "same-site", 403, nil)
	ask("DELETE", "/api/v1/session", "", "cross-site", 403, nil)
	ask("DELETE", "/api/v1/session", "", "same-origin", 204, nil)
	ask("GET", "/api/v1/calls", "", "", 401, nil)
	ask("GET", "/api/v1/session", "", "", 200, &me)
	if me.SignedIn {
		t.Error("still signed in after signing out")
	}
}

func TestStream(t *testing.T) {
	s := newSite(t)
	s.live.InFlight = 3
	open := func(key, last string) *bufio.Scanner {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		t.Cleanup(cancel)
		req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/api/v1/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		sc := bufio.NewScanner(res.Body)
		sc.Buffer(nil, 1<<20)
		return sc
	}
	next := func(sc *bufio.Scanner) (e event) {
		t.Helper()
		for sc.Scan() {
			if text, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(text), &e); err != nil {
					t.Fatal(err)
				}
				return e
			}
		}
		t.Fatalf("the stream ended: %v", sc.Err())
		return e
	}
	admin := open("the-admin", "")
	a := open("the-a", "17")
	if e := next(admin); e.InFlight != 3 || e.Gap || len(e.Calls) != 0 {
		t.Errorf("first event = %+v, want 3 in flight and nothing else", e)
	}
	if e := next(a); e.InFlight != 0 || !e.Gap {
		t.Errorf("first event after a break = %+v, want a gap and no word of others' calls", e)
	}
	var batch []call.Entry
	for n := range 60 {
		batch = append(batch, call.Entry{Call: sample(n, "b")})
	}
	batch = append(batch, call.Entry{Call: sample(61, "a")})
	if err := s.tail.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	e := next(admin)
	if len(e.Calls) != mostCalls || e.Skipped != 11 || len(e.Deltas) != 1 {
		t.Fatalf("event = %d calls, %d skipped, %d deltas; want %d, 11, 1", len(e.Calls), e.Skipped, len(e.Deltas), mostCalls)
	}
	if d := *e.Deltas[0]; d != (delta{"openai", "gpt-4.1", "2xx", 61, 61 * 23, 61 * 24, 61 * 238_000, 0}) {
		t.Errorf("delta = %+v, want the sum of 61 calls", d)
	}
	if got, want := e.Calls[len(e.Calls)-1].ID, batch[60].ID; got != want {
		t.Errorf("the last call is %s, want the newest, %s", got, want)
	}
	if e := next(a); len(e.Calls) != 1 || e.Calls[0].Key != "a" || e.Deltas[0].Requests != 1 {
		t.Errorf("key a sees %d calls, want its own only", len(e.Calls))
	}
	s.console.Close()
	for a.Scan() {
	}
	if err := a.Err(); err != nil {
		t.Errorf("Close ended the stream with %v, want its end", err)
	}
}
