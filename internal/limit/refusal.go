package limit

import (
	"fmt"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// A Kind is what there is too little of.
type Kind string

// The kinds.
const (
	Requests     Kind = "requests per minute"
	Tokens       Kind = "tokens per minute"
	InputTokens  Kind = "input tokens per minute"
	OutputTokens Kind = "output tokens per minute"
	Concurrent   Kind = "concurrent requests"
	Money        Kind = "budget"
)

// A Refusal says which rule has no room for a call.
type Refusal struct {
	Rule   string
	Kind   Kind
	Period Period        // of Money
	Limit  int64         // in the unit of Kind; nano-USD for Money
	Used   int64         // reserved and used, without the call
	Need   int64         // the least that the call needs
	Wait   time.Duration // until there is room, if nothing else comes; negative: never, as it is
	At     time.Time
}

// worse is the one of two, or of one, that is to be waited for the longest.
func worse(a, b *Refusal) *Refusal {
	if a == nil || b != nil && a.Wait >= 0 && (b.Wait < 0 || b.Wait > a.Wait) {
		return b
	}
	return a
}

// Error is the refusal as a client sees it.
func (r *Refusal) Error() *llm.Error {
	e := &llm.Error{Class: llm.LimitExceeded, Code: "rate_limit_exceeded", Final: true}
	switch {
	case r.Kind == Money:
		e.Class, e.Code = llm.BudgetExceeded, "insufficient_quota"
		of := fmt.Sprintf("the budget of %s, %v", r.Rule, llm.Nano(r.Limit))
		if r.Period != Total {
			of += " a " + string(r.Period)
		}
		e.Msg = fmt.Sprintf("%s, has %v left, and this request may cost %v", of, llm.Nano(max(r.Limit-r.Used, 0)), llm.Nano(r.Need))
	case r.Kind == Concurrent:
		e.Msg = fmt.Sprintf("%s may have %d requests at a time and has %d", r.Rule, r.Limit, r.Used)
	case r.Wait < 0:
		e.Msg = fmt.Sprintf("this request may need %d of the %d %s that %s may have: ask for less, max_tokens for one", r.Need, r.Limit, r.Kind, r.Rule)
	default:
		e.Msg = fmt.Sprintf("%s may have %d %s; %d are used or reserved, and this request needs %d", r.Rule, r.Limit, r.Kind, r.Used, r.Need)
	}
	if r.Wait >= 0 {
		e.RetryAfter = max(r.Wait, time.Second)
		e.Msg += "; it resets " + r.At.Add(e.RetryAfter).UTC().Format(time.RFC3339)
	}
	return e
}
