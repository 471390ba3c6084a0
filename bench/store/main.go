// Command store measures the local store with many Calls: it imports them,
// compares percentiles with exact ones, counts the bytes that a Call takes, and
// times the questions of the console in fresh processes, with the files in the
// page cache.
//
//	go run ./bench/store             # 10 million Calls, a few minutes, 2 GB of disk
//	go run ./bench/store -calls 1e6
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

func main() {
	calls := flag.Float64("calls", 10e6, "how many Calls")
	dir := flag.String("dir", "", "keep the store in this folder, and reuse what is there (default: a temporary one)")
	shuffle := flag.Bool("shuffle", false, "import in no order of time")
	ask := flag.String("ask", "", "internal: the questions, as JSON, to time in this process")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *ask != "" {
		err = answer(ctx, *dir, *ask)
	} else {
		err = run(ctx, *dir, int(*calls), *shuffle)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench/store:", err)
		os.Exit(1)
	}
}

// about is what later questions need to know of a filled store.
type about struct {
	Calls int
	End   time.Time
	Exact map[string][3]float64 // P50, P95 and P99 of latency in ms, by a name of exactSets
}

func run(ctx context.Context, dir string, calls int, shuffle bool) error {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "sheepgate-store-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	fmt.Printf("%d cores, %s %s/%s\n", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	a, err := filled(ctx, dir, calls, shuffle)
	if err != nil {
		return err
	}
	if err := touch(dir); err != nil {
		return err
	}
	return questions(ctx, dir, a)
}

// filled imports the Calls, unless the folder holds them already.
func filled(ctx context.Context, dir string, calls int, shuffle bool) (*about, error) {
	note := filepath.Join(dir, "bench.json")
	a := &about{}
	if text, err := os.ReadFile(note); err == nil {
		return a, json.Unmarshal(text, a)
	}
	s, err := local.Open(filepath.Join(dir, "calls"), local.Options{})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	g := newGenerator(calls)
	a.Calls, a.End = calls, g.end
	began := time.Now()
	const batch = 5000
	for i := 0; i < calls; i += batch {
		var list []*call.Call
		for k := i; k < min(calls, i+batch); k++ {
			n := k
			if shuffle { // a permutation: the step has no factor in common with calls
				n = int(int64(k) * 7_368_787 % int64(calls))
			}
			list = append(list, g.call(n))
		}
		added, err := s.Import(ctx, list)
		if err != nil {
			return nil, err
		}
		if added != len(list) {
			return nil, fmt.Errorf("%d of %d Calls were taken", added, len(list))
		}
		if i/batch%100 == 0 {
			fmt.Fprintf(os.Stderr, "\r%d of %d", i, calls)
		}
	}
	fmt.Fprintf(os.Stderr, "\r\x1b[K")
	imported := time.Since(began)
	if err := s.Settle(ctx); err != nil {
		return nil, err
	}
	fmt.Printf("imported %d Calls in %.0f s (%.0f a second, generated on the way), settled after %.0f s\n",
		calls, imported.Seconds(), float64(calls)/imported.Seconds(), time.Since(began).Seconds())
	if err := s.Close(); err != nil {
		return nil, err
	}
	a.Exact = g.exact()
	text, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	return a, os.WriteFile(note, text, 0o600)
}

// touch reads every file once, so that it is in the page cache.
func touch(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "calls", "*"))
	if err != nil {
		return err
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// The measures that the Overview page asks for: see internal/console/ui/overview.tsx.
var overview = []string{"requests", "errors_4xx", "errors_429", "errors_5xx", "canceled", "input_tokens", "output_tokens", "cost_nano_usd", "unpriced",
	"latency_p50", "latency_p95", "latency_p99", "ttft_p95", "cache_read_tokens", "reasoning_tokens", "output_tokens_per_second"}

// A question is one look at a page: queries that are asked at once.
type question struct {
	Name    string
	Queries []asked
	Repeat  time.Duration // ask again with the window moved on by so much
	Limit   time.Duration // what it may take at most
	Again   time.Duration // and the second time
}

type asked struct {
	From, To time.Time
	Step     string
	GroupBy  []string
	Filter   store.Filter
	Measures []string
}

func page(end time.Time, length time.Duration, step, costStep string) []asked {
	from := end.Add(-length)
	return []asked{
		{From: from, To: end, Step: step, Measures: overview},
		{From: from.Add(-length), To: from, Measures: overview[:11]},
		{From: from, To: end, Step: costStep, GroupBy: []string{"model"}, Measures: []string{"cost_nano_usd", "requests", "unpriced"}},
	}
}

func questions(ctx context.Context, dir string, a *about) error {
	day := 24 * time.Hour
	list := []question{
		{Name: "Overview, 24 hours", Queries: page(a.End, day, "15m", "15m"), Repeat: 15 * time.Minute, Limit: 150 * time.Millisecond, Again: 30 * time.Millisecond},
		{Name: "Overview, 30 days", Queries: page(a.End, 30*day, "1d", "1d"), Repeat: day, Limit: 500 * time.Millisecond, Again: 30 * time.Millisecond},
		{Name: "Overview, 30 days by hour", Queries: page(a.End, 30*day, "1h", "1d"), Repeat: time.Hour, Limit: 500 * time.Millisecond, Again: 30 * time.Millisecond},
	}
	for _, f := range []store.Filter{{"tag:env": {"prod"}}, {"tag:feature": {"feature-7"}}, {"tag:tenant": {"tenant-42"}}} {
		for name, v := range f {
			list = append(list, question{Name: "P99 of 30 days, " + name + "=" + v[0], Limit: 600 * time.Millisecond,
				Queries: []asked{{From: a.End.Add(-30 * day), To: a.End, Filter: f, Measures: []string{"latency_p99"}}}})
		}
	}
	fmt.Printf("\n%-44s %10s %10s %10s\n", "in a fresh process (median of 5)", "ms", "limit", "again ms")
	short := 0
	for _, q := range list {
		first, again, err := timed(ctx, dir, q)
		if err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
		mark := ""
		if first > q.Limit || q.Again > 0 && again > q.Again {
			mark, short = "  over", short+1
		}
		line := fmt.Sprintf("%-44s %10.1f %10.0f", q.Name, ms(first), ms(q.Limit))
		if q.Again > 0 {
			line += fmt.Sprintf(" %10.1f (limit %.0f)", ms(again), ms(q.Again))
		}
		fmt.Println(line + mark)
	}
	if err := books(ctx, dir, a); err != nil {
		return err
	}
	if short > 0 {
		fmt.Printf("%d questions take longer than they may\n", short)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// took is what a child process says.
type took struct{ First, Again time.Duration }

// timed asks in five fresh processes and gives the medians.
func timed(ctx context.Context, dir string, q question) (first, again time.Duration, err error) {
	text, err := json.Marshal(q)
	if err != nil {
		return 0, 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	var firsts, repeats []time.Duration
	for range 5 {
		cmd := exec.CommandContext(ctx, self, "-dir", dir, "-ask", string(text))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return 0, 0, err
		}
		var t took
		if err := json.Unmarshal(out, &t); err != nil {
			return 0, 0, err
		}
		firsts, repeats = append(firsts, t.First), append(repeats, t.Again)
	}
	slices.Sort(firsts)
	slices.Sort(repeats)
	return firsts[2], repeats[2], nil
}

// answer is the child: it opens the store and times the questions.
func answer(ctx context.Context, dir, text string) error {
	var q question
	if err := json.Unmarshal([]byte(text), &q); err != nil {
		return err
	}
	s, err := local.Open(filepath.Join(dir, "calls"), local.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	var t took
	if t.First, err = together(ctx, s, q.Queries); err != nil {
		return err
	}
	if q.Repeat > 0 {
		for i := range q.Queries {
			q.Queries[i].From, q.Queries[i].To = q.Queries[i].From.Add(q.Repeat), q.Queries[i].To.Add(q.Repeat)
		}
		if t.Again, err = together(ctx, s, q.Queries); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(t)
}

// together asks all at once, as a page does.
func together(ctx context.Context, s *local.Store, list []asked) (time.Duration, error) {
	began := time.Now()
	errs := make(chan error, len(list))
	for _, a := range list {
		go func() {
			_, err := query(ctx, s, a)
			errs <- err
		}()
	}
	var err error
	for range list {
		err = errors.Join(err, <-errs)
	}
	return time.Since(began), err
}

func query(ctx context.Context, s *local.Store, a asked) (*store.Result, error) {
	step, err := store.ParseStep(a.Step)
	if err != nil {
		return nil, err
	}
	return s.Query(ctx, store.Query{From: a.From, To: a.To, Step: step, GroupBy: a.GroupBy, Filter: a.Filter, Measures: a.Measures})
}

// books compares what the store says with what was put in, and its size.
func books(ctx context.Context, dir string, a *about) error {
	s, err := local.Open(filepath.Join(dir, "calls"), local.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	worst := 0.0
	for name, exact := range a.Exact {
		q := asked{From: a.End.Add(-31 * 24 * time.Hour), To: a.End, Measures: []string{"latency_p50", "latency_p95", "latency_p99", "requests"}}
		if name != "all" {
			q.Filter = store.Filter{"model": {name}}
		}
		r, err := query(ctx, s, q)
		if err != nil {
			return err
		}
		if name == "all" && r.Total[3].Int != int64(a.Calls) {
			return fmt.Errorf("the store counts %d Calls, %d were imported", r.Total[3].Int, a.Calls)
		}
		for i, want := range exact {
			worst = max(worst, abs(r.Total[i].Float-want)/want)
		}
	}
	var bytes int64
	files, err := filepath.Glob(filepath.Join(dir, "calls", "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			bytes += st.Size()
		}
	}
	fmt.Printf("\nworst error of P50, P95 and P99, overall and by model: %.3f %% (limit 1 %%)\n", 100*worst)
	fmt.Printf("disk: %.1f bytes a Call in %d files (limit 200)\n", float64(bytes)/float64(a.Calls), len(files))
	if worst > 0.01 {
		return errors.New("percentiles are further off than 1 %")
	}
	return nil
}

func abs(x float64) float64 { return max(x, -x) }
