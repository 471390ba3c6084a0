package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/provider/sim"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store"
)

// demoConfig is an ordinary configuration whose providers are the simulated
// one, each at its own path and in its own dialect. The last arguments are the
// keys of the simulated applications and how many calls a minute there are.
const demoConfig = `
listen: %q
data: %q
admin_key: %q
providers:
  openai:    { base_url: %[4]s/openai/v1, key: simulated-provider }
  anthropic: { base_url: %[4]s/anthropic/v1, key: simulated-provider }
  gemini:    { base_url: %[4]s/gemini/v1beta, key: simulated-provider }
  deepseek:  { base_url: %[4]s/deepseek/v1, key: simulated-provider }
  local:     { type: openai, base_url: %[4]s/v1, key: simulated-provider }
models:
  fast:  { use: [gemini/gemini-2.5-flash, deepseek/deepseek-chat], limits: { rpm: %[7]d } }
  smart: { use: [anthropic/claude-sonnet-4-5, openai/gpt-4.1], limits: { rpm: %[7]d } }
teams:
  commerce: { budget: $150/month, limits: { rpm: %[7]d } }
  finance:  { budget: $400/month, limits: { rpm: %[7]d } }
  platform: { budget: $90/month, limits: { concurrent: 50 } }
keys:
  demo: { key: %[5]q, team: demo }
%[6]s`

// demoApps are the keys that the simulated applications call with, their teams
// and their budgets.
var demoApps = []demoApp{{"support", "commerce", "$100/month"}, {"search", "commerce", "$75/month"}, {"reports", "finance", "$40/day"}, {"editor", "platform", "$12/day"}}

type demoApp struct{ key, team, budget string }

// demoModels are what the applications ask for, the favourite first.
var demoModels = []string{"gpt-4.1", "claude-sonnet-4-5", "gemini-2.5-flash", "deepseek-chat", "smart", "fast", "local/qwen3-8b"}

// demoTargets is what a name of demoModels means, as demoConfig says.
func demoTargets(model string) []string {
	switch model {
	case "fast":
		return []string{"gemini-2.5-flash", "deepseek-chat"}
	case "smart":
		return []string{"claude-sonnet-4-5", "gpt-4.1"}
	case "local/qwen3-8b":
		return []string{"qwen3-8b"}
	}
	return []string{model}
}

type demoOptions struct {
	listen, data string
	speed, rate  float64
	past         int
	json         bool
}

func newDemo(e *env) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use: "demo", Short: "Serve a simulated provider with live traffic: no key, no network",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return demo(cmd.Context(), e, o) },
	}
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8080", "address to serve on")
	cmd.Flags().StringVar(&o.data, "data", "", "keep the data in this folder (default: a new one, removed at the end)")
	cmd.Flags().Float64Var(&o.speed, "speed", 1, "how many times faster than real the provider and the clients are")
	cmd.Flags().Float64Var(&o.rate, "rate", demoRate, "calls a second, before --speed")
	cmd.Flags().IntVar(&o.past, "past", demoPast, "simulated calls of the last 30 days to begin with; 0: none")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON line with the address and the keys")
	return cmd
}

func demo(ctx context.Context, e *env, o demoOptions) (err error) {
	ctx, stop := untilSignal(ctx)
	defer stop()
	if o.data == "" {
		if o.data, err = os.MkdirTemp("", "sheepgate-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.data)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	seed := uint64(time.Now().UnixNano())
	var wg sync.WaitGroup
	simulated := &http.Server{Handler: sim.New(sim.Options{Seed: seed, Speed: o.speed, Bad: true}), ReadHeaderTimeout: 10 * time.Second}
	wg.Go(func() { _ = simulated.Serve(ln) }) // ends with Close below
	defer wg.Wait()
	defer simulated.Close()

	admin, key := state.NewKey(), state.NewKey()
	var apps []string // their keys
	list := ""
	for _, a := range demoApps {
		apps = append(apps, state.NewKey())
		list += fmt.Sprintf("  %s: { key: %q, team: %s, budget: %s }\n", a.key, apps[len(apps)-1], a.team, a.budget)
	}
	text := fmt.Sprintf(demoConfig, o.listen, o.data, admin, "http://"+ln.Addr().String(), key, list, max(30, int(60*o.rate*o.speed)))
	c, _, err := config.Parse("demo", []byte(text), config.Options{Known: known()})
	if err != nil {
		return err
	}
	s, err := startServer(c, slog.New(slog.NewTextHandler(e.stderr, nil)), key)
	if err != nil {
		return err
	}
	started := time.Now()
	if o.json {
		if err := json.NewEncoder(e.stdout).Encode(map[string]string{"url": s.url, "admin_key": admin, "key": key}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stdout, demoHello, s.url, admin, key)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	traffic := sim.TrafficOptions{Rate: o.rate, Speed: o.speed, Day: 24 * time.Hour, Seed: seed, Models: demoModels, Keys: apps[1:]}
	wg.Go(func() { sim.Traffic(ctx, s.url, apps[0], traffic) })
	if o.past > 0 {
		before := traffic
		before.Speed = 1
		known := past{l: s.ledger, before: started}
		var accounts []limit.Account
		for _, b := range s.limits.Spending() {
			accounts = append(accounts, b.Account)
		}
		was := known.spent(ctx, accounts)
		wg.Go(func() {
			err := remember(ctx, s.store, sim.PastOptions{Until: started, Span: 30 * 24 * time.Hour, Calls: o.past, Traffic: before, Targets: demoTargets})
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				s.log.Warn("the simulated past is not complete", "err", err)
			}
			s.limits.Restore(beyond(known.spent(ctx, accounts), was), false)
		})
	}
	return s.until(ctx, time.Duration(c.Timeouts.Drain))
}

const (
	demoRate  = 0.3
	demoPast  = 70_000
	pastBatch = 1000
)

// remember puts a simulated past into s, the newest first, while the server
// serves already.
func remember(ctx context.Context, s store.Store, o sim.PastOptions) error {
	prices := price.Default()
	batch := make([]*call.Call, 0, pastBatch)
	for e := range sim.Past(o) {
		if batch = append(batch, pastCall(e, prices)); len(batch) < pastBatch {
			continue
		}
		if _, err := s.Import(ctx, batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	_, err := s.Import(ctx, batch)
	return err
}

// pastCall is the Call that the gateway would have made of e.
func pastCall(e *sim.Ended, prices *price.Catalogue) *call.Call {
	app := demoApps[e.Key]
	c := &call.Call{
		ID: call.NewID(e.Start), StartedAt: e.Start.UTC().Truncate(time.Microsecond), Origin: call.OriginClient, Key: app.key, Team: app.team,
		User: e.User, Session: e.Session, Tags: e.Tags, Ingress: e.Ingress, ModelRequested: e.Asked, Stream: e.Stream,
		Status: call.Success, HTTPStatus: e.Status, Latency: e.Latency.Truncate(time.Microsecond), TTFT: e.TTFT.Truncate(time.Microsecond),
		ResponseID: e.ResponseID, FinishReason: e.Finish, NativeFinishReason: string(e.Finish), Usage: e.Usage,
	}
	for i, t := range e.Tries {
		a := call.Attempt{Provider: t.Model.Vendor, Model: t.Model.Name, HTTPStatus: t.Status, Latency: t.Latency.Truncate(time.Microsecond)}
		if i == len(e.Tries)-1 {
			c.Provider, c.Model = a.Provider, a.Model
			if e.ResponseID != "" {
				c.ResponseModel = t.Model.Snapshot
				price, ok := prices.Cost(a.Provider, a.Model, &c.Usage, c.StartedAt)
				a.Cost, a.Unpriced = price.Nano, !ok
				c.Cost, c.Unpriced, c.PriceRow = a.Cost, a.Unpriced, price.Row
			}
		}
		a.ErrorClass = pastClass(t.Status)
		c.Attempts = append(c.Attempts, a)
	}
	// Between its tries a call waits, which is no time of the gateway's.
	c.Overhead = time.Duration(120+e.Start.UnixMicro()%90) * time.Microsecond
	c.Latency += c.Overhead
	last := &call.Attempt{}
	if n := len(c.Attempts); n > 0 {
		last = &c.Attempts[n-1]
	}
	switch {
	case e.Left:
		c.Status, last.ErrorClass = call.Canceled, llm.Canceled
		c.Error = call.Error{Class: llm.Canceled, Message: "the client closed the request"}
	case e.Broken:
		c.Status, last.ErrorClass = call.Failed, llm.StreamBroken
		c.Error = call.Error{Class: llm.StreamBroken, Message: e.Message}
	case e.Status >= 400:
		c.Status = call.Failed
		c.Error = call.Error{Class: pastClass(e.Status), Message: e.Message}
		if len(e.Tries) == 0 {
			c.Error.Code = "model_not_found"
		}
	}
	return c
}

// pastClass is the class of a provider's status.
func pastClass(status int) llm.ErrorClass {
	switch {
	case status == http.StatusNotFound:
		return llm.NotFound
	case status == http.StatusTooManyRequests:
		return llm.RateLimited
	case slices.Contains([]int{http.StatusServiceUnavailable, 529}, status):
		return llm.Overloaded
	case status >= 500:
		return llm.UpstreamError
	case status >= 400:
		return llm.InvalidRequest
	}
	return ""
}

const demoHello = `Sheepgate demo: a simulated provider, real relaying, accounting and storage.

  Console   %[1]s/#key=%[2]s
  A call    curl %[1]s/v1/chat/completions -H "Authorization: Bearer %[3]s" \
              -d '{"model":"gpt-4.1","messages":[{"role":"user","content":"Hello"}]}'
  Numbers   curl %[1]s/v1/metrics -H "Authorization: Bearer %[2]s"

Ctrl-C ends it.
`
