package provider

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// unquote is the value of a JSON string literal.
func unquote(v []byte) (string, bool) {
	var s string
	err := json.Unmarshal(v, &s)
	return s, err == nil
}

// lenient decodes a reply. A member of another type than we know is left out
// and no fault: what passes through unchanged may hold what came out yesterday.
func lenient(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return nil
	}
	return err
}

// present is whether a member is there and neither null nor "": all that is
// asked of content nobody translates.
type present bool

func (p *present) UnmarshalJSON(b []byte) error {
	*p = string(b) != "null" && string(b) != `""`
	return nil
}

// A count is a token count as providers write it: an integer, sometimes as a
// float or null. What is not a whole number is badCount, which no Usage with
// it survives.
type count int64

const badCount = count(-1)

func (c *count) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		*c = count(n)
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1e15 {
		*c = badCount
		return nil
	}
	*c = count(f)
	return nil
}

// nanoOf reads a decimal number of units, each worth unit nano-USD, exactly,
// rounded half up to the nano-dollar. ok is false for what is no such number.
func nanoOf(decimal string, unit int64) (llm.Nano, bool) {
	if decimal == "" || len(decimal) > 64 {
		return 0, false
	}
	if i := strings.IndexAny(decimal, "eE"); i >= 0 {
		if exp, err := strconv.Atoi(decimal[i+1:]); err != nil || exp > 30 || exp < -60 {
			return 0, false
		}
	}
	r, ok := new(big.Rat).SetString(decimal)
	if !ok || r.Sign() < 0 {
		return 0, false
	}
	r.Mul(r, new(big.Rat).SetInt64(unit))
	r.Add(r, big.NewRat(1, 2))
	q := new(big.Int).Quo(r.Num(), r.Denom())
	if !q.IsInt64() {
		return 0, false
	}
	return llm.Nano(q.Int64()), true
}

// retryAfter reads the wait that an upstream asks for: retry-after-ms, or
// retry-after in seconds or as a date.
func retryAfter(h http.Header) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return bounded(ms / 1e3)
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		return bounded(s)
	}
	if t, err := http.ParseTime(v); err == nil {
		return bounded(time.Until(t).Seconds())
	}
	return 0
}

// bounded is a number of seconds as a wait between 0 and 10 days.
func bounded(s float64) time.Duration {
	if !(s > 0) {
		return 0
	}
	return time.Duration(math.Min(s, 864000) * float64(time.Second))
}

// clip cuts an upstream's message to what we show: 500 bytes, valid UTF-8, no
// line ends.
func clip(s string) string {
	const most = 500
	if len(s) > most {
		s = s[:most]
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
}

// refusal is what an upstream's status means; dialects add code and message.
// A refused key is the operator's matter: the client's own key is fine.
func refusal(status int, h http.Header) *llm.Error {
	e := &llm.Error{Status: status, Upstream: status, RetryAfter: retryAfter(h)}
	switch {
	case status == 401 || status == 403 || status == 402:
		e.Class, e.Status = llm.ProviderAuth, http.StatusBadGateway
	case status == 404:
		e.Class = llm.NotFound
	case status == 413:
		e.Class = llm.TooLarge
	case status == 408:
		e.Class, e.Status = llm.Timeout, http.StatusGatewayTimeout
	case status == 429:
		e.Class = llm.RateLimited
	case status >= 400 && status < 500:
		e.Class = llm.InvalidRequest
	case status == 503 || status == 529:
		e.Class, e.Status = llm.Overloaded, http.StatusServiceUnavailable
	case status == 504:
		e.Class = llm.Timeout
	default: // 5xx, a redirect, or a success that is none
		e.Class, e.Status = llm.UpstreamError, http.StatusBadGateway
	}
	return e
}

// upstreamMessage is our text around an upstream's. What it says of a refused
// key is left out: it tends to quote the key.
func upstreamMessage(status int, msg string) string {
	if status == http.StatusUnauthorized {
		return "the provider answered 401: it refuses the gateway's key"
	}
	s := "the provider answered " + strconv.Itoa(status)
	if msg = clip(msg); msg != "" {
		s += ": " + msg
	}
	return s
}

// validUsage gives u its source, or drops it when it cannot be believed: only
// what was said is kept.
func validUsage(u llm.Usage) (llm.Usage, bool) {
	if !u.Valid() {
		return llm.Usage{Source: llm.UsageNone, Raw: u.Raw}, false
	}
	u.Source = llm.UsageUpstream
	return u, true
}
