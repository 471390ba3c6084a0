package console

import (
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// TestLimits: the admin sees every rule, a data key its own and its team's, and
// nothing of the providers.
func TestLimits(t *testing.T) {
	s := newSite(t)
	now := time.Now()
	s.live.Limits = []call.LiveLimit{
		{Rule: "key a", Key: "a", Requests: call.LiveRate{Limit: 60, Used: 3}, Budgets: []call.LiveBudget{{Amount: 5e9, Period: "day", From: now, To: now, Spent: 1, Exhausted: now}, {Amount: 5e9, Period: "total"}}},
		{Rule: "team red", Team: "red"}, {Rule: "key b", Key: "b"}, {Rule: "model m", Requested: "m"},
	}
	s.live.Models = []call.LiveModel{{Provider: "openai", Model: "gpt-4.1", State: "open", CoolUntil: now, Rooms: []call.LiveRoom{{Kind: "requests", Limit: 500, Remaining: 499, Full: now}}}, {Provider: "x", Model: "other"}}
	s.live.Forecasts = []call.LiveForecast{{Model: "m", Answers: 20}, {Key: "a", Model: "m", Answers: 30, P50: 5, P95: 9}}
	s.live.Marks = []call.LiveMark{{At: now, Rule: "key b", Percent: 90}, {At: now, Rule: "key a", Percent: 80, Period: "day", Spent: 4, Amount: 5}}
	var got struct {
		Events    []call.LiveMark
		Rules     []call.LiveLimit
		Providers []call.LiveModel
		Forecasts []call.LiveForecast
	}
	s.do("the-admin", "GET", "/api/v1/limits", "", 200, &got)
	if len(got.Rules) != 4 || len(got.Providers) != 2 || len(got.Forecasts) != 2 || len(got.Events) != 2 || got.Rules[0].Budgets[0].Amount != 5e9 || got.Providers[0].Rooms[0].Remaining != 499 {
		t.Errorf("the admin sees %+v", got)
	}
	s.do("the-a", "GET", "/api/v1/limits", "", 200, &got)
	if len(got.Rules) != 2 || got.Rules[0].Rule != "key a" || got.Rules[1].Rule != "team red" || len(got.Providers) != 0 || len(got.Forecasts) != 1 || len(got.Events) != 1 || got.Events[0].Percent != 80 || got.Forecasts[0].Key != "a" {
		t.Errorf("key a sees %+v", got)
	}
}
