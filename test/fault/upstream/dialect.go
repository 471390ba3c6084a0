package upstream

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Words are what every good reply says. Each is one token in OpenAI's present
// vocabulary, as a common word behind a space is.
var Words = strings.SplitAfter("The quick brown fox jumps over the lazy dog while seven small birds sing about summer rain and the old river runs slowly toward the open sea", " ")

// Text is Words together.
var Text = strings.Join(Words, "")

// Input is the honest usage's input: what the gateway is to book, whatever it
// would have counted itself.
const Input = 61

// Usage says how a reply reports its usage.
type Usage struct {
	Where   string // end (each dialect's usual place), last, every, none, null
	In, Out string // JSON
	Honest  bool
}

// Honest is the usage of a good reply.
var Honest = Usage{Where: "end", In: strconv.Itoa(Input), Out: strconv.Itoa(len(Words)), Honest: true}

// object is the usage object in the dialect's words.
func (x *Exchange) object(in, out string) string {
	switch x.Dialect {
	case "anthropic":
		return fmt.Sprintf(`{"input_tokens":%s,"output_tokens":%s}`, in, out)
	case "gemini":
		return fmt.Sprintf(`{"promptTokenCount":%s,"candidatesTokenCount":%s}`, in, out)
	}
	return fmt.Sprintf(`{"prompt_tokens":%s,"completion_tokens":%s}`, in, out)
}

// An event is one frame of a stream.
type event struct {
	name   string // the event: field
	data   string
	text   string // that a client gets of it
	usage  bool   // with this one the usage has been reported whole
	in     int64
	out    int64
	finish bool // says why the model stopped
	end    bool // the dialect's end marker
}

func (e event) String() string {
	if e.name != "" {
		return "event: " + e.name + "\ndata: " + e.data + "\n\n"
	}
	return "data: " + e.data + "\n\n"
}

// events is a good stream that reports u.
func (x *Exchange) events(u Usage) []event {
	var list []event
	switch x.Dialect {
	case "anthropic":
		list = x.anthropicEvents(u)
	case "gemini":
		list = x.geminiEvents(u)
	default:
		list = x.openAIEvents(u)
	}
	if u.Honest {
		last := -1
		for i := range list {
			if list[i].usage {
				last = i
			}
		}
		for i := range list {
			list[i].usage = i == last
			if i == last {
				list[i].in, list[i].out = Input, int64(len(Words))
			}
		}
	}
	return list
}

func (x *Exchange) openAIEvents(u Usage) (list []event) {
	chunk := func(choices, usage string) string {
		s := fmt.Sprintf(`{"id":"chatcmpl-fault","object":"chat.completion.chunk","created":1764000000,"model":"%s","choices":%s`, x.Model, choices)
		if usage != "" {
			s += `,"usage":` + usage
		}
		return s + "}"
	}
	add := func(e event, choices, usage string) {
		e.data = chunk(choices, usage)
		list = append(list, e)
	}
	also := func(n int) string {
		switch {
		case u.Where == "every":
			return x.object(u.In, strconv.Itoa(n))
		case u.Where == "null" || u.Where == "end" && x.AskedUsage:
			return "null"
		}
		return ""
	}
	add(event{}, `[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]`, also(0))
	for i, w := range Words {
		add(event{text: w, usage: u.Where == "every"}, fmt.Sprintf(`[{"index":0,"delta":{"content":%q},"finish_reason":null}]`, w), also(i+1))
	}
	stop := `[{"index":0,"delta":{},"finish_reason":"stop"}]`
	switch u.Where {
	case "last":
		add(event{finish: true, usage: true}, stop, x.object(u.In, u.Out))
	case "every":
		add(event{finish: true, usage: true}, stop, x.object(u.In, u.Out))
	default:
		add(event{finish: true}, stop, also(len(Words)))
	}
	if u.Where == "end" && x.AskedUsage {
		add(event{usage: true}, "[]", x.object(u.In, u.Out))
	}
	return append(list, event{data: "[DONE]", end: true})
}

func (x *Exchange) anthropicEvents(u Usage) (list []event) {
	add := func(e event, format string, args ...any) {
		e.data = fmt.Sprintf(`{"type":"`+e.name+`"`+format+`}`, args...)
		list = append(list, e)
	}
	start, last := "", ""
	switch u.Where {
	case "end", "every":
		start, last = `,"usage":`+x.object(u.In, "1"), `,"usage":{"output_tokens":`+u.Out+`}`
		if !u.Honest { // a lie is told whole
			last = `,"usage":` + x.object(u.In, u.Out)
		}
	case "last":
		last = `,"usage":` + x.object(u.In, u.Out)
	case "null":
		start, last = `,"usage":null`, `,"usage":null`
	}
	add(event{name: "message_start"}, `,"message":{"id":"msg_fault","type":"message","role":"assistant","model":"%s","content":[],"stop_reason":null,"stop_sequence":null%s}`, x.Model, start)
	add(event{name: "content_block_start"}, `,"index":0,"content_block":{"type":"text","text":""}`)
	add(event{name: "ping"}, "")
	for i, w := range Words {
		add(event{name: "content_block_delta", text: w}, `,"index":0,"delta":{"type":"text_delta","text":%q}`, w)
		if u.Where == "every" && i%4 == 3 {
			add(event{name: "message_delta", usage: true}, `,"delta":{},"usage":{"output_tokens":%d}`, i+1)
		}
	}
	add(event{name: "content_block_stop"}, `,"index":0`)
	add(event{name: "message_delta", finish: true, usage: last != "" && u.Where != "null"}, `,"delta":{"stop_reason":"end_turn","stop_sequence":null}%s`, last)
	add(event{name: "message_stop", end: true}, "")
	return list
}

func (x *Exchange) geminiEvents(u Usage) (list []event) {
	for i, w := range Words {
		last := i == len(Words)-1
		s := fmt.Sprintf(`{"candidates":[{"content":{"role":"model","parts":[{"text":%q}]}`, w)
		if last {
			s += `,"finishReason":"STOP"`
		}
		s += fmt.Sprintf(`,"index":0}],"modelVersion":"%s","responseId":"gem-fault"`, x.Model)
		usage := false
		switch {
		case u.Where == "null":
			s += `,"usageMetadata":null`
		case u.Where == "none":
		case last:
			s += `,"usageMetadata":` + x.object(u.In, u.Out)
			usage = true
		case u.Where == "end" || u.Where == "every": // cumulative in every chunk
			s += `,"usageMetadata":` + x.object(u.In, strconv.Itoa(i+1))
			usage = true
		}
		list = append(list, event{data: s + "}", text: w, usage: usage, finish: last})
	}
	return list
}

// whole is a good plain reply that reports u.
func (x *Exchange) whole(u Usage) string {
	usage := ""
	name := map[string]string{"gemini": "usageMetadata"}[x.Dialect]
	if name == "" {
		name = "usage"
	}
	switch u.Where {
	case "none":
	case "null":
		usage = `,"` + name + `":null`
	default:
		usage = `,"` + name + `":` + x.object(u.In, u.Out)
	}
	switch x.Dialect {
	case "anthropic":
		return fmt.Sprintf(`{"id":"msg_fault","type":"message","role":"assistant","model":"%s","content":[{"type":"text","text":%q}],"stop_reason":"end_turn","stop_sequence":null%s}`, x.Model, Text, usage)
	case "gemini":
		return fmt.Sprintf(`{"candidates":[{"content":{"role":"model","parts":[{"text":%q}]},"finishReason":"STOP","index":0}],"modelVersion":"%s","responseId":"gem-fault"%s}`, Text, x.Model, usage)
	}
	return fmt.Sprintf(`{"id":"chatcmpl-fault","object":"chat.completion","created":1764000000,"model":"%s","choices":[{"index":0,"message":{"role":"assistant","content":%q,"refusal":null},"logprobs":null,"finish_reason":"stop"}]%s}`, x.Model, Text, usage)
}

// failure is an error body of the dialect that stands for an HTTP status.
func (x *Exchange) failure(status int, msg string) string {
	switch x.Dialect {
	case "anthropic":
		kind := map[int]string{400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error", 422: "invalid_request_error",
			429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error"}[status]
		if kind == "" {
			kind = "api_error"
		}
		return fmt.Sprintf(`{"type":"error","error":{"type":"%s","message":%q},"request_id":"req_fault"}`, kind, msg)
	case "gemini":
		word := map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}[status]
		if word == "" {
			word = "INTERNAL"
		}
		return fmt.Sprintf(`{"error":{"code":%d,"message":%q,"status":"%s"}}`, status, msg, word)
	}
	kind := map[int]string{400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "invalid_request_error", 422: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error"}[status]
	if kind == "" {
		kind = "server_error"
	}
	return fmt.Sprintf(`{"error":{"message":%q,"type":"%s","param":null,"code":%d}}`, msg, kind, status)
}

// Reply answers with a whole body, and the connection stays open.
func (x *Exchange) Reply(status int, headers []string, body string) bool {
	return x.Raw(head(fmt.Sprintf("HTTP/1.1 %d Status\r\nContent-Type: application/json\r\nContent-Length: %d", status, len(body)), headers) + body)
}

func head(first string, headers []string) string {
	for _, h := range headers {
		first += "\r\n" + h
	}
	return first + "\r\n\r\n"
}

// Good answers as it should be, reporting u.
func (x *Exchange) Good(u Usage) bool {
	if x.Stream {
		return x.Open() && x.Send(x.events(u)...) && x.End()
	}
	if u.Honest {
		x.reported(Input, int64(len(Words)))
	}
	x.sent(Text, int64(len(Words)))
	return x.Reply(200, nil, x.whole(u))
}

// Open sends the header of a stream.
func (x *Exchange) Open(headers ...string) bool {
	return x.Raw(head("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked", headers))
}

// Chunk sends s as one chunk.
func (x *Exchange) Chunk(s string) bool { return x.Raw(fmt.Sprintf("%x\r\n%s\r\n", len(s), s)) }

// End ends a chunked body.
func (x *Exchange) End() bool { return x.Raw("0\r\n\r\n") }

// Send sends events, each in a chunk.
func (x *Exchange) Send(list ...event) bool {
	for _, e := range list {
		if !x.SendAs(e, e.String()) {
			return false
		}
	}
	return true
}

// SendAs sends e in a form of its own.
func (x *Exchange) SendAs(e event, raw string) bool {
	x.note(e)
	return x.Chunk(raw)
}

func (x *Exchange) note(e event) {
	if e.text != "" {
		x.sent(e.text, 1)
	}
	if e.usage && e.in > 0 {
		x.reported(e.in, e.out)
	}
}

// half is the number of events of a good stream that make about half of it.
func half(list []event) int { return len(list) / 2 }

// settle gives the gateway time to read what was sent, before a reset that
// would take it away.
func (x *Exchange) settle() bool { return x.Sleep(100 * time.Millisecond) }
