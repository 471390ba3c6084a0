package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// known tells package config which vendors there are.
func known() []config.KnownProvider {
	list := make([]config.KnownProvider, len(provider.Specs))
	for i, s := range provider.Specs {
		list[i] = config.KnownProvider{Name: s.Name, BaseURL: s.BaseURL, KeyEnv: s.KeyEnv}
	}
	return list
}

// defaultConfig is read when --config is not given and it exists.
const defaultConfig = "sheepgate.yaml"

// configPath is the file to read: the flag's, else ./sheepgate.yaml if it is
// there, else none.
func configPath(flag string) string {
	if flag != "" {
		return flag
	}
	if _, err := os.Stat(defaultConfig); err == nil {
		return defaultConfig
	}
	return ""
}

func newServe(e *env) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the gateway", Args: cobra.NoArgs,
		Long: "Serve runs the gateway, the API, /v1/metrics and the console on one address. Without a file the\n" +
			"environment alone counts: every provider whose usual variable is set (OPENAI_API_KEY …) is\n" +
			"configured, and each key of the file may be set as SHEEPGATE_SECTION_KEY.\n\n" +
			"A changed file, or SIGHUP, is put in force at once, and requests under way finish as they began;\n" +
			"one that is not valid changes nothing. The first start makes the admin key and shows it once. SIGTERM or Ctrl-C lets streams finish, 25 s\n" +
			"at most (timeouts.drain); a second one ends at once.",
		Example: "  sheepgate serve\n  OPENAI_API_KEY=... SHEEPGATE_LISTEN=127.0.0.1:9000 sheepgate serve\n  sheepgate serve --config /etc/sheepgate.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			from := time.Now()
			ctx, stop := untilSignal(cmd.Context()) // before anybody can know that the server is there
			defer stop()
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			c, err := loadConfig(e, file)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(e.stderr, nil))
			s, err := startServer(c, log, "")
			if err != nil {
				return err
			}
			greet(e.stderr, s)
			r := &reloader{s: s, file: configPath(file), now: c, from: from, hup: hup, out: e.stderr, read: func() (*config.Config, error) {
				c, warnings, err := readConfig(e, configPath(file), false)
				for _, w := range warnings {
					log.Warn("configuration", "warning", w.String())
				}
				return c, err
			}}
			defer r.start(ctx)()
			return s.until(ctx, time.Duration(c.Timeouts.Drain))
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default ./"+defaultConfig+" if it exists)")
	return cmd
}

// greet says where things are, and shows a new admin key this once.
func greet(w io.Writer, s *server) {
	fmt.Fprintf(w, "sheepgate serves on %s\n", s.url)
	if s.adminKey != "" {
		fmt.Fprintf(w, "\n  The admin key, shown this once:  %s\n  Console:                         %s/#key=%s\n\n", s.adminKey, s.url, s.adminKey)
	}
}

// untilSignal is ctx until the process is told to end. A second signal ends it
// at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// until serves until ctx ends, then drains.
func (s *server) until(ctx context.Context, drain time.Duration) error {
	select {
	case err := <-s.served:
		return err
	case <-ctx.Done():
	}
	s.log.Info("draining", "at_most", drain)
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := s.close(wait)
	s.log.Info("stopped")
	return err
}
