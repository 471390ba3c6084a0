package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/call"
)

func newTail(e *env) *cobra.Command {
	var url string
	var asJSON bool
	var n int
	cmd := &cobra.Command{
		Use: "tail", Short: "Follow the calls of a running server as they end", Args: cobra.NoArgs,
		Long:    "Tail prints each call of a running server as it ends: when, how, who answered, for whom, how long,\ntokens and cost. It asks the server at --url with the admin key of SHEEPGATE_ADMIN_KEY.",
		Example: "  sheepgate tail\n  sheepgate tail --json -n 100 | jq .cost_nano_usd",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 {
				return exitError{exitUsage, fmt.Errorf("--lines: %d is less than 0", n)}
			}
			c, err := newClient(e, url)
			if err != nil {
				return err
			}
			body, err := c.send(cmd.Context(), "GET", "/api/v1/stream", "", nil)
			if err != nil {
				return err
			}
			defer body.Close()
			return follow(cmd.Context(), e.stdout, body, n, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each call as one line of JSON")
	cmd.Flags().IntVarP(&n, "lines", "n", 0, "end after this many calls (0: never)")
	addClientFlags(cmd, &url)
	return cmd
}

// maxEvent bounds one event of the stream, in bytes: at most 50 calls.
const maxEvent = 4 << 20

// follow prints the calls of a server-sent event stream until it ends, or n
// calls were printed.
func follow(ctx context.Context, w io.Writer, r io.Reader, n int, asJSON bool) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxEvent)
	for printed := 0; sc.Scan(); {
		data, ok := bytes.CutPrefix(sc.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		var event struct {
			Calls []json.RawMessage `json:"calls"`
		}
		if err := json.Unmarshal(data, &event); err != nil {
			return fmt.Errorf("an event of the stream cannot be read: %w", err)
		}
		for _, line := range event.Calls {
			if err := printCall(w, line, asJSON); err != nil {
				return err
			}
			if printed++; printed == n {
				return nil
			}
		}
	}
	if ctx.Err() != nil {
		return nil // the user's own end
	}
	return errors.Join(errors.New("the server ended the stream"), sc.Err())
}

func printCall(w io.Writer, line []byte, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(w, "%s\n", line)
		return err
	}
	c := new(call.Call)
	if err := json.Unmarshal(line, c); err != nil {
		return fmt.Errorf("a call of the stream cannot be read: %w", err)
	}
	cost := "unpriced"
	if !c.Unpriced {
		cost = fmt.Sprintf("$%.6f", c.Cost.USD())
	}
	_, err := fmt.Fprintf(w, "%s  %-8s %-32s %-12s %7d ms %7d in %6d out  %s  %s\n", c.StartedAt.Local().Format(time.TimeOnly), c.Code(),
		c.Provider+"/"+c.Model, c.Key, c.Latency.Milliseconds(), c.Usage.Input, c.Usage.Output, cost, c.Error.Class)
	return err
}
