package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/store"
)

// A PriceUpdate is what a price file changes of what is in force.
type PriceUpdate struct {
	Version   string         `json:"catalogue"` // the date of the catalogue's facts with it
	Installed bool           `json:"installed"` // false: it was a dry run
	Added     int            `json:"added"`     // rows
	Changed   int            `json:"changed"`
	Removed   int            `json:"removed"`
	Changes   []price.Change `json:"changes"`
}

// NewPriceUpdate counts changes.
func NewPriceUpdate(changes []price.Change, version string, installed bool) *PriceUpdate {
	u := &PriceUpdate{Version: version, Installed: installed, Changes: changes}
	for _, c := range changes {
		switch c.Change {
		case "added":
			u.Added++
		case "removed":
			u.Removed++
		default:
			u.Changed++
		}
	}
	return u
}

// install takes a price file as the body; ?dry_run=true only says what it would
// change.
func (s *Console) install(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	dry := false
	for name, v := range r.URL.Query() {
		if name != "dry_run" || v[0] != "true" && v[0] != "false" {
			fail(w, http.StatusBadRequest, "invalid_query", call.Clip(name, 60), "the only parameter is dry_run, true or false")
			return
		}
		dry = v[0] == "true"
	}
	if s.Install == nil {
		fail(w, http.StatusNotFound, "not_found", "", "this server takes no price files")
		return
	}
	text, ok := readAll(w, r, price.MaxFile, "the price file")
	if !ok {
		return
	}
	u, err := s.Install(text, dry)
	var problems price.Problems
	switch {
	case errors.As(err, &problems):
		fail(w, http.StatusBadRequest, "invalid_prices", "", problems.Error())
	case err != nil:
		s.Log.Error("prices cannot be installed", "err", err)
		fail(w, http.StatusServiceUnavailable, "not_installed", "", "the prices cannot be installed at the moment: the data folder cannot be written")
	default:
		if !dry {
			s.noted(r, p, UpdateAction, nil, u.Summary())
		}
		answer(w, http.StatusOK, u)
	}
}

// The audit log's words for what is done to prices, and its object.
const (
	UpdateAction    = "prices.update"
	RecomputeAction = "prices.recompute"
	PricesObject    = "prices"
)

// noted puts what was done into the audit log. It is done, whatever becomes of
// that.
func (s *Console) noted(r *http.Request, p *call.Principal, action string, before, after any) {
	if s.Note == nil {
		return
	}
	if err := s.Note(r.Context(), actor(r, p), action, PricesObject, before, after); err != nil {
		s.Log.Error("the audit log cannot be written: what was done is not in it", "action", action, "err", err)
	}
}

// Summary is what the audit log keeps of an update.
func (u *PriceUpdate) Summary() map[string]any {
	return map[string]any{"catalogue": u.Version, "added": u.Added, "changed": u.Changed, "removed": u.Removed}
}

// Summaries are what the audit log keeps of a recompute: what was there, and
// what it was asked and did.
func (q Recompute) Summaries(res *Recomputed) (before, after map[string]any) {
	return map[string]any{"nano_usd": res.Total.Old},
		map[string]any{"nano_usd": res.Total.New, "from": res.From, "to": res.To, "filter": q.Filter, "unpriced": q.Unpriced, "catalogue": res.Catalogue, "calls": res.Total.Changed}
}

// A Recompute asks to price stored Calls anew.
type Recompute struct {
	From     time.Time    `json:"from"` // started_at at or after
	To       time.Time    `json:"to"`   // and before; absent: now
	Filter   store.Filter `json:"filter,omitempty"`
	Unpriced bool         `json:"unpriced,omitempty"` // only Calls without a cost
	DryRun   bool         `json:"dry_run,omitempty"`
}

// Recomputed is what became of them, by model and in all.
type Recomputed struct {
	From      time.Time       `json:"from"`
	To        time.Time       `json:"to"`
	DryRun    bool            `json:"dry_run"`
	Catalogue string          `json:"catalogue"`
	Models    []RepricedModel `json:"models"`
	Total     RepricedModel   `json:"total"`
}

// A RepricedModel is store.Repriced and the difference of its sums.
type RepricedModel struct {
	store.Repriced
	Delta llm.Nano `json:"delta_nano_usd"` // new − old
}

// Run prices the Calls that q names by what is in force when each of them
// started. progress, if there is one, is told how many have been looked at. If it
// fails, the answer says what has been done by then.
func (q Recompute) Run(ctx context.Context, s store.Store, prices *price.Catalogue, progress func(calls int64)) (*Recomputed, error) {
	if q.To.IsZero() {
		q.To = time.Now()
	}
	list, err := s.Reprice(ctx, store.Repricing{From: q.From, To: q.To, Filter: q.Filter, Unpriced: q.Unpriced, DryRun: q.DryRun,
		Price: repricer(prices), Progress: progress})
	res := &Recomputed{From: q.From.UTC(), To: q.To.UTC(), DryRun: q.DryRun, Catalogue: prices.Version(), Models: []RepricedModel{}}
	for _, m := range list {
		res.Models = append(res.Models, RepricedModel{m, m.New - m.Old})
		res.Total.Add(&m)
	}
	res.Total.Delta = res.Total.New - res.Total.Old
	return res, err
}

const maxRecompute = 64 << 10 // bytes of a request

// recompute prices stored Calls anew. It goes on as long as whoever asked waits:
// what is done by then stays, and asking again goes on from there.
func (s *Console) recompute(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	prices := s.prices()
	if prices == nil {
		fail(w, http.StatusNotFound, "not_found", "", "this server has no prices")
		return
	}
	var q Recompute
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRecompute))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		fail(w, http.StatusBadRequest, "invalid_request", "", "the body is not of the documented form: "+call.Clip(err.Error(), 200))
		return
	}
	if q.From.IsZero() {
		fail(w, http.StatusBadRequest, "invalid_request", "from", "from is missing: the time from which on calls are priced anew")
		return
	}
	if !q.To.IsZero() && !q.From.Before(q.To) {
		fail(w, http.StatusBadRequest, "invalid_request", "to", "to is not after from")
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	select {
	case <-s.done:
		cancel()
	default:
	}
	watch.Go(func() { // a server that drains does not wait for this
		select {
		case <-s.done:
			cancel()
		case <-ctx.Done():
		}
	})
	res, err := q.Run(ctx, s.Store, prices, nil)
	if !q.DryRun && res.Total.Changed > 0 { // if only of a part
		before, after := q.Summaries(res)
		s.noted(r, p, RecomputeAction, before, after)
	}
	switch {
	case err == nil:
		if !q.DryRun && res.Total.Changed > 0 {
			s.Log.Info("calls priced anew", "from", res.From, "to", res.To, "changed", res.Total.Changed, "old", res.Total.Old.String(), "new", res.Total.New.String())
		}
		answer(w, http.StatusOK, res)
	case errors.Is(err, store.ErrBusy):
		fail(w, http.StatusConflict, "busy", "", "calls are being priced anew already: wait until that is done")
	case ctx.Err() != nil && r.Context().Err() == nil:
		fail(w, http.StatusServiceUnavailable, "stopping", "", fmt.Sprintf("the server stops: %d calls are done, ask again for the rest", res.Total.Calls))
	default:
		s.failed(w, r, err)
	}
}

// repricer is what a Call costs by a catalogue: store.Repricing's Price.
//
// A Call keeps the usage of its last attempt that was settled, so that is what
// is priced; what earlier attempts cost stays, and the Call costs the sum. It
// stays without a cost while an earlier attempt, whose usage nobody kept, has
// none. A cost that the provider reported is never touched, and one that is known
// does not become unknown because the catalogue has no price (any more).
func repricer(prices *price.Catalogue) func(*call.Call) bool {
	return func(c *call.Call) bool {
		if price.IsReported(c.PriceRow) || c.Usage.Source == llm.UsageNone || c.Usage.Source == "" {
			return false
		}
		provider, model := c.Provider, c.Model
		at := settled(c)
		if at >= 0 {
			provider, model = c.Attempts[at].Provider, c.Attempts[at].Model
		}
		cost, ok := prices.Charge(provider, model, &c.Usage, c.StartedAt, false)
		if !ok {
			return false
		}
		sum, unknown := cost.Nano, false
		for i := range c.Attempts {
			a := &c.Attempts[i]
			switch {
			case i == at:
			case a.Unpriced: // where nothing was answered, nothing was billed
				unknown = unknown || c.Unpriced && a.HTTPStatus/100 == 2
			case a.Cost < 0 || sum > math.MaxInt64-a.Cost:
				return false
			default:
				sum += a.Cost
			}
		}
		changed := false
		if at >= 0 {
			a := &c.Attempts[at]
			changed = a.Unpriced || a.Cost != cost.Nano
			a.Cost, a.Unpriced = cost.Nano, false
		}
		row := cost.Row
		if unknown {
			sum = 0
		}
		changed = changed || c.Unpriced != unknown || !unknown && c.Cost != sum || c.PriceRow != row
		c.Cost, c.Unpriced, c.PriceRow = sum, unknown, row
		return changed
	}
}

// settled is the attempt whose usage a Call keeps: the last one that was priced
// or could not be. -1 without attempts.
func settled(c *call.Call) int {
	last := len(c.Attempts) - 1
	if c.Status == call.Success {
		return last
	}
	for i := last; i >= 0; i-- {
		if a := &c.Attempts[i]; a.Cost != 0 || a.Unpriced {
			return i
		}
	}
	for i := last; i >= 0; i-- { // at a price of zero
		if c.Attempts[i].HTTPStatus/100 == 2 {
			return i
		}
	}
	return last
}
