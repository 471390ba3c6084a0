package llm

import "encoding/json"

// A UsageSource says where the numbers of a Usage come from.
type UsageSource string

const (
	UsageNone      UsageSource = "none"      // nothing was used, or nothing is known
	UsageUpstream  UsageSource = "upstream"  // reported by the provider
	UsageEstimated UsageSource = "estimated" // counted by us: the client left, the upstream died, or it reported none
)

// Usage is what one reply used, in tokens, normalised over providers.
//
// Input is everything the model read, cache reads and writes included; Output
// is everything billed as output, reasoning included. The other counts are
// subsets of those two and never summed with them.
type Usage struct {
	Source          UsageSource      `json:"source"`
	Input           int64            `json:"input_tokens"`
	Output          int64            `json:"output_tokens"`
	CacheRead       int64            `json:"cache_read_tokens"`     // of Input
	CacheWrite5m    int64            `json:"cache_write_5m_tokens"` // of Input; a write without a stated lifetime counts here
	CacheWrite1h    int64            `json:"cache_write_1h_tokens"` // of Input
	Reasoning       int64            `json:"reasoning_tokens"`      // of Output
	AudioInput      int64            `json:"audio_input_tokens"`    // of Input
	AudioOutput     int64            `json:"audio_output_tokens"`   // of Output
	ServerToolCalls map[string]int64 `json:"server_tool_calls"`     // calls of tools the provider ran, e.g. web_search

	Tier     string          `json:"tier,omitempty"`              // service tier that answered, if not "standard": batch, flex, priority
	Reported *Nano           `json:"reported_nano_usd,omitempty"` // the provider's own figure of the cost, where it gives one
	Others   []ModelUsage    `json:"other_models,omitempty"`      // used by other models within the same reply; not in the counts above
	Raw      json.RawMessage `json:"raw,omitempty"`               // the usage object as the provider sent it, even one that is not believed
}

// ModelUsage is what another model used within a reply, e.g. an Anthropic
// advisor (usage.iterations[] of type advisor_message). It is billed at its own
// model's price.
type ModelUsage struct {
	Model string `json:"model"`
	Usage
}

// MaxTokens bounds a believable count: no reply holds a thousand million tokens.
const MaxTokens = 1_000_000_000

// Valid reports whether u can be believed: no count is negative or absurd, and
// no subset is larger than its whole. A usage that is not valid is estimated
// instead.
func (u *Usage) Valid() bool {
	for _, n := range [...]int64{u.Input, u.Output, u.CacheRead, u.CacheWrite5m, u.CacheWrite1h, u.Reasoning, u.AudioInput, u.AudioOutput} {
		if n < 0 || n > MaxTokens {
			return false
		}
	}
	for _, n := range u.ServerToolCalls {
		if n < 0 || n > MaxTokens {
			return false
		}
	}
	for i := range u.Others {
		if !u.Others[i].Valid() {
			return false
		}
	}
	return u.CacheRead+u.CacheWrite5m+u.CacheWrite1h <= u.Input && u.Reasoning <= u.Output
}
