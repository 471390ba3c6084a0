package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/h1"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// An attempt is one try at one target.
type attempt struct {
	x      *exchange
	target *candidate
	hold   *limit.Reservation // nil if nothing bounds it
	ticket ticket
	same   bool // the upstream speaks the client's dialect
	ctx    *ending

	began      time.Time
	late       bool // another target answered first, that was asked later
	status     int  // the upstream's; 0 before it answered
	headerWait time.Duration
	body       *upstreamBody
	reader     provider.Reader // nil before a reply is read
	watchdog   *time.Timer
	watchErr   error

	settled  bool
	cost     llm.Nano
	unpriced bool
}

func (x *exchange) newAttempt(parent context.Context, t *candidate, hold *limit.Reservation) *attempt {
	a := &attempt{x: x, target: t, hold: hold, same: t.Provider.Spec.Dialect == x.in.dialect, began: time.Now(), ticket: t.d.begin(&t.needs)}
	a.ctx = newEnding(parent)
	x.answeredBy(a)
	return a
}

// answeredBy makes a the attempt that the Call is about.
func (x *exchange) answeredBy(a *attempt) {
	x.call.Provider, x.call.Model = a.target.Provider.Name, a.target.model
	x.raw = nil
	x.reply.reset()
}

// ask sends the request and waits for the head of its answer.
func (a *attempt) ask() (*http.Response, *llm.Error) {
	req, err := a.newRequest()
	if err != nil {
		return nil, err
	}
	return a.took(a.send(a.client(), req))
}

// client is who makes the round trip.
func (a *attempt) client() http.RoundTripper {
	if a.x.lost { // so may be the next connection of the pool: they are as old
		return a.x.g.fresh
	}
	return a.x.g.upstream
}

// An arrival is how a round trip ended.
type arrival struct {
	res    *http.Response
	err    error
	waited time.Duration
}

// send makes the round trip. It changes nothing but what is a's alone.
func (a *attempt) send(client http.RoundTripper, req *http.Request) (r arrival) {
	x := a.x
	if x.in.stream {
		a.watch(x.c.Timeouts.FirstToken, errFirstToken)
	} else {
		a.watch(x.c.Timeouts.Total, errTotal)
	}
	if cause := a.ctx.Err(); cause != nil { // nobody waits for it any more
		return arrival{err: cause}
	}
	asked := time.Now()
	r.res, r.err = client.RoundTrip(req) //nolint:bodyclose // whoever takes the arrival closes it
	r.waited = time.Since(asked)
	return r
}

// took notes how the round trip ended.
func (a *attempt) took(r arrival) (*http.Response, *llm.Error) {
	x, res := a.x, r.res
	a.headerWait = r.waited
	if r.err != nil {
		err := transportError(a.ctx, a.target.Provider.Name, r.err)
		var lost *h1.LostError
		x.raced = errors.As(r.err, &lost) && lost.Race && err.Class != llm.Canceled && !x.lost
		x.lost = x.lost || err.Code == "connection_lost"
		return nil, err
	}
	x.raced = false
	a.status = res.StatusCode
	if provider.HasRateLimits(res.Header) {
		now := time.Now()
		var room [provider.LimitKinds]provider.RateLimit
		a.target.d.told(&a.ticket, provider.ReadRateLimits(room[:0], res.Header, now), now)
	}
	return res, nil
}

// watch ends the attempt with cause unless it is called again within d, and in
// any case when the request's time is up.
func (a *attempt) watch(d time.Duration, cause error) {
	if rest := time.Until(a.x.deadline); rest < d {
		d, cause = rest, errTotal
	}
	if a.watchdog != nil && errors.Is(a.watchErr, cause) {
		a.watchdog.Reset(d)
		return
	}
	a.stopWatch()
	a.watchErr = cause
	a.watchdog = time.AfterFunc(d, func() { a.ctx.end(cause) })
}

func (a *attempt) stopWatch() {
	if a.watchdog != nil {
		a.watchdog.Stop()
	}
}

// waited is the time spent waiting for the upstream.
func (a *attempt) waited() time.Duration {
	if a.body == nil {
		return a.headerWait
	}
	return a.headerWait + a.body.waited
}

// newRequest makes the upstream request: the client's own bytes with what must
// change spliced in, or their translation.
func (a *attempt) newRequest() (*http.Request, *llm.Error) {
	x, spec := a.x, &a.target.Provider.Spec
	var body *h1.Body
	if a.same {
		body = h1.NewBody(spec.Dialect.Splice(make([][]byte, 0, 5), x.body, &x.head, a.target.Model, spec)...)
	} else {
		r, err := x.decoded()
		if err != nil {
			return nil, err
		}
		q := *r
		q.Model = a.target.Model
		b, eerr := spec.Dialect.Encode(nil, &q, spec)
		if eerr != nil {
			return nil, asError(eerr)
		}
		body = h1.NewBody(b)
	}
	u, err := x.g.url(address{spec.BaseURL, spec.Dialect.Path(a.target.Model, x.in.stream)})
	if err != nil {
		return nil, &llm.Error{Class: llm.InvalidRequest, Param: "model", Msg: "the model name cannot be part of a URL", Err: err}
	}
	req := new(http.Request).WithContext(a.ctx)
	req.Method, req.URL, req.Host, req.Proto, req.ProtoMajor, req.ProtoMinor = http.MethodPost, u, u.Host, "HTTP/1.1", 1, 1
	req.Header, req.ContentLength, req.Body = make(http.Header, 8), body.Len(), body
	var client http.Header
	if a.same {
		client = x.r.Header
	}
	spec.Dialect.SetHeader(req.Header, a.target.key.Secret, client)
	return req, nil
}

// decoded is the request in the neutral form.
func (x *exchange) decoded() (*llm.Request, *llm.Error) {
	if x.request == nil {
		r, err := x.in.dialect.Decode(x.body, x.in.model, x.in.stream)
		if err != nil {
			return nil, asError(err)
		}
		x.request = r
	}
	return x.request, nil
}

// relay brings the upstream's answer to the client.
func (a *attempt) relay(res *http.Response) *llm.Error {
	r, err := decoded(res)
	if err != nil {
		return &llm.Error{Class: llm.BadUpstream, Code: "bad_encoding", Msg: a.target.Provider.Name + ": the answer cannot be decompressed", Err: err}
	}
	a.body = &upstreamBody{r: r}
	if res.StatusCode != http.StatusOK {
		return a.refusal(res)
	}
	a.reader = a.target.Provider.Spec.Dialect.NewReader(&a.target.Provider.Spec)
	if a.x.in.stream {
		return a.stream(res)
	}
	return a.whole(res.ContentLength)
}

// refusal reads an error answer. The client gets the upstream's own body where
// it speaks that dialect and the fault is the request's; else our words.
func (a *attempt) refusal(res *http.Response) *llm.Error {
	var body []byte
	if err := fill(&body, a.body, res.ContentLength, 64<<10, a.x.grow); err != nil && !errors.Is(err, errTooLong) {
		if a.ctx.Err() != nil {
			return transportError(a.ctx, a.target.Provider.Name, err)
		}
	}
	e := a.target.Provider.Spec.Dialect.ReadError(res.StatusCode, res.Header, body)
	e.Upstream = res.StatusCode
	e.Final = res.StatusCode >= 300 && res.StatusCode < 400 // where it points to nobody follows
	if a.same && e.HTTPStatus() == res.StatusCode && res.StatusCode < 500 {
		a.x.raw = body
	}
	return e
}

// whole relays a plain answer of size bytes, or of an unknown size if that is
// negative.
func (a *attempt) whole(size int64) *llm.Error {
	x := a.x
	buf := getBuffer()
	defer putBuffer(buf)
	name := a.target.Provider.Name
	if err := fill(buf, a.body, size, maxReply, x.grow); err != nil {
		if refused := (*llm.Error)(nil); errors.As(err, &refused) {
			return refused
		}
		if errors.Is(err, errTooLong) {
			return &llm.Error{Class: llm.BadUpstream, Code: "reply_too_large", Final: true, Msg: name + ": the answer is larger than 32 MiB"}
		}
		if e := transportError(a.ctx, name, err); e.Class != llm.UpstreamError {
			return e
		}
		return &llm.Error{Class: llm.BadUpstream, Code: "incomplete_reply", Msg: name + ": the answer ended early", Err: bare(err)}
	}
	body := *buf
	var out []byte
	if a.same {
		if err := a.reader.Whole(body, nil); err != nil {
			return a.upstreamSaid(err)
		}
		out = body
	} else {
		w := x.in.dialect.NewWriter(x.writerOptions())
		if err := a.reader.Whole(body, func(e llm.Event) { w.Event(nil, e) }); err != nil {
			return a.upstreamSaid(err)
		}
		out = w.Whole(nil)
	}
	if x.c.Keep || a.reader.Summary().Usage.Source != llm.UsageUpstream {
		x.reply.add(body)
	}
	a.settle(true)
	h := x.w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(out))}
	h["Date"] = date(time.Now())
	if !x.cost.unpriced {
		h["Sheepgate-Cost-Usd"] = []string{strings.TrimPrefix(x.cost.sum.String(), "$")}
	}
	x.sent = true
	x.call.HTTPStatus = http.StatusOK
	x.w.WriteHeader(http.StatusOK)
	if _, err := x.w.Write(out); err != nil || x.left() {
		return &llm.Error{Class: llm.Canceled, Msg: "the client closed the request", Err: err}
	}
	return nil
}

// upstreamSaid is the failure that a Reader found in a reply with status 200.
func (a *attempt) upstreamSaid(err error) *llm.Error {
	e := asError(err)
	if e.Class == llm.Internal {
		e.Class = llm.BadUpstream
	}
	e.Upstream = a.status
	return e
}

func (x *exchange) writerOptions() provider.WriterOptions {
	return provider.WriterOptions{ID: x.call.ID, Model: x.in.model, Created: x.start.Unix(), Stream: x.in.stream, Usage: x.head.IncludeUsage}
}
