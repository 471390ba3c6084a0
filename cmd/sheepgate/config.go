package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/config"
)

// readConfig reads the configuration at path.
func readConfig(e *env, path string, offline bool) (*config.Config, []config.Problem, error) {
	return config.Load(path, config.Options{Environ: e.environ, Known: known(), Offline: offline})
}

// loadConfig reads the configuration as serve does, its warnings on stderr.
func loadConfig(e *env, flag string) (*config.Config, error) {
	c, warnings, err := readConfig(e, configPath(flag), false)
	for _, w := range warnings {
		fmt.Fprintln(e.stderr, "warning:", w)
	}
	if err != nil {
		return nil, exitError{exitConfig, err}
	}
	return c, nil
}

func newConfig(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Check and show the configuration",
	}
	group(cmd)
	var file string
	cmd.PersistentFlags().StringVar(&file, "config", "", "configuration file (default ./"+defaultConfig+" if it exists)")

	var asJSON, offline bool
	check := &cobra.Command{
		Use: "check", Short: "Name every mistake of the configuration, with its line", Args: cobra.NoArgs,
		Long:    "Check reads the configuration as serve does and names every mistake as FILE:LINE:COLUMN. The exit\ncode is 3 if there is one; warnings alone do not count.",
		Example: "  sheepgate config check\n  sheepgate config check --config production.yaml --offline --json",
		RunE:    func(*cobra.Command, []string) error { return checkConfig(e, file, offline, asJSON) },
	}
	check.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	check.Flags().BoolVar(&offline, "offline", false, "do not look secrets up: check a file for another machine")

	var showJSON bool
	show := &cobra.Command{
		Use: "show", Short: "Print what applies: file, environment and defaults; secrets hidden", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := loadConfig(e, file)
			if err != nil {
				return err
			}
			if showJSON {
				return writeJSON(e.stdout, c)
			}
			b, err := c.Show()
			if err != nil {
				return err
			}
			_, err = e.stdout.Write(b)
			return err
		},
	}
	show.Flags().BoolVar(&showJSON, "json", false, "print JSON")

	schema := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the file, for editors", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := e.stdout.Write(config.Schema())
			return err
		},
	}
	cmd.AddCommand(check, show, schema)
	return cmd
}

func checkConfig(e *env, file string, offline, asJSON bool) error {
	path := configPath(file)
	c, warnings, err := readConfig(e, path, offline)
	if err == nil {
		_, err = readPricing(c)
	}
	var problems config.Problems
	switch {
	case err == nil || errors.As(err, &problems):
	case c != nil:
		problems = config.Problems{{File: path, Path: "prices.overrides", Message: strings.TrimPrefix(err.Error(), "prices.overrides: ")}}
	default:
		return exitError{exitConfig, err}
	}
	if asJSON {
		answer := struct {
			Valid    bool             `json:"valid"`
			Errors   config.Problems  `json:"errors"`
			Warnings []config.Problem `json:"warnings"`
		}{err == nil, append(config.Problems{}, problems...), append([]config.Problem{}, warnings...)}
		if werr := writeJSON(e.stdout, answer); werr != nil {
			return werr
		}
	} else {
		for _, w := range warnings {
			fmt.Fprintln(e.stderr, "warning:", w)
		}
		for _, p := range problems {
			fmt.Fprintln(e.stderr, "error:", p)
		}
	}
	if path == "" {
		path = "the environment"
	}
	if err != nil {
		return exitError{exitConfig, fmt.Errorf("%s is not valid: %s", path, count(len(problems), "error"))}
	}
	if !asJSON {
		fmt.Fprintf(e.stdout, "%s is valid\n", path)
	}
	return nil
}

// count writes n with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// writeJSON writes v for people and programs: indented, one newline at the end.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
