package console

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/store"
)

const (
	maxPost   = 16 << 20 // bytes of posted Calls
	maxPosted = 10_000   // Calls of one post
	maxAhead  = 5 * time.Minute
)

// post takes Calls that did not pass the gateway, from the middleware: a JSON
// array or NDJSON. A data key posts its own. What was posted before is a
// duplicate, so that a sender may try again.
func (s *Console) post(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	calls, res, err := readPosted(http.MaxBytesReader(w, r.Body, maxPost))
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		fail(w, http.StatusRequestEntityTooLarge, "too_large", "", fmt.Sprintf("the body is longer than %d bytes: send fewer calls at once", big.Limit))
		return
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_request", "", err.Error())
		return
	}
	now := time.Now()
	for _, c := range calls {
		if err := s.adopt(c.Call, p, now); err != nil {
			res.bad(c.line, err)
			continue
		}
		added, err := s.add(r, c.Call)
		if err != nil {
			s.failed(w, r, err)
			return
		}
		if added {
			res.Added++
		} else {
			res.Duplicates++
		}
	}
	status := http.StatusOK
	if res.Bad > 0 && res.Added+res.Duplicates == 0 {
		status = http.StatusBadRequest
	}
	if status == http.StatusBadRequest {
		e := res.Errors[0]
		fail(w, status, "invalid_call", "", fmt.Sprintf("none of the %d calls could be taken; number %d: %s", res.Bad, e.Line, e.Error))
		return
	}
	answer(w, status, res)
}

type posted struct {
	*call.Call
	line int // or number in the array, from 1
}

// readPosted reads a JSON array or NDJSON. What is no Call is named in the
// result.
func readPosted(body io.Reader) ([]posted, *Imported, error) {
	res := &Imported{Errors: []BadLine{}}
	var calls []posted
	take := func(n int, text []byte, err error) error {
		if n > maxPosted {
			return fmt.Errorf("more than %d calls at once", maxPosted)
		}
		c := new(call.Call)
		if err == nil {
			err = json.Unmarshal(text, c)
		}
		if err != nil {
			res.bad(n, err)
			return nil
		}
		calls = append(calls, posted{c, n})
		return nil
	}
	r := bufio.NewReader(body)
	for {
		b, err := r.Peek(1)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the body is empty: send calls as a JSON array or one a line")
			}
			return nil, nil, err
		}
		if b[0] != ' ' && b[0] != '\n' && b[0] != '\r' && b[0] != '\t' {
			break
		}
		_, _ = r.Discard(1) // it was peeked
	}
	if b, _ := r.Peek(1); b[0] != '[' {
		return calls, res, eachLine(r, take)
	}
	var list []json.RawMessage
	if err := json.NewDecoder(r).Decode(&list); err != nil {
		return nil, nil, fmt.Errorf("the body is not a JSON array of calls: %w", err)
	}
	for i, text := range list {
		if err := take(i+1, text, nil); err != nil {
			return nil, nil, err
		}
	}
	return calls, res, nil
}

// adopt makes a posted Call one of ours: its id is made here from what the
// sender says of it, its key is the sender's, its cost the catalogue's.
func (s *Console) adopt(c *call.Call, p *call.Principal, now time.Time) error {
	if c.StartedAt.After(now.Add(maxAhead)) {
		return errors.New("started_at lies in the future")
	}
	if c.Model == "" && c.ModelRequested == "" {
		return errors.New("model is missing")
	}
	theirs, err := json.Marshal(c)
	if err != nil {
		return err
	}
	source := "monitor:" + p.Key
	if c.ID != "" {
		theirs, c.ID = []byte(c.ID), ""
	}
	if !p.Admin || c.Key == "" {
		c.Key, c.Team = p.Key, p.Team
	}
	c.Origin = call.OriginMonitor
	if c.Model == "" {
		c.Model = c.ModelRequested
	}
	for _, f := range []*string{&c.Key, &c.Team, &c.User, &c.Session, &c.Ingress, &c.ModelRequested, &c.Provider, &c.Model, &c.ResponseModel, &c.Error.Code,
		&c.NativeFinishReason, &c.ResponseID} {
		*f = call.Clip(*f, 256)
	}
	if err := c.Check(source, string(theirs)); err != nil {
		return err
	}
	s.reprice(c)
	return nil
}

// reprice gives a posted Call the catalogue's model name and cost, where it
// has them.
func (s *Console) reprice(c *call.Call) {
	prices := s.prices()
	if prices == nil {
		return
	}
	if home := prices.Home(c.Model); c.Provider == "" && len(home) > 0 {
		c.Provider = home[0]
	}
	m, ok := prices.Find(c.Provider, c.Model)
	if !ok {
		return
	}
	c.Model = m.ID
	if c.Usage.Source == llm.UsageNone && c.Usage.Input+c.Usage.Output == 0 {
		c.Cost, c.Unpriced, c.PriceRow = 0, false, ""
		return
	}
	if cost, ok := prices.Cost(c.Provider, c.Model, &c.Usage, c.StartedAt); ok {
		c.Cost, c.Unpriced, c.PriceRow = cost.Nano, false, cost.Row
	}
}

// add hands c to the recorder unless it was there before.
func (s *Console) add(r *http.Request, c *call.Call) (bool, error) {
	if s.Record == nil {
		n, err := s.Store.Import(r.Context(), []*call.Call{c})
		return n == 1, err
	}
	if !s.recent.add(c.ID) {
		return false, nil
	}
	_, err := s.Store.Get(r.Context(), c.ID)
	switch {
	case err == nil:
		return false, nil
	case !errors.Is(err, store.ErrNotFound):
		s.recent.remove(c.ID)
		return false, err
	}
	s.Record(c)
	return true, nil
}

// recentIDs remembers the Calls that may still be on their way to the store.
type recentIDs struct {
	mu   sync.Mutex
	ids  map[string]bool
	ring [1 << 15]string // more than the recorder's queue and a post hold
	next int
}

// add reports whether id is new.
func (s *recentIDs) add(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[id] {
		return false
	}
	if s.ids == nil {
		s.ids = map[string]bool{}
	}
	delete(s.ids, s.ring[s.next])
	s.ring[s.next], s.ids[id] = id, true
	s.next = (s.next + 1) % len(s.ring)
	return true
}

func (s *recentIDs) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, id)
}
