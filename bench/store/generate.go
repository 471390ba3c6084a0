package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// A model is how the Calls of one model are.
type model struct {
	provider, name string
	weight         float64 // of traffic
	median         float64 // latency in seconds, lognormal
	sigma          float64
	in, out        int64 // nano-USD a token
}

var models = []model{
	{"openai", "gpt-4.1", 20, 1.1, 0.6, 2000, 8000},
	{"openai", "gpt-4.1-mini", 16, 0.7, 0.5, 400, 1600},
	{"gemini", "gemini-2.5-flash", 14, 0.5, 0.5, 300, 2500},
	{"anthropic", "claude-sonnet-4-5", 12, 0.9, 0.6, 3000, 15000},
	{"openai", "gpt-4o", 8, 1.0, 0.5, 2500, 10000},
	{"deepseek", "deepseek-chat", 7, 1.3, 0.7, 150, 600},
	{"openai", "gpt-4o-mini", 6, 0.6, 0.4, 150, 600},
	{"anthropic", "claude-haiku-4-5", 5, 0.6, 0.5, 1000, 5000},
	{"openai", "o4-mini", 4, 8, 1.1, 1100, 4400},
	{"openai", "gpt-5", 3, 12, 1.0, 1250, 10000},
	{"gemini", "gemini-2.5-pro", 2, 9, 0.9, 1250, 10000},
	{"groq", "llama-3.3-70b-versatile", 1.5, 0.3, 0.4, 590, 790},
	{"mistral", "mistral-large-2512", 1, 1.5, 0.5, 500, 1500},
	{"anthropic", "claude-opus-4-5", 0.5, 3, 0.8, 5000, 25000},
}

const days = 30

// A generator makes Calls by number: the same number, the same Call, in the
// order of time.
type generator struct {
	calls     int
	end       time.Time
	cumulated []float64
	latencies map[string][]float32 // ms, by model
}

func newGenerator(calls int) *generator {
	g := &generator{calls: calls, end: time.Now().UTC().Truncate(24 * time.Hour), latencies: map[string][]float32{}}
	sum := 0.0
	for _, m := range models {
		sum += m.weight
		g.cumulated = append(g.cumulated, sum)
	}
	return g
}

// skewed is a rank below n: the first few take most.
func skewed(r *rand.Rand, n int) int {
	return int(math.Pow(float64(n), r.Float64()*r.Float64())) - 1
}

var environments = []string{"prod", "prod", "prod", "staging", "dev"}

func (g *generator) call(i int) *call.Call {
	r := rand.New(rand.NewPCG(uint64(i), 7))
	span := days * 24 * time.Hour
	at := time.Duration((float64(i) + r.Float64()) / float64(g.calls) * float64(span))
	started := g.end.Add(-span + at).Truncate(time.Microsecond)
	k, _ := slices.BinarySearch(g.cumulated, r.Float64()*g.cumulated[len(g.cumulated)-1])
	m := models[min(k, len(models)-1)]
	latency := time.Duration(m.median * math.Exp(r.NormFloat64()*m.sigma) * float64(time.Second)).Truncate(time.Microsecond)
	in, out := int64(50+r.ExpFloat64()*1200), int64(1+r.ExpFloat64()*350)
	cached := int64(0)
	if r.IntN(4) == 0 {
		cached = in / 2 / 128 * 128
	}
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(started))
	entropy := make([]byte, 10)
	for j := range entropy {
		entropy[j] = byte(r.Uint32())
	}
	_ = id.SetEntropy(entropy)
	key := skewed(r, 200)
	c := &call.Call{
		ID: id.String(), StartedAt: started, Origin: call.OriginClient, Key: fmt.Sprintf("key-%d", key), Team: fmt.Sprintf("team-%d", key%12),
		User: fmt.Sprintf("user-%d", skewed(r, 50_000)), Ingress: "openai.chat", ModelRequested: m.name, Provider: m.provider, Model: m.name,
		ResponseModel: m.name + "-2026-04-14", Stream: r.IntN(2) == 0, Status: call.Success, HTTPStatus: 200,
		Latency: latency, Overhead: time.Duration(80+r.IntN(120)) * time.Microsecond, FinishReason: llm.FinishStop, NativeFinishReason: "stop",
		ResponseID: fmt.Sprintf("chatcmpl-%016x%06x", r.Uint64(), r.Uint32()>>8),
		Tags:       map[string]string{"env": environments[r.IntN(len(environments))], "feature": fmt.Sprintf("feature-%d", skewed(r, 40)), "tenant": fmt.Sprintf("tenant-%d", skewed(r, 5000))},
		Usage: llm.Usage{Source: llm.UsageUpstream, Input: in, Output: out, CacheRead: cached,
			Raw: json.RawMessage(fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`, in, out, in+out, cached))},
		Cost: llm.Nano((in-cached/2)*m.in + out*m.out), PriceRow: m.provider + "/" + m.name + "/standard/1",
	}
	if c.Stream {
		c.TTFT = time.Duration(float64(latency) * (0.1 + 0.3*r.Float64())).Truncate(time.Microsecond)
	}
	attempt := call.Attempt{Provider: m.provider, Model: m.name, HTTPStatus: 200, Latency: latency - c.Overhead, Cost: c.Cost}
	switch n := r.IntN(1000); {
	case n < 8:
		c.Status, c.HTTPStatus, c.Error = call.Failed, 502, call.Error{Class: llm.UpstreamError, Code: "connection_lost", Message: m.provider + ": the connection broke before a complete answer"}
	case n < 16:
		c.Status, c.HTTPStatus, c.Error = call.Failed, 429, call.Error{Class: llm.RateLimited, Code: "rate_limit_exceeded", Message: m.provider + ": rate limit reached"}
	case n < 22:
		c.Status, c.HTTPStatus, c.Error = call.Failed, 400, call.Error{Class: llm.InvalidRequest, Code: "invalid_value", Message: "invalid value"}
	case n < 27:
		c.Status, c.HTTPStatus = call.Canceled, 499
	}
	if c.Status == call.Failed {
		c.Usage, c.Cost, c.PriceRow, c.TTFT, c.FinishReason, c.NativeFinishReason = llm.Usage{Source: llm.UsageNone}, 0, "", 0, "", ""
		attempt.HTTPStatus, attempt.ErrorClass, attempt.Cost = c.HTTPStatus, c.Error.Class, 0
	}
	c.Attempts = []call.Attempt{attempt}
	g.latencies[m.name] = append(g.latencies[m.name], float32(float64(latency)/1e6))
	return c
}

// exact is P50, P95 and P99 of all latencies and of each model's, nearest-rank.
func (g *generator) exact() map[string][3]float64 {
	out := map[string][3]float64{}
	var all []float32
	ranks := func(name string, x []float32) {
		slices.Sort(x)
		var p [3]float64
		for i, q := range []int{50, 95, 99} {
			p[i] = float64(x[(len(x)*q+99)/100-1])
		}
		out[name] = p
	}
	for name, x := range g.latencies {
		all = append(all, x...)
		ranks(name, x)
	}
	ranks("all", all)
	return out
}
