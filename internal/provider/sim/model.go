package sim

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// A Model is how one model behaves. Latency is of a whole successful answer.
type Model struct {
	Name     string
	Vendor   string  // openai, anthropic, gemini, deepseek; local for a model of one's own, at /v1 only
	Snapshot string  // what a reply names
	Mean     float64 // latency, ms
	P95      float64 // latency, ms
	Success  float64 // 0 to 1
	Output   float64 // median length of an answer, tokens
	Thinks   float64 // how often it reasons first, 0 to 1
}

// Models lists the models served. The first two carry published figures, and
// so does the P95 of gemini-2.5-flash; the others are chosen to be plausible.
func Models() []Model { return slices.Clone(models) }

var models = []Model{
	{Name: "gpt-4.1", Vendor: "openai", Snapshot: "gpt-4.1-2025-04-14", Mean: 1240, P95: 2850, Success: 0.992, Output: 160},
	{Name: "claude-sonnet-4-5", Vendor: "anthropic", Snapshot: "claude-sonnet-4-5-20250929", Mean: 980, P95: 2120, Success: 0.995, Output: 190},
	{Name: "gemini-2.5-flash", Vendor: "gemini", Snapshot: "gemini-2.5-flash", Mean: 420, P95: 850, Success: 0.997, Output: 140, Thinks: 0.35},
	{Name: "deepseek-chat", Vendor: "deepseek", Snapshot: "deepseek-chat", Mean: 1650, P95: 4100, Success: 0.988, Output: 210},
	{Name: "gpt-4.1-mini", Vendor: "openai", Snapshot: "gpt-4.1-mini-2025-04-14", Mean: 640, P95: 1400, Success: 0.996, Output: 130},
	{Name: "o4-mini", Vendor: "openai", Snapshot: "o4-mini-2025-04-16", Mean: 4200, P95: 9800, Success: 0.991, Output: 220, Thinks: 1},
	{Name: "claude-haiku-4-5", Vendor: "anthropic", Snapshot: "claude-haiku-4-5-20251001", Mean: 560, P95: 1180, Success: 0.997, Output: 150},
	{Name: "gemini-2.5-pro", Vendor: "gemini", Snapshot: "gemini-2.5-pro", Mean: 3100, P95: 7200, Success: 0.99, Output: 230, Thinks: 1},
	{Name: "deepseek-reasoner", Vendor: "deepseek", Snapshot: "deepseek-reasoner", Mean: 6400, P95: 15800, Success: 0.985, Output: 320, Thinks: 1},
	{Name: "qwen3-8b", Vendor: "local", Snapshot: "qwen3-8b", Mean: 900, P95: 1900, Success: 0.99, Output: 150},
}

// find returns the model called name, which must be vendor's unless vendor is
// empty. A reply's own name for a model works, too.
func find(name, vendor string) (*Model, bool) {
	for i := range models {
		if m := &models[i]; (m.Name == name || m.Snapshot == name) && (vendor == "" || m.Vendor == vendor) {
			return m, true
		}
	}
	return nil, false
}

// A draw is what chance decided of one request.
type draw struct {
	latency time.Duration // until the last byte
	ttft    time.Duration // until the first token
	output  int           // tokens the model would say if nothing stopped it
	status  int           // of a failure; 0 if there is none
	breaks  bool          // a stream fails after it began, not before
}

// draw decides one request. Slow answers tend to be long ones: latency and
// length share part of their chance.
func (m *Model) draw(r *rand.Rand, calm bool) draw {
	mu, sigma := lognormal(m.Mean, m.P95)
	z := r.NormFloat64()
	ms := math.Exp(mu + sigma*z)
	const shared = 0.7 // correlation of log latency and log length
	length := m.Output * math.Exp(0.7*(shared*z+math.Sqrt(1-shared*shared)*r.NormFloat64()))
	d := draw{
		latency: time.Duration(ms * float64(time.Millisecond)),
		output:  min(max(int(length), 4), 4096),
	}
	d.ttft = time.Duration(float64(d.latency) * (0.15 + 0.25*r.Float64()))
	if ok := r.Float64() < m.Success; ok || calm {
		return d
	}
	d.status = m.failure(r)
	d.breaks = d.status != http.StatusTooManyRequests && r.IntN(4) == 0
	if !d.breaks { // refused early: in 20 to 80 ms if by a limit
		d.latency = min(d.latency, time.Duration(20+r.IntN(60))*time.Millisecond)
		if d.status == http.StatusInternalServerError {
			d.latency += time.Duration(r.IntN(900)) * time.Millisecond
		}
	}
	return d
}

// statusOverloaded is Anthropic's status for an overloaded API.
// https://docs.anthropic.com/en/api/errors
const statusOverloaded = 529

func (m *Model) failure(r *rand.Rand) int {
	switch p := r.Float64(); {
	case p < 0.4:
		return http.StatusTooManyRequests
	case p < 0.6:
		return http.StatusInternalServerError
	case m.Vendor == "anthropic":
		return statusOverloaded
	}
	return http.StatusServiceUnavailable
}

// lognormal returns mu and sigma of the lognormal distribution with this mean
// and 95th percentile. From mean = exp(mu + sigma²/2) and p95 = exp(mu +
// 1.645·sigma) follows sigma² / 2 − 1.645·sigma + ln(p95/mean) = 0; the smaller
// root is the one that is not all tail.
func lognormal(mean, p95 float64) (mu, sigma float64) {
	const z95 = 1.6448536269514722
	sigma = z95 - math.Sqrt(z95*z95-2*math.Log(p95/mean))
	return math.Log(mean) - sigma*sigma/2, sigma
}
