// Package call holds the one fact that Sheepgate keeps: a Call is one request
// as the gateway saw it end. Charts, bills, limits, metrics and alerts are all
// derived from Calls, so that two numbers on two screens cannot disagree.
//
// The Recorder carries Calls from the data plane to the Sinks that watch them.
// The package knows no HTTP route, no provider, no database and no price.
package call

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// Where a Call comes from. Reports show what applications did (Client, Monitor,
// Import) unless asked for more: see Synthetic.
const (
	OriginClient     = "client"     // passed through the gateway
	OriginMonitor    = "monitor"    // reported by the client middleware
	OriginImport     = "import"     // imported from a file that named no origin
	OriginJudge      = "judge"      // a quality judge asked
	OriginBench      = "bench"      // sheepgate bench asked
	OriginPlayground = "playground" // the console's playground asked
)

// Synthetic are the origins that reports leave out unless asked.
var Synthetic = []string{OriginJudge, OriginBench, OriginPlayground}

// A Status says how a Call ended.
type Status string

const (
	Success  Status = "success"
	Failed   Status = "error"
	Canceled Status = "canceled" // the client left first
)

// A Call is one request as the gateway saw it end. It never holds a prompt, a
// completion or a secret. Its JSON form is public (see MarshalJSON).
type Call struct {
	ID        string    // ULID made by the server; time-ordered
	StartedAt time.Time // first byte of the request read; UTC, microseconds
	Origin    string
	Key       string // the key's name, never the key
	Team      string
	User      string
	Session   string
	Tags      map[string]string

	Ingress        string // the route's dialect: openai.chat, anthropic.messages, gemini.generate …
	ModelRequested string // as the client wrote it
	Provider       string // who answered, as the config names it; "" if nobody was asked
	Model          string // as the catalogue or the config names it: what reports group by
	ResponseModel  string // as the reply says
	Stream         bool

	Status     Status
	HTTPStatus int // sent to the client; 499 if it left before one was sent
	Error      Error
	Attempts   []Attempt

	Latency  time.Duration // StartedAt to the last byte written
	TTFT     time.Duration // StartedAt to the first content, reasoning or tool-call delta of a stream; 0 if none came
	Overhead time.Duration // Latency minus the time spent waiting for upstreams

	FinishReason       llm.FinishReason
	NativeFinishReason string
	ResponseID         string
	Usage              llm.Usage
	Cost               llm.Nano          // over all attempts
	Unpriced           bool              // something was used that no price row covers: Cost is unknown, null in JSON
	PriceRow           string            // the catalogue row that priced it; "" if nothing was used or Unpriced
	Quality            map[string]string // default check → result
}

// Error is why a Call failed; all empty if it did not.
type Error struct {
	Class   llm.ErrorClass `json:"class"`
	Code    string         `json:"code"`
	Message string         `json:"message"` // at most 200 bytes, redacted
}

// An Attempt is one try at an upstream. A retried Call has several.
type Attempt struct {
	Provider    string
	ProviderKey string // the provider key's name, where one provider has several
	Model       string
	HTTPStatus  int // 0 if no answer came
	ErrorClass  llm.ErrorClass
	Latency     time.Duration
	Cost        llm.Nano
	Unpriced    bool
}

// BadUsage reports whether the provider reported a usage that could not be
// believed: it is kept as it came, and the counts are estimated.
func (c *Call) BadUsage() bool {
	return c.Status == Success && c.Usage.Source == llm.UsageEstimated && len(c.Usage.Raw) > 0
}

// ShedCode is the Error.Code of a Call that was refused because the gateway
// itself was overloaded.
const ShedCode = "gateway_overloaded"

// Shed reports whether the gateway refused the call to save itself.
func (c *Call) Shed() bool { return c.Error.Code == ShedCode }

// Codes are the values of Code, the coarse outcome that charts and metrics use.
var Codes = []string{"2xx", "4xx", "429", "5xx", "canceled"}

// Code is the coarse outcome: one of Codes. A stream that died after its 200
// counts as 5xx, and 429 is kept apart from 4xx.
func (c *Call) Code() string {
	switch {
	case c.Status == Canceled:
		return "canceled"
	case c.HTTPStatus == 429:
		return "429"
	case c.HTTPStatus >= 400 && c.HTTPStatus < 500:
		return "4xx"
	case c.HTTPStatus >= 500 || c.Status == Failed:
		return "5xx"
	}
	return "2xx"
}

// bucketBase is the ratio between two latency buckets: (base-1)/(base+1) is the
// largest relative error of a value read back from its bucket, 0.99 %.
const bucketBase = 1.02

var logBase = math.Log(bucketBase)

// Bucket is the log bucket of a duration, ceil(log(µs)/log(1.02)): what
// percentiles are grouped by. Durations of a microsecond or less are bucket 0.
func Bucket(d time.Duration) int {
	us := float64(d) / float64(time.Microsecond)
	if us <= 1 {
		return 0
	}
	return int(math.Ceil(math.Log(us) / logBase))
}

// BucketValue is the duration that stands for every one in bucket b, at most
// 1 % from each.
func BucketValue(b int) time.Duration {
	if b <= 0 {
		return time.Microsecond
	}
	us := 2 * math.Pow(bucketBase, float64(b)) / (bucketBase + 1)
	return time.Duration(us * float64(time.Microsecond))
}

// callJSON is the public JSON form of a Call.
type callJSON struct {
	ID                 string            `json:"id"`
	StartedAt          time.Time         `json:"started_at"`
	Origin             string            `json:"origin"`
	Key                string            `json:"key"`
	Team               string            `json:"team"`
	User               string            `json:"user"`
	Session            string            `json:"session"`
	Tags               map[string]string `json:"tags"`
	Ingress            string            `json:"ingress"`
	ModelRequested     string            `json:"model_requested"`
	Provider           string            `json:"provider"`
	Model              string            `json:"model"`
	ResponseModel      string            `json:"response_model"`
	Stream             bool              `json:"stream"`
	Status             Status            `json:"status"`
	HTTPStatus         int               `json:"http_status"`
	Error              Error             `json:"error"`
	Attempts           []Attempt         `json:"attempts"`
	LatencyMS          millis            `json:"latency_ms"`
	TTFTMS             millis            `json:"ttft_ms"`
	OverheadUS         int64             `json:"overhead_us"`
	FinishReason       llm.FinishReason  `json:"finish_reason"`
	NativeFinishReason string            `json:"native_finish_reason"`
	ResponseID         string            `json:"response_id"`
	Usage              llm.Usage         `json:"usage"`
	Cost               *llm.Nano         `json:"cost_nano_usd"`
	PriceRow           string            `json:"price_row"`
	Quality            map[string]string `json:"quality"`
}

type attemptJSON struct {
	Provider    string         `json:"provider"`
	ProviderKey string         `json:"provider_key"`
	Model       string         `json:"model"`
	HTTPStatus  int            `json:"http_status"`
	ErrorClass  llm.ErrorClass `json:"error_class"`
	LatencyMS   millis         `json:"latency_ms"`
	Cost        *llm.Nano      `json:"cost_nano_usd"`
}

// millis is a duration written as milliseconds with microseconds kept.
type millis time.Duration

func (m millis) MarshalJSON() ([]byte, error) { return m.append(nil), nil }

func (m millis) append(dst []byte) []byte {
	return strconv.AppendFloat(dst, float64(time.Duration(m).Microseconds())/1e3, 'f', -1, 64)
}

func (m *millis) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	const most = float64(math.MaxInt64) / float64(time.Millisecond)
	if f < 0 || f > most {
		return fmt.Errorf("%v is not a duration in milliseconds", f)
	}
	*m = millis(time.Duration(math.Round(f*1e3)) * time.Microsecond)
	return nil
}

func nullable(n llm.Nano, unpriced bool) *llm.Nano {
	if unpriced {
		return nil
	}
	return &n
}

// MarshalJSON writes the public form: an element of a Call's attempts.
func (a Attempt) MarshalJSON() ([]byte, error) { return a.AppendJSON(nil), nil }

// AppendJSON appends what MarshalJSON writes: every Call has an attempt, and
// every one that is sealed passes here.
func (a Attempt) AppendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"provider":`...), a.Provider)
	dst = appendString(append(dst, `,"provider_key":`...), a.ProviderKey)
	dst = appendString(append(dst, `,"model":`...), a.Model)
	dst = strconv.AppendInt(append(dst, `,"http_status":`...), int64(a.HTTPStatus), 10)
	dst = appendString(append(dst, `,"error_class":`...), string(a.ErrorClass))
	dst = millis(a.Latency).append(append(dst, `,"latency_ms":`...))
	dst = append(dst, `,"cost_nano_usd":`...)
	if a.Unpriced {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendInt(dst, int64(a.Cost), 10)
	}
	return append(dst, '}')
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			b, _ := json.Marshal(s) // fails for no string
			return append(dst, b...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// UnmarshalJSON reads the public form; an absent or null cost is Unpriced.
func (a *Attempt) UnmarshalJSON(b []byte) error {
	var j attemptJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*a = Attempt{Provider: j.Provider, ProviderKey: j.ProviderKey, Model: j.Model, HTTPStatus: j.HTTPStatus,
		ErrorClass: j.ErrorClass, Latency: time.Duration(j.LatencyMS), Unpriced: j.Cost == nil}
	if j.Cost != nil {
		a.Cost = *j.Cost
	}
	return nil
}

// MarshalJSON writes the public form: one line of an export.
func (c *Call) MarshalJSON() ([]byte, error) {
	j := callJSON{
		ID: c.ID, StartedAt: c.StartedAt.UTC().Truncate(time.Microsecond), Origin: c.Origin, Key: c.Key, Team: c.Team, User: c.User, Session: c.Session,
		Tags: c.Tags, Ingress: c.Ingress, ModelRequested: c.ModelRequested, Provider: c.Provider, Model: c.Model,
		ResponseModel: c.ResponseModel, Stream: c.Stream, Status: c.Status, HTTPStatus: c.HTTPStatus, Error: c.Error,
		Attempts: c.Attempts, LatencyMS: millis(c.Latency), TTFTMS: millis(c.TTFT),
		OverheadUS: c.Overhead.Microseconds(), FinishReason: c.FinishReason, NativeFinishReason: c.NativeFinishReason,
		ResponseID: c.ResponseID, Usage: c.Usage, Cost: nullable(c.Cost, c.Unpriced), PriceRow: c.PriceRow, Quality: c.Quality,
	}
	if j.Attempts == nil {
		j.Attempts = []Attempt{}
	}
	if j.Tags == nil {
		j.Tags = map[string]string{}
	}
	if j.Quality == nil {
		j.Quality = map[string]string{}
	}
	if j.Usage.ServerToolCalls == nil {
		j.Usage.ServerToolCalls = map[string]int64{}
	}
	if j.Usage.Source == "" {
		j.Usage.Source = llm.UsageNone
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads the public form. Absent fields stay zero; an absent or
// null cost is Unpriced. It does not judge: see Check.
func (c *Call) UnmarshalJSON(b []byte) error {
	var j callJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*c = Call{
		ID: j.ID, StartedAt: j.StartedAt.UTC().Truncate(time.Microsecond), Origin: j.Origin, Key: j.Key, Team: j.Team, User: j.User, Session: j.Session,
		Tags: j.Tags, Ingress: j.Ingress, ModelRequested: j.ModelRequested, Provider: j.Provider, Model: j.Model,
		ResponseModel: j.ResponseModel, Stream: j.Stream, Status: j.Status, HTTPStatus: j.HTTPStatus, Error: j.Error,
		Latency: time.Duration(j.LatencyMS), TTFT: time.Duration(j.TTFTMS), Overhead: time.Duration(j.OverheadUS) * time.Microsecond,
		FinishReason: j.FinishReason, NativeFinishReason: j.NativeFinishReason, ResponseID: j.ResponseID,
		Usage: j.Usage, Unpriced: j.Cost == nil, PriceRow: j.PriceRow, Quality: j.Quality,
	}
	if j.Cost != nil {
		c.Cost = *j.Cost
	}
	// What is empty becomes nil, so that a Call equals itself read back.
	if len(j.Attempts) > 0 {
		c.Attempts = j.Attempts
	}
	if len(c.Tags) == 0 {
		c.Tags = nil
	}
	if len(c.Quality) == 0 {
		c.Quality = nil
	}
	if len(c.Usage.ServerToolCalls) == 0 {
		c.Usage.ServerToolCalls = nil
	}
	return nil
}

// Check completes a Call that somebody else made (an import, the middleware)
// and says what is wrong with it. source names the origin of the data, e.g. a
// file; sourceID the row in it: together they make the ID of a Call without
// one, so that importing twice changes nothing.
func (c *Call) Check(source, sourceID string) error {
	if c.StartedAt.IsZero() {
		return fmt.Errorf("started_at is missing")
	}
	if y := c.StartedAt.Year(); y < 2000 || y > 9999 {
		return fmt.Errorf("started_at: year %d is out of range", y)
	}
	if c.ID == "" {
		c.ID = DerivedID(c.StartedAt, source, sourceID)
	}
	if !ValidID(c.ID) {
		return fmt.Errorf("id %.40q is not a ULID", c.ID)
	}
	if c.Origin == "" {
		c.Origin = OriginImport
	}
	switch c.Status {
	case "":
		c.Status = Success
	case Success, Failed, Canceled:
	default:
		return fmt.Errorf("status %.40q is not success, error or canceled", c.Status)
	}
	if c.HTTPStatus == 0 && c.Status == Success {
		c.HTTPStatus = 200
	}
	if c.HTTPStatus < 0 || c.HTTPStatus > 999 {
		return fmt.Errorf("http_status %d is not an HTTP status", c.HTTPStatus)
	}
	if c.Usage.Source == "" {
		c.Usage.Source = llm.UsageNone
	}
	if !c.Usage.Valid() {
		return fmt.Errorf("usage: a count is negative, absurd or larger than its whole")
	}
	if c.Cost < 0 {
		return fmt.Errorf("cost_nano_usd is negative")
	}
	if c.Latency < 0 || c.TTFT < 0 || c.Overhead < 0 {
		return fmt.Errorf("a duration is negative")
	}
	c.Error.Message = Clip(c.Error.Message, 200)
	return nil
}

// Clip cuts s to at most n bytes without splitting a character.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
