package token

import (
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

func TestEstimate(t *testing.T) {
	user := func(s string) *llm.Request {
		return &llm.Request{Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{{Kind: llm.PartText, Text: s}}}}}
	}
	check := func(model string, r *llm.Request, want int64) {
		t.Helper()
		if got := Estimate(model, r); got != want {
			t.Errorf("Estimate(%s) = %d, want %d", model, got, want)
		}
	}
	// OpenAI reported 12 prompt tokens for this request to gpt-4o-mini.
	check("gpt-4o-mini", user("Say this is a test"), 12)
	check("gpt-4.1", &llm.Request{}, 3)
	if small, large := Estimate("gpt-4.1", user("hi")), Estimate("claude-3-5-sonnet", user("hi")); large < small {
		t.Errorf("a Claude model counts %d, fewer than %d", large, small)
	}
}

// TestLinear holds the tokenizer to linear time on inputs that are known to
// make others quadratic: a hundred thousand characters within a generous bound
// of their share of ten thousand.
func TestLinear(t *testing.T) {
	for _, s := range []string{"a", "안", "😀", " ", "1", "\xff"} {
		Count("gpt-4.1", s) // load
		measure := func(n int) time.Duration {
			start := time.Now()
			Count("gpt-4.1", strings.Repeat(s, n))
			return time.Since(start)
		}
		if small, large := measure(10_000), measure(100_000); large > 100*small+time.Second {
			t.Errorf("%q: 10,000 take %v, 100,000 take %v", s, small, large)
		}
	}
}
