// Package limit holds everyone inside their limits and budgets. A Limiter is
// asked before a call (Reserve) and told what the call came to (Settle); in
// between it counts the most that the call may come to, so that calls at the
// same time cannot spend the same room twice.
//
// What it hides is time: sliding windows, periods in a time zone, what has been
// reserved in one period and is settled in the next, and rules that change
// while calls are under way. It knows no route, no price and no database.
//
// Rates are counted over the last 60 seconds in steps of one second, and what
// is not certainly older than that counts: no 60 seconds ever hold more than
// the limit, and what was used comes back at most a second, 1.7 %, late.
package limit

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// A Match says whom a Rule is about. An empty field is anybody's.
type Match struct {
	Key       string
	Team      string
	Requested string // the model as clients name it, mostly an alias
	Provider  string // who is asked: these two are known for an attempt only
	Model     string // as reports name it
}

// A Subject is a call, or an attempt of one, that wants room: all that a Match
// can name. Provider and Model are empty for the call itself.
type Subject = Match

// field is a bit for each field of a Match.
type field uint8

const (
	byKey field = 1 << iota
	byTeam
	byRequested
	byProvider
	byModel

	ofAttempt = byProvider | byModel
)

func (m *Match) fields() (f field) {
	for i, s := range [...]string{m.Key, m.Team, m.Requested, m.Provider, m.Model} {
		if s != "" {
			f |= 1 << i
		}
	}
	return f
}

// A Rule bounds all that a Match names together.
type Rule struct {
	Name  string // unique; what a refused client is told
	Match Match
	Bounds
}

// Bounds are the numbers of a Rule. Zero means no bound.
type Bounds struct {
	Requests   int64 // per minute
	Tokens     int64 // per minute, input and output together
	Input      int64 // tokens per minute
	Output     int64 // tokens per minute
	Concurrent int64 // at the same time
	Budgets    []Budget
}

// A Budget is an amount of money for a period.
type Budget struct {
	Amount llm.Nano
	Period Period
}

// A Need is the most that a call may come to.
type Need struct {
	Input  int64     // tokens
	Output int64     // tokens
	Cost   llm.Nano  // 0 if it has no price
	At     time.Time // when the call began; zero: now
	// Soft says that Output is a forecast, not a bound that the client set: a
	// window takes no more of it than it could ever hold, and a budget no more
	// than it has left. What the call goes beyond that is an overshoot.
	Soft bool
}

// A Used is what a call came to.
type Used struct {
	Input, Output int64
	Cost          llm.Nano
}

// A Limiter counts. Its methods may be called at the same time. The zero value
// is not one: see New.
type Limiter struct {
	zone   *time.Location
	marked func(Mark)
	table  atomic.Pointer[table]

	mu   sync.Mutex // over all counters: a reservation is of several at once
	told []Mark     // the last maxMarks
	base time.Time  // of the windows' seconds; monotonic
}

// A table is who is bound by what; it is replaced as a whole.
type table struct {
	shapes []shape
	order  []*counter
}

// A shape is the rules that name the same fields, by what they say of them.
type shape struct {
	fields field
	rules  map[string]bound
}

// A bound is a rule's counter. What it says of the rule is as of its table.
type bound struct {
	c     *counter
	money bool // it has a budget
}

func (s *shape) add(m *Match, b bound) {
	name := m.Key
	if s.fields != byKey {
		name = string(s.name(nil, m))
	}
	s.rules[name] = b
}

// find is the rule that says what m does of the shape's fields. Most name a key,
// by the very string that the caller has.
func (s *shape) find(m *Match) (bound, bool) {
	if s.fields == byKey {
		b, ok := s.rules[m.Key]
		return b, ok
	}
	var room [128]byte
	b, ok := s.rules[string(s.name(room[:0], m))]
	return b, ok
}

// name appends what m says of the shape's fields: no two Matches say the same.
func (s *shape) name(to []byte, m *Match) []byte {
	for i, v := range [...]string{m.Key, m.Team, m.Requested, m.Provider, m.Model} {
		if s.fields&(1<<i) != 0 {
			to = append(to, v...)
			to = binary.LittleEndian.AppendUint32(to, uint32(len(v)))
		}
	}
	return to
}

// A Mark says that so much of a budget is spent for the first time in a period.
type Mark struct {
	Rule    string
	Budget  Budget
	Percent int // one of Marks
	Spent   llm.Nano
	At      time.Time
}

// maxMarks is how many of the last marks are remembered.
const maxMarks = 100

// Marks are the shares of a budget that are told, in per cent.
var Marks = []int{80, 90, 100}

// New makes a Limiter without rules. A day begins at midnight in zone. marked,
// if not nil, hears of Marks; it must not wait, nor call the Limiter.
func New(zone *time.Location, marked func(Mark)) *Limiter {
	l := &Limiter{zone: zone, marked: marked, base: time.Now().Add(-buckets * time.Second)}
	l.table.Store(&table{})
	return l
}

// Set replaces the rules, of which each has a Match of its own. One that has the
// name and the Match of one before keeps what it has counted, whatever its
// numbers are now. It returns the budgets whose past the Limiter does not know,
// and since when it counts them: they count calls that began then or later, and
// Restore is to tell it of those before.
func (l *Limiter) Set(rules []Rule) (fresh []Account, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	since = now.Truncate(time.Microsecond) // as Calls tell their time
	before := map[Match]*counter{}
	for _, c := range l.table.Load().order {
		before[c.rule.Match] = c
	}
	t := &table{}
	for i := range rules {
		r := &rules[i]
		c := before[r.Match]
		if c == nil || c.rule.Name != r.Name {
			c = newCounter()
		}
		fresh = append(fresh, c.set(r, l.zone, now, since)...)
		t.order = append(t.order, c)
		f := r.Match.fields()
		k := slices.IndexFunc(t.shapes, func(s shape) bool { return s.fields == f })
		if k < 0 {
			k = len(t.shapes)
			t.shapes = append(t.shapes, shape{f, map[string]bound{}})
		}
		t.shapes[k].add(&r.Match, bound{c, len(r.Budgets) > 0})
	}
	l.table.Store(t)
	return fresh, since
}

// An Account is a budget of a rule in one of its periods.
type Account struct {
	Rule   string
	Match  Match
	Period Period
	From   time.Time // of the period; zero for Total
	serial uint32
}

// Rules are the rules that bind a Subject: what to ask of them is the caller's
// to find out first.
type Rules struct {
	v     *Reservation // to be; nil without a rule
	Money bool         // any of them has a budget: a Need must tell its cost
}

// Find is the rules that bind a call, or an attempt if s names a provider or a
// model: then only those that name one too.
func (l *Limiter) Find(s Subject) (r Rules) {
	has, attempt := s.fields(), s.Provider != "" || s.Model != ""
	shapes := l.table.Load().shapes
	for i := range shapes {
		of := &shapes[i]
		if of.fields&^has != 0 || (of.fields&ofAttempt != 0) != attempt {
			continue
		}
		b, ok := of.find(&s)
		if !ok {
			continue
		}
		if r.v == nil {
			r.v = &Reservation{l: l}
			r.v.held = r.v.few[:0]
		}
		r.v.held = append(r.v.held, hold{c: b.c})
		r.Money = r.Money || b.money
	}
	return r
}

// Any reports whether there is a rule at all.
func (r *Rules) Any() bool { return r.v != nil }

// A Reservation is room that a call has. nil is one that no rule bounds.
type Reservation struct {
	l    *Limiter
	at   int64 // second
	held []hold
	few  [2]hold // of held, mostly
	left Left
}

// A hold is what a Reservation has of one counter.
type hold struct {
	c       *counter
	rates   amounts
	costs   [maxBudgets]llm.Nano
	serials [maxBudgets]uint32 // of the periods that costs are reserved in; 0: none
}

// maxBudgets is how many budgets a rule may have: one a Period.
const maxBudgets = 4

// A Left is what a call's rules leave its sender: of each kind the rule with the
// least left. Limit 0 means that there is no such rule.
type Left struct {
	Requests, Tokens Share
}

// A Share is what is left of a limit.
type Share struct {
	Limit, Remaining int64
	Reset            time.Duration // until all of it is back, if nothing else is used
}

// Check is what Reserve would refuse now, nil if nothing. It counts nothing.
func (r Rules) Check(need Need) (refusal *Refusal) {
	if r.v == nil {
		return nil
	}
	l := r.v.l
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	second := l.second(now)
	for i := range r.v.held {
		refusal = worse(refusal, r.v.held[i].c.check(&need, second, now, l.zone))
	}
	return refusal
}

// Reserve makes room in every rule, or in none. What is refused is not counted.
// It may be called until it has made room.
func (r Rules) Reserve(need Need) (*Reservation, *Refusal) {
	v := r.v
	if v == nil {
		return nil, nil
	}
	need.Input, need.Output, need.Cost = max(need.Input, 0), max(need.Output, 0), max(need.Cost, 0)
	l := v.l
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	second := l.second(now)
	var refusal *Refusal
	for i := range v.held {
		c := v.held[i].c
		refused := c.check(&need, second, now, l.zone)
		if refused != nil {
			c.refused++
		}
		refusal = worse(refusal, refused)
	}
	if refusal != nil {
		return nil, refusal
	}
	v.at = second
	for i := range v.held {
		h := &v.held[i]
		h.c.take(h, &need, second)
		h.c.leave(&v.left, second)
	}
	return v, nil
}

// Left is what the call's rules left when the Reservation was made.
func (v *Reservation) Left() Left {
	if v == nil {
		return Left{}
	}
	return v.left
}

// Settle replaces the room by what was used. It may be called once.
func (v *Reservation) Settle(u Used) {
	if v == nil {
		return
	}
	l := v.l
	l.mu.Lock()
	now := time.Now()
	second := l.second(now)
	var marks []Mark
	for i := range v.held {
		marks = v.held[i].settle(v.at, &u, second, now, marks)
	}
	l.tell(marks)
}

// second is the number of the second that now is in.
func (l *Limiter) second(now time.Time) int64 { return int64(now.Sub(l.base) / time.Second) }

// A Past is a call that ended before the Limiter was made.
type Past struct {
	Subject       Subject
	At            time.Time
	Input, Output int64
}

// Replay counts past calls of the last minute in the windows of their rules.
func (l *Limiter) Replay(past []Past) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	second := l.second(now)
	for i := range past {
		p := &past[i]
		age := int64(now.Sub(p.At) / time.Second)
		if age < 0 {
			age = 0
		}
		if age >= buckets {
			continue
		}
		if r := l.Find(p.Subject); r.Any() {
			for _, h := range r.v.held {
				h.c.replay(second, age, p)
			}
		}
	}
}

// A Spent is an amount of an Account.
type Spent struct {
	Account
	Amount llm.Nano
}

// Restore adds to what budgets have spent on calls that began before they were
// set. One whose period is over, or that was taken away, is passed over. news
// says that calls were under way when the budgets were set, so that marks which
// they pass are told.
func (l *Limiter) Restore(spent []Spent, news bool) {
	l.mu.Lock()
	var marks []Mark
	l.each(spent, func(c *counter, p *period, s *Spent, now time.Time) {
		p.spent += max(s.Amount, 0)
		if passed := p.mark(nil, c, now); news {
			marks = append(marks, passed...)
		}
	})
	l.tell(marks)
}

// Complete says that no call is under way any more that began before the budgets
// were set.
func (l *Limiter) Complete(budgets []Spent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.each(budgets, func(c *counter, p *period, _ *Spent, _ time.Time) {
		p.young = false
		delete(c.since, p.serial)
	})
}

// each calls f with those accounts that there still are.
func (l *Limiter) each(list []Spent, f func(c *counter, p *period, s *Spent, now time.Time)) {
	by := map[Match]*counter{}
	for _, c := range l.table.Load().order {
		by[c.rule.Match] = c
	}
	now := time.Now()
	for i := range list {
		s := &list[i]
		c := by[s.Match]
		if c == nil || c.rule.Name != s.Rule {
			continue
		}
		for k := range c.budgets {
			if p := c.current(k, now, l.zone); p.serial == s.serial {
				f(c, p, s, now)
			}
		}
	}
}

// tell lets go of the lock and tells of marks.
func (l *Limiter) tell(marks []Mark) {
	if len(marks) > 0 {
		l.told = append(l.told, marks...)
		l.told = slices.Clone(l.told[max(0, len(l.told)-maxMarks):])
	}
	l.mu.Unlock()
	if l.marked != nil {
		for _, m := range marks {
			l.marked(m)
		}
	}
}

// Live is what every rule has counted, and the last marks that budgets have
// passed since the start, the latest first.
func (l *Limiter) Live() ([]call.LiveLimit, []call.LiveMark) {
	l.mu.Lock()
	marks := make([]call.LiveMark, len(l.told))
	for i, m := range l.told {
		marks[len(marks)-1-i] = call.LiveMark{At: m.At.UTC(), Rule: m.Rule, Period: string(m.Budget.Period), Percent: m.Percent, Spent: m.Spent, Amount: m.Budget.Amount}
	}
	l.mu.Unlock()
	t := l.table.Load()
	list := make([]call.LiveLimit, len(t.order))
	for i, c := range t.order {
		if i%64 == 0 { // calls go on between
			l.mu.Lock()
		}
		now := time.Now()
		list[i] = c.live(l.second(now), now, l.zone)
		if i%64 == 63 || i == len(t.order)-1 {
			l.mu.Unlock()
		}
	}
	return list, marks
}

// Spending is what the budgets have spent in the periods that are running.
func (l *Limiter) Spending() []Spent {
	var list []Spent
	for _, c := range l.table.Load().order {
		l.mu.Lock()
		now := time.Now()
		for i := range c.budgets {
			p := c.current(i, now, l.zone)
			list = append(list, Spent{c.account(p, now, l.zone), p.spent})
		}
		l.mu.Unlock()
	}
	return list
}

// Zone is where a day begins.
func (l *Limiter) Zone() *time.Location { return l.zone }
