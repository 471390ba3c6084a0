package provider

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func limitsOf(lines string) string {
	h := http.Header{}
	for line := range strings.SplitSeq(lines, "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			h.Add(strings.TrimSpace(name), value)
		}
	}
	var s []string
	if list := ReadRateLimits(nil, h, noon); len(list) > 0 && !HasRateLimits(h) {
		return "not seen"
	}
	for _, r := range ReadRateLimits(nil, h, noon) {
		s = append(s, fmt.Sprintf("%v %d/%d %v", r.Kind, r.Remaining, r.Limit, r.Reset))
	}
	return strings.Join(s, ", ")
}

// TestRateLimits reads each family as it was recorded or documented.
func TestRateLimits(t *testing.T) {
	for lines, want := range map[string]string{
		`x-ratelimit-limit-requests: 500
		 x-ratelimit-remaining-requests: 499
		 x-ratelimit-reset-requests: 120ms
		 x-ratelimit-limit-tokens: 30000
		 x-ratelimit-remaining-tokens: 29975
		 x-ratelimit-reset-tokens: 1m3.5s
		 x-ratelimit-limit-input-images: 50
		 x-ratelimit-remaining-input-images: 49`: "requests 499/500 120ms, tokens 29975/30000 1m3.5s",
		`x-ratelimit-remaining-requests: 8
		 x-ratelimit-limit-requests: 10
		 x-ratelimit-reset-requests: 7`: "requests 8/10 7s",
		`anthropic-ratelimit-requests-limit: 50
		 anthropic-ratelimit-requests-remaining: 49
		 anthropic-ratelimit-requests-reset: 2026-11-26T12:00:01Z
		 anthropic-ratelimit-input-tokens-limit: 40000
		 anthropic-ratelimit-input-tokens-remaining: 39000
		 anthropic-ratelimit-input-tokens-reset: 2026-11-26T12:00:02Z
		 anthropic-ratelimit-output-tokens-limit: 8000
		 anthropic-ratelimit-output-tokens-remaining: 0
		 anthropic-ratelimit-output-tokens-reset: 2026-11-26T12:01:00+00:00
		 retry-after: 12`: "requests 49/50 1s, input_tokens 39000/40000 2s, output_tokens 0/8000 1m0s",
		`x-ratelimit-limit-tokens-minute: 500000
		 x-ratelimit-remaining-tokens-minute: 499900
		 x-ratelimit-limit-req-10-second: 10
		 x-ratelimit-remaining-req-10-second: 9`: "tokens 499900/500000 0s, requests 9/10 10s",
		`x-ratelimit-limit: 600
		 x-ratelimit-remaining: 599
		 x-ratelimit-reset: 1`: "requests 599/600 1s",
		`x-ratelimit-remaining-requests: 3
		 x-ratelimit-reset-requests: soon`: "requests 3/0 0s",
		"x-ratelimit-remaining-requests: -1":                                      "",
		"x-ratelimit-remaining-requests: NaN":                                     "",
		"x-ratelimit-remaining-requests: 1e300":                                   "",
		"x-ratelimit-remaining-requests: 9\nx-ratelimit-limit-requests: 3":        "",
		"x-ratelimit-remaining-tokens: 9\nx-ratelimit-reset-tokens: 900000h":      "tokens 9/0 0s",
		"x-ratelimit-remaining-tokens: 9\nx-ratelimit-reset-tokens: -5s":          "tokens 9/0 0s",
		"x-ratelimit-remaining-tokens: 9.0\nx-ratelimit-reset-tokens: 1795694407": "tokens 9/0 7s",
		"retry-after: 5": "",
	} {
		if got := limitsOf(lines); got != want {
			t.Errorf("%s\n\tis read as %s\n\twant %s", lines, got, want)
		}
	}
}

// FuzzRateLimits: whatever a provider writes, what is read can be reckoned with.
func FuzzRateLimits(f *testing.F) {
	f.Add("500", "499", "6m0s")
	f.Add("-1", "1e9", "2026-11-26T12:00:01Z")
	f.Add("0x10", "NaN", "1795694407")
	f.Fuzz(func(t *testing.T, limit, remaining, reset string) {
		h := http.Header{}
		for _, name := range []string{"X-Ratelimit-%s-Requests", "X-Ratelimit-%s", "Anthropic-Ratelimit-Tokens-%s", "X-Ratelimit-%s-Tokens-Minute"} {
			for what, value := range map[string]string{"Limit": limit, "Remaining": remaining, "Reset": reset} {
				h[fmt.Sprintf(name, what)] = []string{value}
			}
		}
		for _, r := range ReadRateLimits(nil, h, noon) {
			if r.Limit < 0 || r.Remaining < 0 || r.Limit > 0 && r.Remaining > r.Limit || r.Reset < 0 || r.Reset > maxReset || r.Remaining > maxLimit {
				t.Errorf("%q %q %q: %+v", limit, remaining, reset, r)
			}
		}
	})
}
