package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/price"
)

func newPrices(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "prices", Short: "Show what models cost",
	}
	group(cmd)
	var asJSON bool
	var vendor string
	list := &cobra.Command{
		Use: "list [TEXT]", Short: "List the price catalogue, in USD per million tokens as of now", Args: cobra.MaximumNArgs(1),
		Long:    "List shows the built-in price catalogue, in USD per million tokens as of now: all of it, or the\nmodels whose provider/name holds TEXT. Rows of your own (prices.overrides) are not in it.",
		Example: "  sheepgate prices list claude\n  sheepgate prices list --provider openai --json",
		RunE: func(_ *cobra.Command, args []string) error {
			c := price.Default()
			models := []price.Model{}
			for _, m := range c.Models() {
				if (vendor == "" || m.Provider == vendor) && (len(args) == 0 || strings.Contains(m.Provider+"/"+m.ID, args[0])) {
					models = append(models, m)
				}
			}
			if asJSON {
				return writeJSON(e.stdout, map[string]any{"version": c.Version(), "models": models})
			}
			if len(models) == 0 {
				fmt.Fprintln(e.stderr, "no model matches")
				return nil
			}
			return priceTable(e, models, time.Now())
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON, every row with its dates and source")
	list.Flags().StringVar(&vendor, "provider", "", "only models of this provider")
	cmd.AddCommand(list)
	return cmd
}

func priceTable(e *env, models []price.Model, at time.Time) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tINPUT\tOUTPUT\tCACHED INPUT\tSINCE\tROW\tNOTE")
	for _, m := range models {
		r := m.Row("standard", at)
		if r == nil {
			fmt.Fprintf(w, "%s/%s\t-\t-\t-\t-\t-\t\n", m.Provider, m.ID)
			continue
		}
		since := "-"
		if !r.From.IsZero() {
			since = r.From.Format(time.DateOnly)
		}
		note := ""
		if windowed(&m, at) {
			note = "by the hour: this is now"
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Provider, m.ID, rate(r.Rates, "input"), rate(r.Rates, "output"), rate(r.Rates, "cache_read"), since, r.Row, note)
	}
	return w.Flush()
}

// windowed reports whether the price of m depends on the hour.
func windowed(m *price.Model, at time.Time) bool {
	return slices.ContainsFunc(m.Rows, func(r price.Row) bool {
		return r.When != nil && r.Tier == "standard" && (r.From.IsZero() || !at.Before(r.From.Time)) && (r.Until.IsZero() || at.Before(r.Until.Time))
	})
}

// rate writes one rate in dollars, "-" if there is none.
func rate(rates price.Rates, kind string) string {
	r, ok := rates[kind]
	if !ok {
		return "-"
	}
	return fmt.Sprintf("$%.4g", float64(r)/1e9)
}
