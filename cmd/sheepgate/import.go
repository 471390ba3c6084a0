package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/console"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

func newImport(e *env) *cobra.Command {
	var file, ndjson, url string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "import --ndjson FILE", Short: "Import calls, one JSON object a line; importing twice changes nothing", Args: cobra.NoArgs,
		Long: "Import reads calls in the form that export writes. With --config it opens the store of a\n" +
			"server that is stopped; else it sends them to the running one (SHEEPGATE_ADMIN_KEY).\n" +
			"Lines that are no call are named and left out: the exit code is then 1.",
		Example: "  sheepgate import --ndjson calls.ndjson\n  sheepgate export --url http://a:8080 | sheepgate import --ndjson - --url http://b:8080",
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := openInput(e, ndjson)
			if err != nil {
				return err
			}
			defer in.Close()
			p := newProgress(e.stderr, "read")
			r := io.TeeReader(in, p)
			var res *console.Imported
			if file != "" {
				res, err = importLocal(cmd.Context(), e, file, r)
			} else {
				res, err = importRemote(cmd.Context(), e, url, r)
			}
			p.close()
			if err != nil {
				return err
			}
			return reportImport(e, ndjson, res, asJSON)
		},
	}
	cmd.Flags().StringVar(&ndjson, "ndjson", "", "file to read, - for standard input")
	cmd.Flags().StringVar(&file, "config", "", "configuration of a stopped server: its store is opened directly")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addClientFlags(cmd, &url)
	_ = cmd.MarkFlagRequired("ndjson") // fails only for a flag that is not there
	cmd.MarkFlagsMutuallyExclusive("config", "url")
	return cmd
}

func openInput(e *env, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(e.stdin), nil
	}
	return os.Open(name)
}

func importLocal(ctx context.Context, e *env, file string, r io.Reader) (res *console.Imported, err error) {
	s, err := openStore(e, file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return console.Import(ctx, s, bufio.NewReader(r), "import")
}

// openStore opens the store of a server that is stopped.
func openStore(e *env, file string) (*local.Store, error) {
	c, err := loadConfig(e, file)
	if err != nil {
		return nil, err
	}
	s, err := openLocal(c, slog.New(slog.NewTextHandler(e.stderr, nil)), nil)
	if err != nil {
		return nil, fmt.Errorf("%w (while a server runs, leave --config out)", err)
	}
	return s, nil
}

func importRemote(ctx context.Context, e *env, url string, r io.Reader) (*console.Imported, error) {
	c, err := newClient(e, url)
	if err != nil {
		return nil, err
	}
	return post[console.Imported](ctx, c, "/api/v1/import", "application/x-ndjson", r, "import")
}

func reportImport(e *env, name string, res *console.Imported, asJSON bool) error {
	if asJSON {
		if err := writeJSON(e.stdout, res); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stdout, "%s added, %d there already, %s refused\n", count(res.Added, "call"), res.Duplicates, count(res.Bad, "line"))
		for _, b := range res.Errors {
			fmt.Fprintf(e.stderr, "%s:%d: %s\n", name, b.Line, b.Error)
		}
	}
	if res.Bad > 0 {
		return fmt.Errorf("%s: %s refused", name, count(res.Bad, "line"))
	}
	return nil
}

// A progress shows how much has passed, on a terminal only.
type progress struct {
	w     io.Writer // nil if there is no terminal
	verb  string
	bytes atomic.Int64
	shown time.Time
}

func newProgress(w io.Writer, verb string) *progress {
	p := &progress{verb: verb}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		p.w = w
	}
	return p
}

// Write counts b.
func (p *progress) Write(b []byte) (int, error) {
	n := p.bytes.Add(int64(len(b)))
	if p.w != nil && time.Since(p.shown) > 200*time.Millisecond {
		p.shown = time.Now()
		fmt.Fprintf(p.w, "\r%s %.1f MB", p.verb, float64(n)/1e6)
	}
	return len(b), nil
}

// calls shows a number of calls.
func (p *progress) calls(n int64) {
	if p.w != nil && time.Since(p.shown) > 200*time.Millisecond {
		p.shown = time.Now()
		fmt.Fprintf(p.w, "\r%s %d calls", p.verb, n)
	}
}

// clock shows how long it has been, until the function that it returns is called.
func (p *progress) clock() (stop func()) {
	if p.w == nil {
		return func() {}
	}
	begun, end := time.Now(), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				p.shown = time.Now()
				fmt.Fprintf(p.w, "\r%s, %d s", p.verb, int(time.Since(begun).Seconds()))
			case <-end:
				return
			}
		}
	})
	return func() { close(end); done.Wait() }
}

func (p *progress) close() {
	if p.w != nil && !p.shown.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
