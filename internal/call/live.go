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

	Marks     []LiveMark     // budgets that are being used up, the latest first
	Forecasts []LiveForecast // sorted by model and key
}

// LiveModel is the state of one deployment: a model at a provider with one of
// its keys.
type LiveModel struct {
	Provider    string     `json:"provider"`
	ProviderKey string     `json:"provider_key"` // "" if the provider has one only
	Model       string     `json:"model"`
	InFlight    int64      `json:"in_flight"`
	State       string     `json:"state"`               // of the breaker: closed, half_open or open; "" if nobody was asked
	TTFT        float64    `json:"ttft_ms"`             // moving average until the first content of a stream; 0 if unknown
	Latency     float64    `json:"latency_ms"`          // moving average of plain answers; 0 if unknown
	CoolUntil   time.Time  `json:"cool_until,omitzero"` // others are asked before it until then
	Rooms       []LiveRoom `json:"limits"`              // of the provider, as far as it says and that is fresh
}

// LiveRoom is what a provider has left of one of its limits.
type LiveRoom struct {
	Kind      string    `json:"kind"`  // requests, tokens, input_tokens or output_tokens
	Limit     int64     `json:"limit"` // 0 if it does not say
	Remaining int64     `json:"remaining"`
	Full      time.Time `json:"full_at,omitzero"` // when all of it will be back, if nothing is asked
}

// LiveForecast is how long answers of a model are, in tokens.
type LiveForecast struct {
	Key     string `json:"key"` // "" for all of them
	Model   string `json:"model"`
	Answers int    `json:"answers"` // that it is made of; old ones count less
	P50     int64  `json:"p50"`
	P95     int64  `json:"p95"`
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
	Exhausted time.Time `json:"exhausted_at,omitzero"` // when it will be used up if spending goes on as in the last hour; absent if it begins anew before
}

// LiveMark says that so much of a budget was spent for the first time in its
// period.
type LiveMark struct {
	At      time.Time `json:"at"`
	Rule    string    `json:"rule"`
	Period  string    `json:"period"`
	Percent int       `json:"percent"` // 80, 90 or 100
	Spent   llm.Nano  `json:"spent_nano_usd"`
	Amount  llm.Nano  `json:"amount_nano_usd"`
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
