// Package storetest holds every engine of package store to the same
// brute-force model: seeded random Calls go in, and whatever is asked must be
// what looking at each Call one by one would say. An engine adds one test that
// calls Run.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/store"
)

// An Engine is what Run needs of an engine.
type Engine struct {
	// Open opens the store of this test; Run calls it again after Close.
	Open func(t *testing.T) store.Store
	// Upkeep does in the background's stead what an engine does with time, some
	// part of it by what: sealing, merging. nil if it has nothing of the kind.
	Upkeep func(t *testing.T, s store.Store, what int)
}

// Run puts seeds through an engine, each in a subtest with a store of its own.
func Run(t *testing.T, seeds, steps int, make func(t *testing.T) Engine) {
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			r := &run{t: t, rand: rand.New(rand.NewPCG(uint64(seed), 1)), engine: make(t),
				model: model{calls: map[string]*call.Call{}, bodies: map[string]*call.Exchange{}}}
			r.base = time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.rand.IntN(40*24)) * time.Hour)
			r.store = r.engine.Open(t)
			defer func() { r.store.Close() }()
			for range steps {
				r.step()
			}
			r.everything()
		})
	}
}

type run struct {
	t      *testing.T
	rand   *rand.Rand
	engine Engine
	store  store.Store
	model  model
	base   time.Time
	given  []*call.Call // in the order they were stored
}

var ctx = context.Background()

func (r *run) step() {
	switch n := r.rand.IntN(100); {
	case n < 25:
		r.write()
	case n < 40:
		r.importCalls()
	case n < 65:
		r.query()
	case n < 80:
		r.list()
	case n < 86:
		r.get()
	case n < 91:
		r.reprice()
	case n < 97:
		if r.engine.Upkeep != nil {
			r.engine.Upkeep(r.t, r.store, r.rand.IntN(8))
		}
	default:
		if err := r.store.Close(); err != nil {
			r.t.Fatalf("close: %v", err)
		}
		r.store = r.engine.Open(r.t)
	}
}

func (r *run) write() {
	var batch []call.Entry
	for range r.rand.IntN(200) {
		c := r.call()
		if !r.model.add(c) {
			continue
		}
		r.given = append(r.given, c)
		e := call.Entry{Call: clone(c)}
		if r.rand.IntN(4) == 0 {
			e.Exchange = &call.Exchange{Request: r.bytes(), Response: r.bytes(), RequestCut: r.rand.IntN(2) == 0, ReplyCut: r.rand.IntN(2) == 0}
			r.model.bodies[c.ID] = e.Exchange
		}
		batch = append(batch, e)
	}
	if err := r.store.Write(ctx, batch); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

func (r *run) bytes() []byte {
	b := make([]byte, r.rand.IntN(300))
	for i := range b {
		b[i] = byte(r.rand.IntN(256))
	}
	return b
}

// importCalls imports new Calls, some that are there, and some twice.
func (r *run) importCalls() {
	var calls []*call.Call
	want := 0
	for range r.rand.IntN(300) {
		var c *call.Call
		switch n := r.rand.IntN(10); {
		case n == 0 && len(r.given) > 0:
			c = r.given[r.rand.IntN(len(r.given))]
		case n == 1 && len(calls) > 0:
			c = calls[r.rand.IntN(len(calls))]
		default:
			c = r.call()
		}
		if r.model.add(c) {
			want++
			r.given = append(r.given, c)
		}
		calls = append(calls, clone(c))
	}
	added, err := r.store.Import(ctx, calls)
	if err != nil || added != want {
		r.t.Fatalf("import of %d: %d added, %v; want %d", len(calls), added, err, want)
	}
}

func (r *run) query() {
	q := store.Query{Zone: pick(r, []*time.Location{nil, zone("Asia/Seoul"), zone("Europe/Berlin"), zone("America/St_Johns")})}
	q.From, q.To = r.span()
	steps := []string{"", "", "1d", "1h", "15m", "1w", "1mo", "6h"}
	if q.To.Sub(q.From) < 12*time.Hour {
		steps = append(steps, "1m", "10s")
	}
	q.Step, _ = store.ParseStep(pick(r, steps))
	if r.rand.IntN(2) == 0 && !q.Step.IsZero() { // as a chart asks
		z := q.Zone
		if z == nil {
			z = time.UTC
		}
		q.From = q.Step.Start(q.From, z)
	}
	dims := append(store.Dimensions(), "tag:env", "tag:feature", "tag:none", "tag:t7")
	for range r.rand.IntN(3) {
		q.GroupBy = append(q.GroupBy, pick(r, dims))
	}
	q.Filter = r.filter()
	for range 1 + r.rand.IntN(6) {
		q.Measures = append(q.Measures, pick(r, store.Measures()))
	}
	got, err := r.store.Query(ctx, q)
	if err != nil {
		r.t.Fatalf("query %+v: %v", q, err)
	}
	if err := r.model.compare(q, got); err != nil {
		r.t.Fatalf("query %+v: %v", q, err)
	}
}

func zone(name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		return time.FixedZone(name, 9*3600)
	}
	return z
}

// span is a range that mostly meets what is there.
func (r *run) span() (from, to time.Time) {
	from = r.base.Add(time.Duration(r.rand.Int64N(int64(5*24*time.Hour))) - 12*time.Hour)
	length := pick(r, []time.Duration{time.Minute, time.Hour, 5 * time.Hour, 24 * time.Hour, 100 * time.Hour, 1000 * time.Hour})
	if r.rand.IntN(2) == 0 {
		from = from.Truncate(time.Hour)
	}
	return from, from.Add(length)
}

func (r *run) filter() store.Filter {
	f := store.Filter{}
	for range r.rand.IntN(3) {
		name := pick(r, append(store.Dimensions(), "tag:env", "tag:t3", "tag:none"))
		var values []string
		dim, err := store.Dimension(name)
		if err != nil {
			r.t.Fatal(err)
		}
		for range 1 + r.rand.IntN(3) {
			if len(r.given) > 0 && r.rand.IntN(4) > 0 {
				values = append(values, dim(r.given[r.rand.IntN(len(r.given))]))
			} else {
				values = append(values, pick(r, []string{"", "nothing of the kind", "200", "true"}))
			}
		}
		f[name] = values
	}
	if r.rand.IntN(5) == 0 {
		f["origin"] = []string{call.OriginBench, call.OriginClient}
	}
	return f
}

// list walks pages and compares all of them.
func (r *run) list() {
	q := store.List{Filter: r.filter(), Limit: pick(r, []int{1, 3, 50, 100, 1000})}
	if r.rand.IntN(3) > 0 {
		q.From, q.To = r.span()
	}
	if r.rand.IntN(3) == 0 {
		q.Text = pick(r, []string{"GPT", "chatcmpl-a", "user-1", "x", "flag", "zzz", "t7", "가"})
		if len(r.given) > 0 && r.rand.IntN(2) == 0 {
			c := r.given[r.rand.IntN(len(r.given))]
			q.Text = pick(r, []string{c.ID, c.ResponseID, c.Error.Message})
		}
	}
	want := r.model.list(q)
	var got []*call.Call
	for pages := 0; pages < 30; pages++ {
		p, err := r.store.List(ctx, q)
		if err != nil {
			r.t.Fatalf("list %+v: %v", q, err)
		}
		if len(p.Calls) > q.Limit {
			r.t.Fatalf("list %+v: a page of %d", q, len(p.Calls))
		}
		got = append(got, p.Calls...)
		if q.Cursor = p.Next; q.Cursor == "" {
			break
		}
	}
	if q.Cursor == "" && len(got) != len(want) {
		r.t.Fatalf("list %+v: %d calls, want %d", q, len(got), len(want))
	}
	if len(got) > len(want) {
		r.t.Fatalf("list %+v: %d calls and more, want %d", q, len(got), len(want))
	}
	for i, c := range got {
		if err := same(c, want[i]); err != nil {
			r.t.Fatalf("list %+v: call %d: %v", q, i, err)
		}
	}
}

func (r *run) get() {
	if len(r.given) == 0 {
		return
	}
	c := r.given[r.rand.IntN(len(r.given))]
	got, err := r.store.Get(ctx, c.ID)
	if err != nil {
		r.t.Fatalf("get %s: %v", c.ID, err)
	}
	if err := same(got, c); err != nil {
		r.t.Fatal(err)
	}
	x, err := r.store.Body(ctx, c.ID)
	switch want := r.model.bodies[c.ID]; {
	case want == nil && !errors.Is(err, store.ErrNotFound):
		r.t.Fatalf("body of %s, which has none: %v, %v", c.ID, x, err)
	case want != nil && (err != nil || string(x.Request) != string(want.Request) || string(x.Response) != string(want.Response) || x.RequestCut != want.RequestCut || x.ReplyCut != want.ReplyCut):
		r.t.Fatalf("body of %s: %v, %v; want %v", c.ID, x, err, want)
	}
	for _, id := range []string{call.NewID(r.base), "", "x", "'; DROP TABLE tail; --"} {
		if got, err := r.store.Get(ctx, id); !errors.Is(err, store.ErrNotFound) {
			r.t.Fatalf("get %q: %v, %v; want not found", id, got, err)
		}
	}
}

// reprice gives Calls costs that derive from their ids, and compares what the
// engine says of it. What it made of them the next questions see.
func (r *run) reprice() {
	q := store.Repricing{Filter: r.filter(), Unpriced: r.rand.IntN(4) == 0, DryRun: r.rand.IntN(3) == 0}
	if r.rand.IntN(3) > 0 {
		q.From, q.To = r.span()
	}
	if r.rand.IntN(2) == 0 {
		q.Filter = nil
	}
	salt := r.rand.Uint32()
	q.Price = func(c *call.Call) bool { return reprice(c, salt) }
	var seen int64
	q.Progress = func(n int64) { seen = n }
	got, err := r.store.Reprice(ctx, q)
	if err != nil {
		r.t.Fatalf("reprice %+v: %v", q, err)
	}
	want := r.model.reprice(q)
	if !slices.Equal(got, want) {
		r.t.Fatalf("reprice %+v:\n got %+v\nwant %+v", q, got, want)
	}
	var calls int64
	for _, m := range want {
		calls += m.Calls
	}
	if seen != calls {
		r.t.Fatalf("reprice %+v: the last progress was %d of %d calls", q, seen, calls)
	}
}

// reprice changes some Calls, in one of several ways, and leaves others.
func reprice(c *call.Call, salt uint32) bool {
	h := crc32.Update(salt, crc32.IEEETable, []byte(c.ID))
	was := *c
	was.Attempts = slices.Clone(c.Attempts)
	switch h % 5 {
	case 0:
		c.Cost, c.Unpriced, c.PriceRow = llm.Nano(h>>3), false, fmt.Sprintf("openai/gpt-4.1/standard/%d", h>>3%7)
	case 1:
		c.Cost, c.Unpriced, c.PriceRow = 0, true, ""
	case 2:
		for i := range c.Attempts {
			a := &c.Attempts[i]
			if a.Cost, a.Unpriced = llm.Nano(h>>4), h>>3&1 == 0; a.Unpriced {
				a.Cost = 0
			}
		}
	}
	return !reflect.DeepEqual(&was, c)
}

// everything compares all Calls at the end.
func (r *run) everything() {
	want := r.model.list(store.List{})
	q := store.List{Limit: store.MaxPage}
	i := 0
	for {
		p, err := r.store.List(ctx, q)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, c := range p.Calls {
			if i == len(want) {
				r.t.Fatalf("more than the %d calls stored", len(want))
			}
			if err := same(c, want[i]); err != nil {
				r.t.Fatal(err)
			}
			i++
		}
		if q.Cursor = p.Next; q.Cursor == "" {
			break
		}
	}
	if i != len(want) {
		r.t.Fatalf("%d of %d calls are there", i, len(want))
	}
	if err := r.store.Health(); err != nil {
		r.t.Fatalf("health: %v", err)
	}
}

func same(got, want *call.Call) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	return fmt.Errorf("a call has changed:\n got %s\nwant %s", g, w)
}

// clone keeps the model's Calls apart from the engine's.
func clone(c *call.Call) *call.Call {
	d := *c
	return &d
}

func pick[T any](r *run, of []T) T { return of[r.rand.IntN(len(of))] }

// call makes a random Call: mostly plain, sometimes everything that one can hold.
func (r *run) call() *call.Call {
	n := r.rand.IntN
	started := r.base.Add(time.Duration(r.rand.Int64N(int64(4 * 24 * time.Hour)))).Truncate(time.Microsecond)
	if n(3) == 0 {
		started = started.Truncate(time.Hour) // many at once
	}
	c := &call.Call{
		ID: call.NewID(started), StartedAt: started, Origin: call.OriginClient, Key: pick(r, []string{"team-a", "team-b", "grafana"}), Team: pick(r, []string{"", "search"}),
		Ingress: "openai.chat", ModelRequested: pick(r, []string{"gpt-4.1", "fast"}), Provider: pick(r, []string{"openai", "gemini", "deepseek"}),
		Model: pick(r, []string{"gpt-4.1", "claude-sonnet-4-5", "gemini-2.5-flash"}), ResponseModel: "gpt-4.1-2025-04-14", Stream: n(2) == 0,
		Status: call.Success, HTTPStatus: 200, Latency: time.Duration(r.rand.ExpFloat64()*1e6) * time.Microsecond, Overhead: time.Duration(n(500)) * time.Microsecond,
		FinishReason: llm.FinishStop, NativeFinishReason: "stop", ResponseID: fmt.Sprintf("chatcmpl-%x", r.rand.Uint64()),
		Usage: llm.Usage{Source: llm.UsageUpstream, Input: int64(n(5000)), Output: int64(n(2000))}, Cost: llm.Nano(n(1e7)), PriceRow: "openai/gpt-4.1/standard/1",
	}
	if c.Stream && n(10) > 0 {
		c.TTFT = time.Duration(r.rand.Float64()*1.2*float64(c.Latency)) / time.Microsecond * time.Microsecond
	}
	c.Attempts = []call.Attempt{{Provider: c.Provider, Model: c.Model, HTTPStatus: 200, Latency: c.Latency, Cost: c.Cost}}
	for _, t := range []string{"env", "feature", "t7"} {
		if n(3) == 0 {
			if c.Tags == nil {
				c.Tags = map[string]string{}
			}
			c.Tags[t] = pick(r, []string{"prod", "dev", "", "가나다", "flag"})
		}
	}
	if n(20) == 0 {
		c.Origin = pick(r, []string{call.OriginBench, call.OriginJudge, call.OriginImport, call.OriginMonitor})
	}
	switch n(12) {
	case 0:
		c.Status, c.HTTPStatus, c.Error = call.Failed, pick(r, []int{400, 404, 429, 500, 502, 200}), call.Error{Class: llm.RateLimited, Code: "x", Message: "ошибка: not today"}
	case 1:
		c.Status, c.HTTPStatus = call.Canceled, 499
	case 2:
		c.Unpriced, c.Cost, c.PriceRow = true, 0, ""
	case 3: // an id of its own: not of the time it started
		c.ID = call.NewID(started.Add(-time.Duration(n(1e5)) * time.Hour))
	case 4:
		c.User, c.Session = fmt.Sprintf("user-%d", n(1000)), fmt.Sprintf("s-%x", r.rand.Uint64())
	case 5:
		everythingSet(r, c)
	}
	return c
}

func everythingSet(r *run, c *call.Call) {
	n := r.rand.IntN
	cost := llm.Nano(n(1e9))
	c.Usage = llm.Usage{Source: llm.UsageEstimated, Input: 1e9, Output: int64(n(1e9)), CacheRead: 1, CacheWrite5m: 2, CacheWrite1h: int64(n(100)), Reasoning: 4, AudioInput: 5, AudioOutput: 6,
		ServerToolCalls: map[string]int64{"web_search": int64(n(9))}, Tier: "batch", Reported: &cost, Raw: json.RawMessage(fmt.Sprintf(`{"a":%d, "b":"\u00e9"}`, n(100))),
		Others: []llm.ModelUsage{{Model: "claude-opus-4-8", Usage: llm.Usage{Input: 7, Source: llm.UsageUpstream}}}}
	c.Attempts = append(c.Attempts, call.Attempt{Provider: "x", ProviderKey: "second", ErrorClass: llm.Connect, Unpriced: true}, call.Attempt{HTTPStatus: 503, Cost: 12})
	c.Quality = map[string]string{"empty": "pass"}
	c.Latency = time.Duration(1+n(100)) * time.Hour
	c.User = "\x00\xff odd \n"
	for i := range n(60) {
		if c.Tags == nil {
			c.Tags = map[string]string{}
		}
		c.Tags[fmt.Sprintf("t%d", n(200)+i)] = fmt.Sprint(n(5))
	}
}
