package call

import (
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// An Ask is a request that somebody may send: what will it come to?
type Ask struct {
	Ingress string // the dialect of Body, as Call.Ingress names it; "" is openai.chat
	Model   string // as a client would name it; "" if Body names it
	Body    []byte
}

// An Estimate is what a request may come to, before it is sent.
type Estimate struct {
	Model    string `json:"model_requested"`
	Provider string `json:"provider"` // who would be asked first
	Answers  string `json:"model"`

	Input    int64     `json:"input_tokens"`  // counted offline
	Output   Expected  `json:"output_tokens"` // forecast from past answers, bounded by what the request allows
	Cost     *Expected `json:"cost_nano_usd"` // null where there is no price
	Basis    int       `json:"answers"`       // past answers that the forecast is made of; 0: a guess
	Reserved Reserved  `json:"reserved"`      // what limits and budgets would set aside for it

	Fits   bool      `json:"fits"` // the limits and budgets have room for it now
	Reason string    `json:"reason,omitempty"`
	Wait   float64   `json:"retry_after_s,omitempty"` // until they have, if nothing else comes; 0 if it fits, or never will
	At     time.Time `json:"at"`
}

// Expected is a median and the value that one in twenty exceeds.
type Expected struct {
	P50 int64 `json:"p50"`
	P95 int64 `json:"p95"`
}

// Reserved is the most that a request is taken for.
type Reserved struct {
	Input  int64    `json:"input_tokens"`
	Output int64    `json:"output_tokens"`
	Cost   llm.Nano `json:"cost_nano_usd"`
}
