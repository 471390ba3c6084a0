package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// maxQuery bounds the body of a query, in bytes.
const maxQuery = 64 << 10

// Names for suggestions; the store decides what there is.
var (
	dimensions = []string{"origin", "key", "team", "user", "session", "ingress", "model_requested", "provider", "model", "response_model",
		"stream", "status", "code", "http_status", "error_class", "error_code", "finish_reason", "native_finish_reason", "usage_source", "price_row"}
	measures = []string{"requests", "errors_4xx", "errors_429", "errors_5xx", "canceled", "unpriced", "input_tokens", "output_tokens",
		"cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost_nano_usd", "latency_avg", "latency_p50", "latency_p95", "latency_p99",
		"ttft_p50", "ttft_p95", "ttft_p99", "output_tokens_per_second"}
)

type queryJSON struct {
	From     time.Time    `json:"from"`
	To       time.Time    `json:"to"`
	Step     string       `json:"step"`
	GroupBy  []string     `json:"group_by"`
	Filter   store.Filter `json:"filter"`
	Measures []string     `json:"measures"`
}

func (s *Console) query(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	var in queryJSON
	if err := strict(json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuery)), &in); err != nil {
		fail(w, http.StatusBadRequest, "invalid_query", "", err.Error())
		return
	}
	step, err := store.ParseStep(in.Step)
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_query", "step", err.Error())
		return
	}
	for name, values := range in.Filter {
		if len(values) == 0 {
			fail(w, http.StatusBadRequest, "invalid_query", "filter."+call.Clip(name, 60), "a filter without values matches nothing: leave it out or name some")
			return
		}
	}
	res, err := s.Store.Query(r.Context(), store.Query{From: in.From, To: in.To, Step: step, Zone: s.Zone, GroupBy: in.GroupBy, Filter: own(p, in.Filter), Measures: in.Measures})
	var bad *store.QueryError
	if errors.As(err, &bad) {
		param, hint := in.suspect()
		fail(w, http.StatusBadRequest, "invalid_query", param, bad.Msg+hint)
		return
	}
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer(w, http.StatusOK, res)
}

// suspect finds the first name of a refused query that is like a known one.
func (q *queryJSON) suspect() (param, hint string) {
	look := func(field string, names, known []string) bool {
		for _, n := range names {
			if slices.Contains(known, n) || strings.HasPrefix(n, "tag:") {
				continue
			}
			param = field
			if near := nearest(n, known); near != "" {
				hint = fmt.Sprintf("; did you mean %q?", near)
			}
			return true
		}
		return false
	}
	filter := make([]string, 0, len(q.Filter))
	for n := range q.Filter {
		filter = append(filter, n)
	}
	slices.Sort(filter)
	_ = look("measures", q.Measures, measures) || look("group_by", q.GroupBy, dimensions) || look("filter", filter, dimensions)
	return param, hint
}

// strict reads one JSON value into the struct at v. Unknown fields, and
// anything after the value, are errors that are fit to be shown.
func strict(dec *json.Decoder, v any) error {
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return errors.New("there is something after the JSON object")
		}
		return nil
	}
	var big *http.MaxBytesError
	var kind *json.UnmarshalTypeError
	field, unknown := strings.CutPrefix(err.Error(), "json: unknown field ")
	switch {
	case errors.As(err, &big):
		return fmt.Errorf("the body is longer than %d bytes", big.Limit)
	case unknown:
		msg := "there is no field " + call.Clip(field, 80)
		if near := nearest(strings.Trim(field, `"`), fields(v)); near != "" {
			msg += fmt.Sprintf("; did you mean %q?", near)
		}
		return errors.New(msg)
	case errors.As(err, &kind):
		return fmt.Errorf("%s cannot be a JSON %s", kind.Field, kind.Value)
	case errors.Is(err, io.EOF):
		return errors.New("the body is empty: send a JSON object")
	}
	return errors.New("the body is not the JSON object expected: " + call.Clip(strings.TrimPrefix(err.Error(), "json: "), 200))
}

// fields are the JSON names of the struct at v.
func fields(v any) []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v).Elem()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// nearest is the known name within a few edits of name, or "".
func nearest(name string, known []string) string {
	if len(name) > 60 {
		return ""
	}
	best, least := "", len(name)/3+2
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
