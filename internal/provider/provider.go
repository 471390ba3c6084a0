// Package provider knows how providers speak. A Spec is a vendor; a Dialect is
// a wire format (OpenAI chat completions, Anthropic messages, Gemini
// generateContent), one file each, used for both sides: what a client sends to
// us and what we send to an upstream. Replies are read by a Reader and written
// by a Writer, with llm.Event between them, so that N ingress formats and M
// upstream formats never need N×M translations.
//
// A provider knows nothing of billing, keys of ours, limits or HTTP servers.
package provider

import (
	"net/http"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// A Spec is one vendor. Adding a vendor that speaks a known dialect is one Spec
// in the list of Specs.
type Spec struct {
	Name    string  // as the config and the Calls name it; gemini, not google
	BaseURL string  // with the version path where the vendor has one in every route: https://api.openai.com/v1
	Dialect Dialect // spoken on its chat endpoint
	KeyEnv  string  // the usual environment variable of its key; "" if it needs none
	Quirks  Quirks
}

// Quirks are the ways in which a vendor departs from its dialect.
type Quirks struct {
	NoStreamOptions     bool // refuses stream_options: do not ask for usage
	MaxCompletionTokens bool // wants max_completion_tokens instead of max_tokens when we encode a request
	ReportsCost         bool // usage holds the vendor's own cost: bill that (OpenRouter, holysheep)
}

// A Dialect is one wire format. Its methods keep no state and are safe for
// concurrent use.
type Dialect interface {
	// Name is the ingress of a Call: openai.chat, anthropic.messages, gemini.generate.
	Name() string

	// Path is appended to a Spec's BaseURL. It holds the query, if any.
	// model is as the upstream knows it and is escaped here.
	Path(model string, stream bool) string

	// SetHeader makes an upstream request's headers: credentials, content type,
	// and what of the client's headers may pass (an allow-list; client may be nil).
	SetHeader(h http.Header, key string, client http.Header)

	// Splice appends to dst the parts of body with only what must change changed:
	// the model, and for a stream the request for usage. All other bytes stay as
	// they are, and where they are: parts of body share its memory.
	Splice(dst [][]byte, body []byte, head *Head, model string, s *Spec) [][]byte

	// Decode reads a client's whole request. stream and model come from head or
	// the path. What the neutral form cannot hold is an *llm.Error naming the field.
	Decode(body []byte, model string, stream bool) (*llm.Request, error)

	// Encode writes a request for an upstream; r.Model is the upstream's name.
	// What this dialect cannot express is an *llm.Error of class InvalidRequest.
	Encode(dst []byte, r *llm.Request, s *Spec) ([]byte, error)

	// NewReader reads one reply of an upstream.
	NewReader(s *Spec) Reader

	// NewWriter writes one reply for a client. model is what the client asked for.
	NewWriter(o WriterOptions) Writer

	// ReadError makes sense of an upstream's refusal: its class, code, message and
	// wait. Any bytes may come, HTML and nothing included. The message is clipped.
	ReadError(status int, header http.Header, body []byte) *llm.Error

	// WriteError is the body of an error answer, all keys present.
	WriteError(dst []byte, e *llm.Error) []byte

	// WriteStreamEnd is the dialect's end marker, for a stream that passed through
	// and came without one.
	WriteStreamEnd(dst []byte) []byte

	// WriteStreamError is the event that ends a broken stream: no clean end follows.
	WriteStreamError(dst []byte, e *llm.Error) []byte
}

// A Reader reads one reply, whole or as a stream of frames. emit gets the
// neutral events for translation; when the reply passes through unchanged emit
// is nil, and the Reader decodes only what the Summary needs.
type Reader interface {
	// Whole reads a plain reply. An error means that the reply is not one of
	// this dialect: *llm.Error, of class BadUpstream or, for an error body that
	// came with status 200, the class it names.
	Whole(body []byte, emit func(llm.Event)) error

	// Frame reads one frame of a stream. pass is false when the frame must not
	// reach a client that speaks this dialect: because only we asked for it
	// (usage, see HideUsage), because it follows the end, or because it is none of
	// the dialect's. An error is an error event of the upstream (*llm.Error) or a
	// frame that cannot be read (BadUpstream).
	Frame(f Frame, emit func(llm.Event)) (pass bool, err error)

	// HideUsage tells that the client did not ask for the usage chunk.
	HideUsage()

	// Summary is what is known so far. Complete says whether the reply came to
	// its proper end.
	Summary() *Summary
}

// A Summary is what accounting takes from a reply.
type Summary struct {
	ID       string
	Model    string    // as the reply names it
	Usage    llm.Usage // Source is none until the upstream reports it; invalid reports are dropped and BadUsage set
	BadUsage bool
	Finish   llm.FinishReason
	Native   string
	Content  bool // a content, reasoning or tool-call delta has come: the first one makes TTFT
	Complete bool // the reply says that it is whole
	Ended    bool // the dialect's end marker has come; with Complete false it ends nothing
}

// A Writer writes one reply in its dialect from neutral events.
type Writer interface {
	// Event appends what e adds to the stream.
	Event(dst []byte, e llm.Event) []byte
	// End appends the proper end of the stream.
	End(dst []byte) []byte
	// Whole appends the plain reply that the events given to Event with a
	// non-stream Writer made.
	Whole(dst []byte) []byte
}

// WriterOptions says what a Writer writes.
type WriterOptions struct {
	ID      string // our call id, used where the upstream gave no reply id
	Model   string // the model to name where the upstream names none
	Created int64  // Unix seconds
	Stream  bool
	Usage   bool // the client asked for the usage chunk of a stream
}
