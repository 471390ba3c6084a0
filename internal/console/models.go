package console

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/store"
)

// liveWindow is what the live benchmark looks back at, unless asked otherwise.
const liveWindow = 24 * time.Hour

// A modelInfo is a model of the catalogue, or one that answered without being
// there, and how it did lately.
type modelInfo struct {
	price.Model
	Priced     bool        `json:"priced"`     // the catalogue knows it
	Configured bool        `json:"configured"` // a configured provider has it
	Aliases    []string    `json:"aliases"`    // that mean it
	Price      *modelPrice `json:"price"`      // null without one
	Live       *liveModel  `json:"live"`       // null without traffic
}

// A modelPrice is what a model costs now, in the standard tier.
type modelPrice struct {
	Row       string      `json:"row"` // provider/model/tier/number: of its home, where the provider has no price of its own
	Input     *price.Rate `json:"input_usd_per_mtok"`
	CacheRead *price.Rate `json:"cache_read_usd_per_mtok"`
	Output    *price.Rate `json:"output_usd_per_mtok"`
	Source    string      `json:"source"`
	Dated     string      `json:"dated"`  // the source's date, else the catalogue's
	Origin    string      `json:"origin"` // built-in, installed or overrides
}

// A Deployment is a model at a configured provider.
type Deployment struct {
	Provider, Model string
	Aliases         []string // names of the configuration that mean it
}

type liveModel struct {
	Requests      int64    `json:"requests"`
	LatencyAvg    *float64 `json:"latency_avg_ms"`
	LatencyP95    *float64 `json:"latency_p95_ms"`
	Success       float64  `json:"success_rate"` // of requests the client did not cancel
	CostNano      int64    `json:"cost_nano_usd"`
	USDPerSuccess *float64 `json:"usd_per_success"` // null when nothing succeeded or a cost is unknown
	Stars         *int     `json:"stars"`           // 1 to 5, relative to the cheapest success
}

// models lists the catalogue, its prices with source and date, and beside it
// the live benchmark.
func (s *Console) models(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	v := r.URL.Query()
	configured := v.Get("configured")
	v.Del("configured")
	if configured != "" && configured != "true" && configured != "false" {
		fail(w, http.StatusBadRequest, "invalid_query", "configured", "configured is true or false")
		return
	}
	now := time.Now()
	to := now
	q, bad := readList(v)
	if bad != nil {
		fail(w, http.StatusBadRequest, "invalid_query", bad.param, bad.msg)
		return
	}
	if !q.To.IsZero() {
		to = q.To
	}
	from := to.Add(-liveWindow)
	if !q.From.IsZero() {
		from = q.From
	}
	res, err := s.Store.Query(r.Context(), store.Query{From: from, To: to, GroupBy: []string{"provider", "model"}, Filter: own(p, q.Filter),
		Measures: []string{"requests", "latency_avg", "latency_p95", "errors_4xx", "errors_429", "errors_5xx", "canceled", "cost_nano_usd", "unpriced"}})
	if err != nil {
		s.failed(w, r, err)
		return
	}
	live := map[[2]string]*liveModel{}
	for i := range res.Series {
		g := &res.Series[i]
		live[[2]string{g.Group["provider"], g.Group["model"]}] = benchmark(g.Total)
	}
	rate(live)
	list, version := s.listModels(live, now)
	if configured == "true" {
		list = slices.DeleteFunc(list, func(m modelInfo) bool { return !m.Configured })
	}
	answer(w, http.StatusOK, map[string]any{"catalogue": version, "from": from.UTC(), "to": to.UTC(), "models": list})
}

// listModels are the models of the catalogue, those that are configured and
// those that answered, by provider and name.
func (s *Console) listModels(live map[[2]string]*liveModel, now time.Time) (list []modelInfo, version string) {
	prices := s.prices()
	at := map[[2]string]int{}
	list = []modelInfo{}
	put := func(m price.Model) *modelInfo {
		k := [2]string{m.Provider, m.ID}
		i, ok := at[k]
		if !ok {
			i = len(list)
			at[k] = i
			list = append(list, modelInfo{Model: m, Aliases: []string{}, Live: live[k]})
			if prices != nil {
				list[i].Price, list[i].Priced = priceOf(prices, &list[i].Model, now)
			}
		}
		return &list[i]
	}
	if prices != nil {
		version = prices.Version()
		for _, m := range prices.Models() {
			put(m)
		}
	}
	if s.Deployments != nil {
		for _, d := range s.Deployments() {
			m := put(price.Model{Provider: d.Provider, ID: d.Model, Rows: []price.Row{}})
			m.Configured, m.Aliases = true, some(d.Aliases)
		}
	}
	for k := range live {
		if k[1] != "" { // refused before a model was chosen
			put(price.Model{Provider: k[0], ID: k[1], Rows: []price.Row{}})
		}
	}
	slices.SortFunc(list, func(a, b modelInfo) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.ID, b.ID))
	})
	return list, version
}

// priceOf is what m costs now, and whether the catalogue knows it. A model that
// is somebody else's, at an aggregator, has what its home says of it.
func priceOf(prices *price.Catalogue, m *price.Model, now time.Time) (*modelPrice, bool) {
	found, ok := prices.Find(m.Provider, m.ID)
	if !ok {
		return nil, false
	}
	if m.ContextWindow == 0 && m.MaxOutput == 0 {
		m.ContextWindow, m.MaxOutput = found.ContextWindow, found.MaxOutput
	}
	row := found.Row("", now)
	if row == nil {
		return nil, true
	}
	p := &modelPrice{Row: found.Provider + "/" + found.ID + "/" + row.Row, Source: row.Source, Dated: row.Dated, Origin: row.Origin}
	for kind, to := range map[string]**price.Rate{"input": &p.Input, "cache_read": &p.CacheRead, "output": &p.Output} {
		if r, ok := row.Rates[kind]; ok {
			*to = &r
		}
	}
	return p, true
}

// benchmark reads the measures in the order models asks them.
func benchmark(v store.Values) *liveModel {
	float := func(x store.Value) *float64 {
		if x.Kind == store.Null {
			return nil
		}
		return &x.Float
	}
	l := &liveModel{Requests: v[0].Int, LatencyAvg: float(v[1]), LatencyP95: float(v[2]), CostNano: v[7].Int}
	failed, canceled, unpriced := v[3].Int+v[4].Int+v[5].Int, v[6].Int, v[8].Int
	good := l.Requests - failed - canceled
	if n := l.Requests - canceled; n > 0 {
		l.Success = float64(good) / float64(n)
	}
	if good > 0 && unpriced == 0 {
		usd := float64(l.CostNano) / 1e9 / float64(good)
		l.USDPerSuccess = &usd
	}
	return l
}

// rate gives stars: five to the cheapest success, one less for each doubling.
func rate(live map[[2]string]*liveModel) {
	cheapest := math.Inf(1)
	for _, l := range live {
		if l.USDPerSuccess != nil && *l.USDPerSuccess > 0 {
			cheapest = min(cheapest, *l.USDPerSuccess)
		}
	}
	for _, l := range live {
		if l.USDPerSuccess == nil {
			continue
		}
		stars := 5
		if *l.USDPerSuccess > 0 {
			stars = min(5, max(1, 5-int(math.Round(math.Log2(*l.USDPerSuccess/cheapest)))))
		}
		l.Stars = &stars
	}
}
