package main

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/price"
)

// A modelStat is a row of the model table. What is unknown is null.
type modelStat struct {
	Provider      string   `json:"provider"`
	Model         string   `json:"model"`
	Requests      int64    `json:"requests"`
	LatencyAvgMS  *float64 `json:"latency_avg_ms"`
	LatencyP95MS  *float64 `json:"latency_p95_ms"`
	SuccessPct    *float64 `json:"success_percent"`
	InputUSD      *float64 `json:"input_usd_per_mtok"`
	OutputUSD     *float64 `json:"output_usd_per_mtok"`
	USDPerSuccess *float64 `json:"usd_per_success"`
	Stars         *int     `json:"stars"` // 1 to 5; null without a cost
}

func newStats(e *env) *cobra.Command {
	var url, from string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "stats", Short: "Compare the models that a running server used", Args: cobra.NoArgs,
		Long: "Stats compares the models that answered: latency, success, price and what a successful answer cost.\n" +
			"Five stars are the cheapest; each doubling of the cost takes one away. It asks the server at --url\n" +
			"with the admin key of SHEEPGATE_ADMIN_KEY.",
		Example: "  sheepgate stats\n  sheepgate stats --from 2026-11-01 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			start, err := parseTime("from", from)
			if err != nil {
				return err
			}
			c, err := newClient(e, url)
			if err != nil {
				return err
			}
			stats, err := c.stats(cmd.Context(), start, time.Now())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.stdout, map[string]any{"models": stats})
			}
			return statsTable(e, stats)
		},
	}
	cmd.Flags().StringVar(&from, "from", "-24h", "calls since this time (RFC 3339, a date, or a duration before now)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addClientFlags(cmd, &url)
	return cmd
}

var statMeasures = []string{"requests", "errors_4xx", "errors_429", "errors_5xx", "canceled", "unpriced", "cost_nano_usd", "latency_avg", "latency_p95"}

func (c *client) stats(ctx context.Context, from, to time.Time) ([]modelStat, error) {
	in := map[string]any{"from": from.UTC().Format(time.RFC3339), "to": to.UTC().Add(time.Second).Format(time.RFC3339), "group_by": []string{"provider", "model"}, "measures": statMeasures}
	var out struct {
		Series []struct {
			Group map[string]string `json:"group"`
			Total []*float64        `json:"total"`
		} `json:"series"`
	}
	if err := c.do(ctx, "POST", "/api/v1/query", in, &out); err != nil {
		return nil, err
	}
	stats := []modelStat{}
	for _, s := range out.Series {
		if len(s.Total) != len(statMeasures) {
			return nil, fmt.Errorf("the answer to the query has %d measures, want %d", len(s.Total), len(statMeasures))
		}
		stats = append(stats, newStat(s.Group["provider"], s.Group["model"], s.Total, to))
	}
	rate5(stats)
	sort.SliceStable(stats, func(i, j int) bool { return stats[i].Requests > stats[j].Requests })
	return stats, nil
}

// newStat makes a row from the measures of statMeasures.
func newStat(provider, model string, total []*float64, at time.Time) modelStat {
	n := func(i int) float64 {
		if total[i] == nil {
			return 0
		}
		return *total[i]
	}
	m := modelStat{Provider: provider, Model: model, Requests: int64(n(0)), LatencyAvgMS: total[7], LatencyP95MS: total[8]}
	if succeeded := n(0) - n(1) - n(2) - n(3) - n(4); n(0) > 0 {
		pct := 100 * succeeded / n(0)
		m.SuccessPct = &pct
		if succeeded > 0 && n(5) == 0 && total[6] != nil { // an unpriced call makes the cost unknown
			usd := n(6) / 1e9 / succeeded
			m.USDPerSuccess = &usd
		}
	}
	if found, ok := price.Default().Find(provider, model); ok {
		if r := found.Row("standard", at); r != nil {
			m.InputUSD, m.OutputUSD = dollars(r.Rates, "input"), dollars(r.Rates, "output")
		}
	}
	return m
}

func dollars(rates price.Rates, kind string) *float64 {
	r, ok := rates[kind]
	if !ok {
		return nil
	}
	usd := float64(r) / 1e9
	return &usd
}

// rate5 gives the stars: one less for every doubling of what a successful
// answer costs above the cheapest one of the table.
func rate5(stats []modelStat) {
	cheapest := math.Inf(1)
	for _, m := range stats {
		if m.USDPerSuccess != nil && *m.USDPerSuccess > 0 {
			cheapest = min(cheapest, *m.USDPerSuccess)
		}
	}
	for i := range stats {
		if usd := stats[i].USDPerSuccess; usd != nil {
			stars := 5
			if *usd > 0 {
				stars = min(5, max(1, 5-int(math.Round(math.Log2(*usd/cheapest)))))
			}
			stats[i].Stars = &stars
		}
	}
}

func statsTable(e *env, stats []modelStat) error {
	if len(stats) == 0 {
		fmt.Fprintln(e.stderr, "no calls in this time")
		return nil
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tREQUESTS\tAVG LATENCY\tP95\tSUCCESS\t$/MTOK IN/OUT\tUSD/SUCCESS\tSTARS")
	for _, m := range stats {
		name := m.Provider + "/" + m.Model
		if m.Provider == "" {
			name = "(none asked)"
		}
		stars := "-"
		if m.Stars != nil {
			stars = strings.Repeat("*", *m.Stars)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s/%s\t%s\t%s\n", name, m.Requests, number("%.0f ms", m.LatencyAvgMS), number("%.0f ms", m.LatencyP95MS),
			number("%.1f %%", m.SuccessPct), number("%.4g", m.InputUSD), number("%.4g", m.OutputUSD), number("$%.6f", m.USDPerSuccess), stars)
	}
	return w.Flush()
}

// number formats v, "-" for what is unknown.
func number(format string, v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}
