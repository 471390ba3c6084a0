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
			"Exit codes: 0 done, 1 failed, 2 wrong command line, 3 wrong configuration.",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(newServe(e), newDemo(e), newInit(e), newConfig(e), newKey(e), newPrices(e), newStats(e), newTail(e), newImport(e), newExport(e), newVersion(e))
	markRuns(root)
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exitError{exitUsage, err} })
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(e.stderr, "sheepgate:", err)
	var x exitError
	if errors.As(err, &x) {
		return x.code
	}
	if errors.As(err, new(runError)) {
		return exitFailed
	}
	return exitUsage // cobra refused the command line before anything ran
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
