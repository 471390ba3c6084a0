// Package llm is the vocabulary that every other package shares: what a model
// was asked (Request), what it said (Event), what it used (Usage), why it
// stopped (FinishReason) and how it failed (Error). Start from Usage.
//
// It holds values only: the standard library, no I/O, no wire format. A wire
// format belongs to a dialect in package provider, a price to package price.
package llm

import "strconv"

// Nano is money in nano-USD: 1 USD = 1e9, so $0.42 per million tokens is 420 a
// token. Sums of Nano are exact; floats of dollars are made only for display.
type Nano int64

// USD returns n in dollars, for display only.
func (n Nano) USD() float64 { return float64(n) / 1e9 }

// String formats n as dollars with all nine decimals: "$0.000238000".
func (n Nano) String() string {
	sign, u := "", uint64(n)
	if n < 0 {
		sign, u = "-", -u
	}
	b := append(make([]byte, 0, 32), sign...)
	b = strconv.AppendUint(append(b, '$'), u/1e9, 10)
	at := len(b)
	b = strconv.AppendUint(b, 1e9+u%1e9, 10) // ten digits, of which the first gives way to the point
	b[at] = '.'
	return string(b)
}

// A FinishReason says why a model stopped, in OpenAI's words. The native word
// is kept beside it.
type FinishReason string

// The finish reasons. Every native value is mapped to one of them; one that is
// not known is Other.
const (
	FinishNone    FinishReason = ""               // did not finish
	FinishStop    FinishReason = "stop"           // ended by itself or at a stop sequence
	FinishLength  FinishReason = "length"         // cut at a token limit
	FinishTools   FinishReason = "tool_calls"     // waits for tool results
	FinishFilter  FinishReason = "content_filter" // refused or filtered
	FinishError   FinishReason = "error"          // the model made something unusable, e.g. a malformed call
	FinishUnknown FinishReason = "other"
)
