package fault

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/test/fault/upstream"
)

// A client speaks a dialect. array is Gemini's stream without alt=sse.
type client struct {
	dialect string
	array   bool
}

func (c client) String() string {
	if c.array {
		return c.dialect + "-array"
	}
	return c.dialect
}

// prompt is what every client asks: 24 words, and the nonce that names its
// entry in the upstream's ledger.
const prompt = "Please tell me a story about a fox and a dog near the river in the summer, and do not make it too long."

// request is a call of a model, named as provider/model.
func (c client) request(url, model, nonce string, stream bool) *http.Request {
	text := prompt + " " + upstream.Nonce(nonce)
	var path, body string
	switch c.dialect {
	case "anthropic":
		path, body = "/v1/messages", fmt.Sprintf(`{"model":"%s","max_tokens":500,"stream":%t,"messages":[{"role":"user","content":%q}]}`, model, stream, text)
	case "gemini":
		method := "generateContent"
		if stream {
			method = "streamGenerateContent"
			if !c.array {
				method += "?alt=sse"
			}
		}
		path, body = "/v1beta/models/"+model+":"+method, fmt.Sprintf(`{"contents":[{"role":"user","parts":[{"text":%q}]}]}`, text)
	default:
		path, body = "/v1/chat/completions", fmt.Sprintf(`{"model":"%s","stream":%t,"messages":[{"role":"user","content":%q}]}`, model, stream, text)
	}
	req, err := http.NewRequest("POST", url+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+clientKey)
	return req
}

// An answer is all that a client saw.
type answer struct {
	status  int
	header  http.Header
	body    string
	err     error
	took    time.Duration
	first   time.Duration // to the first byte of the body
	longest time.Duration // between two reads of the body
	done    time.Time

	// Of a 200, read as the dialect's SDKs would.
	text    string
	reason  string // finish reason
	ended   bool   // the dialect's proper end came
	after   bool   // something followed the end, or the error
	failure string // the error's JSON, in a stream or as the body
	problem string // what an SDK would stumble over
}

var transport = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}

// ask sends a request and reads the answer to its end.
func (c client) ask(req *http.Request, stream bool) *answer {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a := &answer{}
	start := time.Now()
	res, err := (&http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req.WithContext(ctx))
	if err != nil {
		a.err, a.done = err, time.Now()
		return a
	}
	defer res.Body.Close()
	a.status, a.header = res.StatusCode, res.Header
	var body bytes.Buffer
	p := make([]byte, 64<<10)
	for last := time.Now(); ; {
		n, err := res.Body.Read(p)
		now := time.Now()
		if n > 0 {
			if a.first == 0 {
				a.first = now.Sub(start)
			}
			a.longest, last = max(a.longest, now.Sub(last)), now
			body.Write(p[:n])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			a.err = err
			break
		}
	}
	a.done = time.Now()
	a.took, a.body = a.done.Sub(start), body.String()
	switch {
	case a.status != http.StatusOK:
		a.failure = a.body
		if ct := a.header.Get("Content-Type"); ct != "application/json" {
			a.problem = "an error of type " + ct
		}
	case !stream:
		c.whole(a)
	case c.array:
		c.list(a)
	default:
		c.stream(a)
	}
	return a
}

// whole reads a plain reply.
func (c client) whole(a *answer) {
	var r struct {
		ID      *string
		Choices []struct {
			Message      struct{ Content *string }
			FinishReason string `json:"finish_reason"`
		}
		Content    []struct{ Type, Text string }
		StopReason string `json:"stop_reason"`
		Candidates []struct {
			Content      struct{ Parts []struct{ Text string } }
			FinishReason string
		}
		Usage, UsageMetadata json.RawMessage
	}
	if err := json.Unmarshal([]byte(a.body), &r); err != nil {
		a.problem = err.Error()
		return
	}
	switch c.dialect {
	case "anthropic":
		for _, b := range r.Content {
			a.text += b.Text
		}
		a.reason = r.StopReason
	case "gemini":
		for _, k := range r.Candidates {
			for _, p := range k.Content.Parts {
				a.text += p.Text
			}
			a.reason = k.FinishReason
		}
	default:
		for _, k := range r.Choices {
			a.text += *k.Message.Content
			a.reason = k.FinishReason
		}
	}
	a.ended = a.reason != ""
}

// list reads Gemini's stream as one JSON array.
func (c client) list(a *answer) {
	var items []json.RawMessage
	if err := json.Unmarshal([]byte(a.body), &items); err != nil {
		a.problem = "the array: " + err.Error()
		return
	}
	for _, item := range items {
		c.event(a, "", string(item))
	}
	c.close(a)
}

// stream reads events by the rules of the specification, one of its own making.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
func (c client) stream(a *answer) {
	if ct := a.header.Get("Content-Type"); ct != "text/event-stream" {
		a.problem = "a stream of type " + ct
	}
	text := strings.TrimPrefix(a.body, "\ufeff")
	if text != a.body {
		a.problem = "a byte order mark, which most SDKs take for a part of the first field"
	}
	if strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\r") {
		a.problem = "bare carriage returns, which Go's and Python's SDKs do not take for line ends"
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	var name string
	var data []string
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		line := sc.Text()
		if line == "" {
			if data != nil {
				c.event(a, name, strings.Join(data, "\n"))
			}
			name, data = "", nil
			continue
		}
		field, value, colon := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "data":
			data = append(data, value)
		case field == "event":
			name = value
		case field == "" && colon, field == "id", field == "retry":
		default:
			a.problem = fmt.Sprintf("a line that is none of an event stream: %.60q", line)
		}
	}
	if data != nil {
		a.problem = "the stream ends within an event"
	}
	c.close(a)
}

func (c client) close(a *answer) {
	if c.dialect == "gemini" && a.failure == "" {
		a.ended = a.reason != "" // Gemini has no other end
	}
}

// event takes one event of a stream.
func (c client) event(a *answer, name, data string) {
	if a.ended || a.failure != "" {
		a.after = true
	}
	if data == "[DONE]" {
		a.ended = true
		if c.dialect != "openai" {
			a.problem = "[DONE] in a stream of " + c.dialect
		}
		return
	}
	var e struct {
		Type    string
		Choices *[]struct {
			Delta        struct{ Content string }
			FinishReason string `json:"finish_reason"`
		}
		Message *struct{ ID string }
		Delta   struct {
			Text       string
			StopReason string `json:"stop_reason"`
		}
		Candidates []struct {
			Content      struct{ Parts []struct{ Text string } }
			FinishReason string
		}
		Error json.RawMessage
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		a.problem = fmt.Sprintf("event %.80q: %v", data, err)
		return
	}
	if len(e.Error) > 0 {
		a.failure = data
		if c.dialect == "anthropic" && name != "error" {
			a.problem = "an error event without its name"
		}
		return
	}
	switch c.dialect {
	case "anthropic":
		if name != e.Type {
			a.problem = fmt.Sprintf("event %q of type %q", name, e.Type)
		}
		switch e.Type {
		case "content_block_delta":
			a.text += e.Delta.Text
		case "message_delta":
			if e.Delta.StopReason != "" {
				a.reason = e.Delta.StopReason
			}
		case "message_stop":
			a.ended = true
		}
	case "gemini":
		for _, k := range e.Candidates {
			for _, p := range k.Content.Parts {
				a.text += p.Text
			}
			if k.FinishReason != "" {
				a.reason = k.FinishReason
			}
		}
	default:
		if e.Choices == nil {
			a.problem = "a chunk without choices"
			return
		}
		for _, k := range *e.Choices {
			a.text += k.Delta.Content
			if k.FinishReason != "" {
				a.reason = k.FinishReason
			}
		}
	}
}

// checkFailure says what is wrong with an error as the dialect has it.
func (c client) checkFailure(s string, status int) string {
	if len(s) > 2048 {
		return fmt.Sprintf("an error of %d bytes", len(s))
	}
	var e struct {
		Type  string
		Error map[string]any
	}
	if err := json.Unmarshal([]byte(s), &e); err != nil {
		return fmt.Sprintf("an error that is not JSON: %.100q", s)
	}
	keys := map[string][]string{"openai": {"message", "type", "param", "code"}, "anthropic": {"type", "message"}, "gemini": {"code", "message", "status"}}[c.dialect]
	for _, k := range keys {
		if _, ok := e.Error[k]; !ok {
			return fmt.Sprintf("an error without %s: %s", k, s)
		}
	}
	if c.dialect == "anthropic" && e.Type != "error" {
		return "an error of type " + e.Type
	}
	if code, ok := e.Error["code"].(float64); c.dialect == "gemini" && ok && status != 200 && int(code) != status {
		return fmt.Sprintf("code %v with status %d", code, status)
	}
	if m, _ := e.Error["message"].(string); m == "" {
		return "an error without a message"
	}
	return ""
}
