package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/store"
)

func newExport(e *env) *cobra.Command {
	var file, address, out, from, to string
	cmd := &cobra.Command{
		Use: "export", Short: "Write calls as NDJSON, newest first; import reads them back", Args: cobra.NoArgs,
		Long:    "Export asks the running server (SHEEPGATE_ADMIN_KEY); with --config it opens the store of a\nserver that is stopped.",
		Example: "  sheepgate export --from -24h > calls.ndjson\n  sheepgate export --config sheepgate.yaml --out calls.ndjson",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			q := store.List{Limit: store.MaxPage}
			if q.From, err = parseTime("from", from); err != nil {
				return err
			}
			if q.To, err = parseTime("to", to); err != nil {
				return err
			}
			var next pager
			if file != "" {
				s, err := openStore(e, file)
				if err != nil {
					return err
				}
				defer s.Close()
				next = localPages(s)
			} else {
				c, err := newClient(e, address)
				if err != nil {
					return err
				}
				next = c.pages
			}
			w := e.stdout
			if out != "" {
				f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				w = f
			}
			p := newProgress(e.stderr, "wrote")
			defer p.close()
			return export(cmd.Context(), io.MultiWriter(w, p), q, next)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "new file to write (default standard output)")
	cmd.Flags().StringVar(&from, "from", "", "calls that started at or after this time (RFC 3339, or 24h ago as -24h)")
	cmd.Flags().StringVar(&to, "to", "", "calls that started before this time")
	cmd.Flags().StringVar(&file, "config", "", "configuration of a stopped server: its store is opened directly")
	addClientFlags(cmd, &address)
	cmd.MarkFlagsMutuallyExclusive("config", "url")
	return cmd
}

// parseTime reads a time, or a duration before now with a minus sign.
func parseTime(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d < 0 {
		return time.Now().Add(d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, exitError{exitUsage, fmt.Errorf("--%s: %q is not a time like 2026-11-23T07:00:00Z, 2026-11-23 or -24h", flag, s)}
}

// A page is a part of an export.
type page struct {
	Calls []json.RawMessage `json:"calls"`
	Next  string            `json:"next"`
}

// A pager fetches the page that q's cursor names.
type pager func(ctx context.Context, q store.List) (page, error)

func export(ctx context.Context, w io.Writer, q store.List, next pager) error {
	b := bufio.NewWriter(w)
	for {
		p, err := next(ctx, q)
		if err != nil {
			return errors.Join(err, b.Flush())
		}
		for _, c := range p.Calls {
			_, _ = b.Write(c)
			_ = b.WriteByte('\n') // an error stays in b until Flush
		}
		if p.Next == "" {
			return b.Flush()
		}
		if p.Next == q.Cursor {
			return errors.Join(fmt.Errorf("the server repeats a page"), b.Flush())
		}
		q.Cursor = p.Next
	}
}

// pages is the pager of a running server.
func (c *client) pages(ctx context.Context, q store.List) (p page, err error) {
	v := url.Values{"limit": {fmt.Sprint(q.Limit)}}
	if q.Cursor != "" {
		v.Set("cursor", q.Cursor)
	}
	if !q.From.IsZero() {
		v.Set("from", q.From.UTC().Format(time.RFC3339Nano))
	}
	if !q.To.IsZero() {
		v.Set("to", q.To.UTC().Format(time.RFC3339Nano))
	}
	err = c.do(ctx, "GET", "/api/v1/calls?"+v.Encode(), nil, &p)
	return p, err
}

// localPages is the pager of a store.
func localPages(s store.Store) pager {
	return func(ctx context.Context, q store.List) (p page, err error) {
		list, err := s.List(ctx, q)
		if err != nil {
			return p, err
		}
		for _, c := range list.Calls {
			line, err := json.Marshal(c)
			if err != nil {
				return p, fmt.Errorf("call %s: %w", c.ID, err)
			}
			p.Calls = append(p.Calls, line)
		}
		p.Next = list.Next
		return p, nil
	}
}
