package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// long is a soak after which memory is what it was.
const long = 2 * time.Minute

// segment is how many Calls the store holds back, until it makes a segment of
// all of them.
const segment = 100_000

// fill imports n Calls.
func (g *gateway) fill(t *testing.T, n int) {
	t.Helper()
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	for n > 0 {
		var lines bytes.Buffer
		some := min(n, 4000)
		n -= some
		for range some {
			at = at.Add(time.Millisecond)
			line, err := json.Marshal(&call.Call{ID: call.NewID(at), StartedAt: at, Origin: call.OriginImport, Key: "old", Ingress: "openai.chat", Provider: "openai", Model: "gpt-4.1",
				Status: call.Success, HTTPStatus: 200, Usage: llm.Usage{Source: llm.UsageUpstream, Input: 10, Output: 10}})
			if err != nil {
				t.Fatal(err)
			}
			lines.Write(append(line, '\n'))
		}
		req, err := http.NewRequest("POST", g.url+"/api/v1/import", &lines)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminKey)
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || !bytes.Contains(said, fmt.Appendf(nil, `"added":%d,`, some)) {
			t.Fatalf("import: %d %s", res.StatusCode, said)
		}
	}
}

// TestSoak keeps a server busy with every fault by chance, and with clients
// that leave: SHEEPGATE_SOAK says how long. Afterwards its memory, goroutines
// and descriptors are what they were once it was warm, to within 5 %. What the
// store holds back until a segment is full, 100,000 Calls or an hour, is no
// leak: a long soak fills it up before it measures. Nor is what the runtime has
// free and returns to the system bit by bit: it is told to do so at once.
func TestSoak(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	length := 20 * time.Second
	if s := os.Getenv("SHEEPGATE_SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	up := startUpstream(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	debug := ln.Addr().String()
	ln.Close()
	g := serve(t, "debug: "+debug+"\n"+providers(up)+timed)
	// collect lets go of what nobody holds any more: a server at rest would do so
	// some minutes later.
	collect := func() {
		res, err := http.Post("http://"+debug+"/debug/free", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	var asked, left atomic.Int64
	load := func(d time.Duration) {
		var wg sync.WaitGroup
		until := time.Now().Add(d)
		for w := range 10 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(w)))
				for n := 0; time.Now().Before(until); n++ {
					time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
					row, stream := rows[rnd.IntN(len(rows))], rnd.IntN(2) == 0
					if want := row.plain; stream && row.stream == nil || !stream && want == nil || row.stream != nil && row.stream.works {
						continue
					}
					c := client{[]string{"openai", "anthropic", "gemini"}[rnd.IntN(3)], false}
					to := []string{"up-openai/", "up-anthropic/", "up-gemini/"}[rnd.IntN(3)]
					req := c.request(g.url, to+row.fault, fmt.Sprintf("soak-%d-%d", w, n), stream)
					ctx, cancel := context.WithCancel(t.Context())
					if rnd.IntN(5) == 0 {
						left.Add(1)
						time.AfterFunc(time.Duration(rnd.IntN(500))*time.Millisecond, cancel)
					}
					asked.Add(1)
					if res, err := transport.RoundTrip(req.WithContext(ctx)); err == nil {
						_, _ = io.Copy(io.Discard, res.Body) // what it says is the matrix's matter
						res.Body.Close()
					}
					cancel()
				}
			})
		}
		wg.Wait()
	}
	sealed := 0 // of the Calls that are no import
	rest := func() map[string]float64 {
		http.DefaultClient.CloseIdleConnections()
		transport.CloseIdleConnections()
		for n := 0; n < 300 && g.metrics(t).sum("holysheep_in_flight") > 0; n++ {
			time.Sleep(100 * time.Millisecond)
		}
		if length >= long { // nothing is held back then
			time.Sleep(time.Second) // and all is stored
			stored := int(g.metrics(t).sum("holysheep_request_total"))
			g.fill(t, segment-(stored-sealed)%segment)
			sealed = stored
		}
		least := map[string]float64{}
		for range 20 { // the sockets and the store take their time
			time.Sleep(length / 200)
			now := g.metrics(t)
			collect()
			now["VmRSS"] = g.memory(t, "VmRSS")
			for _, name := range []string{"VmRSS", "go_goroutines", "process_open_fds"} {
				if v, ok := least[name]; !ok || now[name] < v {
					least[name] = now[name]
				}
			}
		}
		return least
	}
	load(length / 2)
	warm := rest()
	load(length)
	cold := rest()
	t.Logf("%d requests, of which %d left early; warm %v, at the end %v", asked.Load(), left.Load(), warm, cold)
	slacks := map[string]float64{"go_goroutines": 2, "process_open_fds": 2}
	if length < long { // too short to be warm
		slacks["VmRSS"] = 8 * mib
	}
	for _, name := range []string{"VmRSS", "go_goroutines", "process_open_fds"} {
		slack := slacks[name]
		if cold[name] > warm[name]*1.05+slack {
			t.Errorf("%s: %v when it was warm, %v at the end", name, warm[name], cold[name])
		}
	}
	m := g.metrics(t)
	if lost := m["holysheep_calls_lost_total"]; lost != 0 {
		t.Errorf("%v calls are lost", lost)
	}
	if n := int64(m.sum("holysheep_request_total")); n > asked.Load() || n < asked.Load()-left.Load() {
		t.Errorf("%d requests counted of %d, of which %d left", n, asked.Load(), left.Load())
	}
}
