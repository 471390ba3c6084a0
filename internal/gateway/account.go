package gateway

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/provider"
	"github.com/sheepgate/sheepgate/internal/token"
)

// costs sums what the attempts of a call cost.
type costs struct {
	sum      llm.Nano
	unpriced bool
	row      string
}

// maxRawUsage bounds what is kept of a usage object, in bytes. The longest that
// was recorded has 1.4 KB.
const maxRawUsage = 16 << 10

// settle takes what the reply says of itself into the Call, estimates what it
// does not say, and prices it. finished is false for a reply that broke off.
func (a *attempt) settle(finished bool) {
	if a.settled || a.reader == nil {
		return
	}
	a.settled = true
	c, sum := a.x.call, a.reader.Summary()
	c.ResponseID, c.ResponseModel = call.Clip(sum.ID, 256), call.Clip(sum.Model, 256)
	c.FinishReason, c.NativeFinishReason = sum.Finish, call.Clip(sum.Native, 64)
	c.Usage = sum.Usage
	if len(c.Usage.Raw) > maxRawUsage {
		c.Usage.Raw = json.RawMessage(`"too long to be kept"`)
	}
	if c.Usage.Source != llm.UsageUpstream || !finished && !sum.Complete {
		a.estimate(sum)
	}
	a.price(&c.Usage)
}

// estimate fills in a usage that was not reported, or was reported before the
// reply broke off: what was asked and what was relayed, counted offline.
func (a *attempt) estimate(sum *provider.Summary) {
	u := &a.x.call.Usage
	r, err := a.x.decoded()
	if err == nil && u.Input == 0 {
		u.Input = token.Estimate(a.target.model, r)
	}
	u.Output = max(u.Output, token.Count(a.target.model, a.relayedText()))
	u.Source = llm.UsageEstimated
}

// relayedText is the text of the reply as far as it came: content, reasoning
// and the arguments of tool calls.
func (a *attempt) relayedText() string {
	var text bytes.Buffer
	emit := func(e llm.Event) {
		switch e.Kind {
		case llm.EventText, llm.EventReasoning, llm.EventRefusal, llm.EventToolDelta:
			text.WriteString(e.Text)
		case llm.EventTool:
			text.WriteString(e.ToolName)
		}
	}
	spec := &a.target.Provider.Spec
	again := spec.Dialect.NewReader(spec)
	if !a.x.in.stream {
		_ = again.Whole(a.x.reply.bytes(), emit) // it was read once already
		return text.String()
	}
	frames := provider.NewFrameReader(bytes.NewReader(a.x.reply.bytes()))
	for {
		f, err := frames.Next()
		if err != nil {
			return text.String()
		}
		if f.Data != nil {
			if _, err := again.Frame(f, emit); err != nil {
				return text.String()
			}
		}
	}
}

// price books what u cost at the target. A provider that reports its own cost
// is believed; else the catalogue's row counts.
func (a *attempt) price(u *llm.Usage) {
	x, t := a.x, a.target
	if c, ok := x.c.Prices.Charge(t.Provider.Name, t.Model, u, x.call.StartedAt, t.Provider.Spec.Quirks.ReportsCost); ok {
		a.cost = c.Nano
		x.cost.row = c.Row
	} else {
		a.unpriced = true
		x.cost.unpriced = true
	}
	x.cost.sum += a.cost
}

// book ends an attempt: a reply that broke off is settled too, and the attempt
// joins the Call.
func (x *exchange) book(a *attempt, failure *llm.Error) {
	defer func() { // whatever happens meanwhile: what is held must not stay so
		used := limit.Used{Cost: a.cost}
		if a.settled {
			used.Input, used.Output = x.call.Usage.Input, x.call.Usage.Output
		}
		a.hold.Settle(used)
		a.target.d.end(failure, a, time.Now())
	}()
	a.stopWatch()
	a.ctx.end(nil)
	x.waited += a.waited()
	took := time.Since(a.began)
	switch {
	case failure == nil:
		a.settle(true)
	case failure.Class == llm.Canceled && a.headerWait > 0:
		// The upstream has the request and will bill it, whoever left.
		if a.reader == nil {
			a.reader = a.target.Provider.Spec.Dialect.NewReader(&a.target.Provider.Spec)
		}
		a.settle(false)
	case a.reader != nil && (a.reader.Summary().Content || a.reader.Summary().Usage.Source == llm.UsageUpstream):
		a.settle(false)
	}
	at := call.Attempt{Provider: a.target.Provider.Name, ProviderKey: a.target.key.Name, Model: a.target.model, HTTPStatus: a.status, Latency: took.Truncate(time.Microsecond), Cost: a.cost, Unpriced: a.unpriced}
	if failure != nil {
		at.ErrorClass = failure.Class
	}
	x.call.Attempts = append(x.call.Attempts, at)
}
