package sim

import (
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

var weekday = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)

func pastOf(o PastOptions) []*Ended {
	var all []*Ended
	for e := range Past(o) {
		all = append(all, e)
	}
	return all
}

// A past has about as many calls as asked for, newest first, at the rate of the
// traffic that goes on from it.
func TestPastJoinsThePresent(t *testing.T) {
	o := PastOptions{Until: weekday, Span: 30 * 24 * time.Hour, Calls: 30_000, Traffic: TrafficOptions{Rate: 0.5, Day: 24 * time.Hour, Seed: 4}}
	all := pastOf(o)
	if n := len(all); n < 20_000 || n > 40_000 {
		t.Errorf("%d calls, want about 30000", n)
	}
	if !slices.IsSortedFunc(all, func(a, b *Ended) int { return b.Start.Compare(a.Start) }) {
		t.Error("not newest first")
	}
	last, hour := all[len(all)-1].Start, 0
	for _, e := range all {
		if e.Start.After(weekday) || e.Start.Before(weekday.Add(-o.Span)) {
			t.Fatalf("a call at %v", e.Start)
		}
		if e.Start.After(weekday.Add(-20 * time.Minute)) {
			hour++
		}
	}
	if age := weekday.Sub(last); age < 29*24*time.Hour {
		t.Errorf("the past begins %v ago", age)
	}
	if want := 0.5 * 1200; math.Abs(float64(hour)-want) > 0.25*want {
		t.Errorf("%d calls in the last 20 minutes, want about %g", hour, want)
	}
	if again := pastOf(o); len(again) != len(all) || again[77].ResponseID != all[77].ResponseID || again[77].Usage.Output != all[77].Usage.Output {
		t.Error("the same options gave another past")
	}
}

// What the past used and how long it took is what the live traffic uses and
// takes.
func TestPastIsLikeTheLiveTraffic(t *testing.T) {
	of := map[string]*mean{}
	for e := range Past(PastOptions{Until: weekday, Span: time.Hour, Calls: 20_000, Traffic: TrafficOptions{Rate: 6, Day: 24 * time.Hour}}) {
		if len(e.Tries) == 0 || e.Status != http.StatusOK || e.Broken || e.Left {
			continue
		}
		m := e.Tries[len(e.Tries)-1].Model.Name
		if of[m] == nil {
			of[m] = &mean{}
		}
		of[m].n++
		of[m].input += float64(e.Usage.Input)
		of[m].output += float64(e.Usage.Output)
		of[m].cached += float64(e.Usage.CacheRead + e.Usage.CacheWrite5m)
	}
	// The same generator, its requests read and answered by the provider.
	g := &generator{keys: []string{"k"}, o: TrafficOptions{}.filled(), r: rand.New(rand.NewPCG(8, 8))}
	wires := map[string]wire{"openai.chat": openai{}, "anthropic.messages": anthropic{}, "gemini.generate": gemini{}}
	live := map[string]*mean{}
	for range 10_000 {
		p := g.plan()
		e := g.write(p)
		g.reply(p.s)
		m, ok := find(p.model, "")
		if !ok || p.wrong || p.leave > 0 {
			continue
		}
		r := httptest.NewRequest("POST", "http://x"+e.path, nil)
		r.Header = e.header
		r.SetPathValue("call", strings.TrimPrefix(r.URL.Path, "/v1beta/models/"))
		q, err := wires[p.ingress].read(r, e.body)
		if err != nil {
			t.Fatal(err)
		}
		a := compose(q, m, m.draw(g.r, true), g.r, false, 1, 1)
		if live[m.Name] == nil {
			live[m.Name] = &mean{}
		}
		live[m.Name].n++
		live[m.Name].input += float64(a.input)
		live[m.Name].output += float64(a.output)
		live[m.Name].cached += float64(a.cacheRead + a.cacheWrite)
	}
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%s = %.0f on average, live %.0f", what, got, want)
		}
	}
	var all, now mean
	for name, a := range live {
		b := of[name]
		if b == nil || b.n < 300 {
			t.Fatalf("%s is not in the past", name)
		}
		near(name+": output", b.output/b.n, a.output/a.n, 0.12)
		all.add(b)
		now.add(a)
	}
	// A conversation's length is one draw for many calls: compared over all models.
	near("input", all.input/all.n, now.input/now.n, 0.1)
	near("cached", all.cached/all.n, now.cached/now.n, 0.15)
}

type mean struct{ n, input, output, cached float64 }

func (m *mean) add(o *mean) {
	m.n += o.n
	m.input += o.input
	m.output += o.output
	m.cached += o.cached
}

// Models have bad spells, seldom and short, the same ones whenever asked.
func TestSpells(t *testing.T) {
	for i := range models {
		m, bad, begins := &models[i], 0, 0
		was := false
		const minutes = 30 * 24 * 60
		for n := range minutes {
			_, is := m.spell(weekday.Add(time.Duration(n) * time.Minute))
			if is {
				bad++
			}
			if is && !was {
				begins++
			}
			was = is
		}
		if begins < 50 || begins > 300 || bad > minutes/50 {
			t.Errorf("%s: %d spells in 30 days, %d minutes in all", m.Name, begins, bad)
		}
	}
	// One that limits is felt.
	m, refused := &models[0], 0
	r := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		d := m.draw(r, true)
		spell{limited: 0.5, slow: 1}.mark(&d, m, r)
		if d.status == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 400 || refused > 600 {
		t.Errorf("%d of 1000 refused, want about half", refused)
	}
}
