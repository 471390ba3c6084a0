package console

import (
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/store"
)

// listed are the query parameters of a list that are dimensions.
var listed = []string{"model", "provider", "key", "status", "code", "team", "user", "session", "origin", "error_class"}

// A paramError is a query parameter that cannot be read.
type paramError struct{ param, msg string }

func (e *paramError) Error() string { return e.msg }

// readList reads the parameters of GET calls and of an export.
func readList(v url.Values) (store.List, *paramError) {
	q := store.List{Text: v.Get("q"), Cursor: v.Get("cursor"), Filter: store.Filter{}}
	for name := range v {
		switch name {
		case "from", "to", "tag", "q", "limit", "cursor":
			continue
		}
		if !slices.Contains(listed, name) {
			msg := fmt.Sprintf("there is no parameter %.60q", name)
			if near := nearest(name, append([]string{"from", "to", "tag", "limit", "cursor"}, listed...)); near != "" {
				msg += fmt.Sprintf("; did you mean %q?", near)
			}
			return q, &paramError{call.Clip(name, 60), msg}
		}
		if vs := v[name]; vs[0] != "" {
			q.Filter[name] = vs
		}
	}
	for _, t := range v["tag"] {
		i := strings.IndexAny(t, ":=")
		if i < 1 {
			return q, &paramError{"tag", "tag is NAME:VALUE"}
		}
		name := "tag:" + t[:i]
		q.Filter[name] = append(q.Filter[name], t[i+1:])
	}
	for _, t := range []struct {
		name string
		to   *time.Time
	}{{"from", &q.From}, {"to", &q.To}} {
		s := v.Get(t.name)
		if s == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return q, &paramError{t.name, t.name + " is not a time like 2026-11-23T07:00:00Z"}
		}
		*t.to = at
	}
	if s := v.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > store.MaxPage {
			return q, &paramError{"limit", fmt.Sprintf("limit is a number from 1 to %d", store.MaxPage)}
		}
		q.Limit = n
	}
	return q, nil
}

func (s *Console) calls(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	q, bad := readList(r.URL.Query())
	if bad != nil {
		fail(w, http.StatusBadRequest, "invalid_query", bad.param, bad.msg)
		return
	}
	q.Filter = own(p, q.Filter)
	page, err := s.Store.List(r.Context(), q)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	if page.Calls == nil {
		page.Calls = []*call.Call{}
	}
	answer(w, http.StatusOK, page)
}

// find gives the Call of the path if p may see it.
func (s *Console) find(r *http.Request, p *call.Principal) (*call.Call, error) {
	c, err := s.Store.Get(r.Context(), r.PathValue("id"))
	if err == nil && !p.Admin && c.Key != p.Key {
		return nil, store.ErrNotFound
	}
	return c, err
}

func (s *Console) call(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	c, err := s.find(r, p)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer(w, http.StatusOK, c)
}

func (s *Console) body(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	c, err := s.find(r, p)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	x, err := s.Store.Body(r.Context(), c.ID)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"request": string(x.Request), "response": string(x.Response), "request_cut": x.RequestCut, "response_cut": x.ReplyCut})
}

// An arithmetic is how the cost of a Call came about.
type arithmetic struct {
	Source   string      `json:"source"` // catalogue, provider (its own figure), none (nothing was used) or unknown (no price)
	Row      string      `json:"row"`
	Lines    []priceLine `json:"lines"`
	Earlier  llm.Nano    `json:"earlier_attempts_nano_usd"`
	Computed *llm.Nano   `json:"computed_nano_usd"` // the lines' exact sum, rounded once, and the earlier attempts
	Stored   *llm.Nano   `json:"cost_nano_usd"`     // what the Call says
}

// A priceLine is quantity × rate ÷ per = amount.
type priceLine struct {
	Model    string     `json:"model"`
	Kind     string     `json:"kind"`
	Quantity int64      `json:"quantity"`
	Rate     price.Rate `json:"rate_usd"`
	Per      int64      `json:"per"`
	Amount   string     `json:"amount_nano_usd"` // exact, a decimal: a line may end within a nano-dollar
}

// explain shows the arithmetic of a Call's cost, line by line.
func (s *Console) explain(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	c, err := s.find(r, p)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer(w, http.StatusOK, s.arithmetic(c))
}

func (s *Console) arithmetic(c *call.Call) arithmetic {
	a := arithmetic{Source: "unknown", Row: c.PriceRow, Lines: []priceLine{}}
	if !c.Unpriced {
		a.Stored = &c.Cost
	}
	for _, t := range c.Attempts[:max(0, len(c.Attempts)-1)] {
		a.Earlier += t.Cost
	}
	if price.IsReported(c.PriceRow) && c.Usage.Reported != nil {
		sum := *c.Usage.Reported + a.Earlier
		a.Source, a.Computed = "provider", &sum
		return a
	}
	if c.PriceRow == "" && !c.Unpriced && c.Cost == 0 {
		a.Source, a.Computed = "none", new(llm.Nano)
		return a
	}
	prices := s.prices()
	if prices == nil {
		return a
	}
	cost, lines, ok := prices.Explain(c.Provider, c.Model, &c.Usage, c.StartedAt)
	if !ok {
		return a
	}
	sum := cost.Nano + a.Earlier
	a.Source, a.Row, a.Computed = "catalogue", cost.Row, &sum
	for _, l := range lines {
		exact := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(l.Quantity), big.NewInt(int64(l.Rate))), big.NewInt(l.Per))
		amount := exact.FloatString(6) // Per divides a million: six decimals are exact
		amount = strings.TrimRight(strings.TrimRight(amount, "0"), ".")
		a.Lines = append(a.Lines, priceLine{l.Model, l.Kind, l.Quantity, l.Rate, l.Per, amount})
	}
	return a
}
