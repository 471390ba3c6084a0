package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/provider/sim"
	"github.com/sheepgate/sheepgate/internal/state"
)

// demoConfig is an ordinary configuration whose providers are the simulated
// one, each at its own path and in its own dialect.
const demoConfig = `
listen: %q
data: %q
admin_key: %q
providers:
  openai:    { base_url: %[4]s/openai/v1, key: simulated-provider }
  anthropic: { base_url: %[4]s/anthropic/v1, key: simulated-provider }
  gemini:    { base_url: %[4]s/gemini/v1beta, key: simulated-provider }
  deepseek:  { base_url: %[4]s/deepseek/v1, key: simulated-provider }
models:
  fast:  { use: [gemini/gemini-2.5-flash, deepseek/deepseek-chat] }
  smart: { use: [anthropic/claude-sonnet-4-5, openai/gpt-4.1] }
keys:
  demo: { key: %[5]q, team: demo }
`

func newDemo(e *env) *cobra.Command {
	var listen, data string
	var speed float64
	var asJSON bool
	cmd := &cobra.Command{
		Use: "demo", Short: "Serve a simulated provider with live traffic: no key, no network",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), e, listen, data, speed, asJSON)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address to serve on")
	cmd.Flags().StringVar(&data, "data", "", "keep the data in this folder (default: a new one, removed at the end)")
	cmd.Flags().Float64Var(&speed, "speed", 1, "how many times faster than real the provider answers")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON line with the address and the keys")
	return cmd
}

func demo(ctx context.Context, e *env, listen, data string, speed float64, asJSON bool) (err error) {
	if data == "" {
		if data, err = os.MkdirTemp("", "sheepgate-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(data)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	simulated := &http.Server{Handler: sim.New(sim.Options{Seed: uint64(time.Now().UnixNano()), Speed: speed}), ReadHeaderTimeout: 10 * time.Second}
	wg.Go(func() { _ = simulated.Serve(ln) }) // ends with Close below
	defer wg.Wait()
	defer simulated.Close()

	admin, key := state.NewKey(), state.NewKey()
	text := fmt.Sprintf(demoConfig, listen, data, admin, "http://"+ln.Addr().String(), key)
	c, _, err := config.Parse("demo", []byte(text), config.Options{Known: known()})
	if err != nil {
		return err
	}
	s, err := startServer(c, slog.New(slog.NewTextHandler(e.stderr, nil)))
	if err != nil {
		return err
	}
	if asJSON {
		if err := json.NewEncoder(e.stdout).Encode(map[string]string{"url": s.url, "admin_key": admin, "key": key}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stdout, demoHello, s.url, admin, key)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { sim.Traffic(ctx, s.url, key, sim.TrafficOptions{Speed: speed}) })
	return s.until(ctx, time.Duration(c.Timeouts.Drain))
}

const demoHello = `Sheepgate demo: a simulated provider, real relaying, accounting and storage.

  Console   %[1]s/#key=%[2]s
  A call    curl %[1]s/v1/chat/completions -H "Authorization: Bearer %[3]s" \
              -d '{"model":"gpt-4.1","messages":[{"role":"user","content":"Hello"}]}'
  Numbers   curl %[1]s/v1/metrics -H "Authorization: Bearer %[2]s"

Ctrl-C ends it.
`
