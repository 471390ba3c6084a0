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

// On inputs that are known to make tokenizers quadratic, 16 times as much takes
// nowhere near 256 times as long. (Whole, 100,000 times tab, space and line feed
// took 49 s.)
func TestLinear(t *testing.T) {
	took := func(model, s string) time.Duration {
		best := time.Hour
		for range 2 {
			start := time.Now()
			if n := Count(model, s); n <= 0 {
				t.Errorf("%s: %d tokens", model, n)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	for _, model := range []string{"gpt-4.1", "gpt-4"} {
		Count(model, "load")
		for _, s := range []string{"a", "안", "😀", " ", "1", "\xff", "\t \n", "\r\n \t", "'s ", "\u3000\n", "==\n", "-"} {
			const n = 4000
			var small, large time.Duration
			slow := true
			for try := 0; slow && try < 5; try++ { // a machine that is busy elsewhere is not so each time
				small, large = took(model, strings.Repeat(s, n)), took(model, strings.Repeat(s, 16*n))
				slow = large > 100*small
			}
			if slow {
				t.Errorf("%s %q: %v, and %v for sixteen times as many", model, s, small, large)
			}
			t.Logf("%s %q: %v, %v", model, s, small, large)
		}
	}
}

// TestChunks: cutting a text up changes next to nothing, and nothing at all
// where it has words.
func TestChunks(t *testing.T) {
	words := strings.Repeat("The quick brown fox, isn't it? 안녕하세요 세계 12345 { \"a\": [1, 2] }\n\n", 300)
	check := func(text string, slack int64) {
		t.Helper()
		whole, err := o200k().Count(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := countAll(o200k(), text); got < int64(whole)-slack || got > int64(whole)+slack {
			t.Errorf("%d bytes %.20q: %d tokens, want %d ± %d", len(text), text, got, whole, slack)
		}
	}
	check(words, 0)
	check(strings.ReplaceAll(words, " ", ""), int64(len(words))/maxChunk*2)
	check(strings.Repeat("안녕하세요", 5000), 2*75_000/maxChunk)
	check("", 0)
	long := strings.Repeat(words, 200) // 4 MB: sampled
	whole := countAll(o200k(), words) * 200
	if got := count(o200k(), long); got < whole*99/100 || got > whole*101/100 {
		t.Errorf("%d bytes sampled: %d tokens, want %d ± 1 %%", len(long), got, whole)
	}
}

func FuzzCount(f *testing.F) {
	f.Add("hello \xff 안녕 <|endoftext|>")
	f.Fuzz(func(t *testing.T, s string) {
		if n := Count("gpt-4.1", s); n < 0 || n > int64(3*len(s)) || n == 0 && s != "" { // a broken byte becomes the three of U+FFFD
			t.Errorf("%d bytes are %d tokens", len(s), n)
		}
	})
}

func BenchmarkCount(b *testing.B) {
	text := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		Count("gpt-4.1", text)
	}
}
