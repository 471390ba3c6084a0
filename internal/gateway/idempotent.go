package gateway

import (
	"container/list"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// A client that does not know whether its request arrived may send it again with
// the same Idempotency-Key: it gets the answer that there was, and nobody is
// asked, or billed, twice. Answers are kept in memory, the oldest go first, and
// none survives a restart. Only a complete answer is kept: what failed may be
// tried again.
//
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
type idempotency struct {
	mu   sync.Mutex
	byID map[[sha256.Size]byte]*list.Element // of *kept
	old  list.List                           // the oldest first
	size int
}

// A kept is a request that may come again, and its answer.
type kept struct {
	id, body [sha256.Size]byte
	callID   string
	at       time.Time
	done     bool // there is an answer
	header   http.Header
	answer   []byte
}

const (
	maxIdempotencyKey = 255     // bytes
	maxKeptAnswer     = 1 << 20 // bytes; a longer one is not kept
	maxKeptAnswers    = 64 << 20
	keptOverhead      = 1 << 10 // of an entry, about
)

// begin says what is known of a request: nothing (it is then under way), its
// answer, or why it cannot be made.
func (t *idempotency) begin(id, body [sha256.Size]byte, callID string, life time.Duration) (answer *kept, refused *llm.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for e := t.old.Front(); e != nil && now.Sub(e.Value.(*kept).at) > life && e.Value.(*kept).done; e = t.old.Front() {
		t.drop(e)
	}
	if e := t.byID[id]; e != nil {
		k := e.Value.(*kept)
		switch {
		case k.body != body:
			return nil, &llm.Error{Class: llm.InvalidRequest, Status: http.StatusUnprocessableEntity, Code: "idempotency_key_reused",
				Msg: "the Idempotency-Key was sent before with another request, " + k.callID}
		case !k.done:
			return nil, &llm.Error{Class: llm.InvalidRequest, Status: http.StatusConflict, Code: "idempotency_in_flight", RetryAfter: time.Second,
				Msg: "the same request is under way as " + k.callID + ": wait for it"}
		}
		return k, nil
	}
	if t.byID == nil {
		t.byID = map[[sha256.Size]byte]*list.Element{}
	}
	t.byID[id] = t.old.PushBack(&kept{id: id, body: body, callID: callID, at: now})
	t.size += keptOverhead
	return nil, nil
}

// end keeps the answer to a request, or forgets the request if there is none.
func (t *idempotency) end(id [sha256.Size]byte, callID string, header http.Header, answer []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[id]
	if e == nil || e.Value.(*kept).callID != callID {
		return
	}
	if answer == nil {
		t.drop(e)
		return
	}
	k := e.Value.(*kept)
	k.done, k.header, k.answer = true, header, answer
	t.size += len(answer)
	for e := t.old.Front(); e != nil && t.size > maxKeptAnswers; {
		next := e.Next()
		if e.Value.(*kept).done {
			t.drop(e)
		}
		e = next
	}
}

func (t *idempotency) drop(e *list.Element) {
	k := t.old.Remove(e).(*kept)
	delete(t.byID, k.id)
	t.size -= keptOverhead + len(k.answer)
}

// A copier is a ResponseWriter that copies what goes through it.
type copier struct {
	http.ResponseWriter
	id     [sha256.Size]byte // of the request
	status int
	body   []byte
	long   bool // for being kept
}

// Unwrap is for http.ResponseController.
func (c *copier) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *copier) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *copier) Write(p []byte) (int, error) {
	if c.long = c.long || len(c.body)+len(p) > maxKeptAnswer; !c.long {
		c.body = append(c.body, p...)
	}
	return c.ResponseWriter.Write(p)
}

// once takes the request's Idempotency-Key, if there is one and they are heeded.
// It reports whether the client has its answer.
func (x *exchange) once() (answered bool, refused *llm.Error) {
	name := x.r.Header.Get("Idempotency-Key")
	if name == "" || x.c.Idempotency <= 0 {
		return false, nil
	}
	if len(name) > maxIdempotencyKey {
		return false, &llm.Error{Class: llm.InvalidRequest, Code: "invalid_value", Msg: "the Idempotency-Key is longer than 255 bytes"}
	}
	id := sha256.Sum256([]byte(x.who.Key + "\x00" + x.r.URL.Path + "\x00" + name))
	k, refused := x.g.idempotency.begin(id, sha256.Sum256(x.body), x.call.ID, x.c.Idempotency)
	if refused != nil {
		return false, refused
	}
	if k == nil {
		x.copy = &copier{ResponseWriter: x.w, id: id}
		x.w = x.copy
		return false, nil
	}
	h := x.w.Header()
	for name, v := range k.header {
		if name != "Sheepgate-Call-Id" {
			h[name] = v
		}
	}
	h.Set("Sheepgate-Replay-Of", k.callID)
	h["Date"] = date(time.Now())
	x.sent = true
	x.call.HTTPStatus = http.StatusOK
	x.w.WriteHeader(http.StatusOK)
	_, _ = x.w.Write(k.answer) // the client may be gone: then it asks again
	return true, nil
}

// keepAnswer ends what once has begun.
func (x *exchange) keepAnswer() {
	if x.copy == nil {
		return
	}
	var answer []byte
	if x.call.Status == call.Success && x.copy.status == http.StatusOK && !x.copy.long {
		answer = append([]byte{}, x.copy.body...)
	}
	x.g.idempotency.end(x.copy.id, x.call.ID, x.copy.Header().Clone(), answer)
}
