package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store"
)

// rules are the limits and budgets of a configuration, and of keys made at run
// time, as the Limiter takes them.
func rules(c *config.Config, more []config.Key) []limit.Rule {
	var list []limit.Rule
	add := func(name string, m limit.Match, l config.Limits, budgets []config.Budget) {
		b := limit.Bounds{Requests: int64(l.RPM), Tokens: int64(l.TPM), Input: int64(l.InputTPM), Output: int64(l.OutputTPM), Concurrent: int64(l.Concurrent)}
		for _, x := range budgets {
			b.Budgets = append(b.Budgets, limit.Budget{Amount: llm.Nano(x.NanoUSD), Period: limit.Period(x.Period)})
		}
		if l != (config.Limits{}) || len(budgets) > 0 {
			list = append(list, limit.Rule{Name: name, Match: m, Bounds: b})
		}
	}
	for _, k := range slices.Concat(c.Keys, more) {
		add("key "+k.Name, limit.Match{Key: k.Name}, k.Limits, k.Budget)
	}
	for _, t := range c.Teams {
		add("team "+t.Name, limit.Match{Team: t.Name}, t.Limits, t.Budget)
	}
	for _, a := range c.Models {
		add("model "+a.Name, limit.Match{Requested: a.Name}, a.Limits, nil)
	}
	for _, p := range c.Providers {
		add("provider "+p.Name, limit.Match{Provider: p.Name}, p.Limits, nil)
	}
	for _, r := range c.Rules {
		m := limit.Match{Key: r.Key, Team: r.Team, Provider: r.Provider}
		if slices.ContainsFunc(c.Models, func(a config.Alias) bool { return a.Name == r.Model }) {
			m.Requested = r.Model
		} else {
			m.Model = r.Model
		}
		add("rule "+r.Name, m, r.Limits, r.Budget)
	}
	return list
}

// budgets are all that rules have.
func budgets(rules []limit.Rule) (list []limit.Fresh) {
	for _, r := range rules {
		for _, b := range r.Budgets {
			list = append(list, limit.Fresh{Rule: r, Period: b.Period})
		}
	}
	return list
}

// A ledger keeps what budgets have spent over a restart: the state holds what
// was spent some seconds ago, the store every Call since, and whatever the state
// does not know.
type ledger struct {
	limits *limit.Limiter
	state  *state.State
	store  store.Store
	log    *slog.Logger
	total  time.Duration // that a call may take

	mu      sync.Mutex
	saved   map[[2]string]state.Spent
	pending map[[2]string]int // budgets whose past is being looked up, or could not be: what they know is not saved
	stop    chan struct{}     // closed by close
	done    sync.WaitGroup
}

// marked tells of a budget that is nearly spent.
func marked(log *slog.Logger) func(limit.Mark) {
	return func(m limit.Mark) {
		log.Warn("a budget is being used up", "rule", m.Rule, "percent", m.Percent, "spent", m.Spent.String(), "budget", m.Budget.Amount.String(), "period", m.Budget.Period)
	}
}

const (
	saveEvery  = 2 * time.Second
	restoreMax = 20 * time.Second // for all budgets; what is not read by then is told
)

// spentID is how the state names a budget: a rule that is about somebody else is
// another rule, whatever its name.
func spentID(rule string, m limit.Match, p limit.Period) [2]string {
	return [2]string{fmt.Sprintf("%s %q", rule, [...]string{m.Key, m.Team, m.Requested, m.Provider, m.Model}), string(p)}
}

// forget marks budgets whose past is not known yet.
func (l *ledger) forget(fresh []limit.Fresh) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		l.pending = map[[2]string]int{}
	}
	for _, f := range fresh {
		l.pending[spentID(f.Rule.Name, f.Rule.Match, f.Period)]++
	}
}

// restore tells the Limiter what budgets that are fresh have spent on calls that
// began before since, when they came into force. While serving such calls may
// be under way: once they have all ended it is told what they came to.
func (l *ledger) restore(ctx context.Context, fresh []limit.Fresh, since time.Time) {
	if len(fresh) == 0 {
		return
	}
	kept := l.kept(ctx)
	told := l.tell(ctx, fresh, kept, since, nil)
	if l.stop != nil {
		select {
		case <-time.After(time.Until(since.Add(l.total + time.Second))):
			told = l.tell(ctx, fresh, kept, since, told)
		case <-l.stop: // what is not saved is read anew at the next start
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range fresh {
		if _, ok := told[i]; !ok { // it stays pending: what it counts now must not be taken for all
			continue
		}
		id := spentID(fresh[i].Rule.Name, fresh[i].Rule.Match, fresh[i].Period)
		if l.pending[id]--; l.pending[id] <= 0 {
			delete(l.pending, id)
		}
	}
}

// kept is what was saved.
func (l *ledger) kept(ctx context.Context) map[[2]string]state.Spent {
	list, err := l.state.LoadSpent(ctx)
	if err != nil {
		l.log.Error("what budgets have spent is read from the calls alone", "err", err)
	}
	known := map[[2]string]state.Spent{}
	for _, s := range list {
		known[[2]string{s.Rule, s.Period}] = s
	}
	return known
}

// tell tells the Limiter what each of the budgets has spent before since, beyond
// what it was told already. It returns all that it was told, by index.
func (l *ledger) tell(ctx context.Context, fresh []limit.Fresh, kept map[[2]string]state.Spent, since time.Time, told map[int]llm.Nano) map[int]llm.Nano {
	ctx, cancel := context.WithTimeout(ctx, restoreMax)
	defer cancel()
	now := map[int]llm.Nano{}
	var spent []limit.Spent
	for i := range fresh {
		r, p := &fresh[i].Rule, fresh[i].Period
		n, err := l.before(ctx, r, p, kept[spentID(r.Name, r.Match, p)], since)
		if err != nil {
			l.log.Error("what a budget has spent is not known: it begins anew", "rule", r.Name, "period", p, "err", err)
			continue
		}
		now[i] = n
		spent = append(spent, limit.Spent{Rule: r.Name, Period: p, Amount: n - told[i]})
	}
	l.limits.Restore(spent)
	return now
}

// before is what a rule has spent in the running period on calls that began
// before since.
func (l *ledger) before(ctx context.Context, r *limit.Rule, p limit.Period, kept state.Spent, since time.Time) (llm.Nano, error) {
	from, _ := p.Bounds(time.Now(), l.limits.Zone())
	if kept.Rule == "" || !kept.From.Equal(from) && !(kept.From.IsZero() && from.IsZero()) {
		return l.sum(ctx, r, from, since, time.Time{})
	}
	n, err := l.sum(ctx, r, latest(from, kept.AsOf.Add(-l.total)), since, kept.AsOf)
	if err != nil { // the store is away: what was saved is better than nothing
		l.log.Error("what a budget has spent in the last seconds before the start is not known", "rule", r.Name, "period", p, "err", err)
	}
	return llm.Nano(kept.Nano) + n, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sum is what Calls of a rule cost that began at from or later and before to,
// and, unless it is zero, ended at ended or later.
func (l *ledger) sum(ctx context.Context, r *limit.Rule, from, to, ended time.Time) (llm.Nano, error) {
	filter := store.Filter{"origin": {call.OriginClient}}
	for dim, v := range map[string]string{"key": r.Match.Key, "team": r.Match.Team, "model_requested": r.Match.Requested, "provider": r.Match.Provider, "model": r.Match.Model} {
		if v != "" {
			filter[dim] = []string{v}
		}
	}
	if ended.IsZero() {
		if from.IsZero() {
			from = time.Unix(0, 0)
		}
		res, err := l.store.Query(ctx, store.Query{From: from, To: to, Filter: filter, Measures: []string{"cost_nano_usd"}})
		if err != nil {
			return 0, err
		}
		return llm.Nano(res.Total[0].Int), nil
	}
	var sum llm.Nano
	err := l.each(ctx, store.List{From: from, To: to, Filter: filter}, func(c *call.Call) {
		if !c.StartedAt.Add(c.Latency).Before(ended) {
			sum += c.Cost
		}
	})
	return sum, err
}

// each calls f with all Calls of a list.
func (l *ledger) each(ctx context.Context, q store.List, f func(*call.Call)) error {
	for q.Limit = store.MaxPage; ; {
		page, err := l.store.List(ctx, q)
		if err != nil {
			return err
		}
		for _, c := range page.Calls {
			f(c)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return nil
		}
	}
}

// replay fills the windows with the last minute's Calls.
func (l *ledger) replay(ctx context.Context) error {
	var past []limit.Past
	err := l.each(ctx, store.List{From: time.Now().Add(-time.Minute), Filter: store.Filter{"origin": {call.OriginClient}}}, func(c *call.Call) {
		if len(c.Attempts) == 0 {
			return // refused here: it was not counted either
		}
		s := limit.Subject{Key: c.Key, Team: c.Team, Requested: c.ModelRequested}
		past = append(past, limit.Past{Subject: s, At: c.StartedAt, Input: c.Usage.Input, Output: c.Usage.Output})
		for i, a := range c.Attempts {
			p := limit.Past{Subject: limit.Subject{Key: c.Key, Team: c.Team, Requested: c.ModelRequested, Provider: a.Provider, Model: a.Model}, At: c.StartedAt}
			if i == len(c.Attempts)-1 {
				p.Input, p.Output = c.Usage.Input, c.Usage.Output
			}
			past = append(past, p)
		}
	})
	l.limits.Replay(past)
	return err
}

// run saves what is spent until close.
func (l *ledger) run() {
	l.stop = make(chan struct{})
	l.done.Go(func() {
		for t := time.NewTicker(saveEvery); ; {
			select {
			case <-t.C:
				l.save()
			case <-l.stop:
				t.Stop()
				return
			}
		}
	})
}

// save writes what has changed.
func (l *ledger) save() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	next := map[[2]string]state.Spent{}
	var changed []state.Spent
	for _, b := range l.limits.Spending() {
		id := spentID(b.Rule, b.Match, b.Period)
		if l.pending[id] > 0 {
			continue
		}
		s := state.Spent{Rule: id[0], Period: id[1], From: b.From, Nano: int64(b.Spent), AsOf: now}
		if old, ok := l.saved[id]; ok && old.Nano == s.Nano && old.From.Equal(s.From) {
			next[id] = old
			continue
		}
		next[id] = s
		changed = append(changed, s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := l.state.SaveSpent(ctx, changed); err != nil {
		l.log.Error("what budgets have spent cannot be saved", "err", err)
		return
	}
	l.saved = next
}

// close saves once more. It may be called of a ledger that does not run.
func (l *ledger) close() {
	if l == nil || l.stop == nil {
		return
	}
	close(l.stop)
	l.done.Wait()
	l.stop = nil
	l.save()
}

// setRules puts the configuration's limits in force, and those of keys made at
// run time. While serving, what new budgets have spent before is looked up
// beside: that may take the store some time, and a key that is revoked must not
// wait for it.
func (s *server) setRules(ctx context.Context, c *config.Config, more []config.Key) {
	fresh := s.limits.Set(rules(c, more))
	since := time.Now().Truncate(time.Microsecond) // as a Call says when it began
	s.ledger.forget(fresh)
	if s.ledger.stop == nil { // at the start
		s.ledger.restore(ctx, fresh, since.Add(time.Hour)) // whatever is stored, also by a clock that was ahead
		return
	}
	if len(fresh) > 0 {
		s.ledger.done.Go(func() { s.ledger.restore(context.WithoutCancel(ctx), fresh, since) })
	}
}
