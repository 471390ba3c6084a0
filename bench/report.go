package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report prints the table, the targets and the books.
func report(ctx context.Context, w io.Writer, subjects []*subject, p plan, began time.Time) error {
	by := map[string]*subject{}
	for _, s := range subjects {
		by[s.name] = s
	}
	direct := by["direct"]
	fmt.Fprintf(w, "\n%s; %d rounds of %v; %g requests/s at 2 KB, %g at 100 KB (open loop, latency from when due);\n%d streams of %d events %v apart. nginx: 1 worker, upstream keepalive, no access log, no buffering of replies.\n\n",
		machine(), p.rounds, p.round, p.rate, p.largeRate, p.streams, p.events, p.pace)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\t2 KB CPU\t× nginx\tadded p50\tp99\t100 KB CPU\t× nginx\tadded p50\tp99\tevent CPU\t× nginx\tRSS rest\tpeak\topen streams\tanswers\tbad\t")
	for _, s := range subjects {
		if s.proc == nil {
			fmt.Fprintf(t, "%s\t\t\t%s\t%s\t\t\t%s\t%s\t\t\t\t\t\t%d\t%d\t\n", s.name, ms(s.small.at(0.5)), ms(s.small.at(0.99)), ms(s.large.at(0.5)), ms(s.large.at(0.99)), s.answers(), s.bad())
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.0f MiB\t%.0f MiB\t%.0f MiB\t%d\t%d\t\n", s.name,
			µs(s.small.each()), times(by, s, smallCost), ms(s.small.at(0.5)-direct.small.at(0.5)), ms(s.small.at(0.99)-direct.small.at(0.99)),
			µs(s.large.each()), times(by, s, largeCost), ms(s.large.at(0.5)-direct.large.at(0.5)), ms(s.large.at(0.99)-direct.large.at(0.99)),
			µs(s.streams.eachEvent()), times(by, s, eventCost), s.rest, s.peak, s.open, s.answers(), s.bad())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "(direct: the latency itself; the others: what they add)")
	s := by["sheepgate"]
	if s == nil {
		fmt.Fprintln(w, "\nsheepgate was not measured.")
		return nil
	}
	fmt.Fprintln(w)
	targets(w, by)
	return books(ctx, w, s, began)
}

func smallCost(s *subject) float64 { return s.small.each() }
func largeCost(s *subject) float64 { return s.large.each() }
func eventCost(s *subject) float64 { return s.streams.eachEvent() }

// targets says which were met.
func targets(w io.Writer, by map[string]*subject) {
	s := by["sheepgate"]
	line := func(what string, got, limit float64, unit string) {
		verdict := "met"
		switch {
		case got <= 0:
			fmt.Fprintf(w, "  %-44s not measured (at most %g%s)\n", what, limit, unit)
			return
		case got > limit:
			verdict = "FALLS SHORT"
		}
		fmt.Fprintf(w, "  %-44s %.2f%s (at most %g%s)  %s\n", what, got, unit, limit, unit, verdict)
	}
	fmt.Fprintln(w, "sheepgate's targets:")
	line("CPU a request at 2 KB", ratio(by["nginx"], s, smallCost), 5, "× nginx")
	line("CPU a request at 100 KB", ratio(by["nginx"], s, largeCost), 4.5, "× nginx")
	line("CPU a request at 2 KB", ratio(by["reverseproxy"], s, smallCost), 0.8, "× bare ReverseProxy")
	line("CPU a request at 2 KB, with limits", ratio(by[unlimited], s, smallCost), 1.05, "× without")
	line("CPU an event of a stream", ratio(by["nginx"], s, eventCost), 2.5, "× nginx")
	line("memory with the open streams", s.open, 200, " MiB")
	line("memory at rest", s.rest, 60, " MiB")
	verdict := "met"
	if s.streams.bad > 0 {
		verdict = "FALLS SHORT"
	}
	fmt.Fprintf(w, "  %-44s %d of %d (0)  %s\n", "streams broken", s.streams.bad, s.streams.bad+s.streams.answers, verdict)
}

// books compares three counts that must be one: the answers that clients read
// whole, the rows that are stored and the counter that Prometheus reads.
func books(ctx context.Context, w io.Writer, s *subject, began time.Time) error {
	var rows, counter int64
	var err error
	for range 20 { // a Call is readable at most 1 s after its answer
		if rows, err = storedRows(ctx, s.addr, began); err != nil {
			return err
		}
		if counter, err = requestTotal(ctx, s.addr); err != nil {
			return err
		}
		if rows == int64(s.answers()) && rows == counter {
			break
		}
		time.Sleep(250 * time.Millisecond)
	}
	fmt.Fprintf(w, "  %-44s %d answers, %d rows, %d counted", "the books", s.answers(), rows, counter)
	if rows != int64(s.answers()) || rows != counter || s.bad() > 0 {
		fmt.Fprintf(w, "  FALLS SHORT\n")
		return fmt.Errorf("the books differ, or %d answers were bad", s.bad())
	}
	fmt.Fprintln(w, "  met")
	return nil
}

func storedRows(ctx context.Context, addr string, began time.Time) (int64, error) {
	q, err := json.Marshal(map[string]any{"from": began.Add(-time.Minute), "to": time.Now().Add(time.Minute), "step": "1h", "measures": []string{"requests"}})
	if err != nil {
		return 0, err
	}
	b, err := get(ctx, http.MethodPost, "http://"+addr+"/api/v1/query", q)
	if err != nil {
		return 0, err
	}
	var reply struct {
		Series []struct{ Points [][]*float64 }
	}
	if err := json.Unmarshal(b, &reply); err != nil {
		return 0, fmt.Errorf("query: %w", err)
	}
	var n int64
	for _, s := range reply.Series {
		for _, p := range s.Points {
			if len(p) == 2 && p[1] != nil {
				n += int64(*p[1])
			}
		}
	}
	return n, nil
}

func requestTotal(ctx context.Context, addr string) (int64, error) {
	b, err := get(ctx, http.MethodGet, "http://"+addr+"/v1/metrics", nil)
	if err != nil {
		return 0, err
	}
	var n float64
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "holysheep_request_total{") {
			f := strings.Fields(line)
			v, err := strconv.ParseFloat(f[len(f)-1], 64)
			if err != nil {
				return 0, err
			}
			n += v
		}
	}
	return int64(n), nil
}

func get(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.200s", method, url, resp.Status, b)
	}
	return b, err
}

func (s *subject) answers() int { return s.small.answers + s.large.answers + s.streams.answers }
func (s *subject) bad() int     { return s.small.bad + s.large.bad + s.streams.bad }

// each is the CPU of one answer, in µs.
func (s *sample) each() float64 { return per(s.cpu, s.answers) }

// eachEvent is the CPU of one event, in µs.
func (s *sample) eachEvent() float64 { return per(s.cpu, s.events) }

func per(cpu time.Duration, n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(cpu.Microseconds()) / float64(n)
}

// at is the latency at quantile q, by nearest rank.
func (s *sample) at(q float64) time.Duration {
	if len(s.latencies) == 0 {
		return 0
	}
	slices.Sort(s.latencies)
	return s.latencies[min(len(s.latencies)-1, int(q*float64(len(s.latencies))))]
}

// ratio is what s costs in units of what base costs; 0 if either is unknown.
func ratio(base, s *subject, cost func(*subject) float64) float64 {
	if base == nil || cost(base) == 0 {
		return 0
	}
	return cost(s) / cost(base)
}

func times(by map[string]*subject, s *subject, cost func(*subject) float64) string {
	if r := ratio(by["nginx"], s, cost); r > 0 {
		return fmt.Sprintf("%.2f", r)
	}
	return "?"
}

func µs(v float64) string { return fmt.Sprintf("%.1f µs", v) }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
