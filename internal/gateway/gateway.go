// Package gateway is the data plane: it takes a client's call in any dialect,
// finds who may answer it, relays the answer as it comes, and records what
// happened as one call.Call. Start from Gateway and read Gateway.serve: one
// request is that one function.
//
// It reads its configuration from an immutable Config behind one atomic
// pointer, and never touches a database, a dashboard or a metric: whatever
// wants to know of a request watches the Calls that it records.
package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// A Config is what the data plane knows about its world. It is never changed
// once given to SetConfig.
type Config struct {
	Auth      call.Auth
	Providers []Provider // in the order of the file: the first that has a bare model name wins
	Aliases   []Route
	Prices    *price.Catalogue
	Retry     Retry
	Timeouts  Timeouts
	MaxBody   int64    // bytes of a request body; 0 means 32 MiB
	Keep      bool     // copy bodies aside for the Recorder
	Secrets   []string // cut out of whatever an upstream says

	// Idempotency is how long the answer to a request with an Idempotency-Key is
	// kept for one that comes again; 0: the header means nothing.
	Idempotency time.Duration

	// Limits holds clients and attempts inside their limits; nil means none. It is
	// for New alone.
	Limits *limit.Limiter
	// Dial reaches upstreams; nil means over the network. It is for New alone.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A Provider is a configured upstream.
type Provider struct {
	Name string // as the config and the Calls name it
	Spec provider.Spec
	Keys []ProviderKey // one at least

	// Probe is how often it is asked whether it is there; 0: never. See
	// Gateway.Probe.
	Probe time.Duration
}

// A ProviderKey is a key of a provider.
type ProviderKey struct {
	Name   string // as the config and the Calls name it; "" for the only one
	Secret string // "" where the provider needs none
}

// A Target is who can answer: a model at a provider.
type Target struct {
	Provider *Provider
	Model    string // as the upstream knows it
}

// Retry says when another attempt is made, always before the first byte of an
// answer has reached the client.
type Retry struct {
	Attempts int // in all; 0 means 3
	On       map[llm.ErrorClass]bool
}

// DefaultRetryOn are the failures worth another attempt.
var DefaultRetryOn = map[llm.ErrorClass]bool{
	llm.RateLimited: true, llm.UpstreamError: true, llm.Overloaded: true, llm.BadUpstream: true, llm.Timeout: true, llm.Connect: true,
}

// Timeouts bound an attempt. Zero means the default in brackets.
type Timeouts struct {
	Connect    time.Duration // [5s] dial and TLS
	FirstToken time.Duration // [60s] of a stream: until the first delta
	Idle       time.Duration // [60s] of a stream: between two frames
	Total      time.Duration // [10m] the whole answer
}

const defaultMaxBody = 32 << 20

// A Gateway serves the data plane's routes.
type Gateway struct {
	config      atomic.Pointer[Config]
	upstream    http.RoundTripper
	fresh       http.RoundTripper // uses no connection twice
	record      func(*call.Call, *call.Exchange)
	denied      func() // counts a request without a valid key
	log         *slog.Logger
	total       atomic.Int64
	limits      *limit.Limiter
	deployments deployments
	forecasts   forecasts
	idempotency idempotency
	memory      memory
	retrying    atomic.Int64 // of total, those on a second try at a target
	urls        atomic.Pointer[map[address]*url.URL]
}

// New makes a Gateway. record gets every Call that passed authentication,
// denied is told of those that did not. upstream nil means Transport(c.Timeouts);
// that dials as c says; any other must be done with a request's body when
// RoundTrip returns.
func New(c *Config, upstream http.RoundTripper, record func(*call.Call, *call.Exchange), denied func(), log *slog.Logger) *Gateway {
	fresh := upstream
	if upstream == nil {
		pooled, once := Transport(c.Timeouts), Transport(c.Timeouts)
		once.MaxIdle = 0
		if c.Dial != nil {
			pooled.Dial, once.Dial = c.Dial, c.Dial
		}
		upstream, fresh = pooled, once
	}
	g := &Gateway{upstream: upstream, fresh: fresh, record: record, denied: denied, log: log, limits: c.Limits}
	if g.limits == nil {
		g.limits = limit.New(time.UTC, nil)
	}
	g.SetConfig(c)
	return g
}

// SetConfig swaps the configuration. Requests under way keep the one they
// began with.
func (g *Gateway) SetConfig(c *Config) {
	d := *c
	if d.MaxBody == 0 {
		d.MaxBody = defaultMaxBody
	}
	if d.Retry.Attempts == 0 {
		d.Retry.Attempts = 3
	}
	if d.Retry.On == nil {
		d.Retry.On = DefaultRetryOn
	}
	d.Timeouts = d.Timeouts.withDefaults()
	g.config.Store(&d)
	g.deployments.prune(&d)
}

func (t Timeouts) withDefaults() Timeouts {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.Connect, 5*time.Second)
	def(&t.FirstToken, time.Minute)
	def(&t.Idle, time.Minute)
	def(&t.Total, 10*time.Minute)
	return t
}

// An ingress is what a route fixes about a request before its body is read.
type ingress struct {
	dialect provider.Dialect
	model   string // named by the path (Gemini); "" means the body names it
	stream  bool   // asked for by the path (Gemini)
	array   bool   // a Gemini stream without alt=sse: one JSON array
}

// serveGemini takes /v1beta/models/{model}:{method}; the model may hold a slash.
func (g *Gateway) serveGemini(w http.ResponseWriter, r *http.Request) {
	model, method, _ := cutLast(r.PathValue("call"), ":")
	in := ingress{dialect: provider.Gemini, model: model}
	switch method {
	case "generateContent":
	case "streamGenerateContent":
		in.stream = true
		in.array = r.URL.Query().Get("alt") != "sse"
	default:
		unknownRoute(w, r)
		return
	}
	g.serve(w, r, in)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
