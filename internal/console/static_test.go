package console

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestOpenAPIIsTheRoutes(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Responses   map[string]any
		}
	}
	if err := json.Unmarshal(openapiText, &doc); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	routes := s.console.routes()
	c := sample(1, "a")
	s.put(c)
	described := 0
	for path, ops := range doc.Paths {
		for method, op := range ops {
			described++
			pattern := strings.ToUpper(method) + " " + path
			if routes[pattern] == nil {
				t.Errorf("openapi.json has %s, which no route answers", pattern)
				continue
			}
			if op.OperationID == "" {
				t.Errorf("%s has no operationId", pattern)
			}
			if path == "/api/v1/stream" {
				continue // TestStream
			}
			req, err := http.NewRequest(strings.ToUpper(method), s.URL+strings.Replace(path, "{id}", c.ID, 1), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer the-admin")
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if status := res.Status[:3]; op.Responses[status] == nil {
				t.Errorf("%s answers %s, which openapi.json does not tell", pattern, status)
			}
		}
	}
	if got, want := described, len(routes); got != want {
		t.Errorf("openapi.json describes %d routes, there are %d", got, want)
	}
	for _, name := range append(slices.Clone(measures), dimensions...) {
		if !strings.Contains(string(openapiText), name) {
			t.Errorf("openapi.json does not name %s", name)
		}
	}
	// Every reference leads somewhere.
	for _, m := range regexp.MustCompile(`#/components/schemas/(\w+)`).FindAllStringSubmatch(string(openapiText), -1) {
		if !strings.Contains(string(openapiText), `"`+m[1]+`": {`) {
			t.Errorf("openapi.json refers to %s, which is not there", m[1])
		}
	}
}

func TestPagesAreSafeAndSmall(t *testing.T) {
	s := newSite(t)
	get := func(path, encoding, etag string, want int) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequest("GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", encoding)
		req.Header.Set("If-None-Match", etag)
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != want {
			t.Fatalf("GET %s = %d, %v, want %d", path, res.StatusCode, err, want)
		}
		return res, text
	}
	for _, path := range []string{"/", "/requests"} {
		res, text := get(path, "identity", "", 200)
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'self'") || strings.Contains(policy, "unsafe") {
			t.Errorf("policy of %s = %q", path, policy)
		}
		if strings.Contains(string(text), "://") {
			t.Errorf("%s names another host: %s", path, text)
		}
	}
	_, plain := get("/app.js", "identity", "", 200)
	res, packed := get("/app.js", "gzip", "", 200)
	if res.Header.Get("Content-Encoding") != "gzip" || len(packed) > 60<<10 || len(plain) < len(packed) {
		t.Errorf("the script is %d bytes, %d packed; want at most 60 KiB packed", len(plain), len(packed))
	}
	get("/app.js", "gzip", res.Header.Get("ETag"), 304)
	get("/nothing", "", "", 404)
	get("/dist/app.js", "", "", 404)
}

func TestLanguagesSayTheSame(t *testing.T) {
	read := func(lang string) map[string]string {
		text, err := os.ReadFile("ui/lang/" + lang + ".json")
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	gap := regexp.MustCompile(`\{\w+\}`)
	names := func(s string) string {
		l := gap.FindAllString(s, -1)
		slices.Sort(l)
		return strings.Join(l, " ")
	}
	en, ko := read("en"), read("ko")
	for k, v := range en {
		if ko[k] == "" || v == "" {
			t.Errorf("%q is not there in both languages", k)
		}
		if got, want := names(ko[k]), names(v); got != want {
			t.Errorf("%q fills in %q in Korean, %q in English", k, got, want)
		}
	}
	for k := range ko {
		if en[k] == "" {
			t.Errorf("%q is there in Korean only", k)
		}
	}
}
