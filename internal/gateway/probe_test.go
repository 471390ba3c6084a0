package gateway

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestProbe: a provider that is gone for a minute, as one that drops all packets
// is, is asked by nobody's request in that time but those of its first seconds,
// and is asked again as soon as it is back. Without probes requests have to find
// both out.
func TestProbe(t *testing.T) {
	for _, every := range []time.Duration{0, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			gone, back := began.Add(20*time.Second), began.Add(80*time.Second)
			var mu sync.Mutex
			requests := map[int]int{} // by second
			probes := 0
			f := fleet{"healthy": works(200), "first": func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				if r.Method == http.MethodGet {
					if probes++; r.URL.String() != "http://first/models" || r.Header.Get("Authorization") != "Bearer k" || r.Body != nil {
						t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
					}
				} else {
					requests[int(time.Since(began)/time.Second)]++
				}
				mu.Unlock()
				if now := time.Now(); now.After(gone) && now.Before(back) {
					_ = takes(r, 5*time.Second)
					return nil, noConnection
				}
				if r.Method == http.MethodGet {
					return answer(404, `{"error":"no list here"}`), nil // an answer it is
				}
				return works(200)(r)
			}}
			g, mux, calls := fleetGateway(f, Fallback, "first", "healthy")
			c := *g.config.Load()
			c.Providers[0].Probe = every
			g.SetConfig(&c)
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { g.Probe(ctx) })
			drive(mux, 20, 100*time.Second)
			stop()
			wg.Wait()
			count := func(from, to int) (n int) {
				for s := from; s < to; s++ {
					n += requests[s]
				}
				return n
			}
			before, during, after := count(5, 20), count(35, 80), count(86, 95)
			ok, _, _, n := tally(calls(), began, time.Now())
			t.Logf("probed every %v, %d times: %d requests before it was gone, %d from 15 s after, %d from 6 s after it was back; %.1f %% of %d calls succeeded", every, probes, before, during, after, 100*ok, n)
			if before < 200 || ok < 1 {
				t.Errorf("%d requests in 15 s, %.2f %% of calls succeeded", before, 100*ok)
			}
			switch {
			case every == 0 && (probes != 0 || during == 0):
				t.Errorf("without probes: %d of them, and no request found out", probes)
			case every > 0 && (probes < 15 || during > 0 || after < 100):
				t.Errorf("%d probes, %d requests while it was gone, %d when it was back", probes, during, after)
			}
		})
	}
}

// TestProbeOfBrokenList: a provider whose list of models is broken is not kept
// from those whom it would answer.
func TestProbeOfBrokenList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := fleet{"healthy": works(200), "first": func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodGet {
				return answer(503, "no list"), nil
			}
			return works(20)(r)
		}}
		g, mux, calls := fleetGateway(f, Fallback, "first", "healthy")
		c := *g.config.Load()
		c.Providers[0].Probe = 5 * time.Second
		g.SetConfig(&c)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		drive(mux, 2, 5*time.Second) // so that it is known
		wg.Go(func() { g.Probe(ctx) })
		drive(mux, 2, 3*time.Minute)
		stop()
		wg.Wait()
		_, _, asked, n := tally(calls(), began.Add(20*time.Second), began.Add(55*time.Second))
		_, _, later, m := tally(calls(), began.Add(100*time.Second), began.Add(3*time.Minute))
		t.Logf("asked of %d: %v; later of %d: %v", n, asked, m, later)
		if m < 50 || later["first"] != m { // before, it depends on whether a request was under way when the second probe failed
			t.Errorf("asked of %d: %v; later of %d: %v", n, asked, m, later)
		}
	})
}
