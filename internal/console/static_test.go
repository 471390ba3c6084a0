package console

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
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
	for _, path := range []string{"/", "/requests", "/keys", "/limits"} {
		res, text := get(path, "identity", "", 200)
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'self'") || strings.Contains(policy, "unsafe") {
			t.Errorf("policy of %s = %q", path, policy)
		}
		if strings.Contains(string(text), "://") {
			t.Errorf("%s names another host: %s", path, text)
		}
	}
	script := 0
	for name := range files() {
		_, plain := get(name, "identity", "", 200)
		res, packed := get(name, "gzip", "", 200)
		if len(packed) > len(plain) || len(plain) > 1000 && res.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s is %d bytes, sent as %d", name, len(plain), len(packed))
		}
		get(name, "gzip", res.Header.Get("ETag"), 304)
		if strings.HasSuffix(name, "js") { // app.js, and what may come beside it
			script += len(packed)
		}
	}
	if t.Logf("%d bytes of script, packed", script); script > 60<<10 || script < 20<<10 {
		t.Errorf("%d bytes of script, packed; want at most 60 KiB", script)
	}
	get("/nothing", "", "", 404)
	get("/dist/app.js", "", "", 404)
}

// What people read is in the catalogues: a page's source holds no text of its
// own, and every text is used.
func TestTextIsInTheCatalogues(t *testing.T) {
	sources, err := filepath.Glob("ui/*.ts*")
	if err != nil || len(sources) < 15 {
		t.Fatalf("%d sources: %v", len(sources), err)
	}
	allowed := map[string]bool{"Sheepgate": true, "openapi.json": true, "sheepgate key reset-admin": true, "P95": true, "P50": true, "P99": true, "/": true, "429": true}
	between := regexp.MustCompile(`[^=\s]>\s*([\pL\pN .,:'’!?…·-]*\pL[\pL\pN .,:'’!?…·-]*)[<{]`)                // <b>text</b>
	attribute := regexp.MustCompile(`\b(?:title|aria-label|placeholder|alt|label)=(?:"([^"]*)"|\{'([^']*)'\})`) // title="text"
	var all strings.Builder
	for _, name := range sources {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
		if !strings.HasSuffix(name, ".tsx") {
			continue
		}
		for _, m := range append(between.FindAllStringSubmatch(string(text), -1), attribute.FindAllStringSubmatch(string(text), -1)...) {
			words := strings.TrimSpace(strings.Join(m[1:], ""))
			if regexp.MustCompile(`\pL`).MatchString(words) && !allowed[words] {
				t.Errorf("%s says %q, which is in no catalogue", name, words)
			}
		}
		for i, line := range strings.Split(string(text), "\n") {
			if code, _, _ := strings.Cut(line, "//"); regexp.MustCompile(`[\x{1100}-\x{11ff}\x{ac00}-\x{d7a3}]`).MatchString(code) && !strings.Contains(code, "'한국어'") {
				t.Errorf("%s:%d has Korean text", name, i+1)
			}
		}
	}
	text, err := os.ReadFile("ui/lang/en.json")
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]string{}
	if err := json.Unmarshal(text, &words); err != nil {
		t.Fatal(err)
	}
	made := regexp.MustCompile(`^(class|range|by|any|link|link_more|theme|source|price|k|limit|limit_of|budget|bound|health|room)_`) // put together from parts
	for w := range words {
		if !made.MatchString(w) && !strings.Contains(all.String(), "'"+w+"'") && !strings.Contains(all.String(), `word="`+w+`"`) {
			t.Errorf("%q is said nowhere", w)
		}
	}
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
