package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
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

// A ledger keeps what budgets have spent over a restart: the state holds what
// was spent some seconds ago, the store every Call since, and whatever the state
// does not know.
type ledger struct {
	limits *limit.Limiter
	state  *state.State
	store  store.Store
	log    *slog.Logger
	total  atomic.Int64  // nanoseconds that a call may take: the most since the start
	linger time.Duration // that its client may take beyond that to read the answer

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
func spentID(a *limit.Account) [2]string {
	return [2]string{fmt.Sprintf("%s %q", a.Rule, [...]string{a.Match.Key, a.Match.Team, a.Match.Requested, a.Match.Provider, a.Match.Model}), string(a.Period)}
}

// set puts rules in force. Budgets of which the past is not known yet are not
// saved until it is.
func (l *ledger) set(rules []limit.Rule) (fresh []limit.Account, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh, since = l.limits.Set(rules)
	if l.pending == nil {
		l.pending = map[[2]string]int{}
	}
	for i := range fresh {
		l.pending[spentID(&fresh[i])]++
	}
	return fresh, since
}

// restore tells the Limiter what budgets that are fresh have spent on calls that
// began before since, when they came into force. While serving such calls may
// be under way: once they have all ended it is told what they came to.
func (l *ledger) restore(ctx context.Context, fresh []limit.Account, since time.Time) {
	if len(fresh) == 0 {
		return
	}
	serving := l.stop != nil
	p := past{l: l, kept: l.kept(ctx, fresh), before: since, must: serving}
	if !serving {
		p.before = since.Add(time.Hour) // whatever is stored, also by a clock that was ahead
	}
	told := p.spent(ctx, fresh)
	l.limits.Restore(told, false)
	if serving {
		select {
		case <-time.After(time.Until(since.Add(time.Duration(l.total.Load()) + l.linger))):
		case <-l.stop: // what is not saved is read anew at the next start
			return
		}
		first := told
		told = p.spent(ctx, fresh)
		l.limits.Restore(beyond(told, first), true)
	}
	l.limits.Complete(told)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range told { // the others stay pending: what they count now must not be taken for all
		id := spentID(&told[i].Account)
		if l.pending[id]--; l.pending[id] <= 0 {
			delete(l.pending, id)
		}
	}
}

// beyond is what budgets have spent more now than before.
func beyond(now, before []limit.Spent) []limit.Spent {
	was := map[limit.Account]llm.Nano{}
	for _, b := range before {
		was[b.Account] = b.Amount
	}
	more := slices.Clone(now)
	for i := range more {
		more[i].Amount -= was[more[i].Account]
	}
	return more
}

// kept is what was saved of some budgets.
func (l *ledger) kept(ctx context.Context, of []limit.Account) map[[2]string]state.Spent {
	list, err := l.state.LoadSpent(ctx)
	if err != nil {
		l.log.Error("what budgets have spent is read from the calls alone", "err", err)
	}
	kept := map[[2]string]state.Spent{}
	for i := range of {
		kept[spentID(&of[i])] = state.Spent{}
	}
	for _, s := range list {
		if _, ok := kept[[2]string{s.Rule, s.Period}]; ok {
			kept[[2]string{s.Rule, s.Period}] = s
		}
	}
	return kept
}

// A past finds out what budgets have spent on calls that began before a time,
// for thousands of them with few questions to the store.
type past struct {
	l      *ledger
	kept   map[[2]string]state.Spent
	before time.Time
	must   bool // a budget of which only a part is known is not known
}

// spent is what the budgets have spent in their periods: those of which it
// cannot be found out are left out.
func (p *past) spent(ctx context.Context, of []limit.Account) []limit.Spent {
	whole := map[sameBudgets][]limit.Account{} // budgets of which nothing was saved
	var saved []limit.Account
	for _, a := range of {
		if s := p.kept[spentID(&a)]; s.Rule == "" || !s.From.Equal(a.From) && !(s.From.IsZero() && a.From.IsZero()) {
			g := sameBudgets{from: a.From, one: a.Match}
			if dim := single(a.Match); dim != "" {
				g = sameBudgets{from: a.From, by: dim}
			}
			whole[g] = append(whole[g], a)
		} else {
			saved = append(saved, a)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, restoreMax)
	defer cancel()
	list := p.since(ctx, saved)
	for g, accounts := range whole {
		for some := range slices.Chunk(accounts, store.MaxGroups) {
			sums, err := p.sums(ctx, g, some)
			if err != nil {
				p.l.log.Error("what budgets have spent is not known: they begin anew", "rule", some[0].Rule, "budgets", len(some), "period", some[0].Period, "err", err)
				continue
			}
			list = append(list, sums...)
		}
	}
	return list
}

// sameBudgets are budgets that one question answers for: those that name just a key,
// say, or those of one Match.
type sameBudgets struct {
	from time.Time
	by   string // a dimension, or
	one  limit.Match
}

// dimensions are a Match's in the store.
func dimensions(m limit.Match) store.Filter {
	f := store.Filter{}
	for dim, v := range map[string]string{"key": m.Key, "team": m.Team, "model_requested": m.Requested, "provider": m.Provider, "model": m.Model} {
		if v != "" {
			f[dim] = []string{v}
		}
	}
	return f
}

// single is the only dimension of a Match, "" if there is not just one.
func single(m limit.Match) string {
	f := dimensions(m)
	for dim := range f {
		if len(f) == 1 {
			return dim
		}
	}
	return ""
}

// sums is what a group's budgets, MaxGroups at most, have spent since it begins.
func (p *past) sums(ctx context.Context, g sameBudgets, of []limit.Account) ([]limit.Spent, error) {
	q := store.Query{From: g.from, To: p.before, Filter: dimensions(g.one), Measures: []string{"cost_nano_usd"}}
	if q.From.IsZero() {
		q.From = time.Unix(0, 0)
	}
	if g.by != "" {
		q.GroupBy = []string{g.by}
		for _, a := range of {
			q.Filter[g.by] = append(q.Filter[g.by], dimensions(a.Match)[g.by]...)
		}
	}
	q.Filter["origin"] = []string{call.OriginClient}
	res, err := p.l.store.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	by := map[string]llm.Nano{}
	for _, s := range res.Series {
		by[s.Group[g.by]] = llm.Nano(s.Total[0].Int)
	}
	var list []limit.Spent
	for _, a := range of {
		n := llm.Nano(res.Total[0].Int)
		if g.by != "" {
			n = by[dimensions(a.Match)[g.by][0]]
		}
		list = append(list, limit.Spent{Account: a, Amount: n})
	}
	return list, nil
}

// since is what budgets have spent of which something was saved: that, and the
// Calls that ended later.
func (p *past) since(ctx context.Context, of []limit.Account) []limit.Spent {
	if len(of) == 0 {
		return nil
	}
	list, saved := make([]limit.Spent, len(of)), make([]time.Time, len(of))
	by := map[limit.Match][]int{}
	shapes := map[limit.Match]bool{} // a Match with x for each field that some Match has
	var first time.Time
	for i, a := range of {
		s := p.kept[spentID(&a)]
		list[i], saved[i] = limit.Spent{Account: a, Amount: llm.Nano(s.Nano)}, s.AsOf
		by[a.Match] = append(by[a.Match], i)
		shapes[masked(limit.Match{Key: "x", Team: "x", Requested: "x", Provider: "x", Model: "x"}, a.Match)] = true
		if from := latest(a.From, s.AsOf.Add(-time.Duration(p.l.total.Load()))); first.IsZero() || from.Before(first) {
			first = from
		}
	}
	err := p.l.each(ctx, store.List{From: first, To: p.before, Filter: store.Filter{"origin": {call.OriginClient}}}, func(c *call.Call) {
		of := limit.Match{Key: c.Key, Team: c.Team, Requested: c.ModelRequested, Provider: c.Provider, Model: c.Model}
		for shape := range shapes {
			for _, i := range by[masked(of, shape)] {
				if !c.StartedAt.Before(list[i].From) && !c.StartedAt.Add(c.Latency).Before(saved[i]) {
					list[i].Amount += c.Cost
				}
			}
		}
	})
	if err != nil {
		if p.must {
			p.l.log.Error("what budgets have spent is not known", "budgets", len(of), "err", err)
			return nil
		}
		// The store is away: what was saved is better than nothing.
		p.l.log.Error("what budgets have spent in the last seconds before the start is not known", "budgets", len(of), "err", err)
	}
	return list
}

// masked is m where like says something.
func masked(m, like limit.Match) limit.Match {
	for _, f := range [...]struct {
		of   *string
		like string
	}{{&m.Key, like.Key}, {&m.Team, like.Team}, {&m.Requested, like.Requested}, {&m.Provider, like.Provider}, {&m.Model, like.Model}} {
		if f.like == "" {
			*f.of = ""
		}
	}
	return m
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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
		id := spentID(&b.Account)
		if l.pending[id] > 0 {
			continue
		}
		s := state.Spent{Rule: id[0], Period: id[1], From: b.From, Nano: int64(b.Amount), AsOf: now}
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
	if total := int64(c.Timeouts.Total); total > s.ledger.total.Load() {
		s.ledger.total.Store(total)
	}
	fresh, since := s.ledger.set(rules(c, more))
	if s.ledger.stop == nil { // at the start
		s.ledger.restore(ctx, fresh, since)
		return
	}
	if len(fresh) > 0 {
		s.ledger.done.Go(func() { s.ledger.restore(context.WithoutCancel(ctx), fresh, since) })
	}
}
