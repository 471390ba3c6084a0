package upstream

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Fault answers one request. It returns true when the connection is good for
// another.
type Fault func(*Exchange) bool

// Gap is the pause between two events of the slow streams.
const Gap = 300 * time.Millisecond

// Faults are the models, by name.
var Faults = map[string]Fault{
	"ok": func(x *Exchange) bool { return x.Good(Honest) },

	// Refusals.
	"429-then-ok":    then(1, refuse(429, "Retry-After: 1")),
	"429-ms-then-ok": then(1, refuse(429, "Retry-After-Ms: 300")),
	"429-always":     refuse(429, "Retry-After: 1"),
	"429-day":        refuse(429, "Retry-After: 86400"),
	"500-then-ok":    then(1, refuse(500)),
	"503-then-ok":    then(2, refuse(503)),
	"529-then-ok":    then(1, refuse(529)),
	"500-always":     refuse(500),
	"503-always":     refuse(503),
	"503-slow":       func(x *Exchange) bool { return x.Sleep(200*time.Millisecond) && refuse(503)(x) },
	"400":            refuse(400),
	"404":            refuse(404),
	"422":            refuse(422),
	"401-echo":       echo(401),
	"403-echo":       echo(403),
	"400-echo":       echo(400),
	"500-echo":       echo(500),
	"302":            redirect(302),
	"307":            redirect(307),
	"502-html": func(x *Exchange) bool {
		return x.Raw("HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 28\r\n\r\n<html>502 Bad Gateway</html>")
	},
	"big-error": func(x *Exchange) bool { // 64 MiB
		x.Raw("HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 67108864\r\n\r\n")
		return x.flood("e", 64<<20)
	},

	// A 200 that is none.
	"200-error": func(x *Exchange) bool { return x.Reply(200, nil, x.failure(503, "overloaded, inside a 200")) },
	"200-html": func(x *Exchange) bool {
		return x.Raw("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 21\r\n\r\n<html>sign in</html>\n")
	},
	"200-empty": func(x *Exchange) bool { return x.Reply(200, nil, "") },
	"half-json": func(x *Exchange) bool {
		b := x.whole(Honest)
		return x.Reply(200, nil, b[:len(b)/2])
	},
	"stream-got-json": func(x *Exchange) bool {
		x.Stream = false
		return x.Good(Honest)
	},
	"json-got-stream": func(x *Exchange) bool {
		x.Stream = true
		return x.Good(Honest)
	},

	// Bodies whose frame lies.
	"short-body": func(x *Exchange) bool {
		if x.Stream {
			list := x.events(Honest)
			b := joined(list[:half(list)])
			x.Raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: " + strconv.Itoa(10*len(b)) + "\r\n\r\n")
			for _, e := range list[:half(list)] {
				x.note(e)
				x.Raw(e.String())
			}
			return false
		}
		b := x.whole(Honest)
		x.Raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(b)) + "\r\n\r\n" + b[:len(b)/2])
		return false
	},
	"long-body": func(x *Exchange) bool { // what follows is an answer that nobody asked for
		b, kind := x.whole(Honest), "application/json"
		if x.Stream {
			b, kind = joined(x.events(Honest)), "text/event-stream"
		}
		x.reported(Input, int64(len(Words)))
		x.sent(Text, int64(len(Words)))
		x.Raw("HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\nContent-Length: " + strconv.Itoa(len(b)) + "\r\n\r\n" + b +
			"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(Poison)) + "\r\n\r\n" + Poison)
		return x.Hold()
	},
	"bad-chunks":     chunks("zz\r\n"),
	"negative-chunk": chunks("-1\r\n"),
	"huge-chunk":     chunks("ffffffffffffffffff\r\n"),
	"mid-bad-chunks": middle(func(x *Exchange) bool {
		x.Raw("XYZ\r\nwhat\r\n")
		return x.Hold()
	}),
	"big-headers": func(x *Exchange) bool { // 11 MiB
		x.Raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
		line := "X-Filler: " + strings.Repeat("h", 1000) + "\r\n"
		for range 11 << 10 {
			if !x.Raw(line) {
				return false
			}
		}
		return x.Raw("\r\n")
	},
	"deep-json": func(x *Exchange) bool {
		body := strings.Repeat(`{"choices":[`, 100_000) + strings.Repeat("]}", 100_000)
		if x.Stream {
			return x.Open() && x.Chunk("data: "+body+"\n\n") && x.End()
		}
		return x.Reply(200, nil, body)
	},

	// Compression that nobody asked for.
	"gzip":        func(x *Exchange) bool { return x.zipped(false) },
	"gzip-stream": func(x *Exchange) bool { return x.zipped(true) },
	"gzip-bomb": func(x *Exchange) bool { // 1 GiB of a megabyte
		kind := "application/json"
		if x.Stream {
			kind = "text/event-stream"
		}
		x.Raw("HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
		return x.Chunk(bomb()) && x.End()
	},
	"gzip-cut": func(x *Exchange) bool {
		b := zip(x.whole(Honest))
		return x.Reply(200, []string{"Content-Encoding: gzip"}, b[:len(b)-12])
	},
	"unknown-encoding": func(x *Exchange) bool { return x.Reply(200, []string{"Content-Encoding: zstd"}, "(\xb5/\xfd") },

	// Connections.
	"reset-first":   func(x *Exchange) bool { return x.Reset() },
	"reset-then-ok": then(1, func(x *Exchange) bool { return x.Reset() }),
	"close-first":   func(*Exchange) bool { return false },
	"stale-conn":    func(x *Exchange) bool { return x.Good(Honest) }, // Server.serve closes when it is used again
	"half-head": func(x *Exchange) bool {
		x.Raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
		return false
	},
	"not-http": func(x *Exchange) bool {
		x.Raw("SSH-2.0-OpenSSH_9.2\r\n")
		return x.Hold()
	},
	"header-hang": func(x *Exchange) bool { return x.Hold() },
	"head-drip": func(x *Exchange) bool { // a byte of the header at a time, for ever
		x.Raw("HTTP/1.1 200 OK\r\n")
		for x.Sleep(100 * time.Millisecond) {
			x.Raw("X-Drip: 1\r\n")
		}
		return false
	},
	"body-hang": func(x *Exchange) bool { // a plain reply that stops in its middle
		if x.Stream {
			return stall(x)
		}
		b := x.whole(Honest)
		x.Raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(b)) + "\r\n\r\n" + b[:len(b)/2])
		return x.Hold()
	},

	// Streams that do not begin.
	"ttft-hang": func(x *Exchange) bool {
		x.Open()
		return x.Hold()
	},
	"ttft-comments": func(x *Exchange) bool {
		x.Open()
		for x.Chunk(": waiting\n\n") && x.Sleep(100*time.Millisecond) {
		}
		return false
	},
	"first-error": func(x *Exchange) bool {
		return x.Open() && x.Chunk(x.errorEvent(503)) && x.End()
	},
	"first-error-then-ok": then(1, func(x *Exchange) bool {
		return x.Open() && x.Chunk(x.errorEvent(503)) && x.End()
	}),
	"empty-stream":  func(x *Exchange) bool { return x.Open() && x.End() },
	"only-comments": func(x *Exchange) bool { return x.Open() && x.Chunk(": PROCESSING\n\n") && x.End() },
	"only-end": func(x *Exchange) bool {
		if x.Dialect == "anthropic" {
			return x.Open() && x.Chunk("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n") && x.End()
		}
		return x.Open() && x.Chunk("data: [DONE]\n\n") && x.End()
	},

	// Streams that break.
	"mid-reset":     middle((*Exchange).Reset),
	"at-once-end":   atOnce(func(*Exchange) string { return "" }),
	"at-once-error": atOnce(func(x *Exchange) string { return x.errorEvent(503) }),
	"mid-eof":       middle(func(x *Exchange) bool { return false }),
	"mid-end":       middle(func(x *Exchange) bool { return x.End() }), // clean HTTP, half a reply
	"mid-half-event": middle(func(x *Exchange) bool {
		x.Chunk(`data: {"choices":[{"index":0,"delta":{"content":"los`)
		return x.End()
	}),
	"mid-half-event-eof": middle(func(x *Exchange) bool {
		x.Chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lost\"}}]}\n")
		x.Chunk("data: {\"cho")
		return false
	}),
	"mid-lost-last-chunk": func(x *Exchange) bool { // all the text, but not that it was all
		x.Open()
		list := x.events(Honest)
		for _, e := range list {
			if e.finish {
				break
			}
			x.Send(e)
		}
		return x.settle() && x.End()
	},
	"lost-terminator": func(x *Exchange) bool { // only the end of the chunked body is missing
		x.Open()
		x.Send(x.events(Honest)...)
		return false
	},
	"mid-error": middle(func(x *Exchange) bool {
		x.Chunk(x.errorEvent(503))
		return x.Hold()
	}),
	"mid-error-more": middle(func(x *Exchange) bool { // goes on as if nothing had been
		list := x.events(Honest)
		x.Chunk(x.errorEvent(500) + joined(list[half(list):]))
		return x.Hold()
	}),
	"mid-echo": middle(func(x *Exchange) bool {
		s := strings.ReplaceAll(x.errorEvent(500), "inside a stream", strings.Repeat("m", 485)+x.key)
		s = strings.Replace(s, `"param":null,"code":500`, `"param":"`+x.key+`","code":"`+x.key+`"`, 1)
		s = strings.Replace(s, `"status":"INTERNAL"`, `"status":"`+x.key+`"`, 1)
		x.Chunk(strings.Replace(s, `"type":"api_error"`, `"type":"`+x.key+`"`, 1))
		return x.Hold()
	}),
	"mid-stall": stall,
	"mid-stall-comments": middle(func(x *Exchange) bool { // a sign of life is no token
		for x.Sleep(100*time.Millisecond) && x.Chunk(": alive\n\n") {
		}
		return false
	}),
	"endless": func(x *Exchange) bool {
		x.Open()
		list := x.events(Honest)
		x.Send(list[:half(list)]...)
		for i := 0; x.Sleep(50 * time.Millisecond); i++ {
			e := list[half(list)-1]
			e.usage = false
			x.Send(e)
		}
		return false
	},

	"gated": func(x *Exchange) bool {
		x.s.mu.Lock()
		gate := x.s.gate
		x.s.mu.Unlock()
		list := x.events(Honest)
		x.Open()
		x.Send(list[:half(list)]...)
		<-gate
		return x.Chunk(joined(list[half(list):])) && x.End()
	},
	"long-event": func(x *Exchange) bool { // 40 MiB without a line end
		if !x.Stream {
			return x.Reply(502, nil, "")
		}
		x.Open()
		x.Raw(fmt.Sprintf("%x\r\ndata: {\"", 40<<20))
		return x.flood("e", 40<<20)
	},

	// For clients that leave or do not read.
	"usage-then-stall": func(x *Exchange) bool {
		x.Open()
		for _, e := range x.events(Honest) {
			if !e.end {
				x.Send(e)
			}
		}
		return x.Hold()
	},
	"flood": func(x *Exchange) bool { // as fast as it is taken
		x.Open()
		list := x.events(Honest)
		x.Send(list[:half(list)]...)
		e := list[half(list)-1]
		block := strings.Repeat(e.String(), 100)
		for x.Chunk(block) {
			x.sent(strings.Repeat(e.text, 100), 100)
		}
		return false
	},
	"huge": func(x *Exchange) bool { // 20 MiB
		b := strings.Replace(x.whole(Honest), Text, strings.Repeat(Text+" ", 20<<20/len(Text)), 1)
		x.reported(Input, int64(len(Words)))
		return x.Reply(200, nil, b)
	},
	"too-large": func(x *Exchange) bool { // 40 MiB
		b := strings.Replace(x.whole(Honest), Text, strings.Repeat(Text+" ", 40<<20/len(Text)), 1)
		return x.Reply(200, nil, b)
	},

	// Slow but alive.
	"slow-stream": func(x *Exchange) bool {
		if !x.Stream {
			return x.Sleep(4*Gap) && x.Good(Honest)
		}
		x.Open()
		list := x.events(Honest)
		n := half(list)
		x.Send(list[:n]...)
		for i, e := range list[n:] {
			if i < 6 && !x.Sleep(Gap) {
				return false
			}
			x.Send(e)
		}
		return x.End()
	},
	"slow-ttft": func(x *Exchange) bool { return x.Sleep(800*time.Millisecond) && x.Good(Honest) },

	// Every form that an event stream may have.
	"sse-crlf":     form(func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }),
	"sse-cr":       form(func(s string) string { return strings.ReplaceAll(s, "\n", "\r") }),
	"sse-bom":      whole(func(x *Exchange, s string) string { return "\xef\xbb\xbf" + s }),
	"sse-comments": form(func(s string) string { return ": a comment\n\n:\n: another\n" + s }),
	"sse-multi-data": form(func(s string) string { // the JSON over several lines
		return strings.Replace(s, `data: {"`, "data: {\ndata: \"", 1)
	}),
	"sse-ids":       form(func(s string) string { return "id: 17\nretry: 3000\n" + s }),
	"sse-no-space":  form(func(s string) string { return strings.ReplaceAll(s, "data: ", "data:") }),
	"sse-coalesced": whole(func(_ *Exchange, s string) string { return s }),
	"sse-1byte": func(x *Exchange) bool {
		if !x.Stream {
			return x.Good(Honest)
		}
		x.Raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
		for _, e := range x.events(Honest) {
			x.note(e)
			for _, b := range []byte(e.String()) {
				if !x.Raw(string([]byte{b})) {
					return false
				}
			}
		}
		return false
	},
	"sse-1mib-event": func(x *Exchange) bool {
		if !x.Stream {
			return x.Good(Honest)
		}
		x.Open()
		for _, e := range x.events(Honest) {
			if e.text == Words[3] {
				pad := `{"padding":"` + strings.Repeat("p", 1<<20) + `",`
				x.SendAs(e, strings.Replace(e.String(), "{", pad, 1))
				continue
			}
			x.Send(e)
		}
		return x.End()
	},
	"sse-data-after-done": func(x *Exchange) bool {
		if !x.Stream || x.Dialect == "gemini" { // which has no end marker
			return x.Good(Honest)
		}
		list := x.events(Honest)
		surplus := list[half(list)]
		surplus.usage = false
		return x.Open() && x.Send(list...) && x.Chunk(surplus.String()+surplus.String()) && x.End()
	},
	"sse-choices-empty": func(x *Exchange) bool {
		if !x.Stream || x.Dialect != "openai" {
			return x.Good(Honest)
		}
		return x.Open() && x.Chunk(`data: {"id":"","object":"","created":0,"model":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}`+"\n\n") && x.Send(x.events(Honest)...) && x.End()
	},
	"sse-no-done": func(x *Exchange) bool {
		if !x.Stream {
			return x.Good(Honest)
		}
		x.Open()
		for _, e := range x.events(Honest) {
			if !e.end {
				x.Send(e)
			}
		}
		return x.End()
	},
	"sse-no-done-hang": func(x *Exchange) bool { // says that it is done, but not that it goes
		if !x.Stream {
			return x.Good(Honest)
		}
		x.Open()
		x.Send(x.events(Honest)...)
		return x.Hold()
	},

	// What must never reach a client.
	"sse-badjson": middle(func(x *Exchange) bool {
		list := x.events(Honest)
		e := list[half(list)]
		x.Chunk(strings.Replace(e.String(), `"index":0`, `"index":0,,"poison":`, 1) + joined(list[half(list):]))
		return x.Hold()
	}),
	"sse-garbage": middle(func(x *Exchange) bool {
		list := x.events(Honest)
		x.Chunk("\x00\xff\xfe poison \x80\n\n")
		x.Send(list[half(list):]...)
		return x.End()
	}),
	"sse-garbage-line": middle(func(x *Exchange) bool { // within an event
		list := x.events(Honest)
		for _, e := range list[half(list):] {
			x.SendAs(e, "\x00\xff\xfe poison \x80\n"+e.String())
		}
		return x.End()
	}),

	// Usage.
	"usage-none":          reporting(Usage{Where: "none"}),
	"usage-null":          reporting(Usage{Where: "null"}),
	"usage-last-delta":    reporting(Usage{"last", Honest.In, Honest.Out, true}),
	"usage-every-chunk":   reporting(Usage{"every", Honest.In, Honest.Out, true}),
	"usage-negative":      lie("-5", "-7"),
	"usage-maxint":        lie("9223372036854775807", "9223372036854775807"),
	"usage-1e300":         lie("1e300", "1e300"),
	"usage-strings":       lie(`"sixty-one"`, `"24"`),
	"usage-fraction":      lie("61.5", "24.5"),
	"usage-object":        lie(`{"a":1}`, "[3]"),
	"usage-beyond-uint64": lie("99999999999999999999999", "99999999999999999999999"),
}

// Poison is what no client may ever see.
const Poison = `{"id":"poison","object":"chat.completion","model":"poison","choices":[{"index":0,"message":{"role":"assistant","content":"poison"},"finish_reason":"stop"}]}`

func refuse(status int, headers ...string) Fault {
	return func(x *Exchange) bool { return x.Reply(status, headers, x.failure(status, "refused on purpose")) }
}

// then makes the first n attempts fail.
func then(n int, f Fault) Fault {
	return func(x *Exchange) bool {
		if x.N < n {
			return f(x)
		}
		return x.Good(Honest)
	}
}

// echo refuses and says the key wherever it can be said: plain and escaped in
// the body, at the place where a message is cut, in headers, in the status text.
func echo(status int) Fault {
	return func(x *Exchange) bool {
		escaped := ""
		for _, c := range []byte(x.key) {
			escaped += fmt.Sprintf(`\u%04x`, c)
		}
		where := []string{"key " + x.key, "key ESCAPED", strings.Repeat("m", 480) + x.key, x.key}
		body := x.failure(status, where[x.N%len(where)]+" is no good")
		body = strings.ReplaceAll(body, "ESCAPED", escaped)
		body = strings.Replace(body, `{"`, `{"code":"`+x.key+`","param":"`+x.key+`","key":"`+escaped+`","`, 1)
		if x.Dialect == "openai" {
			body = strings.Replace(body, `"param":null`, `"param":"`+x.key+`"`, 1)
			body = strings.Replace(body, fmt.Sprintf(`"code":%d`, status), `"code":"`+x.key+`"`, 1)
		}
		return x.Raw(fmt.Sprintf("HTTP/1.1 %d Bad key %s\r\nContent-Type: application/json\r\nX-Request-Id: %s\r\nSet-Cookie: k=%s\r\nContent-Length: %d\r\n\r\n%s",
			status, x.key, x.key, x.key, len(body), body))
	}
}

// redirect points to a path of this server that answers no client.
func redirect(status int) Fault {
	return func(x *Exchange) bool {
		return x.Reply(status, []string{"Location: " + x.s.URL + "/stolen"}, "")
	}
}

func joined(list []event) string {
	var b strings.Builder
	for _, e := range list {
		b.WriteString(e.String())
	}
	return b.String()
}

// middle sends half of a good stream, waits until that has been relayed, and
// then does f.
func middle(f Fault) Fault {
	return func(x *Exchange) bool {
		if !x.Stream {
			return x.Good(Honest)
		}
		list := x.events(Honest)
		x.Open()
		x.Send(list[:half(list)]...)
		x.settle()
		return f(x)
	}
}

// atOnce sends the beginning of a good stream and what f adds in one piece, so that the
// client has nothing when it fails.
func atOnce(f func(*Exchange) string) Fault {
	return func(x *Exchange) bool {
		if !x.Stream {
			return x.Good(Honest)
		}
		list := x.events(Honest)
		s := joined(list[:5]) + f(x)
		for _, e := range list[:5] {
			x.note(e)
		}
		x.Raw(head("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked", nil) + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(s), s))
		return true
	}
}

// form writes each event of a good stream in another form.
func form(f func(string) string) Fault {
	return func(x *Exchange) bool {
		if !x.Stream {
			return x.Good(Honest)
		}
		x.Open()
		for _, e := range x.events(Honest) {
			x.SendAs(e, f(e.String()))
		}
		return x.End()
	}
}

// whole writes a good stream at once.
func whole(f func(*Exchange, string) string) Fault {
	return func(x *Exchange) bool {
		if !x.Stream {
			return x.Good(Honest)
		}
		list := x.events(Honest)
		for _, e := range list {
			x.note(e)
		}
		return x.Open() && x.Chunk(f(x, joined(list))) && x.End()
	}
}

// stall sends half a stream and then nothing.
func stall(x *Exchange) bool { return middle((*Exchange).Hold)(x) }

func reporting(u Usage) Fault { return func(x *Exchange) bool { return x.Good(u) } }

func lie(in, out string) Fault { return reporting(Usage{Where: "end", In: in, Out: out}) }

func chunks(bad string) Fault {
	return func(x *Exchange) bool {
		kind := "application/json"
		if x.Stream {
			kind = "text/event-stream"
		}
		x.Raw("HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\nTransfer-Encoding: chunked\r\n\r\n" + bad + "what is this\r\n0\r\n\r\n")
		return x.Hold()
	}
}

func (x *Exchange) errorEvent(status int) string {
	s := "data: " + x.failure(status, "inside a stream") + "\n\n"
	if x.Dialect == "anthropic" {
		s = "event: error\n" + s
	}
	return s
}

// flood writes n bytes of s for as long as they are taken.
func (x *Exchange) flood(s string, n int) bool {
	block := strings.Repeat(s, 64<<10)
	for ; n > 0; n -= len(block) {
		if !x.Raw(block) {
			return false
		}
	}
	return true
}

// bomb is 1 GiB of one JSON string in a megabyte.
var bomb = sync.OnceValue(func() string {
	return zip(`data: {"choices":[{"message":{"content":"`) + strings.Repeat(zip(strings.Repeat("a", 1<<20)), 1<<10)
})

func zip(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s)) // to memory
	_ = z.Close()
	return b.String()
}

// zipped sends a good stream compressed, flushed behind each event or not.
func (x *Exchange) zipped(flush bool) bool {
	if !x.Stream {
		x.reported(Input, int64(len(Words)))
		x.sent(Text, int64(len(Words)))
		return x.Reply(200, []string{"Content-Encoding: gzip"}, zip(x.whole(Honest)))
	}
	x.Open("Content-Encoding: gzip")
	z := gzip.NewWriter(chunker{x})
	for _, e := range x.events(Honest) {
		x.note(e)
		_, _ = z.Write([]byte(e.String()))
		if flush {
			_ = z.Flush()
		}
	}
	return z.Close() == nil && x.End()
}

type chunker struct{ x *Exchange }

func (c chunker) Write(p []byte) (int, error) {
	if !c.x.Chunk(string(p)) {
		return 0, fmt.Errorf("the gateway closed")
	}
	return len(p), nil
}
