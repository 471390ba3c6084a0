package provider

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A RateLimit is what a provider says of one of its limits with an answer.
type RateLimit struct {
	Kind      LimitKind
	Limit     int64         // in all; 0 if it does not say
	Remaining int64         // left when it answered
	Reset     time.Duration // until all of it is back; 0 if it does not say
}

// A LimitKind is what a provider limits.
type LimitKind uint8

// The kinds that a request can be held against. What else providers limit
// (images, tokens per month) is left alone.
const (
	LimitRequests LimitKind = iota
	LimitTokens
	LimitInputTokens
	LimitOutputTokens
	LimitKinds // how many there are
)

func (k LimitKind) String() string {
	return [...]string{"requests", "tokens", "input_tokens", "output_tokens"}[k]
}

// limitNames are the kinds as headers name them.
var limitNames = [LimitKinds]string{"Requests", "Tokens", "Input-Tokens", "Output-Tokens"}

const (
	openAILimits    = "X-Ratelimit-"
	anthropicLimits = "Anthropic-Ratelimit-"
	maxReset        = 24 * time.Hour // what is said of a later time is no rate
	maxLimit        = 1 << 50
)

// HasRateLimits reports whether ReadRateLimits may find something: most answers
// of most providers say nothing.
func HasRateLimits(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, openAILimits) || strings.HasPrefix(name, anthropicLimits) {
			return true
		}
	}
	return false
}

// ReadRateLimits appends what the headers of an answer say of the provider's
// limits. Families: OpenAI, Groq and Azure x-ratelimit-{limit,remaining,reset}-
// {requests,tokens}, the reset a duration like 6m0s, or at Azure seconds;
// Anthropic anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-
// {limit,remaining,reset}, the reset a time; Mistral x-ratelimit-{limit,remaining}-
// tokens-minute and -req-10-second; Together x-ratelimit-{limit,remaining,reset}.
// What is not said, or makes no sense, is left out: an absent limit is better
// than a false one.
//
// https://platform.openai.com/docs/guides/rate-limits
// https://docs.anthropic.com/en/api/rate-limits
func ReadRateLimits(to []RateLimit, h http.Header, now time.Time) []RateLimit {
	for k := range LimitKinds {
		name := limitNames[k]
		if r, ok := readLimit(h, k, openAILimits+"Limit-"+name, openAILimits+"Remaining-"+name, openAILimits+"Reset-"+name, now); ok {
			to = append(to, r)
			continue
		}
		if r, ok := readLimit(h, k, anthropicLimits+name+"-Limit", anthropicLimits+name+"-Remaining", anthropicLimits+name+"-Reset", now); ok {
			to = append(to, r)
		}
	}
	if len(to) > 0 {
		return to
	}
	if r, ok := readLimit(h, LimitTokens, openAILimits+"Limit-Tokens-Minute", openAILimits+"Remaining-Tokens-Minute", "", now); ok { // Mistral
		to = append(to, r)
	}
	if r, ok := readLimit(h, LimitRequests, openAILimits+"Limit-Req-10-Second", openAILimits+"Remaining-Req-10-Second", "", now); ok {
		r.Reset = 10 * time.Second
		to = append(to, r)
	}
	if r, ok := readLimit(h, LimitRequests, "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", now); ok && len(to) == 0 { // Together
		to = append(to, r)
	}
	return to
}

func readLimit(h http.Header, k LimitKind, limit, remaining, reset string, now time.Time) (RateLimit, bool) {
	left, ok := headerCount(h, remaining)
	if !ok {
		return RateLimit{}, false
	}
	r := RateLimit{Kind: k, Remaining: left}
	if r.Limit, ok = headerCount(h, limit); ok && (r.Limit < left || r.Limit == 0) { // a limit of nothing is none
		return RateLimit{}, false
	}
	if v := h[reset]; len(v) > 0 {
		r.Reset = resetIn(v[0], now)
	}
	return r, true
}

// headerCount is a header's whole number. Providers also write 1000.0, and -1 for
// what is not limited.
func headerCount(h http.Header, name string) (int64, bool) {
	v := h[name]
	if len(v) == 0 {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(v[0]), 64)
	if err != nil || !(f >= 0 && f <= maxLimit) {
		return 0, false
	}
	return int64(f), true
}

// resetIn reads when a limit resets: a duration (12ms, 6m0s), seconds (7, 0.5),
// a time (RFC 3339) or Unix seconds. 0 is what cannot be read or believed.
func resetIn(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	d := time.Duration(0)
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if f > 1e9 { // a time
			f -= float64(now.UnixMilli()) / 1e3
		}
		if !(f > 0 && f < maxReset.Seconds()) {
			return 0
		}
		d = time.Duration(f * float64(time.Second))
	} else if t, err := time.Parse(time.RFC3339, s); err == nil {
		d = t.Sub(now)
	} else if d, err = time.ParseDuration(s); err != nil {
		return 0
	}
	if d < 0 || d > maxReset {
		return 0
	}
	return d
}
