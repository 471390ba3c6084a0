package console

import (
	"fmt"
	"net/http"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store"
)

// A usageJSON is what the holder of a key may know of it.
type usageJSON struct {
	Key      string       `json:"key"`
	Team     string       `json:"team"`
	State    string       `json:"state"`
	Models   []string     `json:"models"`
	Expires  *time.Time   `json:"expires_at"`
	Limits   state.Limits `json:"limits"`
	Budget   []string     `json:"budget"`
	Timezone string       `json:"timezone"` // what a day and a month mean
	Today    spanUsage    `json:"today"`
	Month    spanUsage    `json:"month"`
}

// A spanUsage sums the Calls of a key since a time that ended.
type spanUsage struct {
	From     time.Time `json:"from"`
	Requests int64     `json:"requests"`
	Input    int64     `json:"input_tokens"`
	Output   int64     `json:"output_tokens"`
	Cost     int64     `json:"cost_nano_usd"` // of those that have a price
	Unpriced int64     `json:"unpriced"`
}

// usage says what a key may do and what it used. A data key asks for itself;
// the admin for any key.
func (s *Console) usage(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	v := r.URL.Query()
	if _, bad := params(v, "key"); bad != nil {
		fail(w, http.StatusBadRequest, "invalid_query", bad.param, bad.msg)
		return
	}
	name := v.Get("key")
	if name == "" {
		name = p.Key
	}
	if name != p.Key && !p.Admin {
		fail(w, http.StatusForbidden, "forbidden", "key", "a key may ask for itself only")
		return
	}
	u := usageJSON{Key: name, State: state.KeyActive, Models: []string{}, Budget: []string{}, Timezone: s.Zone.String()}
	k, ok := s.Keys.Get(name)
	switch {
	case ok:
		u.Team, u.State, u.Limits = k.Team, k.State(time.Now()), k.Limits
		u.Models, u.Budget = append(u.Models, k.Models...), append(u.Budget, k.Budget...)
		if !k.Expires.IsZero() {
			u.Expires = &k.Expires
		}
	case name != p.Key: // the admin key has no settings
		fail(w, http.StatusNotFound, "not_found", "key", fmt.Sprintf("there is no key %.60q", name))
		return
	}
	now := time.Now().In(s.Zone)
	y, m, d := now.Date()
	for _, span := range []struct {
		from time.Time
		to   *spanUsage
	}{{time.Date(y, m, d, 0, 0, 0, 0, s.Zone), &u.Today}, {time.Date(y, m, 1, 0, 0, 0, 0, s.Zone), &u.Month}} {
		res, err := s.Store.Query(r.Context(), store.Query{From: span.from, To: now.Add(time.Second), Filter: store.Filter{"key": {name}},
			Measures: []string{"requests", "input_tokens", "output_tokens", "cost_nano_usd", "unpriced"}})
		if err != nil {
			s.failed(w, r, err)
			return
		}
		*span.to = spanUsage{span.from.UTC(), res.Total[0].Int, res.Total[1].Int, res.Total[2].Int, res.Total[3].Int, res.Total[4].Int}
	}
	answer(w, http.StatusOK, u)
}
