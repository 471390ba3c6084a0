package console

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

// fuzzed is a console on a real store with a hundred Calls, to whom everybody
// is the admin.
func fuzzed(f *testing.F) *Console {
	f.Helper()
	s, err := local.Open(f.TempDir(), local.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	c := New(Options{Store: s, Price: price.Default, Log: slog.New(slog.DiscardHandler), Auth: func(string) (*call.Principal, bool) {
		return &call.Principal{Key: "admin", Admin: true, Data: true}, true
	}})
	f.Cleanup(func() {
		c.Close()
		if err := s.Close(); err != nil {
			f.Error(err)
		}
	})
	var calls []*call.Call
	for n := range 100 {
		c := sample(n, "a")
		c.ID = call.DerivedID(c.StartedAt, "fuzz", fmt.Sprint(n))
		calls = append(calls, c)
	}
	if n, err := s.Import(f.Context(), calls); err != nil || n != len(calls) {
		f.Fatalf("import: %d, %v", n, err)
	}
	return c
}

// ask sends a request that nobody else could have thought of. The answer is
// JSON: what was asked for, or an error that says what is wrong with it.
func ask(t *testing.T, c *Console, method, target string, body []byte, out any) (status int) {
	t.Helper()
	r := httptest.NewRequest(method, "/", bytes.NewReader(body))
	r.URL = &url.URL{Path: target}
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut(target, "?")
	r.Header.Set("Authorization", "Bearer x")
	w := httptest.NewRecorder()
	begun := time.Now()
	c.ServeHTTP(w, r)
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	var e struct {
		Error struct{ Message, Type, Code string }
	}
	switch w.Code {
	case http.StatusOK:
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			t.Errorf("%v: %s", err, w.Body)
		}
	case http.StatusBadRequest:
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error.Message == "" || e.Error.Code == "" || len(e.Error.Message) > 600 {
			t.Errorf("%v: %s", err, w.Body)
		}
	default:
		t.Errorf("%d %s", w.Code, w.Body)
	}
	return w.Code
}

// FuzzQuery: any query is answered with points of as many values as measures,
// or refused.
func FuzzQuery(f *testing.F) {
	const span = `{"from":"2026-11-23T00:00:00Z","to":"2026-11-24T00:00:00Z",`
	for _, s := range []string{
		span + `"step":"1m","group_by":["model"],"filter":{"key":["a"]},"measures":["requests","errors_4xx","cost_nano_usd","latency_p95"]}`,
		span + `"step":"1mo","group_by":["tag:n","status"],"measures":["latency_avg","ttft_p95","output_tokens_per_second"]}`,
		span + `"measures":["requests"],"filter":{"tag:n":["1"],"origin":["client","import"]}}`,
		`{"from":"0001-01-01T00:00:00Z","to":"9999-12-31T23:59:59Z","step":"366d","measures":["requests"]}`,
		`{"from":"2026-11-24T00:00:00Z","to":"2026-11-23T00:00:00Z","measures":[]}`,
		`{"step":"-1m"}`, `{"group_by":["model","model"]}`, `{"group_by":[""],"measures":["requests","requests"]}`, `[]`, `null`, ``, `{"filter":{"":[]}}`,
	} {
		f.Add([]byte(s))
	}
	c := fuzzed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		var res struct {
			Series []struct {
				Group  map[string]string
				Points [][]*float64
				Total  []*float64
			}
			Total []*float64
		}
		if ask(t, c, "POST", "/api/v1/query", body, &res) != http.StatusOK {
			return
		}
		var q queryJSON
		if err := json.Unmarshal(body, &q); err != nil {
			t.Fatal(err)
		}
		for _, s := range res.Series {
			if len(s.Group) > len(q.GroupBy) || len(s.Total) != len(q.Measures) {
				t.Errorf("series %+v", s)
			}
			for _, p := range s.Points {
				if len(p) != 1+len(q.Measures) || p[0] == nil {
					t.Errorf("a point of %d values for %d measures", len(p), len(q.Measures))
				}
			}
		}
		if len(res.Total) != len(q.Measures) {
			t.Errorf("a total of %d values for %d measures", len(res.Total), len(q.Measures))
		}
	})
}

// FuzzList: any parameters and cursor of a list give a page in its order, or
// are refused; the cursor of a page goes on behind it.
func FuzzList(f *testing.F) {
	for _, s := range []string{
		"", "limit=10", "limit=0", "limit=-1", "limit=99999999999999999999", "from=2026-11-23T07:00:10Z&to=2026-11-23T07:00:20Z", "from=yesterday", "model=gpt-4.1&key=a&tag=n:1", "tag=n", "tag=:", "q=gpt",
		"cursor=1795417200000000.01KAQVK6M0000000000000000A", "cursor=.", "cursor=-9223372036854775808.01KAQVK6M0000000000000000A", "cursor=1 2", "cursor=%00", "cursor=9999999999999999999.x", "q=%25&q=_", "model=", "nope=1", "%zz", "a;b",
	} {
		f.Add(s)
	}
	c := fuzzed(f)
	f.Fuzz(func(t *testing.T, params string) {
		var page, next struct {
			Calls []struct {
				ID        string
				StartedAt time.Time `json:"started_at"`
			}
			Next string
		}
		if ask(t, c, "GET", "/api/v1/calls?"+params, nil, &page) != http.StatusOK {
			return
		}
		if page.Next != "" {
			v, err := url.ParseQuery(params)
			if err != nil {
				return // what of it was read is the server's
			}
			v.Set("cursor", page.Next)
			if ask(t, c, "GET", "/api/v1/calls?"+v.Encode(), nil, &next) != http.StatusOK {
				t.Fatalf("the cursor %q of a page is refused", page.Next)
			}
		}
		all := append(page.Calls, next.Calls...)
		for i := range all[min(1, len(all)):] {
			if a, b := all[i], all[i+1]; a.StartedAt.Before(b.StartedAt) || a.ID == b.ID {
				t.Errorf("%v %s comes before %v %s", a.StartedAt, a.ID, b.StartedAt, b.ID)
			}
		}
	})
}

// FuzzImport: every line of an import becomes a Call that can be read back as
// it was taken, or is named; and a second time nothing is new.
func FuzzImport(f *testing.F) {
	whole, err := json.Marshal(sample(1, "a"))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		string(whole), string(whole) + "\n" + string(whole), "{}", "\n\r\n", "[]", "{\"started_at\":\"2026-11-23T07:00:00Z\"}\r\n", `{"started_at":"9999-12-31T23:59:59Z"}`, `{"started_at":"2000-01-01T00:00:00Z","tags":{"":"","a":"\u0000"}}`,
		`{"started_at":"2026-11-23T07:00:00Z","latency_ms":1e308,"usage":{"input_tokens":-1}}`, `{"started_at":"2026-11-23T07:00:00+14:00","usage":{"raw":{"a":[1]},"server_tool_calls":{"x":1}},"cost_nano_usd":9223372036854775807}`,
		`{"started_at":"2026-11-23T07:00:00Z","attempts":[{"latency_ms":0.0005}],"error":{"message":"é"},"http_status":999,"status":"canceled"}`, "\xff", `{"id":"01KAQVK6M0000000000000000A","started_at":"2026-11-23T07:00:00Z","user":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	c := fuzzed(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := Import(t.Context(), c.Store, bufio.NewReader(bytes.NewReader(text)), "fuzz")
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, line := range bytes.Split(text, []byte("\n")) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			lines++
			taken := new(call.Call)
			if json.Unmarshal(line, taken) != nil || taken.Check("fuzz", string(line)) != nil {
				continue
			}
			kept, err := c.Store.Get(t.Context(), taken.ID)
			if err != nil {
				t.Fatalf("call %s of %q: %v", taken.ID, line, err)
			}
			a, err := json.Marshal(kept)
			if err != nil {
				t.Fatal(err)
			}
			again := new(call.Call)
			if err := json.Unmarshal(a, again); err != nil {
				t.Fatal(err)
			}
			if b, err := json.Marshal(again); err != nil || !bytes.Equal(a, b) {
				t.Errorf("a call is %s and read back %s, %v", a, b, err)
			}
		}
		if n := first.Added + first.Duplicates + first.Bad; n != lines {
			t.Errorf("%d lines of %d: %+v", n, lines, first)
		}
		second, err := Import(t.Context(), c.Store, bufio.NewReader(bytes.NewReader(text)), "fuzz")
		if err != nil || second.Added != 0 || second.Bad != first.Bad {
			t.Errorf("the second time %+v, %v; the first %+v", second, err, first)
		}
	})
}
