// Package console serves what people and scripts read: the JSON API under
// /api/v1 and the web pages at /. It reads Calls from the store and snapshots
// of live state; it never touches the data plane. Start from New.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store"
)

//go:generate go run ./build

// Options are what the console is given.
type Options struct {
	Store         store.Store
	Auth          call.Auth
	Sessions      Sessions
	Keys          *state.Keys
	Audit         AuditLog
	Note          func(ctx context.Context, actor, action, object string, before, after any) error // adds to it; nil: there is none
	Tail          *call.Tail
	Live          func() call.Live
	InFlight      func() int64 // requests under way; nil: Live is asked, which costs more
	Pending, Lost func() int64
	Estimate      func(*call.Principal, call.Ask) (call.Estimate, *llm.Error) // what a request would come to
	Price         func() *price.Catalogue                                     // what is in force; nil: there are no prices

	// Install takes a price file, or only says what it would change. The error of
	// one that is wrong is price.Problems. nil: none is taken.
	Install     func(text []byte, dry bool) (*PriceUpdate, error)
	Deployments func() []Deployment // the configured models; nil: that is not known
	Zone        *time.Location      // what a day means; nil is UTC
	Record      func(*call.Call)    // takes Calls that were posted; nil: they are imported
	Version     string
	Log         *slog.Logger
	DemoKey     string // a key for the example call of an empty page, where the providers are simulated; else ""
	Example     string // a model for that call; "" if no provider is configured
}

// Sessions keep pages signed in: see state.Sessions.
type Sessions interface {
	Start(secret string, life time.Duration) (id string, err error)
	Find(id string) (*call.Principal, bool)
	End(id string) error
}

// A Console is an http.Handler for /api/v1, /openapi.json and /.
type Console struct {
	Options
	mux     *http.ServeMux
	recent  recentIDs
	done    chan struct{} // closed by Close: live streams end
	closing sync.Once
}

type scopedHandler func(http.ResponseWriter, *http.Request, *call.Principal)

// routes are all of the API: openapi.json describes each of them, and no other.
func (s *Console) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /api/v1/calls":               s.scoped(s.calls),
		"POST /api/v1/calls":              s.scoped(s.post),
		"GET /api/v1/calls/{id}":          s.scoped(s.call),
		"GET /api/v1/calls/{id}/price":    s.scoped(s.explain),
		"GET /api/v1/calls/{id}/body":     s.scoped(s.body),
		"POST /api/v1/query":              s.scoped(s.query),
		"GET /api/v1/stream":              s.scoped(s.stream),
		"GET /api/v1/models":              s.scoped(s.models),
		"POST /api/v1/prices":             s.scoped(admin(s.install)),
		"POST /api/v1/prices/recompute":   s.scoped(admin(s.recompute)),
		"GET /api/v1/limits":              s.scoped(s.limits),
		"POST /api/v1/estimate":           s.scoped(s.estimate),
		"POST /api/v1/import":             s.scoped(admin(s.load)),
		"GET /api/v1/export":              s.scoped(admin(s.export)),
		"GET /api/v1/keys":                s.scoped(admin(s.listKeys)),
		"POST /api/v1/keys":               s.scoped(admin(s.createKey)),
		"GET /api/v1/keys/{name}":         s.scoped(admin(s.getKey)),
		"PATCH /api/v1/keys/{name}":       s.scoped(admin(s.updateKey)),
		"DELETE /api/v1/keys/{name}":      s.scoped(admin(s.revokeKey)),
		"POST /api/v1/keys/{name}/rotate": s.scoped(admin(s.rotateKey)),
		"GET /api/v1/usage":               s.scoped(s.usage),
		"GET /api/v1/audit":               s.scoped(admin(s.audit)),
		"GET /api/v1/session":             s.session,
		"POST /api/v1/session":            s.login,
		"DELETE /api/v1/session":          s.logout,
		"GET /openapi.json":               s.openapi,
	}
}

// New makes the console. Close ends its live streams.
func New(o Options) *Console {
	if o.InFlight == nil {
		o.InFlight = func() int64 { return o.Live().InFlight }
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	s := &Console{Options: o, mux: http.NewServeMux(), done: make(chan struct{})}
	methods := map[string][]string{}
	for pattern, h := range s.routes() {
		s.mux.HandleFunc(pattern, h)
		method, path, _ := strings.Cut(pattern, " ")
		if methods[path] = append(methods[path], method); method == http.MethodGet {
			methods[path] = append(methods[path], http.MethodHead)
		}
	}
	for path, list := range methods {
		slices.Sort(list)
		s.mux.HandleFunc(path, wrongMethod(strings.Join(list, ", ")))
	}
	s.mux.HandleFunc("/", s.page)
	return s
}

// wrongMethod answers what comes for a route with a method that it does not
// take.
func wrongMethod(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		fail(w, http.StatusMethodNotAllowed, "method_not_allowed", "", call.Clip(r.Method, 20)+" is not a method of "+call.Clip(r.URL.Path, 120)+": use "+allow)
	}
}

func (s *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Close ends the live streams, so that a server can shut down without waiting
// for every open page. It may be called more than once.
func (s *Console) Close() { s.closing.Do(func() { close(s.done) }) }

// prices are what is in force; nil if there are none.
func (s *Console) prices() *price.Catalogue {
	if s.Price == nil {
		return nil
	}
	return s.Price()
}

// scoped finds out who asks. The admin sees everything, a data key its own
// Calls. A page has a cookie instead of a key; what it writes must come from
// our own pages.
func (s *Console) scoped(h scopedHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, ok := s.asks(r)
		switch {
		case ok && header(r) == "" && !sameOrigin(r):
			fail(w, http.StatusForbidden, "cross_origin", "", "this page may not act in the name of the console")
		case !ok:
			w.Header().Set("WWW-Authenticate", `Bearer realm="sheepgate"`)
			fail(w, http.StatusUnauthorized, "invalid_api_key", "", "no valid key: send the admin key as Authorization: Bearer")
		case !p.Admin && !p.Data:
			fail(w, http.StatusForbidden, "forbidden", "", "this key may read /v1/metrics and nothing else")
		default:
			h(w, r, p)
		}
	}
}

// asks is who asks: the holder of the key in the headers or, without one, of
// the session.
func (s *Console) asks(r *http.Request) (*call.Principal, bool) {
	if secret := header(r); secret != "" {
		return s.Auth(secret)
	}
	return s.Sessions.Find(cookieOf(r))
}

// header is the key in the request's headers. ?key= is a filter here, never a
// credential.
func header(r *http.Request) string {
	u := *r.URL
	u.RawQuery = ""
	return call.Credential(&http.Request{Header: r.Header, URL: &u})
}

// admin refuses everybody else.
func admin(h scopedHandler) scopedHandler {
	return func(w http.ResponseWriter, r *http.Request, p *call.Principal) {
		if !p.Admin {
			fail(w, http.StatusForbidden, "forbidden", "", "this needs the admin key")
			return
		}
		h(w, r, p)
	}
}

// own narrows a filter to what p may see.
func own(p *call.Principal, f store.Filter) store.Filter {
	if p.Admin {
		return f
	}
	if f == nil {
		f = store.Filter{}
	}
	f["key"] = []string{p.Key}
	return f
}

// fail answers in the API's error form. param names the field at fault, if one
// is.
func fail(w http.ResponseWriter, status int, code, param, msg string) {
	kind := "invalid_request_error"
	switch {
	case status == http.StatusUnauthorized:
		kind = "authentication_error"
	case status == http.StatusForbidden:
		kind = "permission_error"
	case status >= 500:
		kind = "server_error"
	}
	e := struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}{msg, kind, nil, code}
	if param != "" {
		e.Param = &param
	}
	answer(w, status, map[string]any{"error": e})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// failed answers an error of the store.
func (s *Console) failed(w http.ResponseWriter, r *http.Request, err error) {
	var bad *store.QueryError
	switch {
	case errors.As(err, &bad):
		fail(w, http.StatusBadRequest, "invalid_query", "", bad.Msg)
	case errors.Is(err, store.ErrNotFound):
		fail(w, http.StatusNotFound, "not_found", "", "there is no call with this id")
	case r.Context().Err() != nil: // who asked is gone
	default:
		s.Log.Error("the store failed", "route", r.Pattern, "err", err)
		fail(w, http.StatusServiceUnavailable, "store_unavailable", "", "the store cannot answer at the moment")
	}
}
