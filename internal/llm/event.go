package llm

import "encoding/json"

// An Event is one step of a reply, as every dialect can say it. A whole reply
// is the same sequence with each part given at once: Start, then parts in
// order, then Finish and Usage, each at most once a choice.
type Event struct {
	Kind   EventKind
	Choice int // 0 unless the request asked for several

	// EventStart: what the reply says of itself, where it does.
	ID    string
	Model string

	// EventText, EventReasoning, EventRefusal: a piece of text.
	// EventSignature: what must be sent back with the reasoning before it
	// (Anthropic's signature, Gemini's thoughtSignature).
	// EventToolDelta: a piece of the arguments' JSON text.
	Text string

	// EventTool begins a call; EventToolDelta continues the call with this Index.
	Index     int    // 0, 1, … within the choice
	ToolID    string // never empty: made up where the upstream gives none
	ToolName  string
	Signature string // Gemini 3 wants a call's thoughtSignature back

	// EventFinish.
	Finish FinishReason
	Native string

	// EventUsage: replaces an earlier one, never adds to it.
	Usage *Usage

	// EventRedacted: reasoning that only the provider can read, to be sent back.
	// EventLogprobs: OpenAI's logprobs object as it came.
	Data json.RawMessage
}

// EventKind says what an Event holds.
type EventKind uint8

// The kinds.
const (
	EventStart EventKind = iota + 1
	EventText
	EventReasoning
	EventSignature
	EventRedacted
	EventRefusal
	EventTool
	EventToolDelta
	EventLogprobs
	EventFinish
	EventUsage
)

// Content reports whether e is what a client waits for: the first such event
// makes the time to first token.
func (e *Event) Content() bool {
	switch e.Kind {
	case EventText, EventReasoning, EventRefusal, EventToolDelta:
		return e.Text != ""
	case EventTool, EventRedacted:
		return true
	}
	return false
}
