package call

import (
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// Live is what the data plane knows that no ended Call can tell, as an
// immutable snapshot: the console, metrics and alerts read it and nothing else
// of the gateway.
type Live struct {
	InFlight int64       // requests begun and not ended
	Models   []LiveModel // by deployment, sorted
	Limits   []LiveLimit // rules, in the order of the configuration
}

// LiveModel is the state of one deployment: a model at a provider.
type LiveModel struct {
	Provider string
	Model    string
	InFlight int64
}

// LiveRate is a limit on what happens in a minute, or at the same time. Limit 0
// means that there is none.
type LiveRate struct {
	Limit int64 `json:"limit"`
	Used  int64 `json:"used"` // and reserved
}

// LiveBudget is what is spent of a budget in the period that is running.
type LiveBudget struct {
	Amount    llm.Nano  `json:"amount_nano_usd"`
	Period    string    `json:"period"` // day, week, month or total
	From      time.Time `json:"from,omitzero"`
	To        time.Time `json:"to,omitzero"`
	Spent     llm.Nano  `json:"spent_nano_usd"`
	Reserved  llm.Nano  `json:"reserved_nano_usd"`     // the most that calls under way may come to
	Exhausted time.Time `json:"exhausted_at,omitzero"` // when it will be used up if spending goes on as in the last hour
}

// LiveLimit is what a rule bounds and has counted.
type LiveLimit struct {
	Rule       string       `json:"rule"`
	Key        string       `json:"key,omitempty"` // whom it is about; all empty for everybody
	Team       string       `json:"team,omitempty"`
	Requested  string       `json:"model_requested,omitempty"`
	Provider   string       `json:"provider,omitempty"`
	Model      string       `json:"model,omitempty"`
	Requests   LiveRate     `json:"requests"`
	Tokens     LiveRate     `json:"tokens"`
	Input      LiveRate     `json:"input_tokens"`
	Output     LiveRate     `json:"output_tokens"`
	Concurrent LiveRate     `json:"concurrent"`
	Budgets    []LiveBudget `json:"budgets"`
	Refused    int64        `json:"refused"` // since the start

	// What calls came to beyond what was reserved for them, since the start.
	OverTokens int64    `json:"over_tokens"`
	OverCost   llm.Nano `json:"over_nano_usd"`
}
