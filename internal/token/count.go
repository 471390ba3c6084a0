package token

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/tiktoken-go/tokenizer"
)

const (
	// A text is counted in chunks, for the tokenizer takes quadratic time over
	// some runs without a word in them: 300 KB of "\t \n" took 49 s whole.
	minChunk, maxChunk = 256, 1024

	// Of a longer text, evenly spread samples of this length together are counted.
	maxCounted = 1 << 20
	samples    = 64
)

// count counts text in time that grows with its length up to maxCounted and
// not beyond.
func count(c tokenizer.Codec, text string) int64 {
	if len(text) <= maxCounted {
		return countAll(c, text)
	}
	const size = maxCounted / samples
	var n int64
	for i := range samples {
		at := i * ((len(text) - size) / (samples - 1))
		n += countAll(c, text[at:at+size])
	}
	return int64(float64(n) * float64(len(text)) / maxCounted)
}

func countAll(c tokenizer.Codec, text string) int64 {
	text = strings.ToValidUTF8(text, "\uFFFD")
	var n int64
	for text != "" {
		i := chunk(text)
		k, err := c.Count(text[:i])
		if err != nil { // not seen with any input so far
			k = (i + 3) / 4
		}
		n += int64(max(k, 1)) // the vocabulary lacks \x7f
		text = text[i:]
	}
	return n
}

// chunk is where to cut text: before a single space within it, where both
// vocabularies begin a new piece anyway, so that nothing is counted otherwise
// than in the whole. Text without one is cut at a character, at the cost of at
// most a token or two.
func chunk(text string) int {
	if len(text) <= maxChunk {
		return len(text)
	}
	for i := minChunk; i < maxChunk; i++ {
		if text[i] == ' ' && text[i-1] > ' ' && text[i+1] > ' ' {
			return i
		}
	}
	i := maxChunk
	for !utf8.RuneStart(text[i]) {
		i--
	}
	return i
}

// Bytes is at least what n bytes of a request are likely to be in tokens: what
// a limit reserves before the request is read by anything slower. It is not a
// ceiling for text that was made to be expensive, which reaches a token a byte;
// what was reserved is corrected by the usage in any case.
//
// Recorded requests hold 5.3 bytes a token in the median. Models that are not
// OpenAI's read several hundred tokens more than is sent as soon as there are
// tools.
// https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/overview#pricing
func Bytes(model string, n int) int64 {
	if n <= 0 {
		return 0
	}
	f := factor(model)
	hidden := int64(64)
	if f > 1 {
		hidden = 640
	}
	return int64(math.Ceil(float64(n)*f/2)) + hidden
}
