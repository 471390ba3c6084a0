package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

func TestRefusals(t *testing.T) {
	check := func(d Dialect, status int, body string, class llm.ErrorClass, client int, code string, wait time.Duration) {
		t.Helper()
		e := d.ReadError(status, http.Header{}, []byte(body))
		if e.Class != class || e.HTTPStatus() != client || e.Code != code || e.RetryAfter != wait || e.Upstream != status || e.Msg == "" {
			t.Errorf("%d %.90s: %s %d %q wait %v upstream %d %q, want %s %d %q wait %v", status, body, e.Class, e.HTTPStatus(), e.Code, e.RetryAfter, e.Upstream, e.Msg, class, client, code, wait)
		}
	}
	claude := func(kind, msg string) string {
		return `{"type":"error","error":{"type":"` + kind + `","message":"` + msg + `"},"request_id":"r"}`
	}
	check(Anthropic, 400, claude("invalid_request_error", "max_tokens: required"), llm.InvalidRequest, 400, "invalid_request_error", 0)
	check(Anthropic, 400, claude("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), llm.InvalidRequest, 400, "context_length_exceeded", 0)
	check(Anthropic, 400, claude("invalid_request_error", "Your credit balance is too low to access the Anthropic API."), llm.ProviderAuth, 502, "billing_error", 0)
	check(Anthropic, 401, claude("authentication_error", "invalid x-api-key"), llm.ProviderAuth, 502, "authentication_error", 0)
	check(Anthropic, 402, claude("billing_error", "pay"), llm.ProviderAuth, 502, "billing_error", 0)
	check(Anthropic, 403, claude("permission_error", "no"), llm.ProviderAuth, 502, "permission_error", 0)
	check(Anthropic, 404, claude("not_found_error", "model: claude-x"), llm.NotFound, 404, "model_not_found", 0)
	check(Anthropic, 413, claude("request_too_large", "big"), llm.TooLarge, 413, "request_too_large", 0)
	check(Anthropic, 429, claude("rate_limit_error", "slow"), llm.RateLimited, 429, "rate_limit_exceeded", 0)
	check(Anthropic, 500, claude("api_error", "oops"), llm.UpstreamError, 502, "api_error", 0)
	check(Anthropic, 529, claude("overloaded_error", "Overloaded"), llm.Overloaded, 503, "overloaded_error", 0)
	for _, d := range translated {
		check(d, 502, "<html><h1>502 Bad Gateway</h1>", llm.UpstreamError, 502, "upstream_error", 0)
		check(d, 503, "", llm.Overloaded, 503, "overloaded", 0)
		check(d, 500, `{"error":"text"}`, llm.UpstreamError, 502, "upstream_error", 0)
		check(d, 500, `[[[`, llm.UpstreamError, 502, "upstream_error", 0)
		if e := d.ReadError(500, nil, []byte(`{"error":"the text"}`)); !strings.Contains(e.Msg, "the text") {
			t.Errorf("%s: message %q", d.Name(), e.Msg)
		}
		if e := d.ReadError(429, http.Header{"Retry-After": {"2.5"}}, nil); e.RetryAfter != 2500*time.Millisecond {
			t.Errorf("%s: wait %v", d.Name(), e.RetryAfter)
		}
		if e := d.ReadError(500, nil, []byte(`{"error":{"message":"`+strings.Repeat("x", 1<<20)+`"}}`)); len(e.Msg) > 600 {
			t.Errorf("%s: a message of %d bytes", d.Name(), len(e.Msg))
		}
	}
	google := func(status, msg, details string) string {
		return `{"error":{"code":1,"message":"` + msg + `","status":"` + status + `","details":[` + details + `]}}`
	}
	retry := `{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"17.5s"}`
	check(Gemini, 429, google("RESOURCE_EXHAUSTED", "quota", `{"@type":"x","violations":[{}]},`+retry), llm.RateLimited, 429, "rate_limit_exceeded", 17500*time.Millisecond)
	check(Gemini, 429, "["+google("RESOURCE_EXHAUSTED", "quota", retry)+"]", llm.RateLimited, 429, "rate_limit_exceeded", 17500*time.Millisecond)
	check(Gemini, 429, google("RESOURCE_EXHAUSTED", "quota", `{"retryDelay":7},`+retry), llm.RateLimited, 429, "rate_limit_exceeded", 17500*time.Millisecond)
	check(Gemini, 400, google("INVALID_ARGUMENT", "bad", ""), llm.InvalidRequest, 400, "INVALID_ARGUMENT", 0)
	check(Gemini, 400, google("INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", ""), llm.ProviderAuth, 502, "INVALID_ARGUMENT", 0)
	check(Gemini, 400, google("INVALID_ARGUMENT", "no", `{"reason":"API_KEY_INVALID"}`), llm.ProviderAuth, 502, "INVALID_ARGUMENT", 0)
	check(Gemini, 400, google("FAILED_PRECONDITION", "enable billing", ""), llm.ProviderAuth, 502, "FAILED_PRECONDITION", 0)
	check(Gemini, 400, google("INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8).", ""), llm.InvalidRequest, 400, "context_length_exceeded", 0)
	check(Gemini, 403, google("PERMISSION_DENIED", "no", ""), llm.ProviderAuth, 502, "PERMISSION_DENIED", 0)
	check(Gemini, 404, google("NOT_FOUND", "models/x is not found", ""), llm.NotFound, 404, "model_not_found", 0)
	check(Gemini, 503, google("UNAVAILABLE", "overloaded", ""), llm.Overloaded, 503, "UNAVAILABLE", 0)
}

// The recorded refusals keep their status and say why.
func TestRecordedRefusals(t *testing.T) {
	for _, d := range translated {
		n := 0
		for _, r := range recordings(t, d.Name()) {
			if r.Status == 200 {
				continue
			}
			n++
			var o any
			if err := json.Unmarshal(r.Body, &o); err != nil {
				t.Fatal(err)
			}
			msg, _ := at(o, "error", "message").(string)
			e := d.ReadError(r.Status, nil, r.Body)
			if e.HTTPStatus() != r.Status || !strings.Contains(e.Msg, msg[:20]) || e.Code == "" {
				t.Errorf("%s: %d %+v", r.ID, r.Status, e)
			}
		}
		if n == 0 {
			t.Errorf("%s: no refusal among the recordings", d.Name())
		}
	}
}

// An error that comes within a 200 is the error it says, whole or in a stream.
func TestErrorsInBand(t *testing.T) {
	check := func(d Dialect, stream bool, body string, class llm.ErrorClass) {
		t.Helper()
		_, err := read(d, stream, []byte(body), nil)
		if e := (*llm.Error)(nil); !errors.As(err, &e) || e.Class != class {
			t.Errorf("%.80q: %v, want %s", body, err, class)
		}
	}
	for kind, class := range map[string]llm.ErrorClass{"overloaded_error": llm.Overloaded, "rate_limit_error": llm.RateLimited, "api_error": llm.UpstreamError,
		"authentication_error": llm.ProviderAuth, "invalid_request_error": llm.InvalidRequest, "timeout_error": llm.Timeout, "new_error": llm.UpstreamError} {
		body := `{"type":"error","error":{"type":"` + kind + `","message":"m"}}`
		check(Anthropic, false, body, class)
		check(Anthropic, true, "event: error\ndata: "+body+"\n\n", class)
		check(Anthropic, true, "data: "+body+"\n\n", class)
	}
	check(Anthropic, true, "event: error\ndata: not JSON\n\n", llm.UpstreamError)
	body := `{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}`
	check(Gemini, false, body, llm.Overloaded)
	check(Gemini, false, "["+body+"]", llm.Overloaded)
	check(Gemini, true, "data: "+body+"\r\n\r\n", llm.Overloaded)
	check(Gemini, true, "data: "+`{"error":{"message":"m"}}`+"\n\n", llm.UpstreamError)
	for _, d := range translated {
		for _, body := range []string{"", "<html>", "null", "[]", `"x"`, "{}", `{"choices":[]}`, `{"type":"message"`} {
			check(d, false, body, llm.BadUpstream)
		}
		check(d, true, "data: {\"half\n\n", llm.BadUpstream)
	}
}

// What is written as an error is read as that error by the same dialect, and
// has every key that its SDKs look for.
func TestErrorsWritten(t *testing.T) {
	check := func(d Dialect, e *llm.Error, want string) {
		t.Helper()
		if got := string(d.WriteError(nil, e)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	limit := &llm.Error{Class: llm.LimitExceeded, Msg: "wait"}
	check(Anthropic, limit, `{"type":"error","error":{"type":"rate_limit_error","message":"wait"}}`)
	check(Gemini, limit, `{"error":{"code":429,"message":"wait","status":"RESOURCE_EXHAUSTED"}}`)
	check(Anthropic, &llm.Error{Class: llm.Overloaded}, `{"type":"error","error":{"type":"overloaded_error","message":""}}`)
	check(Anthropic, &llm.Error{Class: llm.ProviderAuth}, `{"type":"error","error":{"type":"api_error","message":""}}`)
	check(Gemini, &llm.Error{Class: llm.ProviderAuth}, `{"error":{"code":502,"message":"","status":"UNAVAILABLE"}}`)
	check(Gemini, &llm.Error{Class: llm.InvalidRequest, Status: 422}, `{"error":{"code":422,"message":"","status":"INVALID_ARGUMENT"}}`)
	if got, want := string(Anthropic.WriteStreamError(nil, limit)), "event: error\ndata: {\"type\":\"error\""; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "}\n\n") {
		t.Errorf("stream error %q", got)
	}
	if got, want := string(Gemini.WriteStreamError(nil, limit)), "data: {\"error\":{\"code\":429"; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "}\n\n") {
		t.Errorf("stream error %q", got)
	}
	for _, d := range translated {
		for _, c := range []llm.ErrorClass{llm.InvalidRequest, llm.NotFound, llm.TooLarge, llm.RateLimited, llm.Overloaded, llm.Timeout, llm.UpstreamError} {
			_, err := read(d, true, d.WriteStreamError(nil, &llm.Error{Class: c, Msg: "m"}), nil)
			if e := (*llm.Error)(nil); !errors.As(err, &e) || e.Class != c && !(c == llm.UpstreamError && e.Class == llm.Overloaded) {
				t.Errorf("%s: %s was read as %v", d.Name(), c, err)
			}
		}
	}
}

func TestPathsAndHeaders(t *testing.T) {
	path := func(d Dialect, model string, stream bool, want string) {
		t.Helper()
		if got := d.Path(model, stream); got != want {
			t.Errorf("Path(%q, %v) = %q, want %q", model, stream, got, want)
		}
	}
	path(Anthropic, "claude", true, "/messages")
	path(Gemini, "gemini-2.5-pro", false, "/models/gemini-2.5-pro:generateContent")
	path(Gemini, "gemini-2.5-pro", true, "/models/gemini-2.5-pro:streamGenerateContent?alt=sse")
	path(Gemini, "../x?key=y", false, "/models/..%2Fx%3Fkey=y:generateContent")

	client := http.Header{"X-Api-Key": {"theirs"}, "Authorization": {"Bearer theirs"}, "Cookie": {"c"}, "X-Goog-Api-Key": {"theirs"},
		"Anthropic-Version": {"2026-10-21"}, "Anthropic-Beta": {"a,b", "c"}}
	header := func(d Dialect, client http.Header, want map[string]string) {
		t.Helper()
		h := http.Header{}
		d.SetHeader(h, "ours", client)
		for k, v := range want {
			if got := strings.Join(h[k], ";"); got != v {
				t.Errorf("%s %s = %q, want %q", d.Name(), k, got, v)
			}
		}
	}
	header(Anthropic, nil, map[string]string{"X-Api-Key": "ours", "Anthropic-Version": "2023-06-01", "Anthropic-Beta": "", "Content-Type": "application/json"})
	header(Anthropic, client, map[string]string{"X-Api-Key": "ours", "Anthropic-Version": "2026-10-21", "Anthropic-Beta": "a,b;c", "Authorization": "", "Cookie": ""})
	header(Gemini, client, map[string]string{"X-Goog-Api-Key": "ours", "Authorization": "", "X-Api-Key": "", "Cookie": "", "Anthropic-Beta": ""})

	splice := func(d Dialect, body, want string) {
		t.Helper()
		head, err := Scan([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(bytes.Join(d.Splice(nil, []byte(body), &head, `new"`, &Spec{}), nil)); got != want {
			t.Errorf("Splice(%s) = %s, want %s", body, got, want)
		}
	}
	splice(Anthropic, `{"x":{"model":"deep"}, "model" : "old","stream":true,"new_field":1.0}`, `{"x":{"model":"deep"}, "model" : "new\"","stream":true,"new_field":1.0}`)
	splice(Anthropic, `{"model":"new\""}`, `{"model":"new\""}`)
	splice(Anthropic, `{"messages":[]}`, `{"messages":[]}`)
	splice(Gemini, `{"contents":[],"model":"old"}`, `{"contents":[],"model":"old"}`)
}
