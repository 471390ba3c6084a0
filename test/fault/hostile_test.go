package fault

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/test/fault/upstream"
)

func startUpstream(t *testing.T) *upstream.Server {
	t.Helper()
	up, err := upstream.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	return up
}

func (g *gateway) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// raw writes bytes and reads until the gateway closes or is silent for a
// second.
func (g *gateway) raw(t *testing.T, s string) (answer string, closed bool) {
	t.Helper()
	c := g.dial(t)
	defer c.Close()
	_, _ = io.WriteString(c, s) // it may be refused half way
	var b bytes.Buffer
	for p := make([]byte, 64<<10); ; {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.Read(p)
		b.Write(p[:n])
		if err != nil {
			return b.String(), !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// chat is a request for the raw tests, as its head without the blank line, and
// its body.
func chat(nonce string) (head, body string) {
	body = fmt.Sprintf(`{"model":"up-openai/ok","messages":[{"role":"user","content":%q}]}`, prompt+upstream.Nonce(nonce))
	return "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer " + clientKey + "\r\n", body
}

func length(s string) string { return fmt.Sprintf("Content-Length: %d\r\n", len(s)) }

// TestSmuggling: bytes in which two readers could see different requests are
// answered with one 400, and nothing behind them is looked at.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	up := startUpstream(t)
	g := serve(t, providers(up))
	head, body := chat("smuggled")
	second := head + length(body) + "\r\n" + body
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	forms := map[string]string{
		"CL and TE":            head + length(chunked) + "Transfer-Encoding: chunked\r\n\r\n" + chunked,
		"TE and CL":            head + "Transfer-Encoding: chunked\r\n" + length("0\r\n\r\n") + "\r\n0\r\n\r\n",
		"CL twice, alike":      head + length(body) + length(body) + "\r\n" + body,
		"CL twice, different":  head + length(body) + length("") + "\r\n" + body,
		"CL as a list":         head + fmt.Sprintf("Content-Length: %d, %[1]d\r\n\r\n", len(body)) + body,
		"CL with a plus":       head + fmt.Sprintf("Content-Length: +%d\r\n\r\n", len(body)) + body,
		"CL with a space":      head + fmt.Sprintf("Content-Length : %d\r\n\r\n", len(body)) + body,
		"TE of something else": head + "Transfer-Encoding: xchunked\r\n\r\n" + chunked,
		"TE folded":            head + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunked,
		"TE twice":             head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked,
		"TE with a tab":        head + "Transfer-Encoding\t: chunked\r\n\r\n" + chunked,
		"TE in HTTP/1.0":       strings.Replace(head, "1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n" + chunked,
		"obs-fold":             head + "X-A: b\r\n c\r\n" + length(body) + "\r\n" + body,
		"bare LF":              strings.ReplaceAll(head, "\r\n", "\n") + strings.ReplaceAll(length(body), "\r\n", "\n") + "\n" + body,
		"one bare LF":          head + "X-A: b\n" + length(body) + "\r\n" + body,
		"bare CR":              head + "X-A: b\rX-B: c\r\n" + length(body) + "\r\n" + body,
		"NUL":                  head + "X-A: b\x00\r\n" + length(body) + "\r\n" + body,
		"no name":              head + ": b\r\n" + length(body) + "\r\n" + body,
		"two hosts":            head + "Host: other\r\n" + length(body) + "\r\n" + body,
		"chunk size 0x":        head + "Transfer-Encoding: chunked\r\n\r\n0x" + chunked,
		"chunk size +":         head + "Transfer-Encoding: chunked\r\n\r\n+" + chunked,
		"chunk size huge":      head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n" + body,
		"chunk size none":      head + "Transfer-Encoding: chunked\r\n\r\n\r\n" + body,
		"chunk with bare LF":   head + "Transfer-Encoding: chunked\r\n\r\n" + strings.ReplaceAll(chunked, "\r\n", "\n"),
		"chunk too long":       head + "Transfer-Encoding: chunked\r\n\r\n5\r\n" + chunked,
		"CL in a trailer":      head + "Transfer-Encoding: chunked\r\n\r\n" + strings.TrimSuffix(chunked, "\r\n") + length(second) + "\r\n",
		"space in the target":  "POST /v1/chat/completions HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n",
		"no version":           "POST /v1/chat/completions\r\n\r\n",
	}
	var wg sync.WaitGroup
	for name, form := range forms {
		wg.Go(func() {
			answer, closed := g.raw(t, form+second)
			if n := strings.Count(answer, "HTTP/1.1 "); n != 1 || !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !closed {
				t.Errorf("%s: %d answers, closed %t: %.300q", name, n, closed, answer)
			}
			if s := leaks(answer); s != "" {
				t.Errorf("%s: %s", name, s)
			}
		})
	}
	wg.Wait()
	if n := len(up.Entry("smuggled").Attempts()); n != 0 {
		t.Errorf("%d requests came through", n)
	}
	// What is beyond doubt works, and what follows it is judged by itself.
	answer, closed := g.raw(t, second+forms["CL and TE"]+second)
	if n := strings.Count(answer, "HTTP/1.1 "); n != 2 || !strings.HasPrefix(answer, "HTTP/1.1 200 ") || strings.Count(answer, "HTTP/1.1 400 ") != 1 || !closed {
		t.Errorf("a sound request before a doubtful one: %d answers, closed %t: %.600q", n, closed, answer)
	}
	answer, _ = g.raw(t, head+"Transfer-Encoding: chunked\r\n\r\n"+chunked+second+second)
	if n := strings.Count(answer, "HTTP/1.1 200 "); n != 3 || strings.Count(answer, "HTTP/1.1 ") != 3 || strings.Count(answer, upstream.Text) != 3 {
		t.Errorf("three requests at once: %d answers: %.600q", n, answer)
	}
}

// TestBadRequests: whatever is wrong with a request is said in a small answer,
// and reaches no upstream.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	up := startUpstream(t)
	g := serve(t, providers(up))
	send := func(method, path, body string, header ...string) (int, http.Header, string) {
		t.Helper()
		req, err := http.NewRequest(method, g.url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = path // as it is
		req.Header.Set("Authorization", "Bearer "+clientKey)
		for i := 0; i+1 < len(header); i += 2 {
			req.Header[header[i]] = []string{header[i+1]}
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, res.Header, string(b)
	}
	check := func(what, path, body string, want int) {
		t.Helper()
		status, header, answer := send("POST", path, body)
		if status != want || len(answer) > 2048 || strings.Contains(fmt.Sprint(header), "Injected") {
			t.Errorf("%s: %d, want %d: %.400s", what, status, want, answer)
		}
	}
	const chat = "/v1/chat/completions"
	msgs := `"messages":[{"role":"user","content":"n:bad;"}]`
	check("model twice", chat, `{"model":"up-openai/ok","model":"up-openai/400",`+msgs+`}`, 400)
	check("model in two cases", chat, `{"model":"up-openai/ok","Model":"up-openai/400",`+msgs+`}`, 400)
	check("model escaped", chat, `{"model":"up-openai/ok","mode\u006c":"up-openai/400",`+msgs+`}`, 400)
	check("model with a Kelvin sign", chat, `{"max_tokens":1,"max_to`+"\u212a"+`ens":2,"model":"up-openai/ok",`+msgs+`}`, 400)
	check("stream twice", chat, `{"model":"up-openai/ok","stream":false,"stream":true,`+msgs+`}`, 400)
	check("messages twice", chat, `{"model":"up-openai/ok",`+msgs+`,`+msgs+`}`, 400)
	check("trailing bytes", chat, `{"model":"up-openai/ok",`+msgs+`}{"model":"up-openai/400"}`, 400)
	check("deep", chat, `{"model":"up-openai/ok","x":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+`}`, 400)
	check("a long model name", chat, `{"model":"up-openai/`+strings.Repeat("m", 100_000)+`",`+msgs+`}`, 400)
	check("a model name with line ends", chat, `{"model":"up-openai/x\r\nInjected: 1\r\n\r\n",`+msgs+`}`, 404)
	check("a model that is a path", chat, `{"model":"../../etc/passwd",`+msgs+`}`, 404)
	check("not UTF-8", chat, "{\"model\":\"up-openai/\xff\xfe\","+msgs+"}", 400)
	check("no body", chat, "", 400)
	check("a model with line ends in the path", "/v1beta/models/up-gemini%2Fx%0d%0aInjected:%201:generateContent", `{"contents":[]}`, 404)
	check("a model that leaves the path", "/v1beta/models/up-gemini%2F..%2F..%2F..%2Fadmin:generateContent", `{"contents":[{"role":"user","parts":[{"text":"n:bad;"}]}]}`, 404)
	check("a model with a query", "/v1beta/models/up-gemini%2Fok%3Fkey=1%23:generateContent", `{"contents":[]}`, 404)
	check("an unknown method of a model", "/v1beta/models/up-gemini%2Fok:destroy", `{}`, 404)
	check("a provider that is none", chat, `{"model":"http://127.0.0.1:1/x",`+msgs+`}`, 404)
	for _, path := range []string{"/../../etc/passwd", "/..%2f..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/.git/config", "/app.js/../../go.mod", "/debug/pprof/", "/debug/vars", "/..\\..\\windows\\win.ini", "/%00"} {
		status, _, answer := send("GET", path, "")
		if status < 300 && !strings.Contains(answer, "<!doctype html>") && !strings.Contains(answer, "<!DOCTYPE html>") || strings.Contains(answer, "root:") || strings.Contains(answer, "module ") || strings.Contains(answer, "goroutine") {
			t.Errorf("%s: %d %.200s", path, status, answer)
		}
	}
	// What the client writes chooses no host, no key and no header of the upstream's request.
	before := len(up.Entry("fields").Attempts())
	status, _, answer := send("POST", chat, `{"model":"up-openai/ok","api_base":"http://127.0.0.1:1","base_url":"http://127.0.0.1:1","api_key":"x","extra_headers":{"X-A":"b"},"messages":[{"role":"user","content":"n:fields;"}]}`,
		"X-Api-Base", "http://127.0.0.1:1", "X-Forwarded-Host", "evil", "Cookie", "a=b", "X-Api-Key", "another", "Idempotency-Key", "idem", "Sheepgate-Tag-A", "b\tc")
	at := up.Entry("fields").Attempts()
	if status != 200 || len(at) != before+1 {
		t.Fatalf("unknown fields: %d, %d attempts: %.300s", status, len(at), answer)
	}
	for name, v := range at[0].Header {
		switch name {
		case "Authorization", "Content-Type", "User-Agent", "Accept-Encoding", "Content-Length", "Idempotency-Key":
		default:
			t.Errorf("the upstream got %s: %q", name, v)
		}
	}
	if at[0].Key != providerKeys["openai"] {
		t.Errorf("the upstream got the key %q", at[0].Key)
	}
	// Heads that are too large, too many, or no HTTP at all.
	for name, s := range map[string]string{
		"a header of 1 MiB":     "GET / HTTP/1.1\r\nHost: h\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"50,000 headers":        "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X-A: b\r\n", 50_000) + "\r\n",
		"a target of 1 MiB":     "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"TLS":                   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 200),
		"HTTP/2 without asking": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"garbage":               strings.Repeat("\xff\x00\xfe", 1000),
	} {
		answer, closed := g.raw(t, s)
		if !closed || answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 4") && !strings.HasPrefix(answer, "HTTP/1.1 5") {
			t.Errorf("%s: closed %t, %.200q", name, closed, answer)
		}
	}
	if s := up.Strange(); len(s) > 0 {
		t.Errorf("requests that nobody should have made: %q", s)
	}
	if n := len(up.Entry("bad").Attempts()); n > 0 {
		t.Errorf("%d of the bad requests reached the upstream", n)
	}
}

// TestBodies: a prompt of 10 MB passes in every dialect; what is too large is
// refused before it is read.
func TestBodies(t *testing.T) {
	t.Parallel()
	up := startUpstream(t)
	g := serve(t, providers(up))
	long := strings.Repeat("lazy dogs sleep ", 10<<20/16)
	for _, from := range []client{{"openai", false}, {"anthropic", false}, {"gemini", false}} {
		for _, to := range []string{"openai", "anthropic", "gemini"} {
			nonce := from.String() + "-" + to
			req := from.request(g.url, "up-"+to+"/ok", nonce, false)
			b, _ := io.ReadAll(req.Body)
			b = bytes.Replace(b, []byte(prompt), []byte(long), 1)
			req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
			a := from.ask(req, false)
			at := up.Entry(nonce).Attempts()
			if a.status != 200 || a.text != upstream.Text || len(at) != 1 || at[0].Body < len(long) {
				t.Errorf("%s: %d %v %.200s, %d attempts", nonce, a.status, a.err, a.body, len(at))
			}
		}
	}
	before := g.metrics(t)["process_resident_memory_bytes"]
	refused := func(name, head, part string, most int) {
		t.Helper()
		c := g.dial(t)
		defer c.Close()
		answer := make(chan string, 1)
		go func() {
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				answer <- err.Error()
				return
			}
			b, _ := io.ReadAll(res.Body)
			answer <- fmt.Sprint(res.StatusCode, " ", string(b))
		}()
		sent := 0
		_, err := io.WriteString(c, head)
		for ; err == nil && sent < 400<<20; sent += len(part) {
			_, err = io.WriteString(c, part)
		}
		if s := <-answer; !strings.HasPrefix(s, "413 ") || !strings.Contains(s, "request_too_large") {
			t.Errorf("%s: %.300s", name, s)
		}
		if sent > most {
			t.Errorf("%s: %d MiB were taken", name, sent>>20)
		}
	}
	head, _ := chat("too-large")
	block := strings.Repeat("x", 1<<20)
	refused("400 MB with a length", head+"Content-Length: 400000000\r\n\r\n", block, 16<<20) // what the buffers of the kernel hold
	refused("400 MB in chunks", head+"Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(block), block), 56<<20)
	if grown := g.metrics(t)["process_resident_memory_bytes"] - before; grown > 96<<20 {
		t.Errorf("the process grew by %.0f MiB", grown/(1<<20))
	}
}

// TestLeave: a client that leaves costs no more than what it has had, and the
// upstream is told within a second.
func TestLeave(t *testing.T) {
	t.Parallel()
	up := startUpstream(t)
	g := serve(t, providers(up))
	before := g.metrics(t)
	type leaving struct {
		fault    string
		stream   bool
		after    int // bytes of the body; 0 is before the first
		source   llm.UsageSource
		attempts int
		half     bool   // only closes its own side
		more     string // sent behind the request
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]string{}
	for _, l := range []leaving{
		{"header-hang", false, 0, guess, 1, false, ""},
		{"header-hang", true, 0, guess, 1, false, ""},
		{"head-drip", true, 0, guess, 1, false, ""},
		{"body-hang", false, 0, guess, 1, false, ""},
		{"ttft-hang", true, 0, guess, 1, false, ""},
		{"ttft-comments", true, 0, guess, 1, false, ""},
		{"mid-stall", true, 100, guess, 1, false, ""},
		{"endless", true, 2000, guess, 1, false, ""},
		{"flood", true, 100_000, guess, 1, false, ""},
		{"usage-then-stall", true, 3000, exact, 1, false, ""},
		{"429-always", false, 0, none, 1, false, ""}, // within the wait before the second attempt
		{"header-hang", false, 0, guess, 1, true, ""},
		{"mid-stall", true, 100, guess, 1, true, ""},
		{"header-hang", true, 0, guess, 1, false, "P"},
		{"ttft-hang", true, 0, guess, 1, false, "GET / HTTP/1.1\r\nHost: h\r\n\r\nPOST /v1/chat/comp"},
	} {
		for _, from := range []client{{"openai", false}, {"anthropic", false}, {"gemini", false}} {
			for _, to := range []string{"openai", "anthropic", "gemini"} {
				if l.fault == "usage-then-stall" && to == "gemini" {
					continue // its last chunk is its end
				}
				wg.Go(func() {
					name := fmt.Sprintf("%s-%t-%t-%d/%s-to-%s", l.fault, l.stream, l.half, len(l.more), from, to)
					req := from.request(g.url, "up-"+to+"/"+l.fault, name, l.stream)
					c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					if err := req.Write(c); err != nil {
						t.Error(err)
						return
					}
					_, _ = io.WriteString(c, l.more)
					br := bufio.NewReader(c)
					if l.after > 0 {
						res, err := http.ReadResponse(br, req)
						if err != nil {
							t.Error(name, err)
							return
						}
						if _, err := io.CopyN(io.Discard, res.Body, int64(l.after)); err != nil {
							t.Error(name, err)
							return
						}
						mu.Lock()
						ids[name] = res.Header.Get("Sheepgate-Call-Id")
						mu.Unlock()
						if l.fault == "usage-then-stall" {
							time.Sleep(100 * time.Millisecond)
						}
					} else {
						for n := 0; len(up.Entry(name).Attempts()) == 0 && n < 500; n++ {
							time.Sleep(10 * time.Millisecond)
						}
						time.Sleep(200 * time.Millisecond)
					}
					if l.half {
						_ = c.(*net.TCPConn).CloseWrite()
					} else {
						c.Close()
					}
					left := time.Now()
					time.Sleep(1200 * time.Millisecond)
					at := up.Entry(name).Attempts()
					if len(at) != l.attempts {
						t.Errorf("%s: %d attempts", name, len(at))
						return
					}
					if l.fault != "429-always" && (at[0].Released.IsZero() || at[0].Released.Sub(left) > time.Second) {
						t.Errorf("%s: the upstream was told after %v", name, at[0].Released.Sub(left))
					}
				})
			}
		}
	}
	wg.Wait()
	byModel := map[string]*leaving{}
	for _, l := range []leaving{{"usage-then-stall", true, 0, exact, 1, false, ""}, {"429-always", false, 0, none, 1, false, ""}} {
		byModel[l.fault] = &l
	}
	calls := g.calls(t, 15*9-3)
	if len(calls) != 15*9-3 {
		t.Errorf("%d Calls", len(calls))
	}
	for _, c := range calls {
		source := guess
		if l := byModel[c.Model]; l != nil {
			source = l.source
		}
		if c.Status != call.Canceled || c.Error.Class != llm.Canceled || c.Usage.Source != source || c.Code() != "canceled" || len(c.Attempts) != 1 {
			t.Errorf("%s: %s %+v, usage %+v, %d attempts", c.ModelRequested, c.Status, c.Error, c.Usage, len(c.Attempts))
		}
		if source != none && (c.Usage.Input < 25 || c.Usage.Input > 100 || c.Cost <= 0) {
			t.Errorf("%s: usage %+v, cost %v", c.ModelRequested, c.Usage, c.Cost)
		}
		switch c.Model {
		case "mid-stall":
			if !near(c.Usage.Output, 14) && !near(c.Usage.Output, 13) {
				t.Errorf("%s: %d tokens out", c.ModelRequested, c.Usage.Output)
			}
		case "usage-then-stall":
			if c.Usage.Input != upstream.Input || c.Usage.Output != int64(len(upstream.Words)) {
				t.Errorf("%s: usage %+v", c.ModelRequested, c.Usage)
			}
		case "flood", "endless":
			if c.Usage.Output < 10 {
				t.Errorf("%s: %d tokens out", c.ModelRequested, c.Usage.Output)
			}
		case "header-hang", "ttft-hang":
			if c.HTTPStatus != llm.StatusClientClosed || c.Usage.Output != 0 {
				t.Errorf("%s: %d, %d tokens out", c.ModelRequested, c.HTTPStatus, c.Usage.Output)
			}
		}
	}
	up.Close()
	g.settled(t, before)
}

// TestSlow: who sends or reads too slowly is cut off: headers after 10 s,
// bodies and unread answers after 30 s. It takes that long.
func TestSlow(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 40 s")
	}
	t.Parallel()
	up := startUpstream(t)
	g := serve(t, providers(up))
	before := g.metrics(t)
	head, body := chat("slow")
	noKey := strings.Replace(head, clientKey, "wrong", 1)
	var wg sync.WaitGroup
	drip := func(name, first, drop string, every, least, most time.Duration) {
		wg.Go(func() {
			c := g.dial(t)
			defer c.Close()
			start := time.Now()
			_, _ = io.WriteString(c, first)
			gone := make(chan time.Time, 1)
			go func() {
				_, _ = io.Copy(io.Discard, c)
				gone <- time.Now()
			}()
			for tick := time.NewTicker(every); ; {
				select {
				case at := <-gone:
					tick.Stop()
					if d := at.Sub(start); d < least || d > most {
						t.Errorf("%s: closed after %v, want %v to %v", name, d, least, most)
					}
					return
				case <-tick.C:
					_, _ = io.WriteString(c, drop)
				}
				if time.Since(start) > time.Minute {
					tick.Stop()
					t.Errorf("%s: still open after a minute", name)
					return
				}
			}
		})
	}
	s := time.Second
	drip("headers", "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n", "X-A: b\r\n", s, 9*s, 12*s)
	drip("no bytes", "", "", s, 9*s, 12*s)
	drip("body", head+length(body)+"\r\n"+body[:20], "x", 2*s, 29*s, 33*s)
	drip("body in chunks", head+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", s, 29*s, 33*s)
	drip("body without a key", noKey+length(body)+"\r\n"+body[:20], "x", 2*s, 0, 33*s)
	drip("body in chunks without a key", noKey+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", s, 0, 33*s)
	drip("body of the console", strings.Replace(noKey, "/v1/chat/completions", "/api/v1/query", 1)+length(body)+"\r\n", "x", 2*s, 0, 33*s)
	drip("body of an unknown route", strings.Replace(noKey, "/v1/chat/completions", "/v1/nothing", 1)+length(body)+"\r\n", "x", 2*s, 0, 33*s)
	drip("a second body in the pipe", head+length(body)+"\r\n"+body+head+length(body)+"\r\n"+body[:20], "x", 2*s, 29*s, 64*s)

	// Readers that never read.
	for _, r := range []struct {
		name   string
		client client
		fault  string
		stream bool
	}{
		{"flood", client{"openai", false}, "up-openai/flood", true},
		{"flood-translated", client{"anthropic", false}, "up-openai/flood", true},
		{"huge", client{"openai", false}, "up-openai/huge", false},
		{"huge-translated", client{"gemini", false}, "up-openai/huge", false},
	} {
		wg.Go(func() {
			c := g.dial(t)
			defer c.Close()
			_ = c.SetReadBuffer(4 << 10)
			start := time.Now()
			if err := r.client.request(g.url, r.fault, r.name, r.stream).Write(c); err != nil {
				t.Error(err)
				return
			}
			// The gateway's answer ends when its Call is there.
			for time.Since(start) < 50*s {
				var canceled bool
				for _, k := range g.calls(t, 1) {
					canceled = canceled || k.ModelRequested == r.fault && k.Ingress[:6] == r.client.dialect[:6] && k.Status == call.Canceled
				}
				if canceled {
					if d := time.Since(start); d < 10*s {
						t.Errorf("%s: dropped after %v", r.name, d)
					}
					return
				}
				time.Sleep(500 * time.Millisecond)
			}
			t.Errorf("%s: not dropped within 50 s", r.name)
		})
	}
	time.Sleep(5 * s)
	if grown := g.metrics(t)["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]; grown > 256<<20 { // two answers of 20 MiB, and their translation
		t.Errorf("the process grew by %.0f MiB", grown/(1<<20))
	}
	wg.Wait()
	up.Close()
	g.settled(t, before)
}

// TestKeepAlive: a client hears a comment each 15 s from a stream that stands
// still, and then the rest.
func TestKeepAlive(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 17 s")
	}
	t.Parallel()
	up := startUpstream(t)
	g := serve(t, providers(up)+"timeouts: { idle: 17s }\n")
	var wg sync.WaitGroup
	for _, from := range []client{{"openai", false}, {"anthropic", false}, {"gemini", false}, {"gemini", true}} {
		wg.Go(func() {
			a := from.ask(from.request(g.url, "up-"+from.dialect+"/mid-stall", "alive-"+from.String(), true), true)
			comment := strings.Count(a.body, ": keep-alive\n\n")
			if from.array {
				comment = strings.Count(a.body, "\n") - strings.Count(a.body, ",\n")
			}
			if comment != 1 || a.failure == "" || a.problem != "" || a.longest > 16*time.Second || a.took < 16*time.Second {
				t.Errorf("%s: %d comments, failure %q, problem %q, %v silent of %v", from, comment, a.failure, a.problem, a.longest, a.took)
			}
		})
	}
	wg.Wait()
}
