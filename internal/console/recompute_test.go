package console

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/store"
)

// dearer is a catalogue in which gpt-4.1 costs 3 USD a million tokens in and 12
// out from the 24th on, and before what it did.
const dearer = `{"version":"2026-12-01","models":[{"provider":"openai","id":"gpt-4.1","rows":[
 {"row":"standard/1","until":"2026-11-24","rates":{"input":2,"output":8}},{"row":"standard/2","from":"2026-11-24","rates":{"input":3,"output":12}}]},
 {"provider":"new","id":"m","rows":[{"rates":{"input":1,"output":1}}]}]}`

// TestRepricer: what of a Call changes, and what never does.
func TestRepricer(t *testing.T) {
	c, err := price.Parse([]byte(dearer))
	if err != nil {
		t.Fatal(err)
	}
	f := repricer(price.Default().Update(c))
	used := llm.Usage{Source: llm.UsageUpstream, Input: 100, Output: 10} // 280,000 nano-USD, then 420,000
	later := began.Add(24 * time.Hour)
	try := func(status int, cost llm.Nano, unpriced bool) call.Attempt {
		return call.Attempt{Provider: "openai", Model: "gpt-4.1", HTTPStatus: status, Cost: cost, Unpriced: unpriced}
	}
	check := func(what string, c call.Call, want bool, cost llm.Nano, unpriced bool, row string, attempts ...call.Attempt) {
		t.Helper()
		if c.Provider == "" {
			c.Provider, c.Model = "openai", "gpt-4.1"
		}
		if c.StartedAt.IsZero() {
			c.StartedAt = later
		}
		if got := f(&c); got != want || c.Cost != cost || c.Unpriced != unpriced || c.PriceRow != row || !slices.Equal(c.Attempts, attempts) {
			t.Errorf("%s: %v, cost %d unpriced %v row %q attempts %+v; want %v, %d %v %q %+v", what, got, c.Cost, c.Unpriced, c.PriceRow, c.Attempts, want, cost, unpriced, row, attempts)
		}
		if d := c; f(&d) || !reflect.DeepEqual(c, d) {
			t.Errorf("%s: priced again it changes again: %+v", what, d)
		}
	}
	const one, two = "openai/gpt-4.1/standard/1", "openai/gpt-4.1/standard/2"
	check("at its time", call.Call{StartedAt: began, Status: call.Success, Usage: used, Cost: 5, PriceRow: one, Attempts: []call.Attempt{try(200, 5, false)}}, true, 280_000, false, one, try(200, 280_000, false))
	check("as it was", call.Call{StartedAt: began, Status: call.Success, Usage: used, Cost: 280_000, PriceRow: one, Attempts: []call.Attempt{try(200, 280_000, false)}}, false, 280_000, false, one, try(200, 280_000, false))
	check("after the change", call.Call{Status: call.Success, Usage: used, Cost: 280_000, PriceRow: one, Attempts: []call.Attempt{try(200, 280_000, false)}}, true, 420_000, false, two, try(200, 420_000, false))
	check("an earlier attempt stays", call.Call{Status: call.Success, Usage: used, Cost: 280_007, PriceRow: one, Attempts: []call.Attempt{try(200, 7, false), try(429, 0, false), try(200, 280_000, false)}},
		true, 420_007, false, two, try(200, 7, false), try(429, 0, false), try(200, 420_000, false))
	check("the last that was billed", call.Call{Status: call.Failed, Usage: used, Cost: 280_000, PriceRow: one, Attempts: []call.Attempt{try(200, 280_000, false), try(503, 0, false)}},
		true, 420_000, false, two, try(200, 420_000, false), try(503, 0, false))
	check("an earlier one without a price", call.Call{Status: call.Success, Usage: used, Unpriced: true, PriceRow: one, Attempts: []call.Attempt{try(200, 0, true), try(200, 280_000, false)}},
		true, 0, true, two, try(200, 0, true), try(200, 420_000, false))
	check("newly priced", call.Call{Provider: "new", Model: "m", Status: call.Success, Usage: used, Unpriced: true}, true, 110_000, false, "new/m/standard/1")
	check("nobody has a price", call.Call{Provider: "none", Model: "x", Status: call.Success, Usage: used, Cost: 9}, false, 9, false, "")
	check("a tier without a row", call.Call{Status: call.Success, Usage: llm.Usage{Source: llm.UsageUpstream, Input: 1, Tier: "batch"}, Cost: 9, PriceRow: "openai/gpt-4.1/batch/1"}, false, 9, false, "openai/gpt-4.1/batch/1")
	said := llm.Nano(9)
	reported := used
	reported.Reported = &said
	check("reported", call.Call{Status: call.Success, Usage: reported, Cost: 9, PriceRow: "openrouter/reported"}, false, 9, false, "openrouter/reported")
	check("nothing was used", call.Call{Status: call.Failed, Usage: llm.Usage{Source: llm.UsageNone}}, false, 0, false, "")
	check("too much to add", call.Call{Status: call.Success, Usage: used, Cost: 1, Attempts: []call.Attempt{try(200, 1<<63-1, false), try(200, 1, false)}}, false, 1, false, "", try(200, 1<<63-1, false), try(200, 1, false))
}

// TestPrices: a file that is installed prices what comes and, when asked, what is
// there; the answers of every route agree to the nano-dollar.
func TestPrices(t *testing.T) {
	s := newSite(t)
	var calls []*call.Call
	for i := range 10 {
		c := sample(i, "a")
		c.StartedAt = c.StartedAt.Add(24 * time.Hour)
		c.ID = call.NewID(c.StartedAt)
		calls = append(calls, c)
	}
	calls[8].Provider, calls[8].Model, calls[8].Cost, calls[8].Unpriced, calls[8].PriceRow, calls[8].Attempts = "new", "m", 0, true, "", nil
	calls[9].PriceRow, calls[9].Key = "openrouter/reported", "b"
	s.put(calls...)
	query := func() (cost, unpriced int64) {
		t.Helper()
		var got struct{ Total []int64 }
		s.do("the-admin", "POST", "/api/v1/query", `{"from":"2026-11-24T00:00:00Z","to":"2026-11-25T00:00:00Z","measures":["cost_nano_usd","unpriced"]}`, 200, &got)
		return got.Total[0], got.Total[1]
	}
	is := func(want, missing int64) {
		t.Helper()
		if cost, unpriced := query(); cost != want || unpriced != missing {
			t.Errorf("a query says %d, %d unpriced; want %d, %d", cost, unpriced, want, missing)
		}
	}
	is(9*238_000, 1)

	var bad struct {
		Error struct{ Code, Message string }
	}
	s.do("the-admin", "POST", "/api/v1/prices", "models:\n- provider: p\n  rows: 3\n", 400, &bad)
	if bad.Error.Code != "invalid_prices" || bad.Error.Message != "3:9: models[0].rows: must be a list, not a number" {
		t.Errorf("a bad file: %+v", bad)
	}
	var u PriceUpdate
	s.do("the-admin", "POST", "/api/v1/prices?dry_run=true", dearer, 200, &u)
	if u.Installed || u.Added != 2 || u.Changed != 1 || u.Removed != 2 || s.prices != nil {
		t.Errorf("a dry run: %+v", u)
	}
	s.do("the-admin", "POST", "/api/v1/prices", dearer, 200, &u)
	if !u.Installed || s.prices == nil {
		t.Errorf("an update: %+v", u)
	}
	is(9*238_000, 1)

	anew := func(body string) (r Recomputed) {
		t.Helper()
		s.do("the-admin", "POST", "/api/v1/prices/recompute", body, 200, &r)
		return r
	}
	const span = `"from":"2026-11-24T00:00:00Z","to":"2026-11-25T00:00:00Z"`
	const now = 23*3000 + 24*12000
	check := func(what string, r Recomputed, changed, priced int64, old, new llm.Nano) {
		t.Helper()
		if r.Total.Changed != changed || r.Total.Priced != priced || r.Total.Old != old || r.Total.New != new || r.Total.Delta != new-old {
			t.Errorf("%s: %+v; want %d changed, %d newly priced, %d -> %d", what, r, changed, priced, old, new)
		}
	}
	check("a dry run", anew(`{`+span+`,"dry_run":true}`), 9, 1, 9*238_000, 8*now+47_000+238_000)
	is(9*238_000, 1)
	check("unpriced", anew(`{`+span+`,"unpriced":true}`), 1, 1, 0, 47_000)
	is(9*238_000+47_000, 0)
	check("filtered", anew(`{`+span+`,"filter":{"key":["b"]}}`), 0, 0, 238_000, 238_000)
	check("all", anew(`{`+span+`}`), 8, 0, 9*238_000+47_000, 8*now+47_000+238_000)
	is(8*now+47_000+238_000, 0)
	check("again", anew(`{`+span+`}`), 0, 0, 8*now+47_000+238_000, 8*now+47_000+238_000)
	var one call.Call
	s.do("the-admin", "GET", "/api/v1/calls/"+calls[0].ID, "", 200, &one)
	if one.Cost != now || one.PriceRow != "openai/gpt-4.1/standard/2" || one.Attempts[0].Cost != now || one.Tags["n"] != "0" {
		t.Errorf("a call that was priced anew: %+v", one)
	}

	var log struct {
		Entries []struct {
			Actor, Action string
			Before, After map[string]any
		}
	}
	s.do("the-admin", "GET", "/api/v1/audit?object=prices", "", 200, &log)
	var said []string
	for _, e := range log.Entries {
		said = append(said, fmt.Sprint(e.Actor, " ", e.Action, " ", e.Before["nano_usd"], " ", e.After["nano_usd"], " ", e.After["catalogue"]))
	}
	if want := []string{fmt.Sprint("admin prices.recompute ", float64(9*238_000+47_000), " ", float64(8*now+47_000+238_000), " 2026-12-01"), "admin prices.recompute 0 47000 2026-12-01", "admin prices.update <nil> <nil> 2026-12-01"}; !slices.Equal(said, want) {
		t.Errorf("the audit log says %q, want %q", said, want)
	}
	s.do("the-admin", "POST", "/api/v1/prices/recompute", `{"to":"2026-11-25T00:00:00Z"}`, 400, nil)
	s.do("the-admin", "POST", "/api/v1/prices/recompute", `{"from":"2026-11-25T00:00:00Z","to":"2026-11-25T00:00:00Z"}`, 400, nil)
	s.do("the-admin", "POST", "/api/v1/prices/recompute", `{`+span+`,"filter":{"colour":["red"]}}`, 400, nil)
}

// TestRecomputeAlone: a second one is refused while one is under way, and one
// ends when the server drains.
func TestRecomputeAlone(t *testing.T) {
	s := newSite(t)
	s.put(sample(0, "a"))
	within := make(chan struct{})
	release := make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := s.store.Reprice(context.Background(), store.Repricing{Price: func(*call.Call) bool {
			close(within)
			<-release
			return false
		}})
		done <- err
	}()
	<-within
	var e struct{ Error struct{ Code string } }
	s.do("the-admin", "POST", "/api/v1/prices/recompute", `{"from":"2026-11-01T00:00:00Z"}`, 409, &e)
	if e.Error.Code != "busy" {
		t.Errorf("a second one: %+v", e)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.do("the-admin", "POST", "/api/v1/prices/recompute", `{"from":"2026-11-01T00:00:00Z"}`, 200, nil)
	s.console.Close()
	s.do("the-admin", "POST", "/api/v1/prices/recompute", `{"from":"2026-11-01T00:00:00Z"}`, 503, &e)
	if e.Error.Code != "stopping" {
		t.Errorf("while the server drains: %+v", e)
	}
}

// TestConfiguredModels: with their prices, where from, and the last 24 hours.
func TestConfiguredModels(t *testing.T) {
	s := newSite(t)
	c := sample(1, "a")
	c.StartedAt = time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	c.ID = call.NewID(c.StartedAt)
	s.put(c)
	var got struct {
		Catalogue string
		Models    []struct {
			Provider, ID string
			Priced       bool
			Configured   bool
			Aliases      []string
			Context      int64 `json:"context_window"`
			Price        *struct {
				Row, Source, Dated, Origin string
				Input                      float64 `json:"input_usd_per_mtok"`
				Cached                     float64 `json:"cache_read_usd_per_mtok"`
				Output                     float64 `json:"output_usd_per_mtok"`
			}
			Live *struct {
				Requests int64
				Cost     float64 `json:"usd_per_success"`
				Stars    int
			}
		}
	}
	s.do("the-admin", "GET", "/api/v1/models?configured=true", "", 200, &got)
	var list []string
	for _, m := range got.Models {
		line := fmt.Sprintf("%s/%s %v %v %v %d", m.Provider, m.ID, m.Priced, m.Configured, m.Aliases, m.Context)
		if p := m.Price; p != nil {
			line += fmt.Sprintf(" %s %s %s %s %v %v %v", p.Row, p.Source, p.Dated, p.Origin, p.Input, p.Cached, p.Output)
		}
		if l := m.Live; l != nil {
			line += fmt.Sprintf(" %d %v %d", l.Requests, l.Cost, l.Stars)
		}
		list = append(list, line)
	}
	const price = " 1000000 openai/gpt-4.1/standard/1 genai-prices@0.1.8 2026-09-23 built-in 2 0.5 8"
	want := []string{"local/qwen false true [] 0", "openai/gpt-4.1 true true [smart]" + price + " 1 0.000238 5", "openrouter/gpt-4.1 true true []" + price}
	if !slices.Equal(list, want) {
		t.Errorf("models:\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
	s.do("the-admin", "GET", "/api/v1/models", "", 200, &got)
	if n := len(got.Models); n < 50 {
		t.Errorf("%d models in all", n)
	}
}
