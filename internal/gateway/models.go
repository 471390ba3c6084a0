package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// A Listed is a model that a key may call, by the name it would be called.
type Listed struct {
	Name  string
	Owner string // the provider of its first target
}

// Models lists what p may call by a plain name: aliases, then every catalogued
// model of a configured provider. p nil means everything.
func (c *Config) Models(p *call.Principal) []Listed {
	var list []Listed
	seen := map[string]bool{}
	add := func(name, owner string) {
		if !seen[name] && (p == nil || p.MayUse(name)) {
			seen[name] = true
			list = append(list, Listed{name, owner})
		}
	}
	for _, a := range c.Aliases {
		add(a.Alias, a.Targets[0].Provider.Name)
	}
	var names []Listed
	for _, m := range c.Prices.Models() {
		if r := c.find(m.ID); r != nil {
			names = append(names, Listed{m.ID, r.Targets[0].Provider.Name})
		}
	}
	slices.SortStableFunc(names, func(a, b Listed) int { return strings.Compare(a.Name, b.Name) })
	for _, n := range names {
		add(n.Name, n.Owner)
	}
	return list
}

// serveModels answers GET /v1/models in OpenAI's shape, or Anthropic's for a
// client that sends its version header, and GET /v1beta/models in Gemini's.
func (g *Gateway) serveModels(w http.ResponseWriter, r *http.Request) {
	c := g.config.Load()
	gemini, anthropic := strings.HasPrefix(r.URL.Path, "/v1beta/"), r.Header.Get("Anthropic-Version") != ""
	p, ok := c.Auth(call.Credential(r))
	if !ok {
		g.denied()
		d := provider.OpenAI
		switch {
		case gemini:
			d = provider.Gemini
		case anthropic:
			d = provider.Anthropic
		}
		writeError(w, d, &llm.Error{Class: llm.Unauthenticated, Code: "invalid_api_key", Msg: "no valid key"}, false)
		return
	}
	models := c.Models(p)
	var answer any
	type object = map[string]any
	rows := make([]object, len(models))
	switch {
	case gemini:
		for i, m := range models {
			rows[i] = object{"name": "models/" + m.Name, "displayName": m.Name, "supportedGenerationMethods": []string{"generateContent", "streamGenerateContent"}}
		}
		answer = object{"models": rows}
	case anthropic:
		for i, m := range models {
			rows[i] = object{"type": "model", "id": m.Name, "display_name": m.Name, "created_at": "1970-01-01T00:00:00Z"}
		}
		first, last := "", ""
		if len(models) > 0 {
			first, last = models[0].Name, models[len(models)-1].Name
		}
		answer = object{"data": rows, "has_more": false, "first_id": first, "last_id": last}
	default:
		for i, m := range models {
			rows[i] = object{"id": m.Name, "object": "model", "created": 0, "owned_by": m.Owner}
		}
		answer = object{"object": "list", "data": rows}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}
