package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// lingerAfterEnd is how long an upstream may hold its connection open after it
// has said that the stream is over.
const lingerAfterEnd = time.Second

// stream relays frames as they come: write, flush, and only then account.
// Nothing is sent before the first frame is known to be no error, so that
// until then another attempt can be made.
func (a *attempt) stream(res *http.Response) *llm.Error {
	if mt, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); mt == "application/json" || mt == "text/html" {
		return a.notAStream(res)
	}
	if a.same && !a.x.head.IncludeUsage {
		a.reader.HideUsage()
	}
	frames := provider.NewFrameReader(a.body)
	out := a.newOutput()
	a.x.out = out
	defer out.stopPing()
	for {
		f, err := frames.Next()
		if err != nil {
			return a.streamEnded(out, err)
		}
		if ferr := out.frame(f); ferr != nil {
			return a.broken(out, a.upstreamSaid(ferr))
		}
		sum := a.reader.Summary()
		if sum.Content && a.x.call.TTFT == 0 {
			a.target.d.spoke(time.Since(a.began))
			a.x.call.TTFT = max(time.Since(a.x.start).Truncate(time.Microsecond), time.Microsecond)
		}
		switch {
		case sum.Ended && !sum.Complete:
			return a.streamEnded(out, io.EOF)
		case sum.Ended && !out.ended:
			if err := out.end(); err != nil {
				return a.left(err)
			}
			a.watch(lingerAfterEnd, errIdle)
		case f.Data != nil && sum.Content && !sum.Ended:
			a.watch(a.x.c.Timeouts.Idle, errIdle)
		}
		if !frames.Buffered() {
			if err := out.flush(); err != nil {
				return a.left(err)
			}
		}
	}
}

// left is the end of a stream whose client is gone, or leaves it unread.
func (a *attempt) left(err error) *llm.Error {
	return &llm.Error{Class: llm.Canceled, Msg: a.target.Provider.Name + ": the client closed the stream", Err: err}
}

// notAStream reads a plain JSON answer where a stream was asked for: mostly an
// error with status 200.
func (a *attempt) notAStream(res *http.Response) *llm.Error {
	var body []byte
	if err := fill(&body, a.body, res.ContentLength, 64<<10, a.x.grow); err == nil {
		if err := a.reader.Whole(body, nil); err != nil {
			return a.upstreamSaid(err)
		}
	}
	return &llm.Error{Class: llm.BadUpstream, Code: "not_a_stream", Msg: a.target.Provider.Name + ": answered a stream with a plain reply"}
}

// streamEnded ends the client's stream as the upstream ended its own: properly
// if the reply was complete, else with an error event.
func (a *attempt) streamEnded(out *output, err error) *llm.Error {
	name := a.target.Provider.Name
	sum := a.reader.Summary()
	if a.x.left() && !out.ended {
		return a.left(err)
	}
	if sum.Complete {
		if out.ended {
			return nil
		}
		if werr := out.end(); werr != nil {
			return a.left(werr)
		}
		return nil
	}
	var e *llm.Error
	switch {
	case errors.Is(err, io.EOF) && !a.x.sent && !out.any:
		return &llm.Error{Class: llm.BadUpstream, Code: "empty_stream", Msg: name + ": the stream ended before its first event"}
	case errors.Is(err, io.EOF):
		e = &llm.Error{Class: llm.UpstreamError, Msg: name + ": the stream ended before the answer was complete"}
	case errors.Is(err, provider.ErrFrameTooLong):
		e = &llm.Error{Class: llm.BadUpstream, Code: "event_too_large", Final: true, Msg: name + ": " + err.Error()}
	default:
		e = transportError(a.ctx, name, err)
	}
	if e.Class == llm.UpstreamError || e.Code == "malformed_http" {
		e.Class, e.Code = llm.StreamBroken, "stream_broken"
		if !a.x.sent { // nobody has seen any of it
			e.Class, e.Code = llm.BadUpstream, "incomplete_reply"
		}
	}
	return a.broken(out, e)
}

// broken ends a stream of which the client has a part with an error event. If
// nothing was sent the error is the whole answer, or another attempt's reason.
func (a *attempt) broken(out *output, e *llm.Error) *llm.Error {
	if !a.x.sent {
		return e
	}
	if e.Class != llm.Canceled {
		a.x.redactError(e)
		out.fail(e)
	}
	return e
}

// An output writes a stream to the client: frames as they came where it speaks
// the upstream's dialect, translated where not.
type output struct {
	a        *attempt
	rc       *http.ResponseController
	writer   provider.Writer // nil: pass through
	emit     func(llm.Event)
	buf      []byte  // written at the next flush
	pooled   *[]byte // where buf comes from; nil while there is nothing to write
	any      bool    // a frame has been taken
	elements int     // of a JSON array
	marker   []byte  // the upstream's own end marker, held back until the reply is whole
	ended    bool    // the proper end has been written

	mu    sync.Mutex  // for writing to the client
	wrote time.Time   // when that was done last
	alive *time.Timer // writes a ping; nil before the header is out
}

// keepAlive is how long a client hears nothing before it is told that we are
// still there. Proxies and load balancers give up after 30 s or 60 s. Variable
// for tests only.
var keepAlive = 15 * time.Second

// ping writes a comment when nothing else has been written for a while; in a
// JSON array, white space.
func (o *output) ping() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.alive == nil {
		return // stopped meanwhile
	}
	rest := keepAlive - time.Since(o.wrote)
	if rest <= 0 {
		rest = keepAlive
		comment := ": keep-alive\n\n"
		if o.a.x.in.array {
			comment = "\n"
		}
		if _, err := io.WriteString(o.a.x.w, comment); err != nil || o.rc.Flush() != nil {
			o.a.ctx.end(context.Canceled) // the client is gone
			return
		}
		o.wrote = time.Now()
	}
	o.alive.Reset(rest)
}

// stopPing returns when no ping is under way and none will come.
func (o *output) stopPing() {
	o.putBack()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.alive != nil {
		o.alive.Stop()
		o.alive = nil
	}
}

func (a *attempt) newOutput() *output {
	o := &output{a: a, rc: http.NewResponseController(a.x.w)}
	if !a.same {
		o.writer = a.x.in.dialect.NewWriter(a.x.writerOptions())
		o.emit = func(e llm.Event) { o.translated(o.writer.Event(o.buf, e)) }
	}
	return o
}

// translated takes the buffer with what a Writer appended to it: events, of
// which a JSON array has the data.
func (o *output) translated(buf []byte) {
	if !o.a.x.in.array {
		o.buf = buf
		return
	}
	events := slices.Clone(buf[len(o.buf):])
	for e := range bytes.SplitSeq(events, []byte("\n\n")) {
		if data, ok := bytes.CutPrefix(e, []byte("data: ")); ok {
			o.buf = append(o.buf, o.separator()...)
			o.buf = append(o.buf, data...)
		}
	}
}

// room gives the output a buffer, and putBack takes it away: a stream that
// stands still holds none.
func (o *output) room() {
	if o.pooled == nil {
		o.pooled = getBuffer()
		o.buf = *o.pooled
	}
}

func (o *output) putBack() {
	if o.pooled != nil {
		*o.pooled = o.buf
		putBuffer(o.pooled)
		o.pooled, o.buf = nil, nil
	}
}

// maxComments bounds the comments before the first event, in bytes: those that
// come later are dropped.
const maxComments = 64 << 10

// frame takes one upstream frame.
func (o *output) frame(f provider.Frame) error {
	o.room()
	if f.Data == nil {
		// Until the first event comes, comments wait in memory.
		room := o.any || o.a.x.sent || len(o.buf)+len(f.Raw) <= maxComments
		if o.writer == nil && !o.a.x.in.array && !o.ended && room {
			o.buf = f.Clean(o.buf) // a comment keeps the connection alive
		}
		return nil
	}
	pass, err := o.a.reader.Frame(f, o.emit)
	if err != nil {
		return err
	}
	o.a.x.reply.add(f.Raw)
	ended := o.a.reader.Summary().Ended
	o.any = o.any || !ended
	switch {
	case o.writer != nil || !pass:
	case o.a.x.in.array:
		o.buf = append(o.buf, o.separator()...)
		o.buf = append(o.buf, f.Data...)
	case ended:
		o.marker = f.Clean(o.marker)
	default:
		o.buf = f.Clean(o.buf)
	}
	return nil
}

func (o *output) separator() string {
	o.elements++
	if o.elements == 1 {
		return "["
	}
	return ",\n"
}

// flush sends what has gathered. The first one sends the header too.
func (o *output) flush() error {
	if len(o.buf) == 0 || !o.any && !o.a.x.sent {
		return nil
	}
	x := o.a.x
	o.mu.Lock()
	defer o.mu.Unlock()
	if !x.sent {
		h := x.w.Header()
		h["Content-Type"] = eventStream
		if x.in.array {
			h["Content-Type"] = jsonType
		}
		h["Cache-Control"], h["X-Accel-Buffering"] = noCache, noBuffering
		h["Date"] = date(time.Now())
		x.sent = true
		x.call.HTTPStatus = http.StatusOK
		x.w.WriteHeader(http.StatusOK)
		o.alive = time.AfterFunc(keepAlive, o.ping)
	}
	o.wrote = time.Now()
	_, err := x.w.Write(o.buf)
	o.putBack()
	if err != nil {
		return err
	}
	return o.rc.Flush()
}

// end is the proper end of a complete stream.
func (o *output) end() error {
	x := o.a.x
	o.room()
	switch {
	case o.writer != nil:
		o.translated(o.writer.End(o.buf))
	case x.in.array:
	case o.marker != nil:
		o.buf = append(o.buf, o.marker...)
	default:
		o.buf = x.in.dialect.WriteStreamEnd(o.buf)
	}
	if x.in.array {
		if o.elements == 0 {
			o.buf = append(o.buf, '[')
		}
		o.buf = append(o.buf, ']')
	}
	o.any, o.ended = true, true
	return o.flush()
}

// fail ends the stream with an error event and nothing after it.
func (o *output) fail(e *llm.Error) {
	o.room()
	if o.a.x.in.array {
		o.buf = append(o.buf, o.separator()...)
		o.buf = o.a.x.in.dialect.WriteError(o.buf, e)
		o.buf = append(o.buf, ']')
	} else {
		o.buf = o.a.x.in.dialect.WriteStreamError(o.buf, e)
	}
	o.any = true
	_ = o.flush() // the client may be gone
}
