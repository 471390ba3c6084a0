package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// An env is what a command sees of the world.
type env struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the command could not do its work
	exitUsage  = 2 // the command line is wrong
	exitConfig = 3 // the configuration is wrong
)

// An exitError chooses the exit code.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, e *env) int {
	root := &cobra.Command{
		Use: "sheepgate", Short: "An LLM gateway that knows what every call cost",
		Long: "Sheepgate relays calls to language models and keeps of each one what it cost,\nhow fast it was and how it ended.\n\n" +
			"Begin with `sheepgate demo`, which needs no key and no network, or with `sheepgate init`.\n" +
			"Commands that ask a running server take its address from --url or SHEEPGATE_URL and the admin\n" +
			"key from SHEEPGATE_ADMIN_KEY. Progress is shown on a terminal only, and nothing is coloured.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong command line, 3 wrong configuration.",
		Version:      version(),
		SilenceUsage: true, SilenceErrors: true,
	}
	group(root)
	root.AddCommand(newServe(e), newDemo(e), newInit(e), newConfig(e), newKey(e), newModels(e), newPrices(e), newStats(e), newTail(e), newImport(e), newExport(e), newDoctor(e), newBackup(e), newRestore(e), newVersion(e))
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.InitDefaultCompletionCmd(args...)
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			group(c)
		}
	}
	markRuns(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exitError{exitUsage, err} })
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(e.stderr, "sheepgate:", err)
	code := exitUsage // cobra refused the command line before anything ran
	var x exitError
	switch {
	case errors.As(err, &x):
		code = x.code
	case errors.As(err, new(runError)):
		code = exitFailed
	}
	if code == exitUsage {
		fmt.Fprintf(e.stderr, "See: %s --help\n", cmd.CommandPath())
	}
	return code
}

// group makes c a command that only holds others: alone it prints its help.
func group(c *cobra.Command) {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		msg := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
		c.SuggestionsMinimumDistance = 2
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			msg += fmt.Sprintf(" (did you mean %q?)", near[0])
		}
		return errors.New(msg)
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
}

// A runError comes from a command that ran, not from its command line.
type runError struct{ error }

func (e runError) Unwrap() error { return e.error }

// markRuns makes every error of a command below c a runError.
func markRuns(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return runError{err}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		markRuns(sub)
	}
}
