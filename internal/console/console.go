// Package console serves what people and scripts read: the JSON API under
// /api/v1 and the web pages at /. It reads Calls from the store and snapshots
// of live state; it never touches the data plane. Start from New.
package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/store"
)

// Options are what the console is given.
type Options struct {
	Store         store.Store
	Auth          call.Auth
	Tail          *call.Tail
	Live          func() call.Live
	Pending, Lost func() int64
	Price         *price.Catalogue
	Zone          *time.Location
	Version       string
	Log           *slog.Logger
}

type api struct{ Options }

// New makes the handler of /api/v1.
func New(o Options) http.Handler {
	a := &api{o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/calls", a.scoped(a.calls))
	mux.HandleFunc("GET /api/v1/calls/{id}", a.scoped(a.call))
	mux.HandleFunc("GET /api/v1/calls/{id}/body", a.scoped(a.body))
	mux.HandleFunc("POST /api/v1/query", a.scoped(a.query))
	mux.HandleFunc("GET /api/v1/stream", a.scoped(a.stream))
	mux.HandleFunc("POST /api/v1/import", a.scoped(a.load))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "unknown_route", "no such route: "+call.Clip(r.Method+" "+r.URL.Path, 120))
	})
	return mux
}

// fail answers in the API's error form.
func fail(w http.ResponseWriter, status int, code, msg string) {
	kind := "invalid_request_error"
	switch {
	case status == http.StatusUnauthorized:
		kind = "authentication_error"
	case status == http.StatusForbidden:
		kind = "permission_error"
	case status >= 500:
		kind = "server_error"
	}
	answer(w, status, map[string]any{"error": map[string]any{"message": msg, "type": kind, "param": nil, "code": code}})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// scoped lets the admin see everything and a data key its own Calls.
func (a *api) scoped(h func(http.ResponseWriter, *http.Request, *call.Principal)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, ok := a.Auth(call.Credential(r))
		switch {
		case !ok:
			fail(w, http.StatusUnauthorized, "invalid_api_key", "no valid key: send the admin key as Authorization: Bearer")
		case !p.Admin && !p.Data:
			fail(w, http.StatusForbidden, "forbidden", "this key may read /v1/metrics and nothing else")
		default:
			h(w, r, p)
		}
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

// failed answers an error of the store.
func (a *api) failed(w http.ResponseWriter, err error) {
	var bad *store.QueryError
	switch {
	case errors.As(err, &bad):
		fail(w, http.StatusBadRequest, "invalid_query", bad.Msg)
	case errors.Is(err, store.ErrNotFound):
		fail(w, http.StatusNotFound, "not_found", "there is no call with this id")
	default:
		a.Log.Error("the store failed", "err", err)
		fail(w, http.StatusServiceUnavailable, "store_unavailable", "the store cannot answer at the moment")
	}
}

// listed are the query parameters of GET calls that are dimensions.
var listed = []string{"model", "provider", "key", "status", "code", "team", "user", "session", "origin", "error_class"}

func (a *api) calls(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	v := r.URL.Query()
	q := store.List{Text: v.Get("q"), Cursor: v.Get("cursor"), Filter: store.Filter{}}
	for _, d := range listed {
		if vs := v[d]; len(vs) > 0 && vs[0] != "" {
			q.Filter[d] = vs
		}
	}
	for _, t := range v["tag"] {
		name, value, ok := strings.Cut(t, ":")
		if !ok {
			name, value, ok = strings.Cut(t, "=")
		}
		if !ok {
			fail(w, http.StatusBadRequest, "invalid_query", "tag is NAME:VALUE")
			return
		}
		q.Filter["tag:"+name] = append(q.Filter["tag:"+name], value)
	}
	q.Filter = own(p, q.Filter)
	var err error
	for _, t := range []struct {
		name string
		to   *time.Time
	}{{"from", &q.From}, {"to", &q.To}} {
		if s := v.Get(t.name); s != "" {
			if *t.to, err = time.Parse(time.RFC3339Nano, s); err != nil {
				fail(w, http.StatusBadRequest, "invalid_query", t.name+" is not a time like 2026-11-23T07:00:00Z")
				return
			}
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > store.MaxPage {
			fail(w, http.StatusBadRequest, "invalid_query", fmt.Sprintf("limit is a number from 1 to %d", store.MaxPage))
			return
		}
	}
	page, err := a.Store.List(r.Context(), q)
	if err != nil {
		a.failed(w, err)
		return
	}
	answer(w, http.StatusOK, page)
}

// find gives the Call of the path if p may see it.
func (a *api) find(r *http.Request, p *call.Principal) (*call.Call, error) {
	c, err := a.Store.Get(r.Context(), r.PathValue("id"))
	if err == nil && !p.Admin && c.Key != p.Key {
		return nil, store.ErrNotFound
	}
	return c, err
}

func (a *api) call(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	c, err := a.find(r, p)
	if err != nil {
		a.failed(w, err)
		return
	}
	answer(w, http.StatusOK, c)
}

func (a *api) body(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	c, err := a.find(r, p)
	if err != nil {
		a.failed(w, err)
		return
	}
	x, err := a.Store.Body(r.Context(), c.ID)
	if err != nil {
		a.failed(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"request": string(x.Request), "response": string(x.Response), "request_cut": x.RequestCut, "response_cut": x.ReplyCut})
}

// maxQuery bounds the body of a query, in bytes.
const maxQuery = 64 << 10

func (a *api) query(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	var in struct {
		From     time.Time    `json:"from"`
		To       time.Time    `json:"to"`
		Step     string       `json:"step"`
		GroupBy  []string     `json:"group_by"`
		Filter   store.Filter `json:"filter"`
		Measures []string     `json:"measures"`
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuery))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		fail(w, http.StatusBadRequest, "invalid_query", "the query is not of the documented form: "+call.Clip(err.Error(), 200))
		return
	}
	step, err := store.ParseStep(in.Step)
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_query", err.Error())
		return
	}
	res, err := a.Store.Query(r.Context(), store.Query{From: in.From, To: in.To, Step: step, Zone: a.Zone, GroupBy: in.GroupBy, Filter: own(p, in.Filter), Measures: in.Measures})
	if err != nil {
		a.failed(w, err)
		return
	}
	answer(w, http.StatusOK, res)
}

// load imports NDJSON, a Call a line. Lines that are none are named; the rest
// is taken.
func (a *api) load(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	if !p.Admin {
		fail(w, http.StatusForbidden, "forbidden", "imports need the admin key")
		return
	}
	res, err := Import(r.Context(), a.Store, bufio.NewReader(r.Body), "import")
	if err != nil {
		a.failed(w, err)
		return
	}
	answer(w, http.StatusOK, res)
}

// Imported says what became of an import.
type Imported struct {
	Added      int       `json:"added"`
	Duplicates int       `json:"duplicates"`
	Bad        int       `json:"bad"`
	Errors     []BadLine `json:"errors"` // the first 100
}

// A BadLine is a line that is no Call.
type BadLine struct {
	Line  int    `json:"line"`
	Error string `json:"error"`
}

const (
	importBatch = 5000
	maxLine     = 1 << 20 // bytes of one Call
	maxBadLines = 100
)

// Import reads NDJSON into s. source names where it comes from, so that the
// same lines twice make the same Calls.
func Import(ctx context.Context, s store.Store, r *bufio.Reader, source string) (*Imported, error) {
	res := &Imported{Errors: []BadLine{}}
	var batch []*call.Call
	flush := func() error {
		n, err := s.Import(ctx, batch)
		res.Added += n
		res.Duplicates += len(batch) - n
		batch = batch[:0]
		return err
	}
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	for line := 1; sc.Scan(); line++ {
		if len(strings.TrimSpace(sc.Text())) == 0 {
			continue
		}
		c := new(call.Call)
		err := json.Unmarshal(sc.Bytes(), c)
		if err == nil {
			err = c.Check(source, strconv.Itoa(line))
		}
		if err != nil {
			res.Bad++
			if len(res.Errors) < maxBadLines {
				res.Errors = append(res.Errors, BadLine{line, call.Clip(err.Error(), 200)})
			}
			continue
		}
		if batch = append(batch, c); len(batch) == importBatch {
			if err := flush(); err != nil {
				return res, err
			}
		}
	}
	if err := sc.Err(); err != nil {
		return res, &store.QueryError{Msg: "the input cannot be read on: " + err.Error()}
	}
	return res, flush()
}
