package sim

import (
	"context"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// TrafficOptions says how many clients call, and how. The zero value is six
// calls a second on the four models of the demo.
type TrafficOptions struct {
	Rate   float64       // calls a second on average, at Speed 1; 0 means 6
	Speed  float64       // as of the provider: how many times faster than real time clients live; 0 means 1
	Day    time.Duration // the length of one wave of quiet and busy hours; 0 means 20 minutes
	Seed   uint64
	Models []string     // what to ask for, the favourite first; empty means the demo's four models
	Keys   []string     // more keys to call with, beside the first: each application has one
	Client *http.Client // nil means one of its own
}

// filled is o with its defaults.
func (o TrafficOptions) filled() TrafficOptions {
	if o.Rate <= 0 {
		o.Rate = 6
	}
	if o.Speed <= 0 {
		o.Speed = 1
	}
	if o.Day <= 0 {
		o.Day = 20 * time.Minute
	}
	if len(o.Models) == 0 {
		o.Models = []string{"gpt-4.1", "claude-sonnet-4-5", "gemini-2.5-flash", "deepseek-chat"}
	}
	return o
}

// maxOpen bounds the calls in flight: when a gateway answers none, Traffic
// leaves calls out rather than pile them up.
const maxOpen = 256

// Traffic calls a gateway at baseURL (http://127.0.0.1:8080) the way a team's
// applications would, until ctx ends: in three dialects, streamed and plain,
// with tools, JSON schemas, sessions, users, tags, clients that leave and now
// and then a mistake. It returns when all its calls have ended.
func Traffic(ctx context.Context, baseURL, key string, o TrafficOptions) {
	o = o.filled()
	if o.Client == nil {
		tr := &http.Transport{MaxIdleConnsPerHost: maxOpen}
		defer tr.CloseIdleConnections()
		o.Client = &http.Client{Transport: tr}
	}
	g := &generator{base: strings.TrimSuffix(baseURL, "/"), keys: append([]string{key}, o.Keys...), o: o, r: rand.New(rand.NewPCG(o.Seed, 1))}
	open := make(chan struct{}, maxOpen)
	var calls sync.WaitGroup
	defer calls.Wait()
	start := time.Now()
	for {
		gap := g.r.ExpFloat64() / o.Speed / o.wave(time.Since(start))
		t := time.NewTimer(time.Duration(gap * float64(time.Second)))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		c := g.next()
		select {
		case open <- struct{}{}:
			calls.Go(func() {
				defer func() { <-open }()
				c.do(ctx, o.Client)
			})
		default:
		}
	}
}

// wave is the rate at t, in calls a second of the clients' time: at its lowest 40 % of the average,
// at its highest 160 %, with a smaller second peak in the afternoon.
func (o *TrafficOptions) wave(t time.Duration) float64 {
	x := 2 * math.Pi * o.Speed * float64(t) / float64(o.Day)
	return o.Rate * (1 + 0.45*math.Sin(x) + 0.15*math.Sin(2*x+1))
}

// An errand is one call to be made.
type errand struct {
	path   string
	header http.Header
	body   []byte
	leave  time.Duration // the client hangs up after this; 0 means never
}

// do makes the call and reads the answer to its end. What comes is of no
// interest: the gateway is what watches.
func (e *errand) do(ctx context.Context, client *http.Client) {
	var cancel context.CancelFunc = func() {}
	if e.leave > 0 {
		ctx, cancel = context.WithTimeout(ctx, e.leave)
	}
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.path, strings.NewReader(string(e.body)))
	if err != nil {
		return
	}
	req.Header = e.header
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}
