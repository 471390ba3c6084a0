package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// A meter is a provider that enforces limits of its own, as it likes, and tells
// of them in its family of headers.
type meter struct {
	requests, tokens int // a window
	window           time.Duration
	fixed            bool // all comes back at once; else evenly
	family           string

	mu       sync.Mutex
	at       time.Time
	left     [2]float64
	begun    time.Time
	need     float64 // tokens of a request
	accepted int
	refused  int
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	need := [2]float64{1, float64(len(body)/4 + 40)}
	m.mu.Lock()
	m.need = need[1]
	now := time.Now()
	limits := [2]float64{float64(m.requests), float64(m.tokens)}
	switch {
	case m.begun.IsZero():
		m.begun, m.left = now, limits
	case m.fixed && now.Sub(m.begun) >= m.window:
		m.begun, m.left = now, limits
	case !m.fixed:
		for i := range m.left {
			m.left[i] = min(limits[i], m.left[i]+limits[i]*now.Sub(m.at).Seconds()/m.window.Seconds())
		}
	}
	m.at = now
	ok := m.left[0] >= need[0] && m.left[1] >= need[1]
	if ok {
		m.accepted++
		m.left[0] -= need[0]
		m.left[1] -= need[1]
	} else {
		m.refused++
	}
	left := m.left
	m.mu.Unlock()
	full := func(i int) time.Duration {
		if m.fixed {
			return m.begun.Add(m.window).Sub(now)
		}
		return time.Duration((limits[i] - left[i]) / limits[i] * float64(m.window))
	}
	h := w.Header()
	for i, name := range []string{"Requests", "Tokens"} {
		limit, remaining := fmt.Sprint(int(limits[i])), fmt.Sprint(int(left[i]))
		switch m.family {
		case "openai":
			h.Set("X-Ratelimit-Limit-"+name, limit)
			h.Set("X-Ratelimit-Remaining-"+name, remaining)
			h.Set("X-Ratelimit-Reset-"+name, full(i).Round(time.Millisecond).String())
		case "azure":
			h.Set("X-Ratelimit-Limit-"+name, limit)
			h.Set("X-Ratelimit-Remaining-"+name, remaining)
			h.Set("X-Ratelimit-Reset-"+name, fmt.Sprint(int(full(i).Seconds()+0.999)))
		case "anthropic":
			h.Set("Anthropic-Ratelimit-"+name+"-Limit", limit)
			h.Set("Anthropic-Ratelimit-"+name+"-Remaining", remaining)
			h.Set("Anthropic-Ratelimit-"+name+"-Reset", now.Add(full(i)).UTC().Format(time.RFC3339))
		}
	}
	time.Sleep(time.Duration(10+rand.IntN(40)) * time.Millisecond)
	if !ok {
		h.Set("Retry-After", "1")
		say(429, `{"error":{"message":"slow down","code":"rate_limit_exceeded"}}`)(w, r)
		return
	}
	say(200, reply)(w, r)
}

// TestProviderLimits drives an alias at three times what its first provider
// allows. Clients are not to feel it, and the first is to be used to the full.
func TestProviderLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("20 s")
	}
	for _, m := range []*meter{
		{family: "openai", requests: 100, tokens: 1 << 20}, {family: "openai", requests: 1 << 20, tokens: 100 * 80}, {family: "azure", requests: 100, tokens: 1 << 20, fixed: true},
		{family: "anthropic", requests: 100, tokens: 1 << 20}, {family: "none", requests: 100, tokens: 1 << 20},
	} {
		name := fmt.Sprintf("%s/%d/%d/fixed=%v", m.family, m.requests, m.tokens, m.fixed)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m.window = 5 * time.Second
			r := newRig(t, nil, m.ServeHTTP, say(200, reply))
			const length = 19 * time.Second
			statuses := map[int]int{}
			var mu sync.Mutex
			var wg sync.WaitGroup
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range r.calls {
				}
			}()
			began := time.Now()
			for n := 0; time.Since(began) < length; n++ { // 60 a second, by chance
				time.Sleep(time.Duration(rand.ExpFloat64() * float64(time.Second/60)))
				wg.Go(func() {
					status, _, _ := r.post(t, "/v1/chat/completions", `{"model":"both","max_tokens":40,"messages":[{"role":"user","content":"`+strings.Repeat("word ", 8)+`"}]}`)
					mu.Lock()
					statuses[status]++
					mu.Unlock()
				})
			}
			wg.Wait()
			took := time.Since(began)
			close(r.calls)
			<-done
			all := 0
			for _, n := range statuses {
				all += n
			}
			// What it would have allowed whoever asks all the time.
			window := float64(m.requests)
			if m.requests > m.tokens {
				window = float64(m.tokens) / m.need
			}
			allowed := window * (1 + took.Seconds()/m.window.Seconds())
			if m.fixed {
				allowed = window * float64(1+int(took/m.window))
			}
			used := float64(m.accepted) / allowed
			t.Logf("%d calls: %v; the limited one took %d of about %.0f, %.1f %%, and refused %d", all, statuses, m.accepted, allowed, 100*used, m.refused)
			if float64(all) < 1.5*allowed {
				t.Skip("the machine was too busy to drive it at three times its limit")
			}
			if bad := all - statuses[200]; bad*100 >= all {
				t.Errorf("%d of %d calls failed", bad, all)
			}
			if m.family != "none" && used < 0.9 {
				t.Errorf("only %.1f %% of what the limited one allows was used", 100*used)
			}
			if m.family != "none" && m.refused*20 > all {
				t.Errorf("it had to refuse %d of %d", m.refused, all)
			}
		})
	}
}

// A fleet is upstreams by host, in a bubble without sockets.
type fleet map[string]func(*http.Request) (*http.Response, error)

func (f fleet) RoundTrip(r *http.Request) (*http.Response, error) { return f[r.URL.Host](r) }

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
}

// takes waits, and ends early with its request.
func takes(r *http.Request, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
}

func works(ms int) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		if err := takes(r, time.Duration(float64(ms)*(0.5+rand.Float64()))*time.Millisecond); err != nil {
			return nil, err
		}
		return answer(200, reply), nil
	}
}

// fleetGateway is a gateway over a fleet, with the alias all over its hosts in
// this order.
func fleetGateway(f fleet, s Strategy, hosts ...string) (g *Gateway, mux *http.ServeMux, calls func() []*call.Call) {
	c := &Config{Prices: price.Default(), Auth: func(string) (*call.Principal, bool) { return &call.Principal{Key: "test", Data: true}, true }}
	for _, h := range hosts {
		c.Providers = append(c.Providers, Provider{Name: h, Keys: []ProviderKey{{Secret: "k"}}, Spec: provider.Spec{BaseURL: "http://" + h, Dialect: provider.OpenAI}})
	}
	all := Route{Alias: "all", Strategy: s}
	for i := range c.Providers {
		all.Targets = append(all.Targets, Target{&c.Providers[i], "gpt-4.1"})
	}
	c.Aliases = []Route{all}
	var mu sync.Mutex
	var list []*call.Call
	g = New(c, f, func(c *call.Call, _ *call.Exchange) { mu.Lock(); list = append(list, c); mu.Unlock() }, func() {}, slog.New(slog.DiscardHandler))
	mux = http.NewServeMux()
	g.Register(mux)
	return g, mux, func() []*call.Call { mu.Lock(); defer mu.Unlock(); return list }
}

// drive sends requests, perSecond by chance, for a while.
func drive(mux http.Handler, perSecond float64, length time.Duration, header ...string) {
	var wg sync.WaitGroup
	for began := time.Now(); time.Since(began) < length; {
		time.Sleep(time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second)))
		wg.Go(func() {
			r := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{"model":"all","messages":[]}`))
			r.Header.Set("Authorization", "Bearer x")
			for i := 0; i+1 < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			mux.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	wg.Wait()
}

// tally is how Calls that began in a range of time went.
func tally(calls []*call.Call, from, to time.Time) (ok float64, p99 time.Duration, asked map[string]int, n int) {
	asked = map[string]int{}
	var took []time.Duration
	good := 0
	for _, c := range calls {
		if c.StartedAt.Before(from) || !c.StartedAt.Before(to) {
			continue
		}
		n++
		if c.Status == call.Success {
			good++
		}
		took = append(took, c.Latency)
		for _, a := range c.Attempts {
			asked[a.Provider]++
		}
	}
	slices.Sort(took)
	return float64(good) / float64(n), took[min(len(took)*99/100, len(took)-1)], asked, n
}

var noConnection = &net.OpError{Op: "dial", Err: errors.New("connection refused")}

// TestFleet: one dead, one slow, one that comes and goes, and one healthy: what
// clients feel of it, beside the healthy one alone; and the dead one is asked
// again when it has healed.
func TestFleet(t *testing.T) {
	for _, s := range []Strategy{Fallback, Latency, Weights, Headroom} {
		synctest.Test(t, func(t *testing.T) {
			_, mux, calls := fleetGateway(fleet{"healthy": works(200)}, s, "healthy")
			began := time.Now()
			drive(mux, 50, time.Minute)
			alone, p99alone, _, _ := tally(calls(), began, time.Now())

			began = time.Now()
			healed := began.Add(2 * time.Minute)
			f := fleet{
				"healthy": works(200), "slow": works(3000),
				"dead": func(r *http.Request) (*http.Response, error) {
					if time.Now().Before(healed) {
						return nil, noConnection
					}
					return works(200)(r)
				},
				"flapping": func(r *http.Request) (*http.Response, error) {
					if time.Now().Unix()/7%2 == 0 {
						_ = takes(r, 20*time.Millisecond)
						return answer(503, `{"error":{"message":"down"}}`), nil
					}
					return works(200)(r)
				},
			}
			_, mux, calls = fleetGateway(f, s, "dead", "flapping", "healthy", "slow")
			if s == Weights {
				_, mux, calls = fleetGatewayWeights(f, []float64{1, 1, 1, 1}, "dead", "flapping", "healthy", "slow")
			}
			drive(mux, 50, 3*time.Minute)
			ok, p99, asked, n := tally(calls(), began.Add(10*time.Second), healed)
			_, _, later, m := tally(calls(), healed.Add(30*time.Second), began.Add(3*time.Minute))
			t.Logf("%s: %.2f %% succeeded, p99 %v (the healthy one alone: %.2f %%, %v); asked of %d: %v; after the dead one healed, of %d: %v",
				s, 100*ok, p99.Round(time.Millisecond), 100*alone, p99alone.Round(time.Millisecond), n, asked, m, later)
			if float64(asked["dead"]) > 0.01*float64(n) {
				t.Errorf("%s: the dead one was asked %d times of %d", s, asked["dead"], n)
			}
			if ok < 0.999 {
				t.Errorf("%s: %.2f %% succeeded", s, 100*ok)
			}
			if s == Latency && p99 > 2*p99alone {
				t.Errorf("%s: p99 %v, of the healthy one alone %v", s, p99, p99alone)
			}
			least := m / 20
			if s == Latency { // as fast as the healthy one: chance decides, and every ten seconds one request
				least = 2
			}
			if later["dead"] < least {
				t.Errorf("%s: the one that healed was asked %d times of %d", s, later["dead"], m)
			}
		})
	}
}

func fleetGatewayWeights(f fleet, weights []float64, hosts ...string) (*Gateway, *http.ServeMux, func() []*call.Call) {
	g, mux, calls := fleetGateway(f, Weights, hosts...)
	c := *g.config.Load()
	c.Aliases[0].Weights = weights
	g.SetConfig(&c)
	return g, mux, calls
}

// TestWeights: targets come first as often as their weights say, and one of
// weight 0 when nobody else works.
func TestWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleet{"a": works(10), "b": works(10), "none": works(10)}
		_, mux, calls := fleetGatewayWeights(f, []float64{3, 1, 0}, "a", "b", "none")
		began := time.Now()
		drive(mux, 100, time.Minute)
		_, _, asked, n := tally(calls(), began, time.Now())
		if share := float64(asked["a"]) / float64(n); share < 0.72 || share > 0.78 || asked["none"] > 0 {
			t.Errorf("%v of %d", asked, n)
		}
		down := func(*http.Request) (*http.Response, error) { return nil, noConnection }
		f["a"], f["b"] = down, down
		began = time.Now()
		drive(mux, 100, time.Minute)
		if ok, _, asked, _ := tally(calls(), began, time.Now()); ok < 0.999 || asked["none"] == 0 {
			t.Errorf("%v of the calls succeeded, asked %v", ok, asked)
		}
	})
}

// TestCheapest: the target that costs least for the request is asked first.
func TestCheapest(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Aliases[0] = Route{Alias: "both", Strategy: Cheapest, Targets: []Target{{&c.Providers[0], "gpt-4.1"}, {&c.Providers[1], "gpt-4.1-mini"}}}
	}, say(200, reply), say(200, reply))
	r.post(t, "/v1/chat/completions", `{"model":"both","messages":[]}`)
	if c := r.recorded(t); c.Provider != "two" {
		t.Errorf("%s was asked", c.Provider)
	}
}

// TestSticky: requests of a session go to one target, those of many sessions to
// all, and when one fails its sessions move and come back.
func TestSticky(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleet{"a": works(10), "b": works(10), "c": works(10)}
		g, mux, calls := fleetGateway(f, Fallback, "a", "b", "c")
		c := *g.config.Load()
		c.Aliases[0].Sticky = true
		g.SetConfig(&c)
		home := map[string]string{}
		ask := func(session string) string {
			began := time.Now()
			drive(mux, 100, 100*time.Millisecond, "Sheepgate-Session", session)
			_, _, asked, _ := tally(calls(), began, time.Now().Add(time.Second))
			for p := range asked {
				if len(asked) == 1 {
					return p
				}
			}
			return fmt.Sprint(asked)
		}
		seen := map[string]int{}
		for i := range 60 {
			s := fmt.Sprint("session-", i)
			home[s] = ask(s)
			seen[home[s]]++
		}
		if len(seen) != 3 || seen["a"] < 8 || seen["b"] < 8 || seen["c"] < 8 {
			t.Errorf("sessions are spread %v", seen)
		}
		for s, want := range home {
			if got := ask(s); got != want {
				t.Errorf("%s went to %s, then to %s", s, want, got)
			}
		}
	})
}

// TestLastOne: a breaker never closes the way to the only one there is, and one
// model that fails does not take another with it.
func TestLastOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, mux, calls := fleetGateway(fleet{"only": func(r *http.Request) (*http.Response, error) {
			b, _ := io.ReadAll(r.Body)
			if strings.Contains(string(b), "good") {
				return answer(200, reply), nil
			}
			return answer(500, `{"error":{"message":"down"}}`), nil
		}}, Fallback, "only")
		drive(mux, 20, 30*time.Second)
		for _, c := range calls() {
			if len(c.Attempts) == 0 || c.Error.Class != llm.UpstreamError {
				t.Fatalf("the only one was not asked: %+v", c)
			}
		}
		states := map[string]string{}
		for _, m := range g.Live().Models {
			states[m.Model] = m.State
		}
		if states["gpt-4.1"] == "closed" {
			t.Errorf("states %v", states)
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{"model":"only/good","messages":[]}`))
		r.Header.Set("Authorization", "Bearer x")
		mux.ServeHTTP(w, r)
		if w.Code != 200 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("another model at the same provider: %d %s", w.Code, w.Body)
		}
	})
}

// TestKeys: of several keys of a provider the one with room is used, and one that
// is refused is left alone for a while. Calls name the key.
func TestKeys(t *testing.T) {
	var mu sync.Mutex
	used := map[string]int{}
	r := newRig(t, func(c *Config) {
		c.Providers[0].Keys = []ProviderKey{{"red", "red-secret"}, {"blue", "blue-secret"}, {"dead", "dead-secret"}}
	}, func(w http.ResponseWriter, req *http.Request) {
		secret := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		mu.Lock()
		used[secret]++
		n := used[secret]
		mu.Unlock()
		switch secret {
		case "dead-secret":
			say(401, `{"error":{"message":"bad key"}}`)(w, req)
		case "red-secret":
			w.Header().Set("X-Ratelimit-Limit-Requests", "10")
			w.Header().Set("X-Ratelimit-Remaining-Requests", fmt.Sprint(max(10-n, 0)))
			w.Header().Set("X-Ratelimit-Reset-Requests", "60s")
			say(200, reply)(w, req)
		default:
			w.Header().Set("X-Ratelimit-Limit-Requests", "1000")
			w.Header().Set("X-Ratelimit-Remaining-Requests", fmt.Sprint(1000-n))
			w.Header().Set("X-Ratelimit-Reset-Requests", "60s")
			say(200, reply)(w, req)
		}
	})
	names := map[string]int{}
	for range 50 {
		if status, _, body := r.post(t, "/v1/chat/completions", chat); status != 200 {
			t.Errorf("%d %s", status, body)
		}
		for _, a := range r.recorded(t).Attempts {
			names[a.ProviderKey]++
		}
	}
	if used["dead-secret"] > 2 || used["red-secret"] > 10 || used["blue-secret"] < 35 || names["blue"] != used["blue-secret"] || names["dead"] != used["dead-secret"] {
		t.Errorf("used %v, named %v", used, names)
	}
}

// TestDeployments: the table of those who have been asked does not grow with
// what clients make up.
func TestDeployments(t *testing.T) {
	var d deployments
	for i := range 3 * maxDeployments {
		at := d.of(deploymentID{"p", "", fmt.Sprint("junk-", i)}, false)
		at.used.Store(time.Now().Unix() - 120)
		if i == 5 {
			at.inFlight.Add(1)
		}
	}
	if len(d.m) > maxDeployments {
		t.Errorf("%d are kept", len(d.m))
	}
	if d.m[deploymentID{"p", "", "junk-5"}] == nil {
		t.Error("one that is being asked was forgotten")
	}
}

// TestHedge: a plain request that takes too long is answered by the next target;
// both attempts are booked, nothing stays reserved, and streams are left alone.
func TestHedge(t *testing.T) {
	l, limits := limited(limit.Rule{Name: "one", Match: limit.Match{Provider: "one"}, Bounds: limit.Bounds{Concurrent: 9, Budgets: []limit.Budget{{Amount: 1e12, Period: limit.Day}}}},
		limit.Rule{Name: "test", Match: limit.Match{Key: "test"}, Bounds: limit.Bounds{Budgets: []limit.Budget{{Amount: 1e12, Period: limit.Day}}}})
	var mode atomic.Value
	left := make(chan bool, 9)
	r := newRig(t, func(c *Config) { limits(c); c.Aliases[0].Hedge = 100 * time.Millisecond }, func(w http.ResponseWriter, req *http.Request) {
		switch mode.Load() {
		case "slow", "both slow":
			select {
			case <-req.Context().Done():
				left <- true
				return
			case <-time.After(400 * time.Millisecond):
			}
		case "slow and bad":
			time.Sleep(200 * time.Millisecond)
			say(500, `{"error":{"message":"no"}}`)(w, req)
			return
		}
		say(200, reply)(w, req)
	}, func(w http.ResponseWriter, req *http.Request) {
		switch mode.Load() {
		case "both slow":
			time.Sleep(2 * time.Second)
		case "slow and bad":
			time.Sleep(300 * time.Millisecond)
		}
		say(200, reply)(w, req)
	})
	body := `{"model":"both","messages":[{"role":"user","content":"hi"}]}`
	const full = 8*2000 + 8000
	for _, c := range []struct {
		mode, by string
		attempts int
	}{{"fast", "one", 1}, {"slow", "two", 2}, {"both slow", "one", 2}, {"slow and bad", "two", 2}} {
		mode.Store(c.mode)
		status, _, text := r.post(t, "/v1/chat/completions", body)
		k := r.recorded(t)
		if status != 200 || text != reply || k.Provider != c.by || len(k.Attempts) != c.attempts || k.Status != call.Success || k.Usage.Source != llm.UsageUpstream || k.Usage.Input != 8 {
			t.Errorf("%s: %d, %+v", c.mode, status, k)
		}
		var sum llm.Nano
		for _, a := range k.Attempts {
			sum += a.Cost
		}
		if last := k.Attempts[len(k.Attempts)-1]; sum != k.Cost || last.Cost != full || last.Provider != c.by || c.mode != "fast" && c.mode != "slow and bad" && (k.Cost <= full || k.Attempts[0].ErrorClass != llm.Canceled) {
			t.Errorf("%s: %v, of %+v", c.mode, k.Cost, k.Attempts)
		}
		idle(t, l)
	}
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Error("the one that lost was not let go")
	}
	var spent llm.Nano
	for _, l := range rulesOf(l) {
		spent = l.Budgets[0].Spent
	}
	if spent <= 4*full || spent > 8*full {
		t.Errorf("%v spent", spent)
	}
	mode.Store("slow")
	r.post(t, "/v1/chat/completions", strings.Replace(body, "{", `{"stream":true,`, 1))
	if k := r.recorded(t); k.Attempts[0].Provider != "one" || k.Attempts[0].ErrorClass == llm.Canceled {
		t.Errorf("a stream was hedged: %+v", k)
	}
}
