package gateway

import (
	"net/http"
	"sync/atomic"
	"time"
)

// Values of headers, shared by all answers.
var (
	jsonType    = []string{"application/json"}
	eventStream = []string{"text/event-stream"}
	noCache     = []string{"no-cache"}
	noBuffering = []string{"no"}
)

// lastDate is the Date header of the second for which it was asked last.
var lastDate atomic.Pointer[struct {
	second int64
	value  []string
}]

// date is the Date header of an answer. net/http would write it anew for each,
// on a stack that it doubles for it: 8 KiB more for each open stream.
func date(now time.Time) []string {
	s := now.Unix()
	last := lastDate.Load()
	if last == nil || last.second != s {
		last = &struct {
			second int64
			value  []string
		}{s, []string{now.UTC().Format(http.TimeFormat)}}
		lastDate.Store(last)
	}
	return last.value
}
