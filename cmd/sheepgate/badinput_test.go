package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/provider/sim"
)

const (
	badKey    = "bad-input-key-0123456789"     // of the client
	badSecret = "sk-bad-input-secret-upstream" // of the providers
	prompt    = "the prompt that must not show"
)

// A badRig is the whole server before a simulated provider, for requests that
// are wrong.
type badRig struct {
	*testServer
	upstream *sim.Server
	ids      []string // Calls that were promised
	denied   int      // requests without a key
}

func newBadRig(t *testing.T) *badRig {
	t.Helper()
	up := sim.New(sim.Options{Seed: 1, Speed: 1000, Calm: true, Key: badSecret})
	srv := httptest.NewServer(up)
	t.Cleanup(srv.Close)
	return &badRig{upstream: up, testServer: startTest(t, fmt.Sprintf(`
providers:
  openai:    { base_url: %[1]s/openai/v1, key: %[2]s }
  anthropic: { base_url: %[1]s/anthropic/v1, key: %[2]s }
  gemini:    { base_url: %[1]s/gemini/v1beta, key: %[2]s }
models: { fast: { use: openai/gpt-4.1-mini } }
keys:
  bad:    { key: %[3]s }
  narrow: { key: narrow-key-0123456789, models: [fast] }
  scrape: { key: scrape-key-0123456789, metrics: true }
`, srv.URL, badSecret, badKey))}
}

// A reply is what came back for a request.
type reply struct {
	status int
	header http.Header
	body   string
}

// raw sends a request as it is written, which no client library would do, and
// reads one answer.
func (s *badRig) raw(t *testing.T, head string, body []byte) reply {
	t.Helper()
	return s.exchange(t, head, body, false)
}

// exchange is raw, of a client that may end its half of the connection.
func (s *badRig) exchange(t *testing.T, head string, body []byte, end bool) reply {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { // the server may answer before it has read everything
		_, _ = io.WriteString(c, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n")
		_, _ = c.Write(body)
		if end {
			_ = c.(*net.TCPConn).CloseWrite()
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("%.80q: %v", head, err)
		return reply{}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("%.80q: %v", head, err)
	}
	return reply{res.StatusCode, res.Header, string(b)}
}

func (s *badRig) post(t *testing.T, path string, header http.Header, body []byte) reply {
	t.Helper()
	head := "POST " + path + " HTTP/1.1\nHost: x\nConnection: close\nContent-Length: " + strconv.Itoa(len(body))
	if header == nil {
		header = http.Header{"X-Api-Key": {badKey}, "Content-Type": {"application/json"}}
	}
	for name, values := range header {
		for _, v := range values {
			head += "\n" + name + ": " + v
		}
	}
	return s.raw(t, head, body)
}

// errorOf checks that an answer is an error in a dialect, with all its keys
// and nothing that it should not say.
func (r reply) errorOf(t *testing.T, name, dialect string, status int, parts ...string) {
	t.Helper()
	bad := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s: %s: %d %.500s", name, fmt.Sprintf(format, args...), r.status, r.body)
	}
	if r.status != status {
		bad("want status %d", status)
		return
	}
	if got := r.header.Get("Content-Type"); got != "application/json" || r.header.Get("X-Content-Type-Options") != "nosniff" {
		bad("Content-Type %q, X-Content-Type-Options %q", got, r.header.Get("X-Content-Type-Options"))
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal([]byte(r.body), &whole); err != nil {
		bad("%v", err)
		return
	}
	var inner map[string]any
	if err := json.Unmarshal(whole["error"], &inner); err != nil {
		bad("error: %v", err)
		return
	}
	want := map[string][]string{"openai": {"code", "message", "param", "type"}, "anthropic": {"message", "type"}, "gemini": {"code", "message", "status"}}[dialect]
	var keys []string
	for k, v := range inner {
		keys = append(keys, k)
		switch v := v.(type) {
		case string:
			if v == "" || !utf8.ValidString(v) {
				bad("%s is %q", k, v)
			}
		case float64:
			if k != "code" || int(v) != status {
				bad("%s is %v", k, v)
			}
		case nil:
			if k != "param" && k != "code" {
				bad("%s is null", k)
			}
		default:
			bad("%s is %v", k, v)
		}
	}
	if slices.Sort(keys); !slices.Equal(keys, want) {
		bad("keys %v, want %v", keys, want)
	}
	if dialect == "anthropic" && string(whole["type"]) != `"error"` || dialect != "anthropic" && len(whole) != 1 {
		bad("it is not the error of %s", dialect)
	}
	for _, p := range parts {
		if !strings.Contains(r.body, p) {
			bad("it lacks %q", p)
		}
	}
	for _, secret := range []string{badKey, badSecret, testAdmin, prompt, strings.Repeat("x", 201)} {
		if strings.Contains(r.body, secret) {
			bad("it says %.40s", secret)
		}
	}
	if len(r.body) > 2048 {
		bad("it is %d bytes", len(r.body))
	}
}

// recorded checks the Call of an answer.
func (s *badRig) recorded(t *testing.T, name string, r reply, class llm.ErrorClass) *call.Call {
	t.Helper()
	id := r.header.Get("Sheepgate-Call-Id")
	if !call.ValidID(id) {
		t.Errorf("%s: Sheepgate-Call-Id is %q", name, id)
		return nil
	}
	if slices.Contains(s.ids, id) {
		t.Errorf("%s: call id %s comes twice", name, id)
	}
	s.ids = append(s.ids, id)
	c := s.call(t, id)
	if c.Status != call.Failed || c.HTTPStatus != r.status || c.Error.Class != class || c.Error.Message == "" || c.Key != "bad" && c.Key != "narrow" {
		t.Errorf("%s: call %s %d %+v of %s, want %s", name, c.Status, c.HTTPStatus, c.Error, c.Key, class)
	}
	if c.Cost != 0 || c.Unpriced || c.Usage.Input != 0 || c.Usage.Output != 0 {
		t.Errorf("%s: it costs %v, unpriced %v, usage %+v", name, c.Cost, c.Unpriced, c.Usage)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	for _, secret := range []string{badKey, badSecret, testAdmin, prompt, strings.Repeat("x", 201)} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s: the call says %.40s: %s", name, secret, text)
		}
	}
	return c
}

// finish checks that there is a Call for each answer that promised one and no
// other, that each request without a key was counted, and that the log is
// clean.
func (s *badRig) finish(t *testing.T) {
	t.Helper()
	var page struct{ Calls []*call.Call }
	_, b := s.do(t, "GET", "/api/v1/calls?limit=1000", testAdmin, nil)
	if err := json.Unmarshal(b, &page); err != nil || len(page.Calls) != len(s.ids) {
		t.Errorf("%d calls are stored, want %d: %v", len(page.Calls), len(s.ids), err)
	}
	_, text := s.do(t, "GET", "/v1/metrics", testAdmin, nil)
	if want := fmt.Sprintf("\nholysheep_unauthenticated_total %d\n", s.denied); !strings.Contains(string(text), want) {
		t.Errorf("/v1/metrics lacks %q", want)
	}
	t.Cleanup(func() { // once the server has stopped
		for _, secret := range []string{badKey, badSecret, testAdmin, prompt, "panic"} {
			if strings.Contains(s.logs.String(), secret) {
				t.Errorf("the log says %s:\n%.2000s", secret, s.logs.String())
			}
		}
	})
}

// A front is a route as its dialect's clients use it.
type front struct {
	dialect, path string
	body          string // of a good request, without its closing brace
	listed        string // the field that holds the conversation
}

var fronts = []front{
	{"openai", "/v1/chat/completions", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"` + prompt + `"}]`, "messages"},
	{"openai", "/v1/chat/completions", `{"stream":true,"model":"claude-haiku-4-5","messages":[{"role":"user","content":"` + prompt + `"}]`, "messages"},
	{"anthropic", "/v1/messages", `{"model":"claude-haiku-4-5","max_tokens":50,"messages":[{"role":"user","content":"` + prompt + `"}]`, "messages"},
	{"anthropic", "/v1/messages", `{"model":"gpt-4.1-mini","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"` + prompt + `"}]`, "messages"},
	{"gemini", "/v1beta/models/gemini-2.5-flash:generateContent", `{"contents":[{"role":"user","parts":[{"text":"` + prompt + `"}]}]`, "contents"},
	{"gemini", "/v1beta/models/gpt-4.1-mini:streamGenerateContent?alt=sse", `{"contents":[{"role":"user","parts":[{"text":"` + prompt + `"}]}]`, "contents"},
}

// TestBadBodies: every body that is wrong gets a 400 or 413 in the dialect of
// the route that says what is wrong, and one Call.
func TestBadBodies(t *testing.T) {
	s := newBadRig(t)
	for _, f := range fronts {
		check := func(what, body string, status int, class llm.ErrorClass, parts ...string) {
			t.Helper()
			name := f.dialect + " " + f.path + " " + what
			r := s.post(t, f.path, nil, []byte(body))
			r.errorOf(t, name, f.dialect, status, parts...)
			s.recorded(t, name, r, class)
		}
		invalid := func(what, body string, parts ...string) {
			t.Helper()
			check(what, body, 400, llm.InvalidRequest, parts...)
		}
		// form
		invalid("empty", "", "empty")
		invalid("white space", " \r\n\t ", "empty")
		invalid("not JSON", "model=gpt-4.1&prompt=x", "not a JSON object")
		invalid("HTML", "<html>", "not a JSON object")
		invalid("null", "null", "not a JSON object")
		invalid("an array", "["+f.body+"}]", "not a JSON object")
		invalid("a string", `"x"`, "not a JSON object")
		invalid("a number", "1e5", "not a JSON object")
		invalid("a BOM", "\xef\xbb\xbf"+f.body+"}", "not a JSON object")
		invalid("UTF-16", "{\x00\"\x00m\x00", "not valid JSON at byte 1")
		invalid("binary", "\x1f\x8b\x08\x00\x00\x00\x00\x00", "not a JSON object")
		for _, cut := range []int{1, 10, len(f.body) / 2, len(f.body)} {
			invalid("cut at "+strconv.Itoa(cut), f.body[:cut], "truncated")
		}
		invalid("two objects", f.body+"}{}", "goes on")
		invalid("a trailing comma", f.body+",}", "not valid JSON")
		invalid("a comment", f.body+"/* */}", "not valid JSON")
		invalid("single quotes", "{'model':'x'}", "not valid JSON at byte 1")
		invalid("NaN", f.body+`,"temperature":NaN}`, "not valid JSON")
		invalid("a number in hex", f.body+`,"temperature":0x1}`, "not valid JSON")
		invalid("a leading zero", f.body+`,"temperature":01}`, "not valid JSON")
		invalid("a bare NUL", f.body+",\"user\":\"a\x00b\"}", "control character")
		invalid("a bare line break", f.body+",\"user\":\"a\nb\"}", "control character")
		invalid("invalid UTF-8", f.body+",\"user\":\"\xff\xfe\"}", "UTF-8")
		invalid("invalid UTF-8 in a key", f.body+",\"\xc3\":1}", "UTF-8")
		invalid("surrogates in UTF-8", f.body+",\"user\":\"\xed\xa0\x80\"}", "UTF-8")
		invalid("a bad escape", f.body+`,"user":"\x"}`, "not valid JSON")
		invalid("nested arrays", f.body+`,"x":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+"}", "nested deeper than 1000")
		invalid("nested objects, unfinished", f.body+`,"x":`+strings.Repeat(`{"a":`, 100_000), "nested deeper than 1000")
		// keys
		invalid("a key twice", f.body+`,"`+f.listed+`":[]}`, "twice")
		invalid("a key in another case", f.body+`,"`+strings.ToUpper(f.listed)+`":[]}`, "twice")
		invalid("a key twice, escaped", f.body+`,"\u00`+fmt.Sprintf("%x", f.listed[0])+f.listed[1:]+`":[]}`, "twice")
		invalid("an unknown key twice", f.body+`,"foo":1,"FOO":2}`, "twice")
		invalid("a long key twice", f.body+`,"`+strings.Repeat("x", 5000)+`":1,"`+strings.Repeat("x", 5000)+`":1}`, "twice")
		// types
		for _, wrong := range []string{`"x"`, `5`, `true`, `{}`, `[5]`, `[[]]`} {
			other := strings.Replace(f.body, `[{"role":"user","`, `[{"role":"user","x":1,"`, 1)
			i := strings.Index(other, `"`+f.listed+`":`)
			invalid(f.listed+" is "+wrong, other[:i]+`"`+f.listed+`":`+wrong+"}")
		}
		// size
		name := f.dialect + " " + f.path + " "
		big := bytes.Repeat([]byte("x"), 33<<20)
		r := s.post(t, f.path, nil, big)
		r.errorOf(t, name+"33 MiB", f.dialect, 413, "32 MiB")
		s.recorded(t, name+"33 MiB", r, llm.TooLarge)
		head := "POST " + f.path + " HTTP/1.1\nHost: x\nX-Api-Key: " + badKey
		chunk := append([]byte("2100000\r\n"), big...)
		r = s.raw(t, head+"\nTransfer-Encoding: chunked", append(chunk, "\r\n0\r\n\r\n"...))
		r.errorOf(t, name+"33 MiB in a chunk", f.dialect, 413, "32 MiB")
		s.recorded(t, name+"33 MiB in a chunk", r, llm.TooLarge)
		r = s.raw(t, head+"\nContent-Length: 99999999999999", []byte(f.body))
		r.errorOf(t, name+"an announced 99 TB", f.dialect, 413, "32 MiB")
		s.recorded(t, name+"an announced 99 TB", r, llm.TooLarge)
		r = s.raw(t, head+"\nTransfer-Encoding: chunked", []byte("zz\r\n"+f.body))
		r.errorOf(t, name+"broken chunks", f.dialect, 400, "body")
		s.recorded(t, name+"broken chunks", r, llm.InvalidRequest)
	}
	for _, f := range fronts { // who ends early gets no empty 200
		head := "POST " + f.path + " HTTP/1.1\nHost: x\nX-Api-Key: " + badKey + "\nContent-Length: "
		for _, missing := range []int{100, 0} {
			r := s.exchange(t, head+strconv.Itoa(len(f.body)+1+missing), []byte(f.body+"}"), true)
			id := r.header.Get("Sheepgate-Call-Id")
			if missing == 0 && r.status == 200 && len(r.body) > 0 { // the answer had begun before the end was seen
				s.ids = append(s.ids, id)
				continue
			}
			r.errorOf(t, f.path+" half closed", f.dialect, llm.StatusClientClosed, "closed")
			if s.ids = append(s.ids, id); s.call(t, id).Status != call.Canceled {
				t.Errorf("%s half closed: %+v", f.path, s.call(t, id))
			}
		}
	}
	if n := s.upstream.Requests(); n > 36+6 { // wrong types that pass as they are are the upstream's to judge
		t.Errorf("the upstream saw %d requests", n)
	}
	s.finish(t)
}

// TestBadFields: what the gateway itself reads of a body.
func TestBadFields(t *testing.T) {
	s := newBadRig(t)
	check := func(path, dialect, body string, status int, class llm.ErrorClass, parts ...string) {
		t.Helper()
		r := s.post(t, path, nil, []byte(body))
		r.errorOf(t, path+" "+call.Clip(body, 120), dialect, status, parts...)
		s.recorded(t, path+" "+call.Clip(body, 120), r, class)
	}
	const messages = `"messages":[{"role":"user","content":"` + prompt + `"}]`
	for dialect, path := range map[string]string{"openai": "/v1/chat/completions", "anthropic": "/v1/messages"} {
		bad := func(body string, parts ...string) {
			t.Helper()
			check(path, dialect, body, 400, llm.InvalidRequest, parts...)
		}
		unknown := func(model string, parts ...string) {
			t.Helper()
			body, _ := json.Marshal(model)
			check(path, dialect, `{"model":`+string(body)+`,"max_tokens":5,`+messages+`}`, 404, llm.NotFound, parts...)
		}
		bad(`{`+messages+`}`, "model is missing")
		bad(`{"model":"",`+messages+`}`, "model is missing")
		for _, wrong := range []string{"5", "null", "true", "{}", "[]", `["gpt-4.1"]`, "1e999"} {
			bad(`{"model":`+wrong+`,`+messages+`}`, "model is not a string")
		}
		bad(`{"Model":"gpt-4.1-mini",`+messages+`}`, "model", "another case")
		bad(`{"model":"gpt-4.1-mini","Model":"gpt-4.1",`+messages+`}`, "twice")
		bad(`{"model":"gpt-4.1-mini","stream":"yes",`+messages+`}`, "stream is not true or false")
		bad(`{"model":"gpt-4.1-mini","stream":1,`+messages+`}`, "stream is not true or false")
		bad(`{"model":"gpt-4.1-mini","Stream":true,`+messages+`}`, "another case")
		bad(`{"model":"gpt-4.1-mini","stream_options":5,`+messages+`}`, "stream_options is not an object")
		for _, wrong := range []string{"-1", "1.5", `"5"`, "1e400", "99999999999999999999", "[]", "{}", "true"} {
			bad(`{"model":"gpt-4.1-mini","max_tokens":`+wrong+`,`+messages+`}`, "max_tokens is not a whole number")
		}
		bad(`{"model":"gpt-4.1-mini","user":5,`+messages+`}`, "user is not a string")
		bad(`{"model":"`+strings.Repeat("x", 129)+`",`+messages+`}`, "model is longer than 128 bytes")
		bad(`{"model":"`+strings.Repeat("x", 1<<20)+`",`+messages+`}`, "model is longer than 128 bytes")
		unknown("nobody", "nobody")
		unknown("gpt-4.1-mino", "near: gpt-4.1-mini")
		unknown("deepseek-chat", "deepseek", "not configured")
		unknown("openrouter/x", "openrouter/x")
		unknown("/gpt-4.1", "/gpt-4.1")
		unknown("openai/", "openai/")
		unknown("../../etc/passwd")
		unknown("'; DROP TABLE calls; --")
		unknown("<script>alert(1)</script>")
		unknown("a\x00b")
		unknown("a\r\nSet-Cookie: x=1")
		unknown("\u202e\u0000")
		unknown(strings.Repeat("x", 128))
	}
	// the simulated provider has no such model: its answer is the client's
	check("/v1/chat/completions", "openai", `{"model":"openai/none",`+messages+`}`, 404, llm.NotFound, "none")
	check("/v1/messages", "anthropic", `{"model":"anthropic/none","max_tokens":5,`+messages+`}`, 404, llm.NotFound, "none")
	const contents = `{"contents":[{"role":"user","parts":[{"text":"` + prompt + `"}]}]`
	for _, method := range []string{":generateContent", ":streamGenerateContent", ":streamGenerateContent?alt=sse"} {
		for _, wrong := range []string{"-1", "1.5", `"x"`, "1e400", "99999999999999999999", "[]"} {
			check("/v1beta/models/gemini-2.5-flash"+method, "gemini", contents+`,"generationConfig":{"maxOutputTokens":`+wrong+`}}`, 400, llm.InvalidRequest, "maxOutputTokens is not a whole number")
		}
		check("/v1beta/models/gemini-2.5-flash"+method, "gemini", contents+`,"generationConfig":5}`, 400, llm.InvalidRequest, "generationConfig is not an object")
		for name, shown := range map[string]string{"nobody": "nobody", "gemini-2.5-flush": "near: ", "gemini%2Fnone": "none", "gemini/none": "none", "..%2F..%2Fetc": "../../etc", "%27%20OR%201=1%20--": "' OR 1=1 --",
			"%3Cscript%3E": "", "a%00b": "", "%0d%0aSet-Cookie:%20x": "", "%ff%fe": "", "%E2%80%AE": "", "a%3Fb": "a?b"} {
			check("/v1beta/models/"+name+method, "gemini", contents+"}", 404, llm.NotFound, shown)
		}
		for _, name := range []string{strings.Repeat("x", 129), strings.Repeat("x", 30_000)} {
			check("/v1beta/models/"+name+method, "gemini", contents+"}", 400, llm.InvalidRequest, "model is longer than 128 bytes")
		}
		check("/v1beta/models/"+method, "gemini", contents+"}", 400, llm.InvalidRequest, "model is missing")
	}
	s.finish(t)
}

// TestNoKey: whoever has no key gets a 401 in the dialect of the route, a
// count and no Call.
func TestNoKey(t *testing.T) {
	s := newBadRig(t)
	secrets := []string{"", "x", badKey + "x", badKey[1:], strings.ToUpper(badKey), "' OR '1'='1", `" OR ""="`, "'; DROP TABLE secrets; --", "%", "*", "\\", "\x01", "\xff\xfe", "ключ",
		"null", "undefined", "Bearer " + badKey + "x", badSecret, "env:BAD", strings.Repeat("x", 511), strings.Repeat("x", 513), strings.Repeat("x", 30_000)}
	for _, f := range fronts {
		denied := func(name string, path string, header http.Header) {
			t.Helper()
			r := s.post(t, path, header, []byte(f.body+"}"))
			if r.errorOf(t, name, f.dialect, 401, "no valid key"); r.status == 401 {
				s.denied++
			}
		}
		for _, secret := range secrets {
			for _, h := range []http.Header{
				{"Authorization": {"Bearer " + secret}}, {"Authorization": {"bearer\t" + secret}}, {"Authorization": {secret}}, {"X-Api-Key": {secret}}, {"X-Goog-Api-Key": {secret}},
				{"Authorization": {"Bearer " + secret}, "X-Api-Key": {badKey}},
			} {
				if secret == "" && len(h) == 2 || strings.Contains(secret, "\x01") {
					continue
				}
				denied(fmt.Sprintf("%s %.60q", f.path, h), f.path, h)
			}
			if secret != "" && !strings.ContainsFunc(secret, func(r rune) bool { return !strings.ContainsRune("-._~:*'", r) && (r < '0' || r > 'z') }) {
				sep := "?"
				if strings.Contains(f.path, "?") {
					sep = "&"
				}
				denied(f.path+" ?key="+call.Clip(secret, 40), f.path+sep+"key="+secret, http.Header{})
			}
		}
		denied(f.path+" nothing", f.path, http.Header{})
		denied(f.path+" Basic", f.path, http.Header{"Authorization": {"Basic " + badKey}})
		// Keys that are good for something else are known: forbidden, with a Call.
		r := s.post(t, f.path, http.Header{"X-Api-Key": {"narrow-key-0123456789"}}, []byte(f.body+"}"))
		r.errorOf(t, f.path+" of another key", f.dialect, 403, "may not use model")
		s.recorded(t, f.path+" of another key", r, llm.Forbidden)
	}
	s.finish(t)
}

// TestWrongRoutes: unknown paths, wrong methods and tricks with paths.
func TestWrongRoutes(t *testing.T) {
	s := newBadRig(t)
	check := func(dialect, method, target string, status int, allow string, parts ...string) {
		t.Helper()
		r := s.raw(t, method+" "+target+" HTTP/1.1\nHost: x\nConnection: close\nX-Api-Key: "+badKey, nil)
		r.errorOf(t, method+" "+call.Clip(target, 60), dialect, status, parts...)
		if got := r.header.Get("Allow"); got != allow {
			t.Errorf("%s %.60s: Allow is %q, want %q", method, target, got, allow)
		}
		if id := r.header.Get("Location"); id != "" {
			t.Errorf("%s %.60s: it leads to %s", method, target, id)
		}
	}
	for _, m := range []string{"GET", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO"} {
		check("openai", m, "/v1/chat/completions", 405, "POST", m, "POST")
		check("anthropic", m, "/v1/messages", 405, "POST", m, "POST")
		check("gemini", m, "/v1beta/models/gemini-2.5-flash:generateContent", 405, "POST", m, "POST")
	}
	for _, m := range []string{"POST", "PUT", "DELETE"} {
		check("openai", m, "/v1/models", 405, "GET, HEAD", m)
		check("gemini", m, "/v1beta/models", 405, "GET, HEAD", m)
		check("openai", m, "/v1/metrics", 405, "GET, HEAD", m)
		check("openai", m, "/healthz", 405, "GET, HEAD", m)
		check("openai", m, "/readyz", 405, "GET, HEAD", m)
		check("openai", m, "/openapi.json", 405, "GET, HEAD", m)
		check("openai", m, "/", 405, "GET, HEAD", m)
	}
	check("openai", "DELETE", "/api/v1/calls", 405, "GET, HEAD, POST", "DELETE")
	check("openai", "GET", "/api/v1/query", 405, "POST", "GET")
	check("openai", "PUT", "/api/v1/session", 405, "DELETE, GET, HEAD, POST", "PUT")
	for _, target := range []string{"/v1", "/v1/", "/v1/nothing", "/v1/chat", "/v1/chat/completions/", "/v1/chat/completions/x", "/V1/chat/completions", "/v2/chat/completions", "/v1/%63hat%2Fcompletions",
		"//v1/chat/completions", "/v1//chat/completions", "/v1/./chat/completions", "/v1/../v1/chat/completions", "/v1/x/../chat/completions", "/v1/%2e%2e/v1/chat/completions", "/../v1/chat/completions",
		"/v1/chat/completions%00", "/v1/chat/completions%20", "/v1/" + strings.Repeat("x", 30_000), "/v1/%ff", "/api", "/api/v1", "/api/v1/nothing", "/api/v1/../v1/calls", "/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd",
		"/index.html/..", "/assets/../../../etc/passwd", "/dist/app.js", "/.git/config", "//example.com/", "/\\example.com", "/openapi.json/"} {
		check("openai", "POST", target, 404, "", "no such route")
	}
	for _, target := range []string{"/v1/messages/", "/v1/messages/x", "/v1//messages", "/v1/messages/../messages"} {
		check("anthropic", "POST", target, 404, "", "no such route")
	}
	for _, target := range []string{"/v1beta", "/v1beta/", "/v1beta/models/", "/v1beta/models/x", "/v1beta/models/x:fly", "/v1beta/models/x:", "/v1beta//models/x:generateContent", "/v1beta/models/x/../y:generateContent",
		"/v1beta/models/x:generateContent/", "/v1beta/cachedContents"} {
		check("gemini", "POST", target, 404, "", "no such route")
	}
	s.finish(t)
}

// TestBadHeaders: what may stand in a header and must not hurt.
func TestBadHeaders(t *testing.T) {
	s := newBadRig(t)
	f := fronts[0]
	send := func(extra string, body []byte) reply {
		t.Helper()
		return s.raw(t, "POST "+f.path+" HTTP/1.1\nHost: x\nConnection: close\nX-Api-Key: "+badKey+"\nContent-Length: "+strconv.Itoa(len(body))+extra, body)
	}
	good := func(extra string) *call.Call {
		t.Helper()
		r := send(extra, []byte(f.body+"}"))
		if r.status != 200 {
			t.Fatalf("%.60q: %d %s", extra, r.status, r.body)
		}
		id := r.header.Get("Sheepgate-Call-Id")
		s.ids = append(s.ids, id)
		_, line := s.do(t, "GET", "/api/v1/calls/"+id, testAdmin, nil)
		if c := s.call(t, id); c.Status != call.Success {
			t.Errorf("%.60q: %+v", extra, c)
		}
		c := s.call(t, id)
		if !utf8.Valid(line) {
			t.Errorf("%.60q: the call is not UTF-8: %q", extra, line)
		}
		return c
	}
	// A body says itself that it is JSON, whatever its header claims.
	for _, kind := range []string{"", "\nContent-Type: text/plain", "\nContent-Type: application/x-www-form-urlencoded", "\nContent-Type: application/json; charset=latin1", "\nContent-Type: ;;;", "\nContent-Type: multipart/form-data"} {
		good(kind)
	}
	c := good("\nSheepgate-User: \xff\xfe\nSheepgate-Session: a\tb\x80\nSheepgate-Tag-Team: \xc3(\nSheepgate-Tag-'OR'1: '; DROP TABLE calls; --")
	if c.User != "\ufffd" && c.User != "\ufffd\ufffd" || !utf8.ValidString(c.Session) || c.Tags["'or'1"] != "'; DROP TABLE calls; --" || !utf8.ValidString(c.Tags["team"]) {
		t.Errorf("labels: user %q, session %q, tags %q", c.User, c.Session, c.Tags)
	}
	long := strings.Repeat("x", 5000)
	c = good("\nSheepgate-User: " + long + "\nSheepgate-Session: " + long + "\nSheepgate-Tag-A: " + long + "\nSheepgate-Tag-" + long + ": b")
	if len(c.User) != 256 || len(c.Session) != 256 || len(c.Tags) != 1 || len(c.Tags["a"]) != 256 {
		t.Errorf("labels: user %d, session %d, tags %v", len(c.User), len(c.Session), c.Tags)
	}
	many := ""
	for i := range 100 {
		many += fmt.Sprintf("\nSheepgate-Tag-N%d: v", i)
	}
	if c = good(many); len(c.Tags) != 16 {
		t.Errorf("%d tags, want the 16 that a call may have", len(c.Tags))
	}
	for _, encoding := range []string{"gzip", "br", "deflate, gzip", "x"} {
		r := send("\nContent-Encoding: "+encoding, []byte("\x1f\x8b\x08 whatever"))
		r.errorOf(t, encoding, "openai", 415, "Content-Encoding")
		s.recorded(t, encoding, r, llm.InvalidRequest)
	}
	good("\nContent-Encoding: identity")
	// What breaks HTTP itself is refused before there is a dialect or a Call.
	refused := func(extra string, status int) {
		t.Helper()
		if r := send(extra, nil); r.status != status || r.header.Get("Sheepgate-Call-Id") != "" {
			t.Errorf("%.60q: %d, want %d", extra, r.status, status)
		}
	}
	refused("\nX-Long: "+strings.Repeat("x", 100_000), 431)
	refused("\nSheepgate-User: a\x00b", 400)
	refused("\nBad Name: x", 400)
	refused("\nContent-Length: 5", 400)
	refused("\nTransfer-Encoding: gzip", 400) // beside a Content-Length
	s.finish(t)
}
