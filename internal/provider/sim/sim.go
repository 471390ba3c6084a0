// Package sim is a simulated provider: an http.Handler that speaks OpenAI's,
// Anthropic's and Gemini's wire formats as their servers do, with the latency,
// lengths, failures and usage that real models show. Demos and tests point the
// gateway at it, and nothing leaves the machine. Start from New; Traffic makes
// the clients for it.
//
// It writes every format by hand and shares no code with package provider's
// dialects, so that it stays an independent check of them.
package sim

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Options says how the provider behaves. The zero value answers in real time
// with the failures that each model has.
type Options struct {
	Seed  uint64  // equal seeds draw equal answers for equal request sequences
	Speed float64 // how many times faster than real time; 0 means 1
	Calm  bool    // every request is answered in full: no failure, filter, refusal or random cut; tools are always called
	Bad   bool    // models have bad spells of a few minutes: limits, failures, slowness
	Key   string  // the only key accepted; "" accepts any
}

// A Server is the provider. Its routes are those of the vendors, each under its
// name:
//
//	POST /openai/v1/chat/completions
//	POST /deepseek/v1/chat/completions
//	POST /anthropic/v1/messages
//	POST /gemini/v1beta/models/{model}:generateContent
//	POST /gemini/v1beta/models/{model}:streamGenerateContent?alt=sse
//	POST /v1/chat/completions   (every model, in OpenAI's format)
type Server struct {
	opt  Options
	mux  *http.ServeMux
	n    atomic.Uint64 // requests so far: the second half of each one's seed
	base time.Time     // what ids and created fields count from
}

// New returns a Server.
func New(o Options) *Server {
	if o.Speed <= 0 {
		o.Speed = 1
	}
	s := &Server{opt: o, mux: http.NewServeMux(), base: time.Now()}
	s.route("POST /openai/v1/chat/completions", "openai", openai{})
	s.route("POST /deepseek/v1/chat/completions", "deepseek", openai{deepseek: true})
	s.route("POST /v1/chat/completions", "", openai{})
	s.route("POST /anthropic/v1/messages", "anthropic", anthropic{})
	s.route("POST /gemini/v1beta/models/{call}", "gemini", gemini{})
	return s
}

// Requests is how many requests have come so far.
func (s *Server) Requests() uint64 { return s.n.Load() }

// ServeHTTP answers one request as the vendor of its path would.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// maxBody bounds a request, in bytes: Anthropic's documented 32 MB.
const maxBody = 32 << 20

// A wire is one vendor's format.
type wire interface {
	read(r *http.Request, body []byte) (*ask, error)
	key(r *http.Request) string
	header(h http.Header, a *answer)        // rate limits, request ids
	fail(w http.ResponseWriter, f failure)  // the whole error answer
	whole(a *answer) []byte                 // a plain reply
	frames(a *answer) []frame               // a stream, in order
	broken(f failure) []byte                // the error event of a stream that dies
	contentType(stream bool, a *ask) string // of a reply
}

// A frame is one event of a stream. at is when it leaves, as a fraction of the
// time between the first token (0) and the end (1).
type frame struct {
	at   float64
	data []byte
}

func (s *Server) route(pattern, vendor string, f wire) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, vendor, f) })
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, vendor string, f wire) {
	start := time.Now()
	n := s.n.Add(1)
	rng := rand.New(rand.NewPCG(s.opt.Seed, n))
	if key := f.key(r); key == "" || s.opt.Key != "" && key != s.opt.Key {
		f.fail(w, failure{status: http.StatusUnauthorized, kind: badKey, msg: "Incorrect API key provided."})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		f.fail(w, failure{status: http.StatusRequestEntityTooLarge, kind: badRequest, msg: "Request exceeds the maximum size."})
		return
	}
	q, err := f.read(r, body)
	if err != nil {
		f.fail(w, failure{status: http.StatusBadRequest, kind: badRequest, msg: err.Error()})
		return
	}
	m, ok := find(q.model, vendor)
	if !ok {
		f.fail(w, failure{status: http.StatusNotFound, kind: noModel, msg: "The model `" + q.model + "` does not exist or you do not have access to it."})
		return
	}
	d := m.draw(rng, s.opt.Calm)
	if sp, bad := m.spell(start); bad && s.opt.Bad {
		sp.mark(&d, m, rng)
	}
	if d.status != 0 && !(q.stream && d.breaks) {
		if s.wait(r.Context(), start, d.latency) != nil {
			return
		}
		f.fail(w, failureOf(d.status, m, rng))
		return
	}
	a := compose(q, m, d, rng, s.opt.Calm, s.base.Unix()+int64(n), n)
	f.header(w.Header(), a)
	w.Header().Set("Content-Type", f.contentType(q.stream, q))
	if !q.stream {
		if s.wait(r.Context(), start, d.latency) == nil {
			_, _ = w.Write(f.whole(a)) // a client that left is no news
		}
		return
	}
	s.stream(w, r, start, f, a, d, rng)
}

// stream sends the frames at their times. A draw that breaks sends some of
// them and then an error event, or just ends the connection.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, start time.Time, f wire, a *answer, d draw, rng *rand.Rand) {
	frames := f.frames(a)
	end := len(frames)
	if d.status != 0 {
		end = 1 + rng.IntN(max(1, len(frames)-2))
	}
	rc := http.NewResponseController(w)
	for i, fr := range frames[:end] {
		at := d.ttft + time.Duration(fr.at*float64(d.latency-d.ttft))
		if i > 0 && !s.due(start, at) && rc.Flush() != nil { // what is due already travels with the one before, as under load
			return
		}
		if s.wait(r.Context(), start, at) != nil {
			return
		}
		if _, err := w.Write(fr.data); err != nil {
			return
		}
	}
	if d.status == 0 {
		return
	}
	if b := f.broken(failureOf(d.status, a.m, rng)); b != nil && rng.IntN(2) == 0 {
		_, _ = w.Write(b)
		return
	}
	_ = rc.Flush()
	panic(http.ErrAbortHandler) // the connection dies
}

// due reports whether the simulated time at has come.
func (s *Server) due(start time.Time, at time.Duration) bool {
	return time.Since(start) >= time.Duration(float64(at)/s.opt.Speed)
}

// wait returns when the simulated time at since start has come, or with the
// error of ctx.
func (s *Server) wait(ctx context.Context, start time.Time, at time.Duration) error {
	left := time.Duration(float64(at)/s.opt.Speed) - time.Since(start)
	if left <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errNotJSON = errors.New("We could not parse the JSON body of your request.")

func bearer(r *http.Request) string {
	key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return key
}
