package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/console"
	"github.com/sheepgate/sheepgate/internal/gateway"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

func newKey(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Make, list, change, rotate and revoke keys",
		Long: "Keys are made at the running server (SHEEPGATE_ADMIN_KEY), where they are good at once; with --config\n" +
			"in the data folder of a server that is stopped. Those of the configuration are listed too, and changed\n" +
			"there. A key is shown once, on standard output and alone, so that it can be piped; what else is said\n" +
			"goes to standard error. With --json all of it is on standard output.\n\n" +
			"The exit code is 0 when it is done, 1 when the server refuses it (there is no such key, the name is\n" +
			"taken) or does not answer, 2 for a wrong command line, 3 for a wrong configuration.",
	}
	group(cmd)
	cmd.AddCommand(newKeyCreate(e), newKeyList(e), newKeyUpdate(e), newKeyRotate(e), newKeyRevoke(e), newResetAdmin(e))
	return cmd
}

// localActor is whom the audit log names for a command that asks no server.
func localActor() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return "local:" + call.Clip(u.Username, 100)
	}
	return "local:" + strconv.Itoa(os.Getuid())
}

func newResetAdmin(e *env) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "reset-admin", Short: "Make a new admin key and print it; the old one ends", Args: cobra.NoArgs,
		Long: "Reset-admin makes a new admin key in the data folder of the configuration and prints it, once. A\nrunning server takes it at its next start; until then the old one is good.",
		RunE: func(*cobra.Command, []string) (err error) {
			c, err := loadConfig(e, file)
			if err != nil {
				return err
			}
			if c.AdminKey.Set() {
				return fmt.Errorf("the configuration sets admin_key: change it there")
			}
			s, err := state.Open(c.Data)
			if err != nil {
				return err
			}
			defer s.Close()
			_, key, err := s.ResetAdmin(localActor())
			if err != nil {
				return err
			}
			fmt.Fprintln(e.stderr, "The new admin key, shown this once. A running server takes it when it starts again.")
			_, err = fmt.Fprintln(e.stdout, key)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default ./"+defaultConfig+" if it exists)")
	return cmd
}

// A keyDoor is where keys are changed: a server, or the state of one that is
// stopped.
type keyDoor struct {
	url, file string
	asJSON    bool
}

func (d *keyDoor) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.file, "config", "", "configuration of a stopped server: its state is opened directly")
	cmd.Flags().BoolVar(&d.asJSON, "json", false, "print JSON")
	addClientFlags(cmd, &d.url)
	cmd.MarkFlagsMutuallyExclusive("config", "url")
}

// open gives a client of the API, and what closes it.
func (d *keyDoor) open(e *env) (c *client, end func(), err error) {
	if d.file == "" {
		c, err = newClient(e, d.url)
		return c, func() {}, err
	}
	conf, err := loadConfig(e, d.file)
	if err != nil {
		return nil, nil, err
	}
	if busy, err := local.Locked(storeFolder(conf)); err != nil {
		return nil, nil, err
	} else if busy {
		return nil, nil, fmt.Errorf("%s is in use: while a server runs, leave --config out", conf.Data)
	}
	p, err := readPricing(conf)
	if err != nil {
		return nil, nil, exitError{exitConfig, err}
	}
	g, err := gatewayConfig(conf, p.catalogue(), nil)
	if err != nil {
		return nil, nil, exitError{exitConfig, err}
	}
	s, err := state.Open(conf.Data)
	if err != nil {
		return nil, nil, err
	}
	keys, err := openKeys(s, conf, func() *gateway.Config { return g })
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	who := &call.Principal{Key: localActor(), Admin: true}
	pages := console.New(console.Options{Keys: keys, Audit: s.Audit, Log: discard, Auth: func(string) (*call.Principal, bool) { return who, true }})
	return &client{base: "http://localhost", key: "local", handler: pages}, func() { s.Close() }, nil
}

// A shownKey is a key as the API shows it.
type shownKey struct {
	Name     string            `json:"name"`
	Source   string            `json:"source"`
	State    string            `json:"state"`
	Metrics  bool              `json:"metrics"`
	Last4    string            `json:"last4"`
	Team     string            `json:"team"`
	Models   []string          `json:"models"`
	Limits   map[string]*int64 `json:"limits"`
	Budget   []string          `json:"budget"`
	Metadata map[string]string `json:"metadata"`
	Expires  *time.Time        `json:"expires_at"`
	Created  *time.Time        `json:"created_at"`
	Rotated  *time.Time        `json:"rotated_at"`
	Grace    *time.Time        `json:"grace_until"`
	Revoked  *time.Time        `json:"revoked_at"`
}

// ask makes one request and prints its answer: as JSON, or in words.
func (d *keyDoor) ask(ctx context.Context, e *env, method, path string, in any, say func(shownKey) string) error {
	c, end, err := d.open(e)
	if err != nil {
		return err
	}
	defer end()
	var raw json.RawMessage
	if err := c.do(ctx, method, path, in, &raw); err != nil {
		return err
	}
	if d.asJSON {
		return writeJSON(e.stdout, raw)
	}
	var made struct {
		Key    shownKey
		Secret string
	}
	if err := json.Unmarshal(raw, &made); err == nil && made.Secret == "" {
		err = json.Unmarshal(raw, &made.Key) // an answer that makes none is the key
		if err != nil {
			return err
		}
	}
	fmt.Fprintln(e.stderr, say(made.Key))
	if made.Secret == "" {
		return nil
	}
	_, err = fmt.Fprintln(e.stdout, made.Secret)
	return err
}

func keyPath(name string) string { return "/api/v1/keys/" + url.PathEscape(name) }

// A keyWish holds the flags that set what a key may do.
type keyWish struct {
	team, expires            string
	models, budget, metadata []string
	limits                   map[string]*string
}

// limitFlags are the flags of limits, by the API's names.
var limitFlags = []struct{ flag, name, what string }{
	{"rpm", "rpm", "requests a minute"}, {"tpm", "tpm", "tokens a minute, input and output together"}, {"input-tpm", "input_tpm", "input tokens a minute"},
	{"output-tpm", "output_tpm", "output tokens a minute"}, {"concurrent", "concurrent", "requests at the same time"},
}

func (w *keyWish) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.team, "team", "", "the team that its calls are counted for")
	cmd.Flags().StringSliceVar(&w.models, "models", nil, "aliases and models it may use, with commas (default all)")
	cmd.Flags().StringVar(&w.expires, "expires", "", "when it ends: a time, a date, or a duration from now such as 30d")
	cmd.Flags().StringArrayVar(&w.budget, "budget", nil, "the most it may spend in a period: $200/month")
	cmd.Flags().StringArrayVar(&w.metadata, "metadata", nil, "a note of your own, NAME=VALUE; may be repeated")
	w.limits = map[string]*string{}
	for _, l := range limitFlags {
		w.limits[l.flag] = cmd.Flags().String(l.flag, "", "limit: "+l.what+", such as 300k")
	}
}

// body is what the API is sent: the flags that were given. An empty value, or
// none, takes a setting away.
func (w *keyWish) body(cmd *cobra.Command, now time.Time) (map[string]any, error) {
	given := cmd.Flags().Changed
	usage := func(flag string, err error) error { return exitError{exitUsage, fmt.Errorf("--%s: %w", flag, err)} }
	none := func(text string) bool { return text == "" || text == "none" }
	in := map[string]any{}
	if given("team") {
		in["team"] = w.team
	}
	if given("models") {
		in["models"] = slices.DeleteFunc(slices.Clone(w.models), none)
	}
	if given("budget") {
		list := slices.DeleteFunc(slices.Clone(w.budget), none)
		for _, text := range list {
			if _, err := config.ParseBudget(text); err != nil {
				return nil, usage("budget", err)
			}
		}
		in["budget"] = list
	}
	if given("expires") {
		in["expires_at"] = nil
		if !none(w.expires) {
			at, err := parseExpiry(w.expires, now)
			if err != nil {
				return nil, err
			}
			in["expires_at"] = at.UTC().Format(time.RFC3339Nano)
		}
	}
	limits := map[string]any{}
	for _, l := range limitFlags {
		if text := *w.limits[l.flag]; given(l.flag) {
			limits[l.name] = nil
			if !none(text) {
				n, err := config.ParseCount(text)
				if err != nil {
					return nil, usage(l.flag, err)
				}
				limits[l.name] = int64(n)
			}
		}
	}
	if len(limits) > 0 {
		in["limits"] = limits
	}
	if given("metadata") {
		notes := map[string]any{}
		for _, text := range w.metadata {
			name, value, ok := strings.Cut(text, "=")
			if !ok || name == "" {
				return nil, usage("metadata", fmt.Errorf("%q is not NAME=VALUE", text))
			}
			notes[name] = value
			if value == "" {
				notes[name] = nil
			}
		}
		in["metadata"] = notes
	}
	return in, nil
}

// parseExpiry reads when a key ends. A date is its first moment, in UTC.
func parseExpiry(text string, now time.Time) (time.Time, error) {
	if d, err := config.ParseDuration(text); err == nil {
		return now.Add(time.Duration(d)), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, exitError{exitUsage, fmt.Errorf("--expires: %q is not a time like 2026-12-31T00:00:00Z, a date or a duration like 30d", text)}
}

func newKeyCreate(e *env) *cobra.Command {
	var d keyDoor
	var w keyWish
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a key and print it, this once", Args: cobra.ExactArgs(1),
		Example: "  sheepgate key create team-a --team search --models fast,smart --expires 90d\n" +
			"  sheepgate key create ci --rpm 60 --tpm 100k --budget '$20/month' --metadata owner=kim | kubectl create secret generic llm --from-file=key=/dev/stdin",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := w.body(cmd, time.Now())
			if err != nil {
				return err
			}
			in["name"] = args[0]
			return d.ask(cmd.Context(), e, "POST", "/api/v1/keys", in, func(k shownKey) string {
				return fmt.Sprintf("The key %q, shown this once: only its digest is kept.", k.Name)
			})
		},
	}
	w.addFlags(cmd)
	d.addFlags(cmd)
	return cmd
}

func newKeyUpdate(e *env) *cobra.Command {
	var d keyDoor
	var w keyWish
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change what a key may do, at once", Args: cobra.ExactArgs(1),
		Long:    "Update changes the settings whose flags are given, and leaves the others. The value none takes one\naway. Calls that are under way are not touched.",
		Example: "  sheepgate key update team-a --rpm 120 --expires none\n  sheepgate key update team-a --models fast --metadata owner=lee",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := w.body(cmd, time.Now())
			if err != nil {
				return err
			}
			if len(in) == 0 {
				return exitError{exitUsage, errors.New("nothing is to be changed: name a setting")}
			}
			return d.ask(cmd.Context(), e, "PATCH", keyPath(args[0]), in, func(k shownKey) string {
				return fmt.Sprintf("The key %q is changed.", k.Name)
			})
		},
	}
	w.addFlags(cmd)
	d.addFlags(cmd)
	return cmd
}

func newKeyRotate(e *env) *cobra.Command {
	var d keyDoor
	var grace string
	cmd := &cobra.Command{
		Use: "rotate NAME", Short: "Give a key a new secret and print it, this once", Args: cobra.ExactArgs(1),
		Long:    "Rotate makes a new secret for a key; its name, settings and counts stay. The old secret ends at once,\nor with --grace after that time; an even older one ends in either case.",
		Example: "  sheepgate key rotate team-a --grace 1h",
		RunE: func(cmd *cobra.Command, args []string) error {
			in := map[string]any{}
			if grace != "" {
				g, err := config.ParseDuration(grace)
				if err != nil {
					return exitError{exitUsage, fmt.Errorf("--grace: %w", err)}
				}
				in["grace"] = time.Duration(g).String()
			}
			return d.ask(cmd.Context(), e, "POST", keyPath(args[0])+"/rotate", in, func(k shownKey) string {
				old := "The old one has ended."
				if k.Grace != nil {
					old = "The old one is good until " + k.Grace.UTC().Format(time.RFC3339) + "."
				}
				return fmt.Sprintf("The new secret of the key %q, shown this once. %s", k.Name, old)
			})
		},
	}
	cmd.Flags().StringVar(&grace, "grace", "", "how long the old secret is still good, such as 1h; at most 30d (default not at all)")
	d.addFlags(cmd)
	return cmd
}

func newKeyRevoke(e *env) *cobra.Command {
	var d keyDoor
	cmd := &cobra.Command{
		Use: "revoke NAME", Short: "End a key, at once and for good", Args: cobra.ExactArgs(1),
		Long: "Revoke ends a key: the next request with it is answered with 401. Calls that are under way, streams\ntoo, are finished. Its name stays taken, for its calls carry it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.ask(cmd.Context(), e, "DELETE", keyPath(args[0]), nil, func(k shownKey) string {
				return fmt.Sprintf("The key %q is revoked. Calls that are under way are finished.", k.Name)
			})
		},
	}
	d.addFlags(cmd)
	return cmd
}

func newKeyList(e *env) *cobra.Command {
	var d keyDoor
	var all bool
	cmd := &cobra.Command{
		Use: "list [TEXT]", Short: "List keys: all, or those whose name or team holds TEXT", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := url.Values{"limit": {"1000"}}
			if len(args) > 0 {
				v.Set("q", args[0])
			}
			c, end, err := d.open(e)
			if err != nil {
				return err
			}
			defer end()
			raws := []json.RawMessage{}
			for {
				var page struct {
					Keys []json.RawMessage
					Next string
				}
				if err := c.do(cmd.Context(), "GET", "/api/v1/keys?"+v.Encode(), nil, &page); err != nil {
					return err
				}
				raws = append(raws, page.Keys...)
				if page.Next == "" || page.Next == v.Get("cursor") {
					break
				}
				v.Set("cursor", page.Next)
			}
			if d.asJSON {
				return writeJSON(e.stdout, map[string]any{"keys": raws})
			}
			return keyTable(e, raws, all)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "those that were revoked too (JSON always has them)")
	d.addFlags(cmd)
	return cmd
}

func keyTable(e *env, raws []json.RawMessage, all bool) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	shown, revoked := 0, 0
	for _, raw := range raws {
		var k shownKey
		if err := json.Unmarshal(raw, &k); err != nil {
			return err
		}
		if k.State == state.KeyRevoked {
			if revoked++; !all {
				continue
			}
		}
		if shown++; shown == 1 {
			fmt.Fprintln(w, "NAME\tSOURCE\tSTATE\tTEAM\tMODELS\tENDS IN\tEXPIRES\tLIMITS\tBUDGET")
		}
		limits := []string{}
		for _, l := range limitFlags {
			if n := k.Limits[l.name]; n != nil {
				limits = append(limits, config.Count(*n).String()+" "+l.flag)
			}
		}
		if k.Metrics {
			limits = append(limits, "metrics only")
		}
		last4, expires := "", ""
		if k.Last4 != "" {
			last4 = "…" + k.Last4
		}
		if k.Expires != nil {
			expires = k.Expires.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Name, k.Source, k.State, dash(k.Team), dash(strings.Join(k.Models, ",")), dash(last4), dash(expires), dash(strings.Join(limits, ", ")), dash(strings.Join(k.Budget, ", ")))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case revoked > 0 && !all:
		fmt.Fprintf(e.stderr, "%s more: --all shows those that were revoked\n", count(revoked, "key"))
	case shown == 0:
		fmt.Fprintln(e.stderr, "no keys: make one with `sheepgate key create NAME`")
	}
	return nil
}

// dash is "-" for nothing.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
