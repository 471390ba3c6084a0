package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// An exchange is one request on its way through.
type exchange struct {
	g         *Gateway
	c         *Config
	in        ingress
	w         http.ResponseWriter
	r         *http.Request
	who       *call.Principal
	call      *call.Call
	out       *output // of a stream
	held      int64   // bytes of long bodies, as accounted for
	buf       *[]byte // pooled; nil once it has been given back
	body      []byte  // in buf
	head      provider.Head
	hold      *limit.Reservation // of the call; nil if nothing bounds it
	textBytes int                // of the body
	copy      *copier            // of the answer to a request that may come again; nil without an Idempotency-Key

	start      time.Time
	deadline   time.Time     // timeouts.total
	hedgeAfter time.Duration // of the route
	waited     time.Duration // for upstreams
	sent       bool          // the client has the status line
	lost       bool          // a connection broke before an answer came
	raced      bool          // because the upstream was closing it: the attempt is made again, whatever the policy of retries
	cost       costs
	request    *llm.Request // decoded on demand: translation and estimates
	reply      transcript
	raw        []byte // the upstream's own refusal, for a client of its dialect
}

// serve is the one way in of every route.
//
// A stream waits deep below this function, on a stack that it keeps. So that it
// fits into 8 KiB, what is done before and after is done in functions beside
// the way down and not in those on it: TestStack.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, in ingress) {
	x := g.begin(w, r, in)
	if x == nil {
		return
	}
	defer x.release()
	defer x.end()
	defer x.recover()
	list, err := x.prepare()
	if err == nil && list != nil {
		err = x.try(list)
	}
	if err != nil {
		x.fail(err)
	}
}

// begin finds out who asks. It has answered if it returns nil.
func (g *Gateway) begin(w http.ResponseWriter, r *http.Request, in ingress) *exchange {
	start := time.Now()
	c := g.config.Load()
	id := call.NewID(start)
	w.Header()["Sheepgate-Call-Id"] = []string{id}
	who, ok := c.Auth(call.Credential(r))
	if !ok {
		g.denied()
		writeError(w, in.dialect, &llm.Error{Class: llm.Unauthenticated, Code: "invalid_api_key",
			Msg: "no valid key: send one of this gateway's keys as Authorization: Bearer, x-api-key, x-goog-api-key or ?key="}, false)
		return nil
	}
	g.total.Add(1)
	x := &exchange{g: g, c: c, in: in, w: w, r: r, who: who, start: start, buf: getBuffer(), call: &call.Call{
		ID: id, StartedAt: start.UTC().Truncate(time.Microsecond), Origin: call.OriginClient, Key: who.Key, Team: who.Team,
		Ingress: in.dialect.Name(), Usage: llm.Usage{Source: llm.UsageNone}, Status: call.Success,
	}}
	x.labels()
	return x
}

// release gives back what the request held.
func (x *exchange) release() {
	x.g.total.Add(-1)
	x.g.memory.bodies.Add(-x.held)
	x.held = 0
	if x.buf != nil {
		putBuffer(x.buf)
		x.buf = nil
	}
}

// stay prepares for a long stream: a body that is much smaller than its buffer
// does not hold it.
func (x *exchange) stay() {
	if x.buf != nil && cap(*x.buf) > 2*len(x.body) {
		x.body = bytes.Clone(x.body)
		putBuffer(x.buf)
		x.buf = nil
	}
}

// prepare reads the request and finds who can answer it: nobody, and no error,
// if the client has its answer.
func (x *exchange) prepare() ([]candidate, *llm.Error) {
	if coding := x.r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, &llm.Error{Class: llm.InvalidRequest, Status: http.StatusUnsupportedMediaType, Code: "unsupported_encoding",
			Msg: "the body has the Content-Encoding " + printable(coding, 40) + ": send it as it is"}
	}
	if err := x.g.admit(); err != nil {
		x.w.Header().Set("Connection", "close") // the body is not read
		return nil, err
	}
	if err := x.readBody(x.buf); err != nil {
		if x.left() {
			return nil, &llm.Error{Class: llm.Canceled, Msg: "the client closed the request"}
		}
		return nil, err
	}
	x.body = *x.buf
	head, err := provider.Scan(x.body)
	if err != nil {
		return nil, asError(err)
	}
	x.head = head
	if x.in.model == "" {
		x.in.model, x.in.stream = head.Model, head.Stream
	}
	x.call.ModelRequested, x.call.Stream = printable(x.in.model, maxModelName), x.in.stream
	if x.call.User == "" {
		x.call.User = call.Clip(head.User, 256)
	}
	if x.in.stream {
		x.stay()
	}
	route, lerr := x.c.route(x.who, x.in.model)
	if lerr != nil {
		return nil, lerr
	}
	if answered, err := x.once(); answered || err != nil {
		return nil, err
	}
	list := x.candidates(route)
	x.hedgeAfter = route.Hedge
	return list, x.reserve(list)
}

// reserve makes room for the call in the limits and budgets that bind whoever
// asks, for the worst of the targets, and tells the client what is left.
func (x *exchange) reserve(list []candidate) *llm.Error {
	rules, need := x.need(list)
	if !rules.Any() {
		return nil
	}
	var refusal *limit.Refusal
	x.hold, refusal = rules.Reserve(need)
	x.tellLimits(refusal)
	if refusal != nil {
		return refusal.Error()
	}
	return nil
}

// need is what binds the call, and the most that it may come to at any of the
// targets.
func (x *exchange) need(list []candidate) (rules limit.Rules, need limit.Need) {
	rules = x.g.limits.Find(limit.Subject{Key: x.who.Key, Team: x.who.Team, Requested: x.in.model})
	if !rules.Any() {
		return rules, need
	}
	need.At = x.start
	for i := range list {
		e := &list[i].expect
		need.Input, need.Output, need.Soft = max(need.Input, e.input), max(need.Output, e.output), need.Soft || e.soft
		if rules.Money {
			need.Cost = max(need.Cost, x.worst(list[i].Target, *e))
		}
	}
	return rules, need
}

// needAt is the same of an attempt.
func (x *exchange) needAt(c *candidate) (rules limit.Rules, need limit.Need) {
	rules = x.g.limits.Find(limit.Subject{Key: x.who.Key, Team: x.who.Team, Requested: x.in.model, Provider: c.Provider.Name, Model: c.model})
	need = limit.Need{At: x.start, Input: c.expect.input, Output: c.expect.output, Soft: c.expect.soft}
	if rules.Money {
		need.Cost = x.worst(c.Target, c.expect)
	}
	return rules, need
}

// claim makes room for an attempt in the limits that bind its provider and model.
func (x *exchange) claim(c *candidate) (*limit.Reservation, *llm.Error) {
	rules, need := x.needAt(c)
	hold, refusal := rules.Reserve(need)
	if refusal != nil {
		return nil, refusal.Error()
	}
	return hold, nil
}

// try makes attempts until one answers, the failure is not worth another, or
// they are used up. Who is out of room of ours is passed over; if all are, that
// is the answer.
func (x *exchange) try(list []candidate) *llm.Error {
	var last *llm.Error
	ctx := x.r.Context()
	x.deadline = time.Now().Add(x.c.Timeouts.Total)
	if first := &list[0]; first.out() && !x.wait(first) { // they all are
		return transportError(ctx, "", context.Cause(ctx))
	}
	retrying := false
	for n, at := 0, 0; n < x.c.Retry.Attempts; {
		t := &list[at%len(list)]
		if at >= len(list) && !retrying {
			if !x.g.mayRetry() {
				break
			}
			retrying = true
			defer x.g.retrying.Add(-1)
		}
		if again := at - len(list); again >= 0 && (n == 0 || !x.pause(again, last)) {
			break
		}
		at++
		hold, refused := x.claim(t)
		if refused != nil {
			sooner := last == nil || last.RetryAfter == 0 || refused.RetryAfter > 0 && refused.RetryAfter < last.RetryAfter
			if n == 0 && sooner {
				last = refused
			}
			if at > len(list) {
				break
			}
			continue
		}
		n++
		if other := x.hedge(list, at); other != nil && n < x.c.Retry.Attempts {
			var both bool
			if last, both = x.hedged(ctx, t, other, hold); both { // both were asked
				at++
				n++
			}
		} else {
			last = x.attempt(ctx, t, hold)
		}
		if x.raced && last != nil && !x.sent {
			x.raced = false
			if hold, refused := x.claim(t); refused == nil {
				n++
				last = x.attempt(ctx, t, hold) // over a new connection, at once
			}
		}
		if last == nil || x.sent || ctx.Err() != nil || time.Until(x.deadline) <= 0 || !x.c.again(last, at, len(list)) {
			break
		}
	}
	return last
}

// An upstream that fails under load must not get three times the load: no more
// than a fifth of the requests under way may be on a second try at a target,
// beyond a few that hurt nobody.
const (
	retryShare = 5
	fewRetries = 32
)

// mayRetry takes a place among those who try again.
func (g *Gateway) mayRetry() bool {
	if n := g.retrying.Add(1); n <= fewRetries || n <= g.total.Load()/retryShare {
		return true
	}
	g.retrying.Add(-1)
	return false
}

// again reports whether attempt n, from 0, is worth making after e. A bad key
// is bad again, but another target has another; a reply that made no sense is
// asked for once more, but who sends nonsense twice will send it three times.
func (c *Config) again(e *llm.Error, n, targets int) bool {
	fresh := n < targets
	switch {
	case e.Class == llm.Canceled, e.Final && !fresh:
		return false
	case e.Class == llm.ProviderAuth:
		return fresh
	case e.Class == llm.BadUpstream && !fresh && n > targets:
		return false
	}
	return c.Retry.On[e.Class]
}

// The longest wait for a Retry-After, and the first back-off.
const (
	maxPause  = 5 * time.Second
	firstWait = 100 * time.Millisecond
)

// wait holds the request while the best of its candidates has no room, if that
// is for a few seconds: then it goes out in any case. It returns false when
// nobody waits for the answer any more.
func (x *exchange) wait(c *candidate) bool {
	for rest := maxPause; c.wait > 0 && c.wait <= rest; c.look(time.Now()) {
		if rest < maxPause && c.cool { // it has refused somebody else meanwhile: one must ask
			break
		}
		pause := min(c.wait+time.Duration(rand.Float64()*0.2*float64(c.wait)), rest) // not all at once
		if !x.sleep(pause) {
			return false
		}
		rest -= pause
	}
	return true
}

// pause waits before the targets are asked again for the n-th time, from 0. It
// returns false when the upstream wants a longer wait than a client should be
// held for, or than the request has left.
func (x *exchange) pause(n int, last *llm.Error) bool {
	wait := min(time.Duration(float64(firstWait<<min(n, 10))*(0.5+rand.Float64())), maxPause)
	if last.RetryAfter > maxPause {
		return false
	}
	if last.RetryAfter > wait {
		wait = last.RetryAfter
	}
	if time.Until(x.deadline) < wait {
		return false
	}
	return x.sleep(wait)
}

// sleep waits. It returns false when the client leaves meanwhile.
func (x *exchange) sleep(wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// attempt asks one target. It returns nil when the client has a complete
// answer, and the failure otherwise; x.sent tells whether some of it went out.
func (x *exchange) attempt(parent context.Context, t *candidate, hold *limit.Reservation) (failure *llm.Error) {
	a := x.newAttempt(parent, t, hold)
	defer x.booked(&a, &failure)
	res, err := a.ask()
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return a.relay(res)
}

// booked books an attempt that has ended, also one that panics.
func (x *exchange) booked(a **attempt, failure **llm.Error) {
	if v := recover(); v != nil {
		x.book(*a, &llm.Error{Class: llm.Internal, Code: "internal"})
		panic(v)
	}
	x.book(*a, *failure)
}

// left reports whether the client is gone.
func (x *exchange) left() bool {
	ctx := x.r.Context()
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrShutdown)
}

// fail answers with e, unless the client has part of an answer or is gone.
func (x *exchange) fail(e *llm.Error) {
	c := x.call
	x.redactError(e)
	if e.Class == llm.Canceled || x.left() {
		c.Status = call.Canceled
		c.Error = call.Error{Class: llm.Canceled, Message: "the client closed the request"}
		if !x.sent { // one that only half left must not take an empty 200 for an answer
			c.HTTPStatus = llm.StatusClientClosed
			gone := &llm.Error{Class: llm.Canceled, Code: "canceled", Msg: "the client closed the request"}
			writeError(x.w, x.in.dialect, gone, false)
		}
		return
	}
	c.Status = call.Failed
	c.Error = call.Error{Class: e.Class, Code: call.Clip(e.Code, 64), Message: call.Clip(e.Msg, 200)}
	if e.Err != nil && e.Class == llm.Internal {
		x.g.log.Error("request failed", "call", c.ID, "err", e.Err)
	}
	if x.sent {
		return // the relay has ended the stream with an error event
	}
	c.HTTPStatus = e.HTTPStatus()
	body := x.raw
	if len(body) == 0 || len(body) > maxErrorBody || !x.c.clean(body) {
		body = x.in.dialect.WriteError(nil, e)
	}
	writeErrorBody(x.w, e, body, len(c.Attempts) > 1)
	x.sent = true
}

// writeError is the one door for errors: in the dialect of the route.
func writeError(w http.ResponseWriter, d provider.Dialect, e *llm.Error, retried bool) {
	writeErrorBody(w, e, d.WriteError(nil, e), retried)
}

func writeErrorBody(w http.ResponseWriter, e *llm.Error, body []byte, retried bool) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	if retried || e.Class == llm.BudgetExceeded || e.Class == llm.LimitExceeded && e.RetryAfter == 0 {
		h.Set("X-Should-Retry", "false")
	}
	w.WriteHeader(e.HTTPStatus())
	_, _ = w.Write(body) // the client may be gone
}

// end completes the Call and records it: on every path, once.
func (x *exchange) end() {
	c := x.call
	c.Latency = time.Since(x.start).Truncate(time.Microsecond)
	c.Overhead = max(0, c.Latency-x.waited)
	c.Cost, c.Unpriced, c.PriceRow = x.cost.sum, x.cost.unpriced, x.cost.row
	if c.HTTPStatus == 0 {
		c.HTTPStatus = http.StatusOK
	}
	var kept *call.Exchange
	if x.c.Keep && !x.short() {
		kept = &call.Exchange{Request: clone(x.body), Response: x.reply.bytes(), RequestCut: len(x.body) > call.MaxExchange, ReplyCut: x.reply.cut}
	}
	x.keepAnswer()
	x.hold.Settle(limit.Used{Input: c.Usage.Input, Output: c.Usage.Output, Cost: c.Cost})
	x.g.forecasts.learn(c, x.textBytes)
	x.g.record(c, kept)
}

func clone(b []byte) []byte {
	return append([]byte(nil), b[:min(len(b), call.MaxExchange)]...)
}

// recover turns a panic into a 500 for this client alone.
func (x *exchange) recover() {
	v := recover()
	if v == nil {
		return
	}
	x.g.log.Error("panic", "call", x.call.ID, "panic", x.redact(fmt.Sprint(v)), "stack", string(debug.Stack()))
	e := &llm.Error{Class: llm.Internal, Code: "internal", Msg: "internal error; the call id is " + x.call.ID}
	if x.out != nil && x.sent && !x.out.ended {
		x.out.fail(e)
	}
	x.fail(e)
}

const (
	maxTags     = 16
	maxTagName  = 64
	maxTagValue = 256
	tagHeader   = "Sheepgate-Tag-"
)

// labels takes what the client says of the call in headers.
func (x *exchange) labels() {
	h, c := x.r.Header, x.call
	label := func(name string) string { // in its canonical form
		if v := h[name]; len(v) > 0 {
			return printable(v[0], maxTagValue)
		}
		return ""
	}
	c.User, c.Session = label("Sheepgate-User"), label("Sheepgate-Session")
	if c.Session == "" {
		c.Session = label("X-Claude-Code-Session-Id")
	}
	for name, v := range h {
		tag, ok := strings.CutPrefix(name, tagHeader)
		if !ok || tag == "" || len(tag) > maxTagName || len(c.Tags) >= maxTags {
			continue
		}
		if c.Tags == nil {
			c.Tags = map[string]string{}
		}
		c.Tags[strings.ToLower(tag)] = printable(v[0], maxTagValue)
	}
}

// asError is err as the client sees it: *llm.Error, or an internal one.
func asError(err error) *llm.Error {
	var e *llm.Error
	if errors.As(err, &e) {
		return e
	}
	return &llm.Error{Class: llm.Internal, Code: "internal", Msg: "internal error", Err: err}
}
