package store

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/sheepgate/sheepgate/internal/call"
)

// A QueryError says what is wrong with a question; its text is for the asker.
type QueryError struct{ Msg string }

func (e *QueryError) Error() string { return e.Msg }

func badQuery(format string, args ...any) error { return &QueryError{fmt.Sprintf(format, args...)} }

// dimensions are what Calls are grouped and filtered by, but for tag:NAME.
var dimensions = map[string]func(*call.Call) string{
	"origin":               func(c *call.Call) string { return c.Origin },
	"key":                  func(c *call.Call) string { return c.Key },
	"team":                 func(c *call.Call) string { return c.Team },
	"user":                 func(c *call.Call) string { return c.User },
	"session":              func(c *call.Call) string { return c.Session },
	"ingress":              func(c *call.Call) string { return c.Ingress },
	"model_requested":      func(c *call.Call) string { return c.ModelRequested },
	"provider":             func(c *call.Call) string { return c.Provider },
	"model":                func(c *call.Call) string { return c.Model },
	"response_model":       func(c *call.Call) string { return c.ResponseModel },
	"stream":               func(c *call.Call) string { return strconv.FormatBool(c.Stream) },
	"status":               func(c *call.Call) string { return string(c.Status) },
	"code":                 (*call.Call).Code,
	"http_status":          func(c *call.Call) string { return strconv.Itoa(c.HTTPStatus) },
	"error_class":          func(c *call.Call) string { return string(c.Error.Class) },
	"error_code":           func(c *call.Call) string { return c.Error.Code },
	"finish_reason":        func(c *call.Call) string { return string(c.FinishReason) },
	"native_finish_reason": func(c *call.Call) string { return c.NativeFinishReason },
	"usage_source":         func(c *call.Call) string { return string(c.Usage.Source) },
	"price_row":            func(c *call.Call) string { return c.PriceRow },
}

// Dimensions are the names of all dimensions but the tags, sorted.
func Dimensions() []string { return sortedKeys(dimensions) }

// TagPrefix begins the name of a dimension that is a tag.
const TagPrefix = "tag:"

// Dimension is the function that reads a dimension of a Call.
func Dimension(name string) (func(*call.Call) string, error) {
	if tag, ok := strings.CutPrefix(name, TagPrefix); ok && tag != "" {
		return func(c *call.Call) string { return c.Tags[tag] }, nil
	}
	if f, ok := dimensions[name]; ok {
		return f, nil
	}
	return nil, badQuery("%.60q is no dimension; there are %s and tag:NAME", name, strings.Join(Dimensions(), ", "))
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Check says which dimension of f does not exist.
func (f Filter) Check() error {
	for _, name := range sortedKeys(f) {
		if _, err := Dimension(name); err != nil {
			return err
		}
	}
	return nil
}

// Matches reports whether c has one of the values of every dimension named.
func (f Filter) Matches(c *call.Call) bool {
	for name, values := range f {
		dim, err := Dimension(name)
		if err != nil || !slices.Contains(values, dim(c)) {
			return false
		}
	}
	return true
}

// TextFields are the dimensions that List searches beside id, response_id, the
// error's message and the tags.
var TextFields = []string{"model", "model_requested", "user", "session"}

// HasText reports whether a Call holds text, lower-cased, in one of the fields
// that List searches.
func HasText(c *call.Call, text string) bool {
	has := func(s string) bool { return s != "" && strings.Contains(strings.ToLower(s), text) }
	if has(c.ID) || has(c.ResponseID) || has(c.Error.Message) {
		return true
	}
	for _, f := range TextFields {
		if has(dimensions[f](c)) {
			return true
		}
	}
	for k, v := range c.Tags {
		if has(k) || has(v) {
			return true
		}
	}
	return false
}
