// Command bench measures what a gateway costs on this machine: it runs nginx's
// proxy_pass, a bare httputil.ReverseProxy and sheepgate serve, with limits and
// without, side by side in front of one mock upstream, in short interleaved
// rounds, and prints CPU per request, added latency and memory as ratios. Ratios
// travel between machines; the absolute figures do not.
//
//	go run ./bench            # everything, about five minutes
//	go run ./bench -quick     # a look, a good minute
//
// Afterwards it compares the books: the answers that its clients read whole,
// the rows that sheepgate stored and the counter at /v1/metrics must be equal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// A plan is how much is measured.
type plan struct {
	rounds    int
	round     time.Duration // of one subject, in one round
	rate      float64       // 2 KB requests a second
	largeRate float64       // 100 KB requests a second
	streams   int           // at once, when events are counted
	events    int           // a stream
	pace      time.Duration // between events
	open      int           // streams held open for the memory figure
	binary    string        // sheepgate, if already built
	only      string        // one subject, for work on it
}

func main() {
	role := flag.String("role", "", "internal: upstream or reverseproxy")
	addr := flag.String("upstream", "", "internal: where the upstream is")
	quick := flag.Bool("quick", false, "fewer and shorter rounds")
	var p plan
	flag.IntVar(&p.rounds, "rounds", 5, "interleaved rounds")
	flag.DurationVar(&p.round, "round", 3*time.Second, "length of a round for each subject")
	flag.Float64Var(&p.rate, "rate", 2000, "2 KB requests a second")
	flag.Float64Var(&p.largeRate, "large-rate", 400, "100 KB requests a second")
	flag.IntVar(&p.streams, "streams", 200, "streams at once for the cost of an event")
	flag.IntVar(&p.events, "events", 100, "events a stream")
	flag.DurationVar(&p.pace, "pace", 20*time.Millisecond, "between two events of a stream")
	flag.IntVar(&p.open, "open", 2000, "streams held open for the memory figure")
	flag.StringVar(&p.binary, "sheepgate", "", "a built sheepgate; empty builds ./cmd/sheepgate")
	flag.StringVar(&p.only, "only", "", "measure this subject and the direct way alone: nginx, reverseproxy, sheepgate or \"no limits\"")
	flag.Parse()
	if *quick {
		p.rounds, p.round, p.events = 2, 1500*time.Millisecond, 50
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch *role {
	case "upstream":
		err = serveUpstream(ctx)
	case "reverseproxy":
		err = serveReverseProxy(ctx, *addr)
	default:
		err = run(ctx, p)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan) error {
	dir, err := os.MkdirTemp("", "sheepgate-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	up, err := startSelf("upstream")
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	defer up.stop()
	subjects := startSubjects(ctx, dir, up.addr, p)
	defer func() {
		for _, s := range subjects {
			s.proc.stop()
		}
	}()
	began := time.Now()
	for _, s := range subjects {
		s.rest = s.proc.rss()
	}
	steps := []struct {
		name string
		do   func(context.Context, *subject, plan) error
	}{{"2 KB", small}, {"100 KB", large}, {"streams", streams}}
	for i := range p.rounds {
		for _, step := range steps {
			for j := range subjects { // a different order each round
				s := subjects[(i+j)%len(subjects)]
				fmt.Fprintf(os.Stderr, "round %d of %d: %s, %s\n", i+1, p.rounds, step.name, s.name)
				if err := step.do(ctx, s, p); err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, step.name, err)
				}
			}
		}
	}
	for _, s := range subjects {
		fmt.Fprintf(os.Stderr, "%d open streams: %s\n", p.open, s.name)
		if err := hold(ctx, s, p); err != nil {
			return fmt.Errorf("%s, open streams: %w", s.name, err)
		}
		s.peak = s.proc.peak()
	}
	return report(ctx, os.Stdout, subjects, p, began)
}
