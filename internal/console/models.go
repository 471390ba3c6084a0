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
	Priced bool       `json:"priced"` // it is in the catalogue
	Live   *liveModel `json:"live"`   // null without traffic
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
	to := time.Now()
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
	list := []modelInfo{}
	version := ""
	if s.Price != nil {
		version = s.Price.Version()
		for _, m := range s.Price.Models() {
			k := [2]string{m.Provider, m.ID}
			list = append(list, modelInfo{m, true, live[k]})
			delete(live, k)
		}
	}
	for k, l := range live {
		if k[1] != "" { // refused before a model was chosen
			list = append(list, modelInfo{price.Model{Provider: k[0], ID: k[1], Rows: []price.Row{}}, false, l})
		}
	}
	slices.SortFunc(list, func(a, b modelInfo) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.ID, b.ID))
	})
	answer(w, http.StatusOK, map[string]any{"catalogue": version, "from": from.UTC(), "to": to.UTC(), "models": list})
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
