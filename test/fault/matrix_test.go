package fault

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/test/fault/upstream"
)

// A want is what must come of a fault.
type want struct {
	status   int            // the client's
	class    llm.ErrorClass // "" is success
	code     string         // of the Call's error, if it matters
	attempts int            // as recorded, and as they arrived
	source   llm.UsageSource
	cut      bool          // the client has a part of the answer, and then an error
	least    time.Duration // the answer took so long
	most     time.Duration // and no longer; 0 is quick
	partly   bool          // each attempt is billed for what came of it
	resent   bool          // attempts may meet a connection that was closing
	extra    func(*testing.T, *outcome)
	idles    bool // it takes time, not work
	works    bool // it takes so much work that few are done at once
}

const (
	exact = llm.UsageUpstream
	guess = llm.UsageEstimated
	none  = llm.UsageNone
)

// Times of the gateway of the matrix.
const (
	firstToken = 3 * time.Second
	idle       = 3500 * time.Millisecond
	total      = 14 * time.Second
)

const timed = "timeouts: { first_token: 3s, idle: 3500ms, total: 14s }\n"

func good() *want { return &want{status: 200, attempts: 1, source: exact} }
func failed(status int, class llm.ErrorClass, attempts int) *want {
	return &want{status: status, class: class, attempts: attempts, source: none}
}
func cut(class llm.ErrorClass) *want {
	return &want{status: 200, class: class, attempts: 1, source: guess, cut: true}
}

func (w want) with(f func(*want)) *want { f(&w); return &w }

// A row is a fault with what must come of it, plain and streamed. nil: it has
// no meaning there.
type row struct {
	fault         string
	plain, stream *want
}

func both(fault string, w *want) row     { return row{fault, w, w} }
func streamed(fault string, w *want) row { return row{fault, nil, w} }
func bad(fault string, attempts int) row { return both(fault, failed(502, llm.BadUpstream, attempts)) }

// rows are the table of faults. A bad reply is asked for again once: the same
// bytes would come a third time. What was built to do harm is not.
var rows = []row{
	both("ok", good()),

	both("429-then-ok", good().with(func(w *want) { w.idles, w.attempts, w.least = true, 2, time.Second })),
	both("429-ms-then-ok", good().with(func(w *want) { w.attempts, w.least, w.most = 2, 300*time.Millisecond, 2*time.Second })),
	both("429-always", failed(429, llm.RateLimited, 3).with(func(w *want) { w.idles, w.least, w.most, w.extra = true, 2*time.Second, 5*time.Second, retryAfter("1") })),
	both("429-day", failed(429, llm.RateLimited, 1).with(func(w *want) { w.most, w.extra = 2*time.Second, retryAfter("86400") })),
	both("500-then-ok", good().with(func(w *want) { w.attempts = 2 })),
	both("503-then-ok", good().with(func(w *want) { w.attempts = 3 })),
	both("529-then-ok", good().with(func(w *want) { w.attempts = 2 })),
	both("500-always", failed(502, llm.UpstreamError, 3)),
	both("503-always", failed(503, llm.Overloaded, 3)),
	both("400", failed(400, llm.InvalidRequest, 1)),
	both("404", failed(404, llm.NotFound, 1)),
	both("422", failed(422, llm.InvalidRequest, 1)),
	both("401-echo", failed(502, llm.ProviderAuth, 1)),
	both("403-echo", failed(502, llm.ProviderAuth, 1)),
	both("400-echo", failed(400, llm.InvalidRequest, 1)),
	both("500-echo", failed(502, llm.UpstreamError, 3)),
	both("302", failed(502, llm.UpstreamError, 1)),
	both("307", failed(502, llm.UpstreamError, 1)),
	both("502-html", failed(502, llm.UpstreamError, 3)),
	both("big-error", failed(502, llm.UpstreamError, 3).with(work)),

	both("200-error", failed(503, llm.Overloaded, 3)),
	bad("200-html", 2),
	bad("200-empty", 2),
	bad("half-json", 2),
	streamed("stream-got-json", failed(502, llm.BadUpstream, 2).with(func(w *want) { w.source, w.partly = exact, true })), // the provider bills it
	{"json-got-stream", failed(502, llm.BadUpstream, 2), good()},

	{"short-body", failed(502, llm.BadUpstream, 2), cut(llm.StreamBroken)},
	bad("bad-chunks", 2),
	bad("negative-chunk", 2),
	bad("huge-chunk", 2),
	{"mid-bad-chunks", good(), cut(llm.StreamBroken)},
	both("big-headers", failed(502, llm.BadUpstream, 1).with(work)),
	both("deep-json", failed(502, llm.BadUpstream, 1).with(work)),

	both("gzip", good()),
	both("gzip-stream", good()),
	both("gzip-bomb", failed(502, llm.BadUpstream, 1).with(work)),
	{"gzip-cut", failed(502, llm.BadUpstream, 2), nil},
	bad("unknown-encoding", 2),

	both("reset-first", failed(502, llm.UpstreamError, 3)),
	both("reset-then-ok", good().with(func(w *want) { w.attempts = 2 })),
	both("close-first", failed(502, llm.UpstreamError, 3)),
	both("half-head", failed(502, llm.UpstreamError, 3)),
	bad("not-http", 2),
	{"header-hang",
		failed(504, llm.Timeout, 1).with(func(w *want) { w.idles, w.code, w.least, w.most = true, "total_timeout", total, total+time.Second }),
		failed(504, llm.Timeout, 3).with(func(w *want) {
			w.idles, w.code, w.least, w.most = true, "ttft_timeout", 3*firstToken, 3*firstToken+2*time.Second
		})},
	{"head-drip",
		failed(504, llm.Timeout, 1).with(func(w *want) { w.idles, w.code, w.least, w.most = true, "total_timeout", total, total+time.Second }),
		failed(504, llm.Timeout, 3).with(func(w *want) {
			w.idles, w.code, w.least, w.most = true, "ttft_timeout", 3*firstToken, 3*firstToken+2*time.Second
		})},
	{"body-hang",
		failed(504, llm.Timeout, 1).with(func(w *want) { w.idles, w.code, w.least, w.most = true, "total_timeout", total, total+time.Second }),
		cut(llm.Timeout).with(func(w *want) { w.idles, w.code, w.least, w.most = true, "idle_timeout", idle, idle+time.Second })},

	streamed("ttft-hang", failed(504, llm.Timeout, 3).with(func(w *want) {
		w.idles, w.code, w.least, w.most = true, "ttft_timeout", 3*firstToken, 3*firstToken+2*time.Second
	})),
	streamed("ttft-comments", failed(504, llm.Timeout, 3).with(func(w *want) {
		w.idles, w.code, w.least, w.most = true, "ttft_timeout", 3*firstToken, 3*firstToken+2*time.Second
	})),
	streamed("first-error", failed(503, llm.Overloaded, 3)),
	streamed("first-error-then-ok", good().with(func(w *want) { w.attempts = 2 })),
	streamed("empty-stream", failed(502, llm.BadUpstream, 2)),
	streamed("only-comments", failed(502, llm.BadUpstream, 2)),
	streamed("only-end", failed(502, llm.BadUpstream, 2)),

	streamed("at-once-end", failed(502, llm.BadUpstream, 2).with(billed)),
	streamed("at-once-error", failed(503, llm.Overloaded, 3).with(billed)),

	streamed("mid-reset", cut(llm.StreamBroken)),
	streamed("mid-eof", cut(llm.StreamBroken)),
	streamed("mid-end", cut(llm.StreamBroken)),
	streamed("mid-half-event", cut(llm.StreamBroken)),
	streamed("mid-half-event-eof", cut(llm.StreamBroken)),
	streamed("mid-lost-last-chunk", cut(llm.StreamBroken)),
	streamed("lost-terminator", good()),
	streamed("mid-error", cut(llm.Overloaded)),
	streamed("mid-error-more", cut(llm.UpstreamError)),
	streamed("mid-echo", cut(llm.UpstreamError)),
	streamed("mid-stall", cut(llm.Timeout).with(func(w *want) { w.idles, w.code, w.least, w.most = true, "idle_timeout", idle, idle+time.Second })),
	streamed("mid-stall-comments", cut(llm.Timeout).with(func(w *want) { w.idles, w.code, w.least, w.most = true, "idle_timeout", idle, idle+time.Second })),
	streamed("endless", cut(llm.Timeout).with(func(w *want) { w.idles, w.code, w.least, w.most = true, "total_timeout", total, total+time.Second })),

	both("slow-stream", good().with(func(w *want) { w.idles, w.least, w.most, w.extra = true, 4*upstream.Gap, 5*time.Second, asItCame })),
	both("slow-ttft", good().with(func(w *want) { w.least = 800 * time.Millisecond })),

	both("sse-crlf", good()),
	both("sse-cr", good()),
	both("sse-bom", good()),
	both("sse-comments", good()),
	both("sse-multi-data", good()),
	both("sse-ids", good()),
	both("sse-no-space", good()),
	both("sse-coalesced", good()),
	both("sse-1byte", good()),
	both("sse-1mib-event", good().with(work)),
	both("sse-data-after-done", good()),
	both("sse-choices-empty", good()),
	both("sse-no-done", good()),
	both("sse-no-done-hang", good()),

	streamed("sse-badjson", cut(llm.BadUpstream)),
	streamed("sse-garbage", good()),
	streamed("sse-garbage-line", good()),

	both("usage-none", good().with(func(w *want) { w.source = guess })),
	both("usage-null", good().with(func(w *want) { w.source = guess })),
	both("usage-last-delta", good()),
	both("usage-every-chunk", good()),
	both("usage-negative", good().with(lied)),
	both("usage-maxint", good().with(lied)),
	both("usage-1e300", good().with(lied)),
	both("usage-strings", good().with(lied)),
	both("usage-fraction", good().with(lied)),
	both("usage-object", good().with(lied)),
	both("usage-beyond-uint64", good().with(lied)),
}

// billed is a failure whose attempts have cost something all the same.
func billed(w *want) { w.source, w.partly = guess, true }

func work(w *want) { w.works = true }

func lied(w *want) {
	w.source = guess
	w.extra = func(t *testing.T, o *outcome) {
		if !o.call.BadUsage() {
			t.Error("the Call does not say that the usage was rejected")
		}
	}
}

func retryAfter(s string) func(*testing.T, *outcome) {
	return func(t *testing.T, o *outcome) {
		if got := o.a.header.Get("Retry-After"); got != s {
			t.Errorf("Retry-After: %q, want %q", got, s)
		}
	}
}

// asItCame wants each piece of a slow stream at once: no gap is two together.
func asItCame(t *testing.T, o *outcome) {
	if o.stream && !o.client.array && o.a.longest > upstream.Gap*8/5+o.slack {
		t.Errorf("%v between two reads of a stream with an event each %v", o.a.longest, upstream.Gap)
	}
}

// An outcome is one request through the gateway.
type outcome struct {
	row    row
	want   *want
	client client
	to     string // the upstream's dialect
	stream bool
	name   string // its nonce
	a      *answer
	call   *call.Call
	ledger *upstream.Entry
	slack  time.Duration // by which the machine may have been late
}

// lateness watches how much later than it should a timer fires, until the
// returned function asks.
func lateness() func() time.Duration {
	stop, worst := make(chan bool), make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			start := time.Now()
			select {
			case <-time.After(20 * time.Millisecond):
				most = max(most, time.Since(start)-20*time.Millisecond)
			case <-stop:
				worst <- most
				return
			}
		}
	}()
	return func() time.Duration {
		stop <- true
		return <-worst
	}
}

// together bounds the requests under way, so that a small machine does not turn
// one fault into another, and trying those that only wait for further attempts:
// with more the gateway would keep to its budget. quick is how long an answer
// may take in which nothing is waited for.
const (
	together = 10
	trying   = 20
	quick    = 5 * time.Second
)

// TestFaults sends every fault through the gateway: each dialect of a client
// to each dialect of an upstream, plain and streamed.
func TestFaults(t *testing.T) {
	t.Parallel()
	matrix(t, rows, 1)
}

// TestConnections sends the faults that make a connection unfit for the next
// request, many times over, apart from those that could take the blame.
func TestConnections(t *testing.T) {
	t.Parallel()
	sound := good().with(func(w *want) { w.attempts, w.resent = 3, true })
	matrix(t, []row{both("stale-conn", sound), both("long-body", sound), both("ok", sound)}, 10)
}

func matrix(t *testing.T, rows []row, times int) {
	up, err := upstream.New()
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	g := serve(t, providers(up)+timed)
	before := g.metrics(t)
	var all []*outcome
	for n := range times {
		for _, r := range rows {
			for _, from := range []client{{"openai", false}, {"anthropic", false}, {"gemini", false}, {"gemini", true}} {
				for _, to := range []string{"openai", "anthropic", "gemini"} {
					if r.plain != nil && !from.array {
						all = append(all, &outcome{row: r, want: r.plain, client: from, to: to, name: fmt.Sprintf("%s/%s-to-%s/plain", r.fault, from, to)})
					}
					if r.stream != nil {
						all = append(all, &outcome{row: r, want: r.stream, client: from, to: to, stream: true, name: fmt.Sprintf("%s/%s-to-%s/stream", r.fault, from, to)})
					}
				}
			}
		}
		for _, o := range all[len(all)/(n+1)*n:] {
			if n > 0 {
				o.name += "/" + strconv.Itoa(n)
			}
			o.ledger = up.Entry(o.name)
		}
	}
	var wg sync.WaitGroup
	late := lateness()
	slots, few, again, waiting := make(chan bool, together), make(chan bool, 2), make(chan bool, trying), make(chan bool, len(all))
	for _, o := range all {
		slot := slots
		switch {
		case o.want.idles && o.want.attempts > 1:
			slot = again
		case o.want.idles:
			slot = waiting
		case o.want.works:
			slot = few
		}
		wg.Go(func() {
			slot <- true
			defer func() { <-slot }()
			o.a = o.client.ask(o.client.request(g.url, "up-"+o.to+"/"+o.row.fault, o.name, o.stream), o.stream)
		})
	}
	wg.Wait()
	slack := late()
	t.Logf("the machine itself was late by up to %v", slack)
	for _, o := range all {
		o.slack = 2 * slack
	}
	for _, o := range all {
		t.Run(o.name, func(t *testing.T) { o.check(t, g) })
	}
	if s := up.Strange(); len(s) > 0 {
		t.Errorf("requests that nobody should have made: %q", s)
	}
	sums(t, g, all)
	up.Close()
	g.settled(t, before)
}

func (o *outcome) check(t *testing.T, g *gateway) {
	a, w := o.a, o.want
	if a.header == nil {
		t.Fatalf("no answer: %v", a.err)
	}
	var raw string
	o.call, raw = g.call(t, a.header.Get("Sheepgate-Call-Id"))
	c, attempts := o.call, o.ledger.Attempts()
	o.secret(t, raw)
	if a.status != w.status || c.HTTPStatus != w.status {
		t.Errorf("status %d, %d in the Call; want %d: %.300s", a.status, c.HTTPStatus, w.status, a.body)
	}
	if c.Error.Class != w.class || w.code != "" && c.Error.Code != w.code {
		t.Errorf("error %+v, want %q %q", c.Error, w.class, w.code)
	}
	if (c.Status == call.Success) != (w.class == "") || c.Stream != o.stream || c.ModelRequested != "up-"+o.to+"/"+o.row.fault || c.Model != o.row.fault {
		t.Errorf("the Call is %s, stream %t, of %q and %q", c.Status, c.Stream, c.ModelRequested, c.Model)
	}
	most := w.most
	if most == 0 {
		most = quick
	}
	if a.took > most+o.slack || a.took < w.least {
		t.Errorf("it took %v, want %v to %v", a.took, w.least, most)
	}
	if n := len(attempts); n+o.ledger.Dropped() > len(c.Attempts) || len(c.Attempts) > w.attempts || !w.resent && n != w.attempts || w.resent && n != 1 {
		t.Errorf("%d attempts arrived and %d on closing connections, %d are in the Call; want %d", n, o.ledger.Dropped(), len(c.Attempts), w.attempts)
	}
	if len(c.Attempts) > 1 && a.status != 200 && a.header.Get("X-Should-Retry") != "false" {
		t.Error("the client is not told that we have retried")
	}
	for _, at := range attempts {
		if at.Key != providerKeys[o.to] {
			t.Errorf("the upstream got the key %q", at.Key)
		}
		for name, v := range at.Header {
			if s := strings.Join(v, ","); strings.Contains(s, clientKey) {
				t.Errorf("the upstream got the client's key in %s", name)
			}
		}
	}
	o.checkText(t)
	o.checkUsage(t)
	o.checkReleased(t)
	if w.extra != nil {
		w.extra(t, o)
	}
}

// secret looks for a provider's key in everything that the client and the API
// can see.
func (o *outcome) secret(t *testing.T, raw string) {
	header, _ := json.Marshal(o.a.header)
	decoded := func(s string) string { // what an escape hides
		var v any
		if json.Unmarshal([]byte(s), &v) != nil {
			return s
		}
		return s + fmt.Sprint(v)
	}
	for where, s := range map[string]string{"the body": decoded(o.a.body), "the headers": string(header), "the Call": decoded(raw)} {
		if key := leaks(s); key != "" {
			t.Errorf("%s: %s: %.600s", where, key, s)
		}
		if strings.Contains(s, "poison") {
			t.Errorf("%s: what must not pass: %.600s", where, s)
		}
	}
	if o.a.header.Get("Set-Cookie") != "" {
		t.Error("the upstream's cookie came through")
	}
}

// checkText compares what the client read with what was sent.
func (o *outcome) checkText(t *testing.T) {
	a, w := o.a, o.want
	if a.problem != "" {
		t.Errorf("the client stumbles: %s: %.400s", a.problem, a.body)
	}
	if a.err != nil {
		t.Errorf("the answer breaks off: %v", a.err)
	}
	if a.after {
		t.Errorf("something follows the end: %.600s", a.body[max(0, len(a.body)-600):])
	}
	if w.class != "" {
		if s := o.client.checkFailure(a.failure, a.status); s != "" {
			t.Errorf("%s: %.300s", s, a.failure)
		}
	}
	switch {
	case w.class == "":
		if a.text != upstream.Text || !a.ended || a.reason == "" || a.failure != "" {
			t.Errorf("the answer: %q, ended %t for %q, failure %q", a.text, a.ended, a.reason, a.failure)
		}
	case w.cut:
		sent := ""
		if at := o.ledger.Attempts(); len(at) > 0 {
			sent = at[len(at)-1].Text
		}
		if o.row.fault == "endless" { // it was sent on while we left
			if !strings.HasPrefix(sent, a.text) || len(a.text) < 100 {
				t.Errorf("the client has %q", a.text)
			}
		} else if want := sent; a.text != want && !(o.row.fault == "sse-badjson" && strings.HasPrefix(want, a.text) && a.text != "") {
			t.Errorf("the client has %q, sent was %q", a.text, want)
		}
		if a.ended || a.reason != "" || a.failure == "" {
			t.Errorf("a broken stream ends as if complete: ended %t for %q, failure %q", a.ended, a.reason, a.failure)
		}
	case a.text != "":
		t.Errorf("an error with text: %q", a.text)
	}
}

// checkUsage holds the Call's usage and cost against the ledger.
func (o *outcome) checkUsage(t *testing.T) {
	u, w := o.call.Usage, o.want
	if u.Source != w.source {
		t.Errorf("usage source %q, want %q: %+v", u.Source, w.source, u)
	}
	if u.Input < 0 || u.Output < 0 || o.call.Cost < 0 || o.call.TTFT < 0 || o.call.Latency <= 0 || o.call.Overhead < 0 {
		t.Errorf("a figure is negative: %+v", o.call)
	}
	want := u.Input*inNano + u.Output*outNano
	if w.partly {
		want *= int64(w.attempts)
	}
	if int64(o.call.Cost) != want || o.call.Unpriced {
		t.Errorf("cost %v of %d and %d tokens", o.call.Cost, u.Input, u.Output)
	}
	attempts := o.ledger.Attempts()
	if len(attempts) == 0 {
		return
	}
	last := attempts[len(attempts)-1]
	switch w.source {
	case exact:
		if !last.Reported || u.Input != last.Input || u.Output != last.Output {
			t.Errorf("usage %d and %d, reported were %d and %d (%t)", u.Input, u.Output, last.Input, last.Output, last.Reported)
		}
	case guess:
		if o.row.fault == "endless" {
			return
		}
		if !near(u.Output, last.Tokens) {
			t.Errorf("output is estimated at %d, it was %d", u.Output, last.Tokens)
		}
		if u.Input != upstream.Input && !near(u.Input, int64(len(strings.Fields(prompt))+2+7+tokens(o.name))) { // reported at the beginning, or counted
			t.Errorf("input is estimated at %d", u.Input)
		}
	}
}

// tokens is about what a nonce adds to the prompt.
func tokens(nonce string) int { return 4 + len(nonce)/4 }

func near(got, want int64) bool { return math.Abs(float64(got-want)) <= max(0.15*float64(want), 1) }

// checkReleased wants the upstream's connection closed within a second of the
// answer's end.
func (o *outcome) checkReleased(t *testing.T) {
	for i, at := range o.ledger.Attempts() {
		if at.Holding.IsZero() {
			continue
		}
		for deadline := o.a.done.Add(time.Second); at.Released.IsZero() && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			at = o.ledger.Attempts()[i]
		}
		if at.Released.IsZero() || at.Released.Sub(o.a.done) > time.Second {
			t.Errorf("attempt %d: the upstream's connection is still open a second after the answer ended", i+1)
		}
	}
}

// sums holds the ledger, the Calls and the metrics against each other.
func sums(t *testing.T, g *gateway, all []*outcome) {
	t.Helper()
	var in, out, cost, requests, rejected int64
	for _, o := range all {
		if o.call == nil {
			t.Errorf("%s made no Call", o.name)
			continue
		}
		requests++
		in += o.call.Usage.Input
		out += o.call.Usage.Output
		cost += int64(o.call.Cost)
		if o.call.BadUsage() {
			rejected++
		}
	}
	calls := g.calls(t, len(all))
	if len(calls) != len(all) {
		t.Errorf("%d Calls of %d requests", len(calls), len(all))
	}
	seen := map[string]bool{}
	for _, c := range calls {
		if seen[c.ID] {
			t.Errorf("call %s is there twice", c.ID)
		}
		seen[c.ID] = true
	}
	m := g.metrics(t)
	for _, s := range []struct {
		name string
		got  float64
		want int64
	}{
		{"holysheep_request_total", m.sum("holysheep_request_total"), requests},
		{"input tokens", m.sum("holysheep_tokens_total", `type="input"`), in},
		{"output tokens", m.sum("holysheep_tokens_total", `type="output"`), out},
		{"nano-USD", math.Round(m.sum("holysheep_cost_total") * 1e9), cost},
		{"holysheep_usage_invalid_total", m.sum("holysheep_usage_invalid_total"), rejected},
		{"holysheep_calls_lost_total", m["holysheep_calls_lost_total"], 0},
	} {
		if int64(s.got) != s.want {
			t.Errorf("/v1/metrics: %s is %v, the Calls sum to %d", s.name, s.got, s.want)
		}
	}
}
