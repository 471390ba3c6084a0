package gateway

import (
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/provider"
	"github.com/sheepgate/sheepgate/internal/token"
)

// ingresses are the dialects that an Ask may be in.
var ingresses = []provider.Dialect{provider.OpenAI, provider.Anthropic, provider.Gemini}

// Estimate says what a request would come to if p sent it now. Nothing is sent,
// reserved or recorded. The error is what the request would be refused with for
// its form or its model.
func (g *Gateway) Estimate(p *call.Principal, ask call.Ask) (call.Estimate, *llm.Error) {
	c := g.config.Load()
	var in ingress
	for _, d := range ingresses {
		if d.Name() == ask.Ingress || ask.Ingress == "" && d == provider.OpenAI {
			in.dialect = d
		}
	}
	if in.dialect == nil {
		return call.Estimate{}, &llm.Error{Class: llm.InvalidRequest, Param: "ingress", Code: "invalid_value", Msg: "ingress is " + printable(ask.Ingress, 40) + ": there are openai.chat, anthropic.messages and gemini.generate"}
	}
	head, err := provider.Scan(ask.Body)
	if err != nil {
		return call.Estimate{}, asError(err)
	}
	in.model = ask.Model
	if in.model == "" {
		in.model, in.stream = head.Model, head.Stream
	}
	route, lerr := c.route(p, in.model)
	if lerr != nil {
		return call.Estimate{}, lerr
	}
	now := time.Now()
	x := &exchange{g: g, c: c, in: in, who: p, start: now, body: ask.Body, head: head, call: &call.Call{}}
	list := x.candidates(route)
	request, lerr := x.decoded()
	if lerr != nil {
		return call.Estimate{}, lerr
	}
	first := &list[0]
	e := call.Estimate{Model: in.model, Provider: first.Provider.Name, Answers: first.model, Input: token.Estimate(first.model, request), At: now.UTC()}
	var p50, p95 int64
	if p50, p95, e.Basis = g.forecasts.answer(p.Key, first.model); e.Basis == 0 {
		p50, p95 = firstOutput/4, firstOutput
	}
	most := first.expect.output
	if first.expect.soft {
		most = max(p95, 1)
	}
	e.Output = call.Expected{P50: min(p50, most), P95: min(p95, most)}
	cost := func(output int64) (llm.Nano, bool) {
		u := llm.Usage{Source: llm.UsageEstimated, Input: e.Input, Output: output}
		found, ok := c.Prices.Cost(first.Provider.Name, first.Target.Model, &u, now)
		return found.Nano, ok
	}
	if low, ok := cost(e.Output.P50); ok {
		high, _ := cost(e.Output.P95)
		e.Cost = &call.Expected{P50: int64(low), P95: int64(high)}
	}
	rules, need := x.need(list)
	e.Reserved = call.Reserved{Input: need.Input, Output: need.Output, Cost: x.worst(first.Target, first.expect)}
	refusal := rules.Check(need)
	for i := range list { // one target with room is enough
		if refusal != nil && i == 0 {
			break
		}
		attempt, need := x.needAt(&list[i])
		if refusal = attempt.Check(need); refusal == nil {
			break
		}
	}
	e.Fits = refusal == nil
	if refusal != nil {
		said := refusal.Error()
		e.Reason, e.Wait = said.Msg, said.RetryAfter.Seconds()
	}
	return e, nil
}
