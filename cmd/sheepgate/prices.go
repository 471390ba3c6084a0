package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/console"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

func newPrices(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "prices", Short: "Show, replace and apply what models cost",
	}
	group(cmd)
	cmd.AddCommand(newPricesList(e), newPricesUpdate(e), newPricesRecompute(e))
	return cmd
}

func newPricesList(e *env) *cobra.Command {
	var asJSON bool
	var vendor, file, url string
	list := &cobra.Command{
		Use: "list [TEXT]", Short: "List the price catalogue, in USD per million tokens as of now", Args: cobra.MaximumNArgs(1),
		Long: "List shows what is in force, in USD per million tokens as of now: the built-in catalogue, what\n" +
			"`prices update` installed in the configured data folder, and the rows of prices.overrides; with --url\n" +
			"what a running server uses. All of it, or the models whose provider/name holds TEXT. What --json\n" +
			"prints is a price file, too.",
		Example: "  sheepgate prices list claude\n  sheepgate prices list --provider openai --json\n  sheepgate prices list --url http://127.0.0.1:8080",
		RunE: func(cmd *cobra.Command, args []string) error {
			version, all, err := listPrices(cmd, e, file, url)
			if err != nil {
				return err
			}
			models := []price.Model{}
			for _, m := range all {
				if (vendor == "" || m.Provider == vendor) && (len(args) == 0 || strings.Contains(m.Provider+"/"+m.ID, args[0])) {
					models = append(models, m)
				}
			}
			if asJSON {
				return writeJSON(e.stdout, map[string]any{"version": version, "models": models})
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
	list.Flags().StringVar(&file, "config", "", "configuration file (default ./"+defaultConfig+" if it exists)")
	list.Flags().StringVar(&url, "url", "", "ask the server at this address instead")
	list.MarkFlagsMutuallyExclusive("config", "url")
	return list
}

// listPrices gives the models of the catalogue in force, here or on a server.
func listPrices(cmd *cobra.Command, e *env, file, url string) (version string, models []price.Model, err error) {
	if url == "" {
		c, err := offlineConfig(e, file)
		if err != nil {
			return "", nil, err
		}
		p, err := readPricing(c)
		if err != nil {
			return "", nil, exitError{exitConfig, err}
		}
		if p.bad != "" {
			fmt.Fprintln(e.stderr, "warning:", p.bad)
		}
		now := p.catalogue()
		return now.Version(), now.Models(), nil
	}
	c, err := newClient(e, url)
	if err != nil {
		return "", nil, err
	}
	var out struct {
		Catalogue string        `json:"catalogue"`
		Models    []price.Model `json:"models"`
	}
	if err := c.do(cmd.Context(), "GET", "/api/v1/models", nil, &out); err != nil {
		return "", nil, err
	}
	for _, m := range out.Models {
		if len(m.Rows) == 0 {
			continue // no price of its own
		}
		if err := m.Complete(); err != nil {
			return "", nil, err
		}
		models = append(models, m)
	}
	return out.Catalogue, models, nil
}

func newPricesUpdate(e *env) *cobra.Command {
	var asJSON, dry bool
	var file, url string
	cmd := &cobra.Command{
		Use: "update FILE", Short: "Install a price file over the built-in catalogue", Args: cobra.ExactArgs(1),
		Long: "Update checks a price file, the catalogue's JSON or the YAML of prices.overrides, names every mistake\n" +
			"as FILE:LINE:COLUMN, shows what it changes, and installs it in the data folder: it counts from the\n" +
			"next request on and after every start. A model that the file names has the rows of the file and no\n" +
			"others, so keep those of the past; the rest of the catalogue stays. Each update takes the place of the\n" +
			"one before. Rows of prices.overrides still come first. Calls that were stored keep their cost: see\n" +
			"prices recompute. Nothing is ever fetched.\n\n" +
			"It asks the running server (SHEEPGATE_ADMIN_KEY); with --config it writes to the data folder of one\n" +
			"that is stopped.",
		Example: "  sheepgate prices list --json > prices.json   # edit it, then:\n  sheepgate prices update --dry-run prices.json\n  sheepgate prices update prices.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := price.ReadFile(args[0], price.MaxFile)
			if err != nil {
				return err
			}
			var u *console.PriceUpdate
			if file != "" {
				u, err = updateLocal(e, file, text, dry)
			} else {
				u, err = updateRemote(cmd.Context(), e, url, text, dry)
			}
			if problems := (price.Problems)(nil); errors.As(err, &problems) {
				for _, p := range problems {
					fmt.Fprintf(e.stderr, "error: %s:%s\n", args[0], p)
				}
				return fmt.Errorf("%s is not valid: %s", args[0], count(len(problems), "mistake"))
			}
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.stdout, u)
			}
			return reportUpdate(e, u)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would change")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&file, "config", "", "configuration of a stopped server: its data folder is written to")
	addClientFlags(cmd, &url)
	cmd.MarkFlagsMutuallyExclusive("config", "url")
	return cmd
}

func updateLocal(e *env, file string, text []byte, dry bool) (*console.PriceUpdate, error) {
	c, err := offlineConfig(e, file)
	if err != nil {
		return nil, err
	}
	if locked, err := local.Locked(storeFolder(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if locked && !dry {
		return nil, fmt.Errorf("%s is in use: while a server runs, leave --config out", c.Data)
	}
	p, err := readPricing(c)
	if err != nil {
		return nil, exitError{exitConfig, err}
	}
	if p.bad != "" {
		fmt.Fprintln(e.stderr, "warning:", p.bad)
	}
	_, u, err := p.update(text, dry)
	if err != nil || dry {
		return u, err
	}
	return u, noteLocal(c, console.UpdateAction, nil, u.Summary())
}

// noteLocal adds to the audit log of a server that is stopped.
func noteLocal(c *config.Config, action string, before, after any) error {
	s, err := state.Open(c.Data)
	if err != nil {
		return fmt.Errorf("it is done, but the audit log cannot be written: %w", err)
	}
	err = s.Note(context.Background(), localActor(), action, console.PricesObject, before, after)
	return errors.Join(err, s.Close())
}

func updateRemote(ctx context.Context, e *env, url string, text []byte, dry bool) (*console.PriceUpdate, error) {
	if _, err := price.Parse(text); err != nil { // its mistakes, with the name of the file
		return nil, err
	}
	c, err := newClient(e, url)
	if err != nil {
		return nil, err
	}
	return post[console.PriceUpdate](ctx, c, fmt.Sprintf("/api/v1/prices?dry_run=%t", dry), "application/octet-stream", bytes.NewReader(text), "update")
}

func reportUpdate(e *env, u *console.PriceUpdate) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, c := range u.Changes {
		row := c.After
		if row == nil {
			row = c.Before
		}
		rates := priceChange(c.Before, c.After)
		if row.Label != "" {
			rates += "  (" + row.Label + ")"
		}
		fmt.Fprintf(w, "%s\t%s/%s\t%s\t%s\n", c.Change, c.Provider, c.Model, c.Row, rates)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	done := "installed"
	if !u.Installed {
		done = "nothing was changed: this was a dry run"
	}
	_, err := fmt.Fprintf(e.stdout, "%s added, %d changed, %d removed; %s\n", count(u.Added, "row"), u.Changed, u.Removed, done)
	return err
}

// priceChange is what differs between two rows, or all of one.
func priceChange(before, after *price.Row) string {
	row := after
	if row == nil {
		row = before
	}
	both := before != nil && after != nil
	var parts []string
	differ := func(name, was, is string) {
		switch {
		case !both && is != "":
			parts = append(parts, name+" "+is)
		case both && was != is:
			parts = append(parts, fmt.Sprintf("%s %s -> %s", name, cmp.Or(was, "none"), cmp.Or(is, "none")))
		}
	}
	text := func(r *price.Row, kind string) string {
		if r == nil {
			return ""
		}
		if _, ok := r.Rates[kind]; !ok {
			return ""
		}
		return rate(r.Rates, kind)
	}
	date := func(r *price.Row, d func(*price.Row) price.Date) string {
		if r == nil || d(r).IsZero() {
			return ""
		}
		return d(r).Format(time.DateOnly)
	}
	kinds := map[string]bool{}
	for _, r := range []*price.Row{before, after} {
		if r != nil {
			for k := range r.Rates {
				kinds[k] = true
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		differ(k, text(before, k), text(row, k))
	}
	from, until := func(r *price.Row) price.Date { return r.From }, func(r *price.Row) price.Date { return r.Until }
	differ("from", date(before, from), date(row, from))
	differ("until", date(before, until), date(row, until))
	if len(parts) == 0 {
		return "its hours, tools or long inputs"
	}
	return strings.Join(parts, ", ")
}

func newPricesRecompute(e *env) *cobra.Command {
	var asJSON bool
	var file, url, from, to string
	var q console.Recompute
	filters := map[string]*[]string{}
	cmd := &cobra.Command{
		Use: "recompute --from TIME", Short: "Price stored calls anew, by what is in force", Args: cobra.NoArgs,
		Long: "Recompute gives stored calls of a range the cost that the prices in force say for the time at which\n" +
			"each of them started, and shows by model what that changes, in exact nano-dollars. A call keeps the\n" +
			"usage of its last attempt that was billed: what earlier attempts cost stays. Costs that a provider\n" +
			"reported itself are never touched, and a call that nobody has a price for keeps what it has. Counters\n" +
			"in /v1/metrics stay what was booked.\n\n" +
			"It asks the running server (SHEEPGATE_ADMIN_KEY), which goes on serving; with --config it opens the\n" +
			"store of one that is stopped. Interrupted, it has done a part and may be started again.",
		Example: "  sheepgate prices recompute --from 2026-11-01 --dry-run\n  sheepgate prices recompute --from -720h --unpriced\n  sheepgate prices recompute --from 2026-11-01 --to 2026-12-01 --model gpt-4.1 --config sheepgate.yaml",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if q.From, err = parseTime("from", from); err != nil {
				return err
			}
			if q.To, err = parseTime("to", to); err != nil {
				return err
			}
			if q.From.IsZero() {
				return exitError{exitUsage, errors.New("--from: from which time on are calls priced anew? (RFC 3339, a date, or 24h ago as -24h)")}
			}
			q.Filter = store.Filter{}
			for name, values := range filters {
				if len(*values) > 0 {
					q.Filter[name] = *values
				}
			}
			var res *console.Recomputed
			if file != "" {
				res, err = recomputeLocal(ctx, e, file, q)
			} else {
				res, err = recomputeRemote(ctx, e, url, q)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.stdout, res)
			}
			return reportRecomputed(e, res)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "calls that started at or after this time (RFC 3339, a date, or 24h ago as -24h)")
	cmd.Flags().StringVar(&to, "to", "", "calls that started before this time (default now)")
	for _, name := range []string{"model", "provider", "key", "team", "origin"} {
		filters[name] = cmd.Flags().StringSlice(name, nil, "only calls of this "+name+"; may be repeated")
	}
	cmd.Flags().BoolVar(&q.Unpriced, "unpriced", false, "only calls without a cost")
	cmd.Flags().BoolVar(&q.DryRun, "dry-run", false, "only show what would change")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&file, "config", "", "configuration of a stopped server: its store is opened directly")
	addClientFlags(cmd, &url)
	cmd.MarkFlagsMutuallyExclusive("config", "url")
	return cmd
}

func recomputeLocal(ctx context.Context, e *env, file string, q console.Recompute) (res *console.Recomputed, err error) {
	c, err := offlineConfig(e, file)
	if err != nil {
		return nil, err
	}
	p, err := readPricing(c)
	if err != nil {
		return nil, exitError{exitConfig, err}
	}
	if p.bad != "" {
		return nil, errors.New(p.bad)
	}
	s, err := openLocal(c, slog.New(slog.NewTextHandler(e.stderr, nil)), nil)
	if err != nil {
		return nil, fmt.Errorf("%w (while a server runs, leave --config out)", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	progress := newProgress(e.stderr, "looked at")
	defer progress.close()
	res, err = q.Run(ctx, s, p.catalogue(), progress.calls)
	if !q.DryRun && res.Total.Changed > 0 { // if only of a part
		before, after := q.Summaries(res)
		err = errors.Join(err, noteLocal(c, console.RecomputeAction, before, after))
	}
	if err != nil && res.Total.Changed > 0 {
		err = fmt.Errorf("%s were changed, start it again for the rest: %w", count(int(res.Total.Changed), "call"), err)
	}
	return res, err
}

func recomputeRemote(ctx context.Context, e *env, url string, q console.Recompute) (*console.Recomputed, error) {
	c, err := newClient(e, url)
	if err != nil {
		return nil, err
	}
	progress := newProgress(e.stderr, "the server works")
	defer progress.close()
	defer progress.clock()()
	res := new(console.Recomputed)
	return res, c.do(ctx, "POST", "/api/v1/prices/recompute", q, res)
}

func reportRecomputed(e *env, res *console.Recomputed) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "MODEL\tCALLS\tCHANGED\tNEWLY PRICED\tUNPRICED\tOLD NANO-USD\tNEW NANO-USD\tDELTA\t")
	line := func(name string, m console.RepricedModel) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%+d\t\n", name, m.Calls, m.Changed, m.Priced, m.Unpriced, int64(m.Old), int64(m.New), int64(m.Delta))
	}
	for _, m := range res.Models {
		name := m.Provider + "/" + m.Model
		if m.Provider == "" && m.Model == "" {
			name = "(none asked)"
		}
		line(name, m)
	}
	line("total", res.Total)
	if err := w.Flush(); err != nil {
		return err
	}
	verb := "changed"
	if res.DryRun {
		verb = "would change (this was a dry run)"
	}
	_, err := fmt.Fprintf(e.stdout, "%s %s: %s -> %s\n", count(int(res.Total.Changed), "call"), verb, res.Total.Old, res.Total.New)
	return err
}

func priceTable(e *env, models []price.Model, at time.Time) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tINPUT\tOUTPUT\tCACHED INPUT\tSINCE\tROW\tORIGIN\tDATE\tSOURCE\tNOTE")
	for _, m := range models {
		r := m.Row("standard", at)
		if r == nil {
			fmt.Fprintf(w, "%s/%s\t-\t-\t-\t-\t-\t-\t-\t-\t\n", m.Provider, m.ID)
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
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Provider, m.ID, rate(r.Rates, "input"), rate(r.Rates, "output"), rate(r.Rates, "cache_read"), since, r.Row,
			cmp.Or(r.Origin, "-"), cmp.Or(r.Dated, "-"), cmp.Or(short(r.Source), "-"), note)
	}
	return w.Flush()
}

// short cuts a source for a table; --json has all of it.
func short(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:39]) + "…"
	}
	return s
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
