package console

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/sheepgate/sheepgate/internal/call"
)

// limits lists what rules bound and have counted, what providers have left, and
// how long answers are. A data key sees its own rules and forecasts.
func (s *Console) limits(w http.ResponseWriter, _ *http.Request, p *call.Principal) {
	live := s.Live()
	out := struct {
		Rules     []call.LiveLimit    `json:"rules"`
		Providers []call.LiveModel    `json:"providers"`
		Forecasts []call.LiveForecast `json:"forecasts"`
		Events    []call.LiveMark     `json:"events"`
	}{live.Limits, live.Models, live.Forecasts, live.Marks}
	if !p.Admin {
		out.Rules = slices.DeleteFunc(slices.Clone(live.Limits), func(l call.LiveLimit) bool {
			return !(l.Key == p.Key || l.Key == "" && p.Team != "" && l.Team == p.Team)
		})
		out.Providers = nil // how others use them is not its business
		out.Forecasts = slices.DeleteFunc(slices.Clone(live.Forecasts), func(f call.LiveForecast) bool { return f.Key != p.Key })
	}
	if !p.Admin {
		out.Events = slices.DeleteFunc(slices.Clone(live.Marks), func(m call.LiveMark) bool {
			return !slices.ContainsFunc(out.Rules, func(l call.LiveLimit) bool { return l.Rule == m.Rule })
		})
	}
	out.Events = some(out.Events)
	for i := range out.Rules {
		if out.Rules[i].Budgets == nil {
			out.Rules[i].Budgets = []call.LiveBudget{}
		}
	}
	for i := range out.Providers {
		if out.Providers[i].Rooms == nil {
			out.Providers[i].Rooms = []call.LiveRoom{}
		}
	}
	out.Rules, out.Providers, out.Forecasts = some(out.Rules), some(out.Providers), some(out.Forecasts)
	answer(w, http.StatusOK, out)
}

// some is list, or an empty one for nil: JSON tells them apart.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// readAll reads a body, of what, of at most so many bytes. It has answered if it
// could not.
func readAll(w http.ResponseWriter, r *http.Request, most int64, what string) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		fail(w, http.StatusRequestEntityTooLarge, "too_large", "", fmt.Sprintf("%s is longer than %d bytes", what, big.Limit))
		return nil, false
	case err != nil:
		fail(w, http.StatusBadRequest, "incomplete_body", "", "the request ended early")
		return nil, false
	}
	return body, true
}

const maxEstimate = 8 << 20 // bytes of a request that is estimated

// estimate says what a request would come to, and whether it fits the limits of
// whoever asks. The admin, who makes no calls, asks for a key by ?key=NAME, or
// for one that nothing bounds.
func (s *Console) estimate(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	body, ok := readAll(w, r, maxEstimate, "the request")
	if !ok {
		return
	}
	v := r.URL.Query()
	if p.Admin {
		p = &call.Principal{Key: v.Get("key"), Team: v.Get("team"), Data: true}
	}
	e, refused := s.Estimate(p, call.Ask{Ingress: v.Get("ingress"), Model: v.Get("model"), Body: body})
	if refused != nil {
		fail(w, refused.HTTPStatus(), refused.Code, refused.Param, refused.Msg)
		return
	}
	answer(w, http.StatusOK, e)
}
