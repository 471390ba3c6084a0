package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
)

// TestAbsurdMaxTokens: what nobody can answer is still reserved, at models too of
// which it is not known how much they can.
func TestAbsurdMaxTokens(t *testing.T) {
	l, change := limited(limit.Rule{Name: "key test", Match: limit.Match{Key: "test"}, Bounds: limit.Bounds{Budgets: []limit.Budget{{Amount: 1_000_000, Period: limit.Day}}}})
	r := newRig(t, change, say(200, reply))
	tried := 0
	for _, m := range price.Default().Models() {
		if m.MaxOutput > 0 || tried == 3 {
			continue
		}
		tried++
		for _, ask := range []string{`"max_tokens":2000000000`, `"max_tokens":9000000000000000000`, `"max_tokens":1000000,"n":128`} {
			status, _, body := r.post(t, "/v1/chat/completions", fmt.Sprintf(`{"model":"one/%s",%s,"messages":[]}`, m.ID, ask))
			if c := r.recorded(t); status == 200 && !c.Unpriced {
				t.Errorf("%s, %s: %d %s", m.ID, ask, status, body)
			}
		}
	}
	if tried == 0 {
		t.Error("every model of the catalogue says how much it can answer")
	}
	idle(t, l)
}

// TestOddRequest: a request whose tokens do not come from its bytes does not make
// others look large.
func TestOddRequest(t *testing.T) {
	var f forecasts
	f.learn(&call.Call{Key: "k", Model: "m", Status: call.Success, Usage: llm.Usage{Source: llm.UsageUpstream, Input: 100_000}}, 120)
	if n := f.input("m", 3000); n > 2*3000 {
		t.Errorf("3,000 bytes are taken for %d tokens", n)
	}
}

// TestNoRoomForARetry: a target that fails and has no room of ours for another
// attempt is not waited for.
func TestNoRoomForARetry(t *testing.T) {
	l, change := limited(limit.Rule{Name: "provider one", Match: limit.Match{Provider: "one"}, Bounds: limit.Bounds{Requests: 1}})
	r := newRig(t, change, say(503, `{"error":{"message":"busy"}}`))
	began := time.Now()
	status, _, _ := r.post(t, "/v1/chat/completions", chat)
	if took := time.Since(began); status != 503 || took > 10*time.Second {
		t.Errorf("%d after %v", status, took)
	}
	if c := r.recorded(t); len(c.Attempts) != 1 {
		t.Errorf("%+v", c.Attempts)
	}
	idle(t, l)
}

// TestLeavesWhileWaiting: whoever leaves while the only target has no room is not
// sent there, and pays nothing.
func TestLeavesWhileWaiting(t *testing.T) {
	var asked atomic.Int64
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		w.Header().Set("X-Ratelimit-Limit-Requests", "60")
		w.Header().Set("X-Ratelimit-Remaining-Requests", "0")
		w.Header().Set("X-Ratelimit-Reset-Requests", "1m")
		say(200, reply)(w, req)
	})
	r.post(t, "/v1/chat/completions", chat)
	r.recorded(t)
	c := &http.Client{Timeout: 200 * time.Millisecond}
	req, _ := http.NewRequest("POST", r.URL+"/v1/chat/completions", strings.NewReader(chat))
	req.Header.Set("X-Api-Key", "client-key")
	if res, err := c.Do(req); err == nil {
		res.Body.Close()
		t.Error("it was not held")
	}
	if k := r.recorded(t); k.Status != call.Canceled || k.Cost != 0 || len(k.Attempts) != 0 || asked.Load() != 1 {
		t.Errorf("asked %d times, %+v", asked.Load(), k)
	}
	began := time.Now() // one that stays is answered
	if status, _, _ := r.post(t, "/v1/chat/completions", chat); status != 200 || time.Since(began) > 20*time.Second {
		t.Errorf("%d after %v", status, time.Since(began))
	}
}

// TestForbidden: what a provider forbids one request does not take it from others.
func TestForbidden(t *testing.T) {
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		b := make([]byte, 200)
		n, _ := req.Body.Read(b)
		if strings.Contains(string(b[:n]), "flagged") {
			say(403, `{"error":{"message":"flagged"}}`)(w, req)
			return
		}
		say(200, reply)(w, req)
	}, say(200, reply))
	for range 3 {
		r.post(t, "/v1/chat/completions", `{"model":"both","messages":[{"role":"user","content":"flagged"}]}`)
		if c := r.recorded(t); c.Provider != "two" {
			t.Errorf("%+v", c)
		}
		r.post(t, "/v1/chat/completions", `{"model":"both","messages":[]}`)
		if c := r.recorded(t); c.Provider != "one" {
			t.Errorf("others are sent to %s", c.Provider)
		}
	}
}

// TestStickyWeights: sessions are spread by weight, and none goes to weight 0.
func TestStickyWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, mux, calls := fleetGatewayWeights(fleet{"a": works(1), "b": works(1), "none": works(1)}, []float64{3, 1, 0}, "a", "b", "none")
		c := *g.config.Load()
		c.Aliases[0].Sticky = true
		g.SetConfig(&c)
		began := time.Now()
		for i := range 400 {
			drive(mux, 100, time.Millisecond, "Sheepgate-Session", fmt.Sprint("session-", i))
		}
		_, _, asked, n := tally(calls(), began, time.Now())
		if share := float64(asked["a"]) / float64(n); share < 0.66 || share > 0.84 || asked["none"] > 0 {
			t.Errorf("%v of %d", asked, n)
		}
	})
}

// TestNewcomer: with strategy latency one that has never answered is found out
// about by one request, not by all.
func TestNewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, mux, calls := fleetGateway(fleet{"slow": works(20_000), "fast": works(100)}, Latency, "slow", "fast")
		both, c := *g.config.Load(), *g.config.Load()
		known := both.Aliases[0]
		known.Targets = known.Targets[1:]
		c.Aliases = []Route{known}
		g.SetConfig(&c)
		drive(mux, 50, 2*time.Second)
		g.SetConfig(&both)
		began := time.Now()
		drive(mux, 50, 15*time.Second)
		if _, _, asked, n := tally(calls(), began, time.Now()); asked["slow"] < 1 || asked["slow"] > 2 {
			t.Errorf("%v of %d", asked, n)
		}
	})
}

// TestGone: who is no longer configured is forgotten.
func TestGone(t *testing.T) {
	r := newRig(t, nil, say(200, reply), say(200, reply))
	r.post(t, "/v1/chat/completions", chat)
	r.post(t, "/v1/chat/completions", strings.Replace(chat, "one/", "two/", 1))
	if n := len(r.g.Live().Models); n != 2 {
		t.Errorf("%d deployments", n)
	}
	c := *r.g.config.Load()
	c.Providers = c.Providers[:1]
	r.g.SetConfig(&c)
	if m := r.g.Live().Models; len(m) != 1 || m[0].Provider != "one" {
		t.Errorf("%+v", m)
	}
}
