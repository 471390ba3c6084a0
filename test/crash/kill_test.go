package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
)

const (
	grace   = 200 * time.Millisecond // a Call whose answer ended this long before a kill is kept
	writers = 16                     // clients at once
)

// allowed is grace, or SHEEPGATE_GRACE for a machine that is busy elsewhere:
// there 200 ms may pass before anybody runs at all.
func allowed(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SHEEPGATE_GRACE")
	if text == "" {
		return grace
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < grace {
		t.Fatalf("SHEEPGATE_GRACE: %q is not a duration of %v or more", text, grace)
	}
	return d
}

// kills is how often TestKill kills: SHEEPGATE_KILLS, else 100 with CI=true
// and 10 without.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SHEEPGATE_KILLS")
	switch {
	case text == "" && os.Getenv("CI") == "true":
		return 100
	case text == "":
		return 10
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SHEEPGATE_KILLS: %q is not a number of kills", text)
	}
	return n
}

// seed is SHEEPGATE_SEED, else another one each time.
func seed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("SHEEPGATE_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("SHEEPGATE_SEED: %q is not a number", text)
	}
	return n
}

// A ledger is what must be in the store, from what clients were told and from
// what was read once.
type ledger struct {
	begun    time.Time
	told     map[string]*answer // answers that ended in time
	rows     map[string]string  // every row as it was first read
	imported map[string]bool    // lines whose import was confirmed
	offered  map[string]bool    // lines that were sent at all
	firsts   []time.Duration    // from a start to the first answer
	late     int                // answers that ended within the grace before a kill, and were lost
	lives    []*life            // all that have been compared
}

// A life is what happened between a start and its kill.
type life struct {
	started time.Time
	answers []*answer
	ending  time.Time // from when on an answer may break off
	killed  time.Time
	grace   time.Duration

	until time.Time         // of the rows: the start after the kill
	rows  map[string]string // as they were first read
}

// TestKill kills the server at random points of serving, starting and
// stopping, on one data folder, and starts it again. Each time the first
// answer comes within 2 s; every Call whose answer had ended 200 ms before is
// there, once, as the client saw it, and stays as it is; and a query counts
// what there is.
func TestKill(t *testing.T) {
	s := newSite(t, 25)
	n, seed := kills(t), seed(t)
	grace := allowed(t)
	t.Logf("%d kills; repeat with SHEEPGATE_SEED=%d", n, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	l := &ledger{begun: time.Now(), told: map[string]*answer{}, rows: map[string]string{}, imported: map[string]bool{}, offered: map[string]bool{}}
	imp := &importer{r: rand.New(rand.NewPCG(seed, 1)), base: l.begun.Add(-72 * time.Hour)}
	var last *life
	whole := 25
	for i := range n {
		if i%10 == 3 { // killed while it starts
			p := s.launch(t)
			time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
			p.kill()
			continue
		}
		p := s.start(t)
		probe := l.admit(t, p)
		l.compare(t, p, last)
		l.again(t, p, r)
		if i == whole { // each time twice as many: all of it takes as long as the last
			l.compareAll(t, p)
			whole *= 2
			t.Logf("%d kills, %d rows", i, len(l.rows))
		}
		if t.Failed() {
			t.Fatalf("after %d kills of %d; the log of the life after:\n%s", i, n, p.log.String())
		}
		ctx, cancel := context.WithCancel(t.Context())
		wait := p.clients(ctx, writers, r.Uint64())
		var importing sync.WaitGroup
		importing.Go(func() { imp.run(ctx, t, p, l) })
		time.Sleep(50*time.Millisecond + time.Duration(r.Int64N(int64(1450*time.Millisecond))))
		last = &life{started: p.started, ending: time.Now(), grace: grace}
		if i%20 == 7 { // killed while it stops
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		}
		last.killed = time.Now()
		p.kill()
		cancel()
		last.answers = append(wait(), probe)
		importing.Wait()
	}
	p := s.start(t)
	probe := l.admit(t, p)
	l.compare(t, p, last)
	l.compareAll(t, p)
	p.stop(t)
	last = &life{started: p.started, answers: []*answer{probe}, ending: time.Now(), killed: time.Now()} // a stop loses nothing
	p = s.start(t)
	l.admit(t, p)
	l.compare(t, p, last)
	slices.Sort(l.firsts)
	if p95 := l.firsts[len(l.firsts)*95/100]; p95 > firstAnswerWithin {
		t.Errorf("of %d starts one in twenty had its first answer after %v or later, want %v at most", len(l.firsts), p95, firstAnswerWithin)
	}
	t.Logf("%d starts: first answer after %v in the middle, %v at most; %d Calls of clients and %d imported, none lost, twice or changed; lost of the last %v before a kill: %d",
		len(l.firsts), l.firsts[len(l.firsts)/2].Round(time.Millisecond), l.firsts[len(l.firsts)-1].Round(time.Millisecond), len(l.told), len(l.imported), grace, l.late)
}

// admit waits for the first answer of a process.
func (l *ledger) admit(t *testing.T, p *process) *answer {
	t.Helper()
	a, took := p.firstAnswer(t)
	l.firsts = append(l.firsts, took)
	if took > stuckAfter {
		t.Errorf("the first answer came after %v", took)
	}
	return a
}

// compare holds the rows of one life against what its clients were told.
func (l *ledger) compare(t *testing.T, p *process, was *life) {
	t.Helper()
	if was == nil {
		return
	}
	rows := p.rows(t, was.started, p.started)
	for _, a := range was.answers {
		switch row, ok := rows[a.id]; {
		case a.err != nil && a.ended.Before(was.ending):
			t.Errorf("%s %.60s: %v, %v before the end", a.path, a.body, a.err, was.ending.Sub(a.ended))
		case a.err != nil: // cut by the kill
		case ok:
			l.told[a.id] = a
			a.compare(t, row)
		case was.killed.Sub(a.ended) >= was.grace:
			t.Errorf("call %s is lost: its answer ended %v before the kill", a.id, was.killed.Sub(a.ended))
		default:
			l.late++
		}
	}
	unknown := 0
	for id := range rows {
		if l.told[id] == nil {
			unknown++
		}
	}
	if unknown > writers {
		t.Errorf("%d rows are of no answer that ended, and only %d were under way", unknown, writers)
	}
	l.merge(t, rows)
	l.count(t, p, was.started, p.started, rows)
	was.until, was.rows, was.answers = p.started, rows, nil
	l.lives = append(l.lives, was)
	imported := 0
	for id := range l.imported { // a few, for all are looked at now and then
		var c call.Call
		p.api(t, "GET", "/api/v1/calls/"+id, nil, &c)
		if imported++; imported == 20 {
			break
		}
	}
}

// again reads the rows of one life of long ago: they are what they were.
func (l *ledger) again(t *testing.T, p *process, r *rand.Rand) {
	t.Helper()
	if len(l.lives) == 0 {
		return
	}
	was := l.lives[r.IntN(len(l.lives))]
	rows := p.rows(t, was.started, was.until)
	l.merge(t, rows)
	stay(t, was.rows, rows)
	l.count(t, p, was.started, was.until, rows)
}

// stay checks that what was read before is still there.
func stay(t *testing.T, before, rows map[string]string) {
	t.Helper()
	for id, row := range before {
		if _, ok := rows[id]; !ok {
			t.Errorf("call %s was read before and is gone: %s", id, row)
		}
	}
}

// compareAll holds everything that is stored against everything that must be.
func (l *ledger) compareAll(t *testing.T, p *process) {
	t.Helper()
	from := l.begun.Add(-100 * 24 * time.Hour)
	rows := p.rows(t, from, p.started)
	for id := range rows {
		if l.rows[id] == "" && !l.offered[id] {
			t.Errorf("call %s came from nowhere: %s", id, rows[id])
		}
	}
	l.merge(t, rows)
	stay(t, l.rows, rows)
	for id := range l.imported {
		if _, ok := rows[id]; !ok {
			t.Errorf("call %s is gone, and its import was confirmed", id)
		}
	}
	l.count(t, p, from, p.started, rows)
}

// merge remembers new rows and checks that old ones are as they were.
func (l *ledger) merge(t *testing.T, rows map[string]string) {
	t.Helper()
	for id, row := range rows {
		if before, ok := l.rows[id]; ok && before != row {
			t.Errorf("call %s has changed:\nfrom %s\nto   %s", id, before, row)
		}
		l.rows[id] = row
	}
}

// count holds a query's totals against the sums over the rows.
func (l *ledger) count(t *testing.T, p *process, from, to time.Time, rows map[string]string) {
	t.Helper()
	q, err := json.Marshal(map[string]any{"from": from.UTC(), "to": to.UTC(), "group_by": []string{"model"}, "measures": []string{"requests", "input_tokens", "output_tokens", "cost_nano_usd"}})
	if err != nil {
		t.Fatal(err)
	}
	var res struct {
		Series []struct{ Total [4]int64 }
		Total  [4]int64
	}
	p.api(t, "POST", "/api/v1/query", q, &res)
	var want, series [4]int64
	for id, row := range rows {
		c := parse(t, id, row)
		for i, n := range [...]int64{1, c.Usage.Input, c.Usage.Output, int64(c.Cost)} {
			want[i] += n
		}
	}
	for _, s := range res.Series {
		for i, n := range s.Total {
			series[i] += n
		}
	}
	if res.Total != want || series != want {
		t.Errorf("a query's total is %v and its series sum to %v; the rows sum to %v", res.Total, series, want)
	}
}

func parse(t *testing.T, id, row string) *call.Call {
	t.Helper()
	c := new(call.Call)
	if err := json.Unmarshal([]byte(row), c); err != nil {
		t.Fatalf("call %s: %v: %s", id, err, row)
	}
	return c
}

// compare holds a row against what the client was told.
func (a *answer) compare(t *testing.T, row string) {
	t.Helper()
	c := parse(t, a.id, row)
	wrong := func(what string, got, want any) {
		t.Helper()
		t.Errorf("call %s %s %.60s: %s is %v, the client was told %v", a.id, a.path, a.body, what, got, want)
	}
	if c.HTTPStatus != a.status {
		wrong("http_status", c.HTTPStatus, a.status)
	}
	if c.Key != "crash" || c.Team != "crash" {
		wrong("key", c.Key, "crash")
	}
	if a.errand.status != http200 {
		if c.Status != call.Failed || c.Cost != 0 || c.Unpriced || len(c.Attempts) != 0 {
			wrong("status", c.Status, "an error that cost nothing")
		}
		return
	}
	if c.Status != call.Success || c.Usage.Source != llm.UsageUpstream {
		wrong("status", fmt.Sprint(c.Status, " ", c.Usage.Source), "success upstream")
	}
	if c.Usage.Input != a.input || c.Usage.Output != a.output || a.output == 0 {
		wrong("usage", fmt.Sprint(c.Usage.Input, " in, ", c.Usage.Output, " out"), fmt.Sprint(a.input, " in, ", a.output, " out"))
	}
	if a.own && c.NativeFinishReason != a.finish {
		wrong("native_finish_reason", c.NativeFinishReason, a.finish)
	}
	if c.FinishReason == "" {
		wrong("finish_reason", c.FinishReason, a.finish)
	}
	if usd := c.Cost.USD(); a.cost != "" {
		told, err := strconv.ParseFloat(a.cost, 64)
		if err != nil || int64(told*1e9+0.5) != int64(c.Cost) {
			wrong("cost", usd, a.cost)
		}
	}
	if cost, ok := price.Default().Cost(c.Provider, c.Model, &c.Usage, c.StartedAt); !ok || c.Unpriced || cost.Nano != c.Cost || c.Cost == 0 {
		wrong("cost", c.Cost, cost.Nano)
	}
}

const http200 = 200

// An importer sends lines with ids of their own, of the last three days, and
// sends what was not confirmed again: whole, half done or unknown to the
// server, it must be there once.
type importer struct {
	r       *rand.Rand
	base    time.Time
	n       int
	pending []string // ids of the batch on its way
	batch   bytes.Buffer
}

const importBatch = 300

func (m *importer) run(ctx context.Context, t *testing.T, p *process, l *ledger) {
	for ctx.Err() == nil {
		if len(m.pending) == 0 {
			m.fill(t)
		}
		for _, id := range m.pending {
			l.offered[id] = true
		}
		added, err := p.load(m.batch.Bytes())
		if err != nil {
			return // killed
		}
		if added != len(m.pending) {
			t.Errorf("an import of %d lines says that %d are there", len(m.pending), added)
		}
		for _, id := range m.pending {
			l.imported[id] = true
		}
		m.pending = nil
		select {
		case <-ctx.Done():
		case <-time.After(150 * time.Millisecond):
		}
	}
}

func (m *importer) fill(t *testing.T) {
	m.batch.Reset()
	for range importBatch {
		m.n++
		at := m.base.Add(time.Duration(m.r.Int64N(int64(71 * time.Hour)))).UTC().Truncate(time.Microsecond)
		c := &call.Call{ID: call.NewID(at), StartedAt: at, Origin: call.OriginImport, Key: "old", Ingress: "openai.chat", Provider: "openai", Model: "gpt-4.1", Status: call.Success, HTTPStatus: 200,
			Latency: time.Duration(m.r.IntN(5_000_000)) * time.Microsecond, Usage: llm.Usage{Source: llm.UsageUpstream, Input: m.r.Int64N(5000), Output: m.r.Int64N(500)}, Cost: llm.Nano(m.r.Int64N(1e6))}
		line, err := json.Marshal(c)
		if err != nil {
			t.Error(err)
			return
		}
		m.batch.Write(append(line, '\n'))
		m.pending = append(m.pending, c.ID)
	}
}
