package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/store"
	"github.com/sheepgate/sheepgate/internal/store/local"
	"github.com/sheepgate/sheepgate/internal/store/local/disktest"
	"github.com/sheepgate/sheepgate/test/fault/upstream"
)

// A universe is one life of the whole server in a world of its own: a network and a
// clock that are the test's, providers that do everything they should not, a
// disk that fails, and clients that leave.
type universe struct {
	t      *testing.T
	rnd    *rand.Rand
	net    memNet
	up     *upstream.Server
	disk   *disktest.Disk
	server *server
	log    safeBuffer
	client *http.Client

	mu   sync.Mutex
	asks []*request
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A request is one, and what the client saw of it.
type request struct {
	nonce   string
	dialect string // the client's
	stream  bool
	fault   string
	leaves  bool // the client may leave before the end

	id     string // the Call's; "" if no answer began
	status int
	body   string
	whole  bool // the body came to an end that HTTP calls clean
}

// What takes more work than time; test/fault has them.
var heavy = []string{"big-error", "big-headers", "gzip-bomb", "deep-json", "long-event", "huge", "too-large", "flood", "gated", "sse-1mib-event", "sse-1byte"}

const (
	worldKey    = "world-client-key-0123456789"
	worldSecret = "sk-world-provider-secret-0123456789"
)

func (r *universe) fatal(format string, args ...any) {
	r.t.Helper()
	r.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), r.log.String())
}

func (r *universe) start(data string) {
	privacy := []string{"off", "redacted", "full"}[r.rnd.IntN(3)]
	yaml := fmt.Sprintf("listen: gateway:80\ndata: %q\nadmin_key: %s\nkeys: { app: { key: %s, team: all, budget: [$9/day, $99/total], limits: { rpm: %d, tpm: 10M, concurrent: %d } } }\nteams: { all: { limits: { input_tpm: 10M } } }\n"+
		"rules: { both: { key: app, provider: gemini, limits: { rpm: 9 } } }\nprivacy: { bodies: %s }\ntimeouts: { first_token: 3s, idle: 3500ms, total: 14s }\nproviders:\n", data, testAdmin, worldKey, 40+r.rnd.IntN(400), 9+r.rnd.IntN(90), privacy)
	for _, d := range []string{"openai", "anthropic", "gemini"} {
		v := map[string]string{"openai": "/openai/v1", "anthropic": "/anthropic/v1", "gemini": "/gemini/v1beta"}[d]
		yaml += fmt.Sprintf("  %s: { base_url: \"http://upstream:80%s\", key: %s }\n", d, v, worldSecret)
	}
	c, _, err := config.Parse("world.yaml", []byte(yaml), config.Options{Known: known()})
	if err != nil {
		r.t.Fatal(err)
	}
	w := world{dial: r.net.dial, disk: r.disk, listen: func(_, addr string) (net.Listener, error) { return r.net.listen(addr), nil }}
	if r.server, err = w.start(c, slog.New(slog.NewTextHandler(&r.log, nil)), ""); err != nil {
		r.fatal("start: %v", err)
	}
}

// get asks the API as the admin.
func (r *universe) get(path string) []byte {
	r.t.Helper()
	req, _ := http.NewRequest("GET", "http://gateway:80"+path, nil)
	req.Header.Set("Authorization", "Bearer "+testAdmin)
	res, err := r.client.Do(req)
	if err != nil {
		r.fatal("%s: %v", path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		r.fatal("%s: %d %s %v", path, res.StatusCode, b, err)
	}
	return b
}

// ask makes a random request.
func (r *universe) ask(rnd *rand.Rand, nonce string, faults []string) {
	a := &request{nonce: nonce, dialect: []string{"openai", "anthropic", "gemini"}[rnd.IntN(3)], stream: rnd.IntN(2) == 0, fault: faults[rnd.IntN(len(faults))], leaves: rnd.IntN(4) == 0}
	model := []string{"openai", "anthropic", "gemini"}[rnd.IntN(3)] + "/" + a.fault
	prompt := "Tell me, n:" + nonce + "; please."
	path, body := "/v1/chat/completions", fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}],"stream":%t}`, model, prompt, a.stream)
	switch a.dialect {
	case "anthropic":
		path, body = "/v1/messages", fmt.Sprintf(`{"model":%q,"max_tokens":100,"messages":[{"role":"user","content":%q}],"stream":%t}`, model, prompt, a.stream)
	case "gemini":
		path = "/v1beta/models/" + model + ":generateContent"
		if a.stream {
			path = "/v1beta/models/" + model + ":streamGenerateContent?alt=sse"
		}
		body = fmt.Sprintf(`{"contents":[{"role":"user","parts":[{"text":%q}]}]}`, prompt)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if a.leaves {
		defer time.AfterFunc(time.Duration(rnd.IntN(4000))*time.Millisecond, cancel).Stop()
	}
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://gateway:80"+path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+worldKey)
	req.Header.Set("Sheepgate-Session", nonce)
	r.mu.Lock()
	r.asks = append(r.asks, a)
	r.mu.Unlock()
	res, err := r.client.Do(req)
	if err != nil {
		if !a.leaves {
			r.t.Errorf("%s %s: %v", model, nonce, err)
		}
		return
	}
	defer res.Body.Close()
	a.id, a.status = res.Header.Get("Sheepgate-Call-Id"), res.StatusCode
	b, err := io.ReadAll(res.Body)
	a.body, a.whole = string(b), err == nil
	if strings.Contains(a.body, worldSecret) {
		r.t.Errorf("%s: the client got the provider's key", nonce)
	}
}

// ended reports whether an answer looks complete in its dialect.
func (a *request) ended() bool {
	switch {
	case !a.whole || a.status != 200:
		return false
	case !a.stream:
		return true
	case a.dialect == "openai":
		return strings.Contains(a.body, "[DONE]")
	case a.dialect == "anthropic":
		return strings.Contains(a.body, `"message_stop"`)
	}
	return strings.Contains(a.body, `"finishReason"`) && !strings.Contains(a.body, `"error"`)
}

// rows are all Calls that the API lists.
func (r *universe) rows() map[string]*call.Call {
	rows := map[string]*call.Call{}
	for cursor := ""; ; {
		var page struct {
			Calls []*call.Call
			Next  string
		}
		if err := json.Unmarshal(r.get("/api/v1/calls?limit=500&cursor="+cursor), &page); err != nil {
			r.fatal("%v", err)
		}
		for _, c := range page.Calls {
			if rows[c.ID] != nil {
				r.fatal("I1: %s is there twice", c.ID)
			}
			rows[c.ID] = c
		}
		if cursor = page.Next; cursor == "" {
			return rows
		}
	}
}

// The sums that are one fact: of rows, of counters, of a query.
func (r *universe) sums(rows map[string]*call.Call) (of [3][4]int64) {
	for _, c := range rows {
		of[0] = [4]int64{of[0][0] + 1, of[0][1] + c.Usage.Input, of[0][2] + c.Usage.Output, of[0][3] + int64(c.Cost)}
	}
	text := r.get("/v1/metrics")
	of[1] = [4]int64{metricSum(r.t, text, "holysheep_request_total", 1), metricSum(r.t, text, "holysheep_tokens_total", 1, `type="input"`),
		metricSum(r.t, text, "holysheep_tokens_total", 1, `type="output"`), metricSum(r.t, text, "holysheep_cost_total", 1e9)}
	res, err := r.server.store.Query(context.Background(), store.Query{From: time.Now().Add(-240 * time.Hour), To: time.Now().Add(time.Hour), Measures: []string{"requests", "input_tokens", "output_tokens", "cost_nano_usd"}})
	if err != nil {
		r.fatal("query: %v", err)
	}
	for i := range of[2] {
		of[2][i] = res.Total[i].Int
	}
	return of
}

func (r *universe) check() {
	rows := r.rows()
	of := r.sums(rows)
	if of[0] != of[1] || of[0] != of[2] {
		r.fatal("I2: rows %v, counters %v, query %v", of[0], of[1], of[2])
	}
	byNonce := map[string]*call.Call{}
	for _, c := range rows {
		if byNonce[c.Session] != nil {
			r.fatal("I1: %s has two rows", c.Session)
		}
		byNonce[c.Session] = c
		if err := c.Check("", ""); err != nil || c.Cost < 0 || c.Latency < 0 {
			r.fatal("I6: %v in %+v", err, c)
		}
	}
	for _, a := range r.asks {
		c := byNonce[a.nonce]
		if c == nil {
			if a.id != "" || len(r.up.Entry(a.nonce).Attempts()) > 0 {
				r.fatal("I1: %s, %s has no row", a.nonce, a.fault)
			}
			continue
		}
		if a.id != "" && a.id != c.ID {
			r.fatal("I1: %s was promised as %s and is %s", a.nonce, a.id, c.ID)
		}
		r.compare(a, c, r.up.Entry(a.nonce).Attempts())
	}
	var cost llm.Nano
	for _, c := range rows {
		cost += c.Cost
	}
	rules, _ := r.server.limits.Live()
	for _, l := range rules {
		if l.Concurrent.Used != 0 {
			r.fatal("I5: %s: %d calls are under way when all have ended", l.Rule, l.Concurrent.Used)
		}
		for _, b := range l.Budgets {
			if b.Reserved != 0 || b.Spent != cost {
				r.fatal("I5: %s: %v reserved, %v spent, the rows cost %v", l.Rule, b.Reserved, b.Spent, cost)
			}
		}
	}
	if s := r.up.Strange(); len(s) > 0 {
		r.fatal("requests that no gateway should make: %v", s)
	}
	if err := r.server.store.Health(); err != nil {
		r.fatal("the store has not healed: %v", err)
	}
	if n := r.server.recorder.Lost(); n != 0 {
		r.fatal("%d calls are lost", n)
	}
}

// compare holds a Call against what the provider served and the client saw.
func (r *universe) compare(a *request, c *call.Call, ledger []upstream.Attempt) {
	what := fmt.Sprintf("%s: %s, stream %t, leaves %t: %s %s %+v, %d %t", a.nonce, a.fault, a.stream, a.leaves, c.Status, c.Error.Class, c.Usage, a.status, a.whole)
	if len(c.Attempts) < len(ledger) {
		r.fatal("I7: %d attempts, %d arrived: %s", len(c.Attempts), len(ledger), what)
	}
	success := c.Status == call.Success
	if a.ended() && !success && !a.leaves {
		r.fatal("a complete answer that is no success: %s\n%s", what, a.body)
	}
	if success && !a.leaves {
		if !a.ended() {
			r.fatal("a success that the client did not see: %s\n%s", what, a.body)
		}
		for _, w := range upstream.Words {
			if !strings.Contains(a.body, strings.TrimSpace(w)) {
				r.fatal("cut silently, without %q: %s\n%s", w, what, a.body)
			}
		}
	}
	if c.Status == call.Failed && !a.leaves && a.status == 200 && !strings.Contains(a.body, `"error"`) {
		r.fatal("an error that the client did not see: %s\n%s", what, a.body)
	}
	var in, out, most int64
	reported := 0
	for _, l := range ledger {
		if l.Reported {
			reported++
			in, out = in+l.Input, out+l.Output
		}
		most += l.Tokens
	}
	if success && len(ledger) > 0 && ledger[len(ledger)-1].Reported {
		last := ledger[len(ledger)-1]
		if c.Usage.Source != llm.UsageUpstream || c.Usage.Input != last.Input || c.Usage.Output != last.Output {
			r.fatal("I3: reported were %d and %d: %s", last.Input, last.Output, what)
		}
	}
	if c.Usage.Source == llm.UsageEstimated && len(ledger) == 1 && float64(c.Usage.Output) > 1.15*float64(most)+1 {
		r.fatal("I3: estimated more than was sent, %d: %s", most, what)
	}
}

// watch sees that counters never fall.
func (r *universe) watch(stop <-chan struct{}) {
	last := map[string]float64{}
	for {
		select {
		case <-stop:
			return
		case <-time.After(1700 * time.Millisecond):
		}
		for line := range strings.Lines(string(r.get("/v1/metrics"))) {
			line = strings.TrimSpace(line)
			i := strings.LastIndexByte(line, ' ')
			if i < 0 || !strings.HasPrefix(line, "holysheep") {
				continue
			}
			name, value := line[:i], line[i+1:]
			if kind, _, _ := strings.Cut(name, "{"); !strings.HasSuffix(kind, "_total") && !strings.HasSuffix(kind, "_count") {
				continue
			}
			v, err := strconv.ParseFloat(value, 64)
			if err != nil || v < last[name] {
				r.t.Errorf("I6: %s fell from %v to %s", name, last[name], value)
			}
			last[name] = v
		}
	}
}

// TestWorld runs the whole server in a bubble, with faults by chance: I1 to I8
// of the accounting hold after each. SHEEPGATE_WORLDS says how many.
func TestWorld(t *testing.T) {
	n := 20
	if os.Getenv("CI") == "true" && !raced {
		n = 200
	}
	if k, err := strconv.Atoi(os.Getenv("SHEEPGATE_WORLDS")); err == nil {
		n = k
	}
	first := uint64(time.Now().UnixNano())
	if k, err := strconv.ParseUint(os.Getenv("SHEEPGATE_SEED"), 10, 64); err == nil {
		first = k
	}
	var faults []string
	for f := range upstream.Faults {
		if !slices.Contains(heavy, f) {
			faults = append(faults, f)
		}
	}
	slices.Sort(faults)
	warm(t)
	for i := range n {
		seed := first + uint64(i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			disk, data := disktest.New(), t.TempDir()
			defer disk.Close()
			var stored int
			synctest.Test(t, func(t *testing.T) { stored = life(t, seed, disk, data, faults) })
			if t.Failed() {
				return
			}
			disk.Heal()
			s, err := local.Open(filepath.Join(data, "calls"), local.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			res, err := s.Query(t.Context(), store.Query{From: time.Unix(0, 0), To: time.Now().AddDate(9, 0, 0), Measures: []string{"requests"}})
			if err != nil || res.Total[0].Int != int64(stored) {
				t.Fatalf("I4: %d calls were stored, %v after a start, %v", stored, res, err)
			}
		})
	}
}

// warm makes what packages make once, outside of any bubble.
func warm(t *testing.T) {
	s, err := local.Open(t.TempDir(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := time.Now()
	k := &call.Call{ID: call.NewID(at), StartedAt: at, Origin: call.OriginClient, Status: call.Success, HTTPStatus: 200}
	if err := s.Write(t.Context(), []call.Entry{{Call: k, Exchange: &call.Exchange{Request: []byte("{}"), Response: []byte("{}")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Body(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
}

func life(t *testing.T, seed uint64, disk *disktest.Disk, data string, faults []string) (stored int) {
	time.Sleep(time.Until(time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC))) // when the catalogue has prices
	r := &universe{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), disk: disk}
	r.up = upstream.On(r.net.listen("upstream:80"))
	transport := &http.Transport{DialContext: r.net.dial, MaxIdleConnsPerHost: 100}
	r.client = &http.Client{Transport: transport}
	r.start(data)
	switch r.rnd.IntN(4) {
	case 0:
		disk.Fail(1+r.rnd.IntN(40), false, syscall.EIO)
	case 1, 2:
		disk.Fail(1+r.rnd.IntN(40), true, []syscall.Errno{syscall.ENOSPC, syscall.EIO}[r.rnd.IntN(2)])
	}
	stop := make(chan struct{})
	var wg, watching sync.WaitGroup
	watching.Go(func() { r.watch(stop) })
	for k := range 3 + r.rnd.IntN(6) {
		rnd := rand.New(rand.NewPCG(seed, uint64(k)+2))
		wg.Go(func() {
			for j := range 2 + rnd.IntN(4) {
				time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
				r.ask(rnd, fmt.Sprintf("%d-%d", k, j), faults)
			}
		})
	}
	time.Sleep(time.Duration(r.rnd.IntN(20)) * time.Second)
	disk.Heal()
	wg.Wait()
	close(stop)
	watching.Wait()
	time.Sleep(30 * time.Second)
	r.check()
	transport.CloseIdleConnections()
	stored = len(r.rows())
	transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.server.close(ctx); err != nil {
		r.fatal("close: %v", err)
	}
	r.up.Close()
	if strings.Contains(r.log.String(), worldSecret) || strings.Contains(r.log.String(), "panic") {
		r.fatal("the log")
	}
	return stored
}
