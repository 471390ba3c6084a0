// Package store keeps Calls and answers questions about them. Store is what an
// engine must do; Query is the one question that every chart, bill and report
// asks. The engines are sub-packages (local is the default), and storetest
// holds each of them to the same brute-force model.
//
// The data plane never imports it: a dead disk must not stop a request.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// ErrNotFound says that no Call, or no body, has the id.
var ErrNotFound = errors.New("not found")

// A Store keeps Calls. It is a call.Sink: Write trusts that the ids are new,
// as the data plane makes them.
type Store interface {
	call.Sink

	// Import adds the Calls whose id is not there yet and says how many.
	// Calls that repeat within the batch count once.
	Import(ctx context.Context, calls []*call.Call) (added int, err error)

	Get(ctx context.Context, id string) (*call.Call, error)      // or ErrNotFound
	Body(ctx context.Context, id string) (*call.Exchange, error) // or ErrNotFound: not kept, or expired
	List(ctx context.Context, q List) (Page, error)
	Query(ctx context.Context, q Query) (*Result, error)

	// Reprice changes what the Calls cost that r selects of those stored when it
	// begins, and says by model what became of them. Each Call has its old cost
	// or its new one at any time, whatever ends the process, and answers agree
	// with the Calls. If it ends with an error, what it says of has been done; to
	// go on it may be called again. A second one at a time is ErrBusy.
	Reprice(ctx context.Context, r Repricing) ([]Repriced, error)

	// Health says what does not work at the moment, nil if all does.
	Health() error
	Close() error
}

// A Filter selects Calls: every dimension named must have one of its values.
// Dimensions are those of GroupBy.
type Filter map[string][]string

// List asks for Calls, newest first.
type List struct {
	From, To time.Time // started_at in [From, To); zero means open
	Filter   Filter
	Text     string // found in id, response_id, error message, model, user, session or a tag; case-insensitive
	Limit    int    // at most MaxPage; 0 means 100
	Cursor   string // Next of the page before
}

// MaxPage is the most Calls of one Page.
const MaxPage = 1000

// A Page is a part of a list.
type Page struct {
	Calls []*call.Call `json:"calls"`
	Next  string       `json:"next"` // the cursor of the following page; "" at the end
}

// A Query asks for measures over time, grouped.
//
// Dimensions for GroupBy and Filter: origin, key, team, user, session, ingress,
// model_requested, provider, model, response_model, stream (true|false),
// status, code (call.Codes), http_status, error_class, error_code,
// finish_reason, native_finish_reason, usage_source, price_row and tag:NAME.
// Without a filter on origin the synthetic origins are left out.
type Query struct {
	From, To time.Time      // started_at in [From, To)
	Step     Step           // zero: one point for the whole range
	Zone     *time.Location // steps are aligned to its wall clock; nil means UTC
	GroupBy  []string       // empty: one series
	Filter   Filter
	Measures []string // in the order of a point's values
}

// MaxGroups bounds the series of a Result: the largest by the first measure
// stay, the rest are summed as Other.
const MaxGroups = 100

// Other is the value of every group_by dimension in the series that sums the
// groups past MaxGroups.
const Other = "other"

// A Result holds one series a group.
type Result struct {
	Series []Series `json:"series"`
	Total  Values   `json:"total"` // over the whole range and all groups
}

// Series are the points of one group, only those steps that hold a Call.
type Series struct {
	Group  map[string]string `json:"group"`
	Points []Point           `json:"points"`
	Total  Values            `json:"total"` // over the whole range
}

// A Point is one step: its start and the measures in the order asked. In JSON
// it is one array, [unix seconds, value, …].
type Point struct {
	Time   int64 // Unix seconds
	Values Values
}

// Values are measures in the order asked; null in JSON where there was nothing
// to measure. Counts, tokens and nano-USD are integers and written as such;
// milliseconds and rates are floats.
type Values []Value

// A Value is one measure. The zero Value is null.
type Value struct {
	Int   int64
	Float float64
	Kind  ValueKind
}

// ValueKind says which field of a Value holds it.
type ValueKind uint8

// The kinds.
const (
	Null ValueKind = iota
	Int
	Float
)

// MarshalJSON writes the number, or null.
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.Kind {
	case Int:
		return json.Marshal(v.Int)
	case Float:
		return json.Marshal(v.Float)
	}
	return []byte("null"), nil
}

// MarshalJSON writes [time, value, …].
func (p Point) MarshalJSON() ([]byte, error) {
	row := make([]any, 0, 1+len(p.Values))
	row = append(row, p.Time)
	for _, v := range p.Values {
		row = append(row, v)
	}
	return json.Marshal(row)
}
