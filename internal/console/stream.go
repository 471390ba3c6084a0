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

// A delta is what a second brought to one model with one outcome.
type delta struct {
	Provider string `json:"provider"`
	Model    string `json:"model"`
	Code     string `json:"code"`
	Requests int64  `json:"requests"`
	Input    int64  `json:"input_tokens"`
	Output   int64  `json:"output_tokens"`
	Cost     int64  `json:"cost_nano_usd"`
	Unpriced int64  `json:"unpriced"`
}

// An event is one second of the live stream.
type event struct {
	At       time.Time    `json:"at"`
	Gap      bool         `json:"gap"` // Calls between the event before (or Last-Event-ID) and this one are not told: read the numbers anew
	Deltas   []*delta     `json:"deltas"`
	Calls    []*call.Call `json:"calls"`   // the newest 50, oldest first
	Skipped  int          `json:"skipped"` // Calls that are in the deltas and not in calls
	InFlight int64        `json:"in_flight"`
	Pending  int64        `json:"pending"`
	Lost     int64        `json:"lost"`
}

// A second gathers the Calls of one event.
type second struct {
	sums   map[[3]string]*delta
	deltas []*delta
	calls  []*call.Call
	count  int
}

func (s *second) add(c *call.Call) {
	k := [3]string{c.Provider, c.Model, c.Code()}
	d := s.sums[k]
	if d == nil {
		if s.sums == nil {
			s.sums = map[[3]string]*delta{}
		}
		d = &delta{Provider: k[0], Model: k[1], Code: k[2]}
		s.sums[k] = d
		s.deltas = append(s.deltas, d)
	}
	d.Requests++
	d.Input += c.Usage.Input
	d.Output += c.Usage.Output
	if c.Unpriced {
		d.Unpriced++
	} else {
		d.Cost += int64(c.Cost)
	}
	s.count++
	if len(s.calls) == mostCalls {
		s.calls = append(s.calls[:0], s.calls[1:]...)
	}
	s.calls = append(s.calls, c)
}

// stream sends one event a second while something happens, and one each 15
// seconds otherwise: what the Calls that ended since sum to, and the Calls.
// The id of an event is its time in Unix milliseconds.
func (s *Console) stream(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	batches, missed, stop := s.Tail.Subscribe()
	defer stop()
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	t := time.NewTicker(tick)
	defer t.Stop()
	var (
		now      second
		sent     time.Time
		inFlight int64
		gap      = r.Header.Get("Last-Event-ID") != ""
	)
	send := func(at time.Time) error {
		e := event{At: at.UTC().Truncate(time.Millisecond), Gap: gap, Deltas: now.deltas, Calls: now.calls, Skipped: now.count - len(now.calls), InFlight: inFlight}
		if e.Deltas == nil {
			e.Deltas, e.Calls = []*delta{}, []*call.Call{}
		}
		if p.Admin {
			e.Pending, e.Lost = s.Pending(), s.Lost()
		}
		text, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("a live event: %w", err)
		}
		now, sent, gap = second{}, at, false
		_ = rc.SetWriteDeadline(time.Now().Add(2 * heartbeat)) // unsupported only by recorders in tests
		if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", at.UnixMilli(), text); err != nil {
			return err
		}
		return rc.Flush()
	}
	if p.Admin {
		inFlight = s.InFlight()
	}
	if send(time.Now()) != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		case batch := <-batches:
			for _, c := range batch {
				if p.Admin || c.Key == p.Key {
					now.add(c)
				}
			}
		case at := <-t.C:
			if _, ok := s.asks(r); !ok {
				return // its key or session ended meanwhile
			}
			var live int64
			if p.Admin {
				live = s.InFlight()
			}
			gap = gap || missed() // this reader was too slow for what came
			if now.count == 0 && live == inFlight && !gap && at.Sub(sent) < heartbeat {
				continue
			}
			inFlight = live
			if send(at) != nil {
				return
			}
		}
	}
}
