package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// tellLimits puts what is left of the client's limits into the answer's headers,
// in the family that clients of its dialect read.
func (x *exchange) tellLimits(refusal *limit.Refusal) {
	left := x.hold.Left()
	if refusal != nil {
		s := limit.Share{Limit: refusal.Limit, Remaining: max(refusal.Limit-refusal.Used, 0), Reset: max(refusal.Wait, 0)}
		switch refusal.Kind {
		case limit.Requests:
			left.Requests = s
		case limit.Tokens, limit.InputTokens, limit.OutputTokens:
			left.Tokens = s
		case limit.Concurrent, limit.Money: // clients know no header for these
		}
	}
	h := x.w.Header()
	if left.Requests.Limit > 0 {
		x.tellShare(h, "Requests", left.Requests)
	}
	if left.Tokens.Limit > 0 {
		x.tellShare(h, "Tokens", left.Tokens)
	}
}

func (x *exchange) tellShare(h http.Header, name string, s limit.Share) {
	limit, remaining := strconv.FormatInt(s.Limit, 10), strconv.FormatInt(s.Remaining, 10)
	if x.in.dialect == provider.Anthropic {
		h["Anthropic-Ratelimit-"+name+"-Limit"] = []string{limit}
		h["Anthropic-Ratelimit-"+name+"-Remaining"] = []string{remaining}
		h["Anthropic-Ratelimit-"+name+"-Reset"] = []string{time.Now().Add(s.Reset).UTC().Format(time.RFC3339)}
		return
	}
	h["X-Ratelimit-Limit-"+name] = []string{limit}
	h["X-Ratelimit-Remaining-"+name] = []string{remaining}
	h["X-Ratelimit-Reset-"+name] = []string{s.Reset.Truncate(time.Millisecond).String()}
}
