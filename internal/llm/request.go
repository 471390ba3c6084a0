package llm

import "encoding/json"

// A Request is what a model is asked, as every dialect can say it. It is made
// only where client and upstream speak different dialects; pointers are nil
// where the client said nothing.
type Request struct {
	Model    string // as the upstream knows it
	Stream   bool
	System   []Part // text only
	Messages []Message

	MaxTokens        *int64
	Temperature      *float64
	TopP             *float64
	TopK             *int64
	Seed             *int64
	FrequencyPenalty *float64
	PresencePenalty  *float64
	N                int // 0 means 1
	Stop             []string
	User             string

	Tools       []Tool
	ToolChoice  ToolChoice
	ParallelOff bool // at most one tool call a turn
	Format      *Format
	Reasoning   *Reasoning
	Tier        string // service tier asked for, in the client's word
}

// A Role says who speaks. Tool results are parts of a user's turn, as most
// dialects have it.
type Role string

// The roles.
const (
	User      Role = "user"
	Assistant Role = "assistant"
)

// A Message is one turn.
type Message struct {
	Role  Role
	Parts []Part
}

// A Part is a piece of a turn; Kind says which fields count.
type Part struct {
	Kind PartKind

	Text string // PartText, PartReasoning, PartRefusal; of a PartToolResult, its text

	// PartImage, PartFile, PartAudio: either URL or Data.
	URL       string
	MediaType string // image/png; "" if unknown
	Data      string // base64
	Name      string // a file's name
	Detail    string // OpenAI's image detail

	// PartToolCall and PartToolResult.
	ToolID   string
	ToolName string          // in a result, too: Gemini matches by name
	Args     json.RawMessage // of a call: a JSON object, {} if none
	IsError  bool            // of a result
	Parts    []Part          // of a result, where it is more than text (images)

	Signature string // of PartReasoning or PartToolCall: to be sent back unchanged
	Redacted  bool   // PartReasoning whose Signature is all there is
	Cache     string // cache breakpoint after this part: "", "5m" or "1h"
}

// PartKind says what a Part holds.
type PartKind uint8

// The kinds.
const (
	PartText PartKind = iota + 1
	PartReasoning
	PartRefusal
	PartImage
	PartAudio
	PartFile
	PartToolCall
	PartToolResult
)

// A Tool is a function that the model may call.
type Tool struct {
	Name        string
	Description string
	Schema      json.RawMessage // of the arguments; nil if none
	Strict      *bool
}

// ToolChoice says whether tools must be called. Mode is "" (the dialect's
// default), auto, none, required, or function with Name.
type ToolChoice struct {
	Mode string
	Name string
}

// Format asks for JSON. Schema nil means any object.
type Format struct {
	Name        string
	Description string
	Schema      json.RawMessage
	Strict      *bool
}

// Reasoning asks for thinking: by Effort (none, minimal, low, medium, high,
// xhigh), by Budget in tokens, or both.
type Reasoning struct {
	Effort  string
	Budget  *int64
	Include bool // thoughts are wanted in the reply
}
