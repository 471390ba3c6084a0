package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/config"
)

func newDoctor(e *env) *cobra.Command {
	var file string
	var asJSON, offline, serving bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check the configuration, the data folder, the machine and the way to each provider", Args: cobra.NoArgs,
		Long: "Doctor checks what keeps a server from starting or will trouble it later, a line each: ok, warn or\n" +
			"fail, what is so, and what to do. It only reads, also beside a running server, which it asks for its\n" +
			"own view. To providers it opens a connection and sends nothing, least of all a key. Limits of files\n" +
			"and memory are those of this shell: run it as the user, and with the environment, that serves.\n\n" +
			"The exit code is 0 when nothing fails (warnings do not count), 3 when it is the configuration that\n" +
			"is wrong, else 1.",
		Example: "  sheepgate doctor\n  sheepgate doctor --config /etc/sheepgate.yaml --json\n  sheepgate doctor --serving    # for a container's health check",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{env: e, offline: offline}
			if serving {
				c, err := offlineConfig(e, file)
				if err != nil {
					return err
				}
				d.serving(cmd.Context(), c.Listen)
			} else {
				d.everything(cmd.Context(), file)
			}
			if err := d.print(e.stdout, asJSON); err != nil {
				return err
			}
			return d.verdict()
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default ./"+defaultConfig+" if it exists)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&offline, "offline", false, "do not connect to providers")
	cmd.Flags().BoolVar(&serving, "serving", false, "check only that a server answers on the configured address")
	cmd.MarkFlagsMutuallyExclusive("serving", "offline")
	return cmd
}

// A finding is a line of the doctor's.
type finding struct {
	Status string `json:"status"` // ok, warn or fail
	Check  string `json:"check"`
	What   string `json:"what"`
	Do     string `json:"do,omitempty"` // what helps
}

// A doctor collects findings.
type doctor struct {
	*env
	offline bool
	list    []finding
	invalid bool     // the configuration is at fault
	pricing *pricing // of a configuration that is not
}

func (d *doctor) ok(check, format string, args ...any) {
	d.list = append(d.list, finding{Status: "ok", Check: check, What: fmt.Sprintf(format, args...)})
}

func (d *doctor) warn(check, do, format string, args ...any) {
	d.list = append(d.list, finding{"warn", check, fmt.Sprintf(format, args...), do})
}

func (d *doctor) fail(check, do, format string, args ...any) {
	d.list = append(d.list, finding{"fail", check, fmt.Sprintf(format, args...), do})
}

// everything makes every check that can be made.
func (d *doctor) everything(ctx context.Context, file string) {
	c := d.config(file)
	if c != nil {
		running := d.address(ctx, c.Listen)
		if d.folders(c) {
			d.use(c, running)
			d.store(ctx, c)
			d.admin(ctx, c)
			d.audit(ctx, c)
		}
	}
	d.machine()
	if c != nil {
		d.providers(ctx, c)
		d.prices(c)
	}
}

func (d *doctor) count(status string) (n int) {
	for _, f := range d.list {
		if f.Status == status {
			n++
		}
	}
	return n
}

func (d *doctor) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return writeJSON(w, map[string]any{"checks": d.list, "failed": d.count("fail"), "warned": d.count("warn")})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range d.list {
		line := f.What
		if f.Do != "" {
			line += " -> " + f.Do
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Status, f.Check, strings.Join(strings.Fields(line), " "))
	}
	return t.Flush()
}

// verdict is nil if nothing failed.
func (d *doctor) verdict() error {
	n := d.count("fail")
	switch {
	case n == 0:
		return nil
	case d.invalid:
		return exitError{exitConfig, fmt.Errorf("%s failed: the configuration is wrong", count(n, "check"))}
	}
	return fmt.Errorf("%s failed", count(n, "check"))
}

// config reads the configuration as serve does; nil if it cannot be served.
func (d *doctor) config(file string) *config.Config {
	path := configPath(file)
	c, warnings, err := readConfig(d.env, path, false)
	if err == nil {
		d.pricing, err = readPricing(c)
	}
	for _, w := range warnings {
		d.warn("config", "", "%s", w)
	}
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		for _, p := range problems {
			d.fail("config", "", "%s", p)
		}
	case err != nil:
		d.fail("config", "", "%v", err)
	}
	if err != nil {
		d.invalid = true
		return nil
	}
	if path == "" {
		path = "the environment (there is no file)"
	}
	d.ok("config", "%s is valid, and every secret that it names is there", path)
	return c
}

// address sees whether the listen address is free, or who has it.
func (d *doctor) address(ctx context.Context, listen string) (running bool) {
	ln, err := net.Listen("tcp", listen)
	if err == nil {
		ln.Close()
		d.ok("listen", "%s is free: no server is running there", listen)
		return false
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return d.serving(ctx, listen)
	case errors.Is(err, syscall.EACCES):
		d.fail("listen", "take a port from 1024 on, or give the program CAP_NET_BIND_SERVICE", "%v", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		d.fail("listen", "write an address of this machine, or 127.0.0.1", "%v", err)
	default:
		d.fail("listen", "write an address like 127.0.0.1:8080", "%v", err)
	}
	return false
}

const askFor = 3 * time.Second

// serving asks the server that should be on an address.
func (d *doctor) serving(ctx context.Context, listen string) bool {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	addr := net.JoinHostPort(host, port)
	var code int
	var alive, body []byte
	if err == nil {
		_, alive, err = ask(ctx, "http://"+addr+"/healthz")
	}
	if err == nil {
		code, body, err = ask(ctx, "http://"+addr+"/readyz")
	}
	if err != nil {
		d.fail("server", "start it with `sheepgate serve`; if another program has the address, change listen", "nothing that answers is on %s: %v", addr, err)
		return false
	}
	var ready struct {
		Status   string
		Degraded []string
	}
	if string(alive) != "ok\n" || json.Unmarshal(body, &ready) != nil || ready.Status == "" {
		d.fail("listen", "stop it, or change listen", "another program has %s", addr)
		return false
	}
	if code != http.StatusOK {
		d.fail("server", "see its log", "the server on %s does not take connections (%d)", addr, code)
	} else {
		d.ok("server", "a sheepgate serves on %s", addr)
	}
	for _, s := range ready.Degraded {
		d.warn("server", "see its log", "the server on %s is degraded: %s", addr, s)
	}
	return true
}

func ask(ctx context.Context, url string) (code int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return 0, nil, err
	}
	t := &http.Transport{DisableKeepAlives: true} // and no proxy
	res, err := t.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, body, err
}
