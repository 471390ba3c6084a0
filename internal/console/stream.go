package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

const (
	tick      = time.Second
	heartbeat = 15 * time.Second
	mostCalls = 50 // new Calls shown a second
)

// A delta is what a second brought to one model.
type delta struct {
	Model    string `json:"model"`
	Provider string `json:"provider"`
	Code     string `json:"code"`
	Requests int64  `json:"requests"`
	Input    int64  `json:"input_tokens"`
	Output   int64  `json:"output_tokens"`
	Cost     int64  `json:"cost_nano_usd"`
	Unpriced int64  `json:"unpriced"`
}

// stream sends one event a second: what the Calls that ended in it sum to, and
// the Calls themselves, the newest 50.
func (a *api) stream(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	calls, stop := a.Tail.Subscribe()
	defer stop()
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	t := time.NewTicker(tick)
	defer t.Stop()
	var (
		pending []*call.Call
		id      int64
		last    time.Time
	)
	for {
		select {
		case <-r.Context().Done():
			return
		case batch := <-calls:
			for _, c := range batch {
				if p.Admin || c.Key == p.Key {
					pending = append(pending, c)
				}
			}
			continue
		case now := <-t.C:
			live := a.Live()
			if !p.Admin {
				live = call.Live{}
			}
			if len(pending) == 0 && live.InFlight == 0 && now.Sub(last) < heartbeat && !last.IsZero() {
				continue
			}
			last = now
		}
		id++
		text, err := json.Marshal(a.event(pending))
		if err != nil {
			a.Log.Error("a live event cannot be written", "err", err)
			return
		}
		pending = pending[:0]
		_ = rc.SetWriteDeadline(time.Now().Add(2 * heartbeat)) // unsupported only by test recorders
		if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", id, text); err != nil || rc.Flush() != nil {
			return
		}
	}
}

func (a *api) event(calls []*call.Call) any {
	type key struct{ provider, model, code string }
	sums := map[key]*delta{}
	deltas := []*delta{}
	for _, c := range calls {
		k := key{c.Provider, c.Model, c.Code()}
		d := sums[k]
		if d == nil {
			d = &delta{Model: c.Model, Provider: c.Provider, Code: c.Code()}
			sums[k] = d
			deltas = append(deltas, d)
		}
		d.Requests++
		d.Input += c.Usage.Input
		d.Output += c.Usage.Output
		if c.Unpriced {
			d.Unpriced++
		} else {
			d.Cost += int64(c.Cost)
		}
	}
	shown := append([]*call.Call{}, calls[max(0, len(calls)-mostCalls):]...)
	return map[string]any{"at": time.Now().UTC().Format(time.RFC3339Nano), "deltas": deltas, "calls": shown,
		"in_flight": a.Live().InFlight, "pending": a.Pending(), "lost": a.Lost()}
}
