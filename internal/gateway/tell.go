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
	requests, tokens := &otherRequests, &otherTokens
	if x.in.dialect == provider.Anthropic {
		requests, tokens = &anthropicRequests, &anthropicTokens
	}
	h := x.w.Header()
	if left.Requests.Limit > 0 {
		requests.tell(h, left.Requests)
	}
	if left.Tokens.Limit > 0 {
		tokens.tell(h, left.Tokens)
	}
}

// shareNames are the headers of a limit, its rest, and when all of it is back.
type shareNames [3]string

var (
	anthropicRequests = shareNames{"Anthropic-Ratelimit-Requests-Limit", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset"}
	anthropicTokens   = shareNames{"Anthropic-Ratelimit-Tokens-Limit", "Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset"}
	otherRequests     = shareNames{"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"}
	otherTokens       = shareNames{"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"}
)

// tell puts a share into h.
func (names *shareNames) tell(h http.Header, s limit.Share) {
	var room [96]byte
	b := strconv.AppendInt(room[:0], s.Limit, 10)
	first := len(b)
	b = strconv.AppendInt(b, s.Remaining, 10)
	second := len(b)
	if names == &anthropicRequests || names == &anthropicTokens {
		b = time.Now().Add(s.Reset).UTC().AppendFormat(b, time.RFC3339)
	} else {
		b = append(b, s.Reset.Truncate(time.Millisecond).String()...)
	}
	text := string(b)
	values := [...]string{text[:first], text[first:second], text[second:]}
	for i, name := range names {
		h[name] = values[i : i+1 : i+1]
	}
}
