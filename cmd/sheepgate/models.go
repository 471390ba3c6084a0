package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/price"
)

// A listedModel is what GET /api/v1/models says of a model, as far as the table
// shows it. What is unknown is null.
type listedModel struct {
	Provider      string   `json:"provider"`
	ID            string   `json:"id"`
	ContextWindow int64    `json:"context_window"`
	MaxOutput     int64    `json:"max_output"`
	Aliases       []string `json:"aliases"`
	Price         *struct {
		Input     *price.Rate `json:"input_usd_per_mtok"`
		CacheRead *price.Rate `json:"cache_read_usd_per_mtok"`
		Output    *price.Rate `json:"output_usd_per_mtok"`
		Source    string      `json:"source"`
		Dated     string      `json:"dated"`
	} `json:"price"`
	Live *struct {
		Requests      int64    `json:"requests"`
		LatencyAvgMS  *float64 `json:"latency_avg_ms"`
		LatencyP95MS  *float64 `json:"latency_p95_ms"`
		Success       float64  `json:"success_rate"`
		USDPerSuccess *float64 `json:"usd_per_success"`
		Stars         *int     `json:"stars"`
	} `json:"live"`
}

func newModels(e *env) *cobra.Command {
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "models", Short: "List the models of the configured providers: prices, limits and the last 24 hours", Args: cobra.NoArgs,
		Long: "Models asks a running server (SHEEPGATE_ADMIN_KEY) for the catalogue's models of its providers and\n" +
			"what its aliases mean: USD per million tokens as of now with source and date, the context window and\n" +
			"the longest answer, and how each did in the last 24 hours. Five stars are the cheapest successful\n" +
			"answer; each doubling of its cost takes one away.",
		Example: "  sheepgate models\n  sheepgate models --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(e, url)
			if err != nil {
				return err
			}
			const path = "/api/v1/models?configured=true"
			if asJSON {
				var out json.RawMessage // numbers as they came
				if err := c.do(cmd.Context(), "GET", path, nil, &out); err != nil {
					return err
				}
				return writeJSON(e.stdout, out)
			}
			var out struct {
				Models []listedModel `json:"models"`
			}
			if err := c.do(cmd.Context(), "GET", path, nil, &out); err != nil {
				return err
			}
			return modelTable(e, out.Models)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addClientFlags(cmd, &url)
	return cmd
}

func modelTable(e *env, models []listedModel) error {
	if len(models) == 0 {
		fmt.Fprintln(e.stderr, "no provider is configured")
		return nil
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tALIASES\tINPUT\tOUTPUT\tCACHED INPUT\tCONTEXT\tMAX OUTPUT\tDATE\tSOURCE\tREQUESTS\tAVG LATENCY\tP95\tSUCCESS\tUSD/SUCCESS\tSTARS")
	tokens := func(n int64) string {
		if n == 0 {
			return "-"
		}
		return fmt.Sprint(n)
	}
	usd := func(r *price.Rate) string {
		if r == nil {
			return "-"
		}
		return fmt.Sprintf("$%.4g", float64(*r)/1e9)
	}
	for _, m := range models {
		in, out, cached, dated, source := "-", "-", "-", "-", "-"
		if p := m.Price; p != nil {
			in, out, cached, dated, source = usd(p.Input), usd(p.Output), usd(p.CacheRead), cmp.Or(p.Dated, "-"), cmp.Or(short(p.Source), "-")
		}
		requests, avg, p95, success, cost, stars := "0", "-", "-", "-", "-", "-"
		if l := m.Live; l != nil {
			requests, avg, p95 = fmt.Sprint(l.Requests), number("%.0f ms", l.LatencyAvgMS), number("%.0f ms", l.LatencyP95MS)
			success, cost = fmt.Sprintf("%.1f %%", 100*l.Success), number("$%.6f", l.USDPerSuccess)
			if l.Stars != nil {
				stars = strings.Repeat("*", *l.Stars)
			}
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Provider, m.ID, cmp.Or(strings.Join(m.Aliases, ","), "-"), in, out, cached,
			tokens(m.ContextWindow), tokens(m.MaxOutput), dated, source, requests, avg, p95, success, cost, stars)
	}
	return w.Flush()
}
