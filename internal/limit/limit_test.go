package limit

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// A ledger is what a test knows of one rule without asking the Limiter: every
// call that it let pass, at the time at which it did.
type ledger struct {
	at       []time.Time
	tokens   []int64
	under    int64 // of tokens beyond reservations
	spent    map[time.Time]llm.Nano
	overCost map[time.Time]llm.Nano
	open     int64
}

func seeds(t *testing.T, usual int) int {
	n, err := strconv.Atoi(os.Getenv("SHEEPGATE_SEEDS"))
	if err != nil {
		return usual
	}
	t.Logf("%d seeds", n)
	return n
}

// TestSchedules runs random calls, failures, overshoots and reloads in a bubble
// and holds every rule to what an independent ledger says: no 60 seconds hold
// more than the limit and what was beyond reservations; no budget is
// overspent by more than its calls went beyond their reservations; nothing is
// refused for which a window of 61 seconds has room; nothing stays reserved.
func TestSchedules(t *testing.T) {
	for seed := range seeds(t, 200) {
		synctest.Test(t, func(t *testing.T) { schedule(t, uint64(seed)) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func schedule(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	zone := time.FixedZone("here", r.IntN(24)*3600-12*3600)
	keys, teams := []string{"a", "b", "c"}, map[string]string{"a": "x", "b": "x", "c": "y"}
	bounds := func() Bounds {
		some := func(most int) int64 {
			if r.IntN(3) == 0 {
				return 0
			}
			return int64(1 + r.IntN(most))
		}
		b := Bounds{Requests: some(60), Tokens: some(20_000), Input: some(20_000), Output: some(20_000), Concurrent: some(15)}
		for _, p := range []Period{Day, Week, Month, Total} {
			if r.IntN(3) == 0 {
				b.Budgets = append(b.Budgets, Budget{llm.Nano(1 + r.IntN(400_000)), p})
			}
		}
		return b
	}
	rules := []Rule{
		{"key a", Match{Key: "a"}, bounds()}, {"key b", Match{Key: "b"}, bounds()}, {"team x", Match{Team: "x"}, bounds()},
		{"model m", Match{Requested: "m"}, bounds()}, {"a on m", Match{Key: "a", Requested: "m"}, bounds()}, {"all", Match{}, bounds()},
	}
	l := New(zone, nil)
	l.Set(rules)

	var mu sync.Mutex
	ledgers := map[string]*ledger{}
	for i := range rules {
		ledgers[rules[i].Name] = &ledger{spent: map[time.Time]llm.Nano{}, overCost: map[time.Time]llm.Nano{}}
	}
	reloaded := time.Time{} // what is bound anew does not know what passed before
	binds := func(m Match, s Subject) bool {
		return (m.Key == "" || m.Key == s.Key) && (m.Team == "" || m.Team == s.Team) && (m.Requested == "" || m.Requested == s.Requested)
	}
	recent := func(g *ledger, window time.Duration) (n, tokens int64) {
		for i := len(g.at) - 1; i >= 0 && time.Since(g.at[i]) < window; i-- {
			n++
			tokens += g.tokens[i]
		}
		return n, tokens
	}
	var wg sync.WaitGroup
	for range 300 {
		time.Sleep(time.Duration(r.ExpFloat64() * float64(700*time.Millisecond)))
		if r.IntN(200) == 0 {
			time.Sleep(time.Duration(r.IntN(40)) * time.Hour)
		}
		if r.IntN(80) == 0 { // new numbers for the same rules
			mu.Lock()
			for i := range rules {
				b := bounds()
				for j := range b.Budgets { // a budget that is new would have to be told its past
					b.Budgets[j].Amount += 1
				}
				b.Budgets = rules[i].Budgets
				rules[i].Bounds = b
			}
			if fresh, _ := l.Set(rules); len(fresh) > 0 {
				t.Errorf("%v lost what they had counted", fresh)
			}
			reloaded = time.Now()
			mu.Unlock()
		}
		s := Subject{Key: keys[r.IntN(3)], Requested: []string{"m", "n"}[r.IntN(2)]}
		s.Team = teams[s.Key]
		need := Need{Input: int64(r.IntN(900)), Output: int64(r.IntN(900)), Cost: llm.Nano(r.IntN(20_000)), Soft: r.IntN(4) == 0}
		used := Used{Input: need.Input, Output: int64(r.Float64() * float64(need.Output)), Cost: llm.Nano(r.Float64() * float64(need.Cost))}
		switch r.IntN(6) {
		case 0:
			used = Used{} // it failed
		case 1: // more than was thought
			used.Output += int64(r.IntN(500))
			used.Cost += llm.Nano(r.IntN(9000))
		}
		lasts := time.Duration(r.ExpFloat64() * float64(8*time.Second))
		if r.IntN(50) == 0 {
			lasts += 3 * time.Minute
		}
		found := l.Find(s)
		began := time.Now()
		mu.Lock()
		hold, refusal := found.Reserve(need)
		if refusal != nil {
			g := ledgers[refusal.Rule]
			if n, _ := recent(g, 61*time.Second); refusal.Kind == Requests && began.Sub(reloaded) > 61*time.Second && n < refusal.Limit {
				t.Errorf("%s: refused for requests with %d of %d in 61 s", refusal.Rule, n, refusal.Limit)
			}
			if e := refusal.Error(); e.Msg == "" || e.HTTPStatus() != 429 || (refusal.Wait >= 0) != (e.RetryAfter > 0) {
				t.Errorf("%+v is told as %+v", refusal, e)
			}
			mu.Unlock()
			continue
		}
		var bound []int
		var budgets [][]Budget
		for i := range rules {
			if !binds(rules[i].Match, s) {
				continue
			}
			bound, budgets = append(bound, i), append(budgets, rules[i].Budgets)
			g := ledgers[rules[i].Name]
			g.at, g.tokens = append(g.at, began), append(g.tokens, need.Input+need.Output)
			g.open++
			if n, _ := recent(g, time.Minute); began.Sub(reloaded) > time.Minute && rules[i].Requests > 0 && n > rules[i].Requests {
				t.Errorf("%s: %d requests in 60 s, limit %d", rules[i].Name, n, rules[i].Requests)
			}
			if rules[i].Concurrent > 0 && g.open > rules[i].Concurrent && began.After(reloaded.Add(10*time.Minute)) {
				t.Errorf("%s: %d at a time, limit %d", rules[i].Name, g.open, rules[i].Concurrent)
			}
		}
		if (hold == nil) != (len(bound) == 0) {
			t.Errorf("%+v is bound by %v, and holds %v", s, bound, hold)
		}
		mu.Unlock()
		wg.Go(func() {
			time.Sleep(lasts)
			mu.Lock()
			defer mu.Unlock()
			hold.Settle(used)
			for k, i := range bound {
				g := ledgers[rules[i].Name]
				g.open--
				for j := range g.at {
					if g.at[j].Equal(began) {
						g.tokens[j] = used.Input + used.Output
					}
				}
				g.under += max(used.Output-need.Output, 0)
				if need.Soft {
					g.under += used.Output
				}
				for b, of := range budgets[k] {
					from, _ := of.Period.Bounds(began, zone)
					key := from.Add(time.Duration(len(of.Period))) // a day and a week may begin together
					g.spent[key] += used.Cost
					g.overCost[key] += max(used.Cost-hold.held[k].costs[b], 0)
				}
				if _, tokens := recent(g, time.Minute); rules[i].Tokens > 0 && time.Since(reloaded) > 5*time.Minute && tokens > rules[i].Tokens+g.under {
					t.Errorf("%s: %d tokens in 60 s, limit %d, %d beyond reservations", rules[i].Name, tokens, rules[i].Tokens, g.under)
				}
			}
		})
	}
	wg.Wait()
	for i, live := range rulesOf(l) {
		g := ledgers[live.Rule]
		if live.Concurrent.Used != 0 {
			t.Errorf("%s: %d calls are under way when all have ended", live.Rule, live.Concurrent.Used)
		}
		for _, b := range live.Budgets {
			key := b.From.Add(time.Duration(len(b.Period)))
			if b.Reserved != 0 {
				t.Errorf("%s: %v is reserved when all have ended", live.Rule, b.Reserved)
			}
			if b.Spent != g.spent[key] {
				t.Errorf("%s: %v a %s is said to be spent, and %v was", live.Rule, b.Spent, b.Period, g.spent[key])
			}
		}
		for _, b := range rules[i].Budgets {
			for key, spent := range g.spent {
				if from, _ := b.Period.Bounds(key, zone); from.Add(time.Duration(len(b.Period))).Equal(key) && spent > b.Amount+g.overCost[key] {
					t.Errorf("%s: %v spent of %v a %s from %v on, %v beyond reservations", live.Rule, spent, b.Amount, b.Period, key, g.overCost[key])
				}
			}
		}
	}
	time.Sleep(2 * time.Minute)
	for _, live := range rulesOf(l) {
		if n := live.Requests.Used + live.Tokens.Used + live.Input.Used + live.Output.Used; n != 0 {
			t.Errorf("%s: %d are counted two minutes after the last", live.Rule, n)
		}
	}
}

// TestParallel: of 200 calls at once whose usage equals their reservation, a
// budget for 50 lets 50 pass, and what failed makes room again.
func TestParallel(t *testing.T) {
	l := New(time.UTC, nil)
	l.Set([]Rule{{"key k", Match{Key: "k"}, Bounds{Budgets: []Budget{{50 * 7_000, Month}}}}})
	s := Subject{Key: "k", Team: "t", Requested: "m"}
	for round := range 2 {
		var passed, failed int
		var mu sync.Mutex
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 200 {
			wg.Go(func() {
				<-start
				v, refusal := l.Find(s).Reserve(Need{Input: 10, Output: 10, Cost: 7_000})
				mu.Lock()
				defer mu.Unlock()
				if refusal != nil {
					failed++
					return
				}
				passed++
				defer v.Settle(Used{Cost: llm.Nano(round) * 7_000}) // of the first round all fail
			})
		}
		close(start)
		wg.Wait()
		if round == 1 && (passed != 50 || failed != 150) {
			t.Errorf("%d passed, %d were refused", passed, failed)
		}
	}
	if b := rulesOf(l)[0].Budgets[0]; b.Spent != b.Amount || b.Reserved != 0 {
		t.Errorf("%+v", b)
	}
	if _, refusal := l.Find(s).Reserve(Need{}); refusal == nil || refusal.Error().Code != "insufficient_quota" {
		t.Errorf("the budget is used up, and a call is answered with %+v", refusal)
	}
}

// TestHeldBack: a budget that is reserved and not spent is not left either.
func TestHeldBack(t *testing.T) {
	l := New(time.UTC, nil)
	l.Set([]Rule{{"all", Match{}, Bounds{Budgets: []Budget{{100, Total}}}}})
	var held []*Reservation
	for range 100 {
		v, refusal := l.Find(Subject{Key: "k"}).Reserve(Need{Cost: 30, Soft: true})
		if refusal != nil {
			if refusal.Wait != time.Second {
				t.Errorf("what calls under way have may come back, and the refusal says to wait %v", refusal.Wait)
			}
			break
		}
		held = append(held, v)
	}
	if len(held) != 4 { // 30, 30, 30 and the 10 that are left
		t.Fatalf("%d calls fit", len(held))
	}
	for _, v := range held {
		v.Settle(Used{Cost: 5})
	}
	if b := rulesOf(l)[0].Budgets[0]; b.Spent != 20 || b.Reserved != 0 || !b.To.IsZero() {
		t.Errorf("%+v", b)
	}
}

// TestPast: a budget that comes into force while calls are under way counts those
// that begin from then on; it is told of the others, once, and only as long as
// it is that budget in that period.
func TestPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var marks []Mark
		l := New(time.UTC, func(m Mark) { marks = append(marks, m) })
		rule := Rule{"key k", Match{Key: "k"}, Bounds{Requests: 100}}
		l.Set([]Rule{rule})
		reserve := func(at time.Time) *Reservation {
			v, refusal := l.Find(Subject{Key: "k"}).Reserve(Need{At: at, Cost: 10})
			if refusal != nil {
				t.Fatal(refusal)
			}
			return v
		}
		spent := func(want llm.Nano, reserved llm.Nano) {
			t.Helper()
			if b := rulesOf(l)[0].Budgets[0]; b.Spent != want || b.Reserved != reserved {
				t.Errorf("%v spent, %v reserved; want %v, %v", b.Spent, b.Reserved, want, reserved)
			}
		}
		began := time.Now()
		before := reserve(began)
		time.Sleep(time.Second)
		rule.Budgets = []Budget{{1000, Day}}
		fresh, since := l.Set([]Rule{rule})
		if len(fresh) != 1 || !since.Equal(time.Now().Truncate(time.Microsecond)) {
			t.Fatalf("%+v %v", fresh, since)
		}
		late := reserve(began) // its body took a while
		time.Sleep(time.Second)
		after := reserve(time.Now())
		spent(0, 10)
		for _, v := range []*Reservation{before, late, after} {
			v.Settle(Used{Cost: 8})
		}
		spent(8, 0)
		l.Restore([]Spent{{fresh[0], 700}}, false)
		if spent(708, 0); len(marks) != 0 {
			t.Errorf("%v is no news", marks)
		}
		l.Restore([]Spent{{fresh[0], 116}}, true)
		if spent(824, 0); len(marks) != 1 || marks[0].Percent != 80 {
			t.Errorf("%v, want 80 %%", marks)
		}
		l.Complete([]Spent{{Account: fresh[0]}})
		reserve(began).Settle(Used{Cost: 1}) // now there is nobody else to count it
		spent(825, 0)

		rule.Budgets = nil
		l.Set([]Rule{rule})
		rule.Budgets = []Budget{{1000, Day}}
		again, _ := l.Set([]Rule{rule})
		l.Restore([]Spent{{fresh[0], 100}}, false) // of the one that is gone
		spent(0, 0)
		other := rule
		other.Name = "key other"
		l.Set([]Rule{other})
		l.Restore([]Spent{{again[0], 100}}, false)
		spent(0, 0)
		last, _ := l.Set([]Rule{rule})
		time.Sleep(25 * time.Hour)
		l.Restore([]Spent{{last[0], 100}}, false) // of yesterday
		spent(0, 0)
	})
}

// TestMarks: each share is told once, and again after more money came.
func TestMarks(t *testing.T) {
	var marks []Mark
	l := New(time.UTC, func(m Mark) { marks = append(marks, m) })
	rule := Rule{"key k", Match{Key: "k"}, Bounds{Budgets: []Budget{{1000, Month}}}}
	fresh, _ := l.Set([]Rule{rule})
	if len(fresh) != 1 || fresh[0].Period != Month {
		t.Errorf("the past of %v is asked for", fresh)
	}
	l.Restore([]Spent{{fresh[0], 850}, {Account{Rule: "key k", Match: rule.Match, Period: Day}, 1}, {Account{Rule: "nobody", Period: Month}, 1}}, false)
	spend := func(n llm.Nano) {
		v, refusal := l.Find(Subject{Key: "k"}).Reserve(Need{Cost: n})
		if refusal != nil {
			t.Fatal(refusal)
		}
		v.Settle(Used{Cost: n})
	}
	told := func(want ...int) {
		t.Helper()
		got := []int{}
		for _, m := range marks {
			got = append(got, m.Percent)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("marks %v, want %v", got, want)
		}
	}
	spend(10)
	told()
	spend(50)
	told(90)
	spend(90)
	told(90, 100)
	rule.Budgets = []Budget{{2000, Month}}
	if fresh, _ := l.Set([]Rule{rule}); len(fresh) != 0 {
		t.Errorf("%v forgot what was spent", fresh)
	}
	spend(600)
	told(90, 100, 80)
	if _, kept := l.Live(); len(kept) != 3 || kept[0].Percent != 80 || kept[0].Amount != 2000 || kept[2].Percent != 90 || kept[2].Rule != "key k" {
		t.Errorf("remembered are %+v", kept)
	}
}

// TestReplay: what was called before a restart counts after it.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(time.UTC, nil)
		l.Set([]Rule{{"key k", Match{Key: "k"}, Bounds{Requests: 10, Tokens: 1000}}, {"gpt", Match{Model: "gpt"}, Bounds{Requests: 5}}})
		now := time.Now()
		l.Replay([]Past{
			{Subject{Key: "k"}, now.Add(-10 * time.Second), 100, 50}, {Subject{Key: "k"}, now.Add(-59 * time.Second), 100, 50},
			{Subject{Key: "k"}, now.Add(-70 * time.Second), 100, 50}, {Subject{Key: "k", Provider: "p", Model: "gpt"}, now, 1, 1}, {Subject{Key: "other"}, now, 1, 1},
		})
		used := func(i int) (requests, tokens int64) { return rulesOf(l)[i].Requests.Used, rulesOf(l)[i].Tokens.Used }
		if n, tokens := used(0); n != 2 || tokens != 300 {
			t.Errorf("%d requests, %d tokens", n, tokens)
		}
		if n, _ := used(1); n != 1 {
			t.Errorf("%d attempts", n)
		}
		time.Sleep(3 * time.Second)
		if n, tokens := used(0); n != 1 || tokens != 150 {
			t.Errorf("3 s later %d requests, %d tokens", n, tokens)
		}
	})
}

// TestRetryAfter: whoever waits as long as a refusal says gets in, and not much
// earlier.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			l := New(time.UTC, nil)
			l.Set([]Rule{{"all", Match{}, Bounds{Requests: 5, Tokens: 1000}}})
			for {
				need := Need{Input: int64(r.IntN(500))}
				v, refusal := l.Find(Subject{Key: "k"}).Reserve(need)
				if refusal == nil {
					v.Settle(Used{Input: need.Input})
					time.Sleep(time.Duration(r.IntN(15_000)) * time.Millisecond)
					continue
				}
				if refusal.Wait < 0 || refusal.Wait > 61*time.Second {
					t.Fatalf("%+v", refusal)
				}
				time.Sleep(max(refusal.Wait-2*time.Second, 0))
				if _, again := l.Find(Subject{Key: "k"}).Reserve(need); again == nil && refusal.Wait > 2*time.Second {
					t.Fatalf("it got in 2 s before the time, %v", refusal.Wait)
				}
				time.Sleep(min(refusal.Wait, 2*time.Second))
				if _, again := l.Find(Subject{Key: "k"}).Reserve(need); again != nil {
					t.Fatalf("after the wait: %+v, before %+v", again, refusal)
				}
				break
			}
		}
	})
}

// TestPeriods: a day, a week and a month end where the zone's do, summer time
// included.
func TestPeriods(t *testing.T) {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Skip(err)
	}
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, zone) // a Sunday with 25 hours
	for p, want := range map[Period][2]string{
		Day: {"2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"}, Week: {"2026-10-26T00:00:00-04:00", "2026-11-02T00:00:00-05:00"}, Month: {"2026-11-01T00:00:00-04:00", "2026-12-01T00:00:00-05:00"},
	} {
		from, to := p.Bounds(at, zone)
		if got := [2]string{from.Format(time.RFC3339), to.Format(time.RFC3339)}; got != want {
			t.Errorf("%s: %v, want %v", p, got, want)
		}
	}
	if from, to := Total.Bounds(at, zone); !from.IsZero() || !to.IsZero() {
		t.Errorf("total ends: %v %v", from, to)
	}
}

// BenchmarkReserve: what a call's rules cost, with few keys and with many.
func BenchmarkReserve(b *testing.B) {
	for _, keys := range []int{10, 100, 1000, 10_000} {
		b.Run(strconv.Itoa(keys), func(b *testing.B) {
			l := New(time.UTC, nil)
			rules := []Rule{{"model m", Match{Requested: "m"}, Bounds{Requests: 1 << 40, Tokens: 1 << 40}}}
			names := make([]string, keys)
			for i := range names {
				names[i] = "key-" + strconv.Itoa(i)
				rules = append(rules, Rule{names[i], Match{Key: names[i]}, Bounds{Requests: 1 << 40, Tokens: 1 << 40, Concurrent: 1 << 40, Budgets: []Budget{{1 << 60, Month}}}})
			}
			l.Set(rules)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				v, refusal := l.Find(Subject{Key: names[i*7919%keys], Requested: "m"}).Reserve(Need{Input: 100, Output: 200, Cost: 10})
				if refusal != nil {
					b.Fatal(refusal)
				}
				v.Settle(Used{Input: 100, Output: 100, Cost: 5})
			}
		})
	}
}

// BenchmarkFloor is what it takes to find one number of each key and to add to
// it: with many keys, mostly the wait for memory.
func BenchmarkFloor(b *testing.B) {
	for _, keys := range []int{10, 100, 1000, 10_000} {
		b.Run(strconv.Itoa(keys), func(b *testing.B) {
			counts := map[string]*[512]byte{} // about as far apart as counters are
			names := make([]string, keys)
			for i := range names {
				names[i] = "key-" + strconv.Itoa(i)
				counts[names[i]] = new([512]byte)
			}
			i := 0
			for b.Loop() {
				i++
				counts[names[i*7919%keys]][0]++
			}
		})
	}
}

// rulesOf is what a Limiter has counted.
func rulesOf(l *Limiter) []call.LiveLimit {
	rules, _ := l.Live()
	return rules
}
