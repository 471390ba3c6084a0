package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/provider/sim"
)

// What the past is made of are Calls as the gateway makes them.
func TestPastCalls(t *testing.T) {
	prices := price.Default()
	codes, keys, models := map[string]int{}, map[string]bool{}, map[string]bool{}
	n, unpriced, retried, moved := 0, 0, 0, 0
	o := sim.PastOptions{Until: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC), Span: 30 * 24 * time.Hour, Calls: 20_000, Targets: demoTargets,
		Traffic: sim.TrafficOptions{Rate: 0.3, Day: 24 * time.Hour, Models: demoModels, Keys: make([]string, len(demoApps)-1)}}
	for e := range sim.Past(o) {
		c := pastCall(e, prices)
		n++
		codes[c.Code()]++
		keys[c.Key], models[c.ModelRequested] = true, true
		if err := c.Check("", ""); err != nil || c.Origin != call.OriginClient {
			t.Fatalf("%v: %+v", err, c)
		}
		sum := time.Duration(0)
		for _, a := range c.Attempts {
			sum += a.Latency
		}
		if sum > c.Latency || c.TTFT > c.Latency {
			t.Fatalf("tries of %v, a first token after %v in a call of %v", sum, c.TTFT, c.Latency)
		}
		switch {
		case c.Unpriced:
			unpriced++
			if c.Provider != "local" || c.Cost != 0 || c.PriceRow != "" {
				t.Fatalf("unpriced: %+v", c)
			}
		case c.Usage.Source == llm.UsageNone:
			if c.Cost != 0 || c.Usage.Input != 0 {
				t.Fatalf("nothing used: %+v", c)
			}
		default:
			want, ok := prices.Cost(c.Provider, c.Model, &c.Usage, c.StartedAt)
			if !ok || want.Nano != c.Cost || want.Row != c.PriceRow || c.Cost == 0 {
				t.Fatalf("cost %d by %s, the catalogue says %d by %s", c.Cost, c.PriceRow, want.Nano, want.Row)
			}
		}
		if k := len(c.Attempts); k > 1 {
			retried++
			if c.Attempts[0].Provider != c.Attempts[k-1].Provider {
				moved++
			}
		}
	}
	for _, code := range call.Codes {
		if codes[code] == 0 {
			t.Errorf("no call ended as %s", code)
		}
	}
	if len(keys) != len(demoApps) || len(models) != len(demoModels)+1 || unpriced == 0 || retried == 0 || moved == 0 {
		t.Errorf("%d keys, %d models, %d unpriced, %d retried, %d of them elsewhere", len(keys), len(models), unpriced, retried, moved)
	}
	if n < 15_000 || n > 25_000 {
		t.Errorf("%d calls, want about 20000", n)
	}
}

// The demo answers at once, has its past soon after, and calls nothing that its
// configuration does not know but the one name that nobody serves.
func TestDemo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	var log bytes.Buffer
	ended := make(chan error, 1)
	begun := time.Now()
	go func() {
		err := demo(ctx, &env{stdout: w, stderr: &log}, demoOptions{listen: "127.0.0.1:0", speed: 50, rate: 2, past: 3000, json: true})
		w.Close()
		ended <- err
	}()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		t.Fatalf("%v: %v", err, <-ended)
	}
	t.Logf("the demo answers after %v", time.Since(begun))
	var d struct {
		URL   string
		Admin string `json:"admin_key"`
	}
	if err := json.Unmarshal(line, &d); err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string, v any) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, d.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+d.Admin)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(v); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %s, %v", method, path, res.Status, err)
		}
	}
	var me struct {
		Demo    bool
		DemoKey string `json:"demo_key"`
		Example string `json:"example_model"`
	}
	if ask("GET", "/api/v1/session", "", &me); !me.Demo || me.DemoKey == "" || me.Example != "fast" {
		t.Errorf("session = %+v", me)
	}
	count := func(from, to time.Time) (n int) {
		t.Helper()
		var got struct{ Total []int }
		q, _ := json.Marshal(map[string]any{"from": from, "to": to, "measures": []string{"requests"}}) // cannot fail
		ask("POST", "/api/v1/query", string(q), &got)
		return got.Total[0]
	}
	old, live := 0, 0
	for deadline := begun.Add(30 * time.Second); (old < 2000 || live < 200) && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		old, live = count(begun.AddDate(0, 0, -31), begun), count(begun, time.Now())
	}
	if old < 2000 || live < 200 {
		t.Errorf("%d calls of the past and %d since", old, live)
	}
	var page struct{ Calls []*call.Call }
	ask("GET", "/api/v1/calls?limit=1000&code=4xx&from="+begun.UTC().Format(time.RFC3339Nano), "", &page)
	for _, c := range page.Calls {
		if c.Error.Class == llm.NotFound && c.ModelRequested != "gpt-5-turbo" || c.Error.Class == llm.Forbidden {
			t.Errorf("a call for %s: %+v", c.ModelRequested, c.Error)
		}
	}
	keys := []string{}
	ask("GET", "/api/v1/calls?limit=500&from="+begun.UTC().Format(time.RFC3339Nano), "", &page)
	for _, c := range page.Calls {
		if !slices.Contains(keys, c.Key) {
			keys = append(keys, c.Key)
		}
	}
	if len(keys) != len(demoApps) {
		t.Errorf("calls with keys %v, want those of %v", keys, demoApps)
	}
	// What the budgets have spent is what the past of their periods cost, and more by now.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		var live struct{ Rules []call.LiveLimit }
		ask("GET", "/api/v1/limits", "", &live)
		var short []string
		n := 0
		for _, r := range live.Rules {
			for _, b := range r.Budgets {
				filter := map[string][]string{"key": {r.Key}}
				if r.Key == "" {
					filter = map[string][]string{"team": {r.Team}}
				}
				q, _ := json.Marshal(map[string]any{"from": b.From, "to": begun, "filter": filter, "measures": []string{"cost_nano_usd"}}) // cannot fail
				var past struct{ Total []int64 }
				ask("POST", "/api/v1/query", string(q), &past)
				if n++; int64(b.Spent) < past.Total[0] {
					short = append(short, fmt.Sprint(r.Rule, " ", b.Period, ": ", b.Spent, " spent, the past cost ", llm.Nano(past.Total[0])))
				}
			}
		}
		if n == len(demoApps)+3 && short == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d budgets; %v", n, short)
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the demo ended with %v\n%s", err, log.String())
	}
}
