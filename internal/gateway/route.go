package gateway

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

const maxModelName = 128 // bytes

// route finds who can answer for a model name: an alias; provider/model; or a
// bare name that the catalogue gives to a configured provider.
func (c *Config) route(p *call.Principal, model string) (*Route, *llm.Error) {
	if model == "" {
		return nil, &llm.Error{Class: llm.InvalidRequest, Param: "model", Code: "missing_required_parameter", Msg: "model is missing"}
	}
	if len(model) > maxModelName {
		return nil, &llm.Error{Class: llm.InvalidRequest, Param: "model", Code: "invalid_value", Msg: fmt.Sprintf("model is longer than %d bytes", maxModelName)}
	}
	r := c.find(model)
	if r == nil {
		return nil, c.unknownModel(model)
	}
	if !p.MayUse(model) {
		return nil, &llm.Error{Class: llm.Forbidden, Code: "model_not_allowed", Param: "model",
			Msg: fmt.Sprintf("key %q may not use model %q", p.Key, printable(model, maxModelName))}
	}
	return r, nil
}

// validName refuses names that are none of a model and could be something else
// to an upstream that has the model in its path.
func validName(model string) bool {
	for part := range strings.SplitSeq(model, "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	return strings.IndexFunc(model, unicode.IsControl) < 0
}

func (c *Config) find(model string) *Route {
	for i := range c.Aliases {
		if c.Aliases[i].Alias == model {
			return &c.Aliases[i]
		}
	}
	if !validName(model) {
		return nil
	}
	if name, rest, ok := strings.Cut(model, "/"); ok && rest != "" {
		for i := range c.Providers {
			if c.Providers[i].Name == name {
				return &Route{Targets: []Target{{&c.Providers[i], rest}}}
			}
		}
	}
	homes := c.Prices.Home(model)
	for i := range c.Providers {
		for _, h := range homes {
			if c.Providers[i].Name == h {
				return &Route{Targets: []Target{{&c.Providers[i], model}}}
			}
		}
	}
	return nil
}

func (c *Config) unknownModel(model string) *llm.Error {
	e := &llm.Error{Class: llm.NotFound, Code: "model_not_found", Param: "model",
		Msg: fmt.Sprintf("model %q is neither an alias, nor provider/model of a configured provider, nor a name that the price catalogue gives to one", printable(model, maxModelName))}
	if homes := c.Prices.Home(model); len(homes) > 0 {
		e.Msg += "; it belongs to " + strings.Join(homes, " and ") + ", not configured here"
		return e
	}
	if near := c.near(model); len(near) > 0 {
		e.Msg += "; near: " + strings.Join(near, ", ")
	}
	return e
}

// near lists names like model that would have worked.
func (c *Config) near(model string) []string {
	var near []string
	for _, a := range c.Aliases {
		if strings.Contains(a.Alias, model) || strings.Contains(model, a.Alias) {
			near = append(near, a.Alias)
		}
	}
	for _, n := range c.Prices.Near(model, 8) {
		if len(near) < 4 && c.find(n) != nil {
			near = append(near, n)
		}
	}
	return near
}

// canonical is the name that reports group by: the catalogue's where it knows
// the model, else the one that was configured or asked for.
func (c *Config) canonical(t Target) (model string, known bool) {
	if m, ok := c.Prices.Find(t.Provider.Name, t.Model); ok {
		return m.ID, true
	}
	for i := range c.Aliases {
		for _, u := range c.Aliases[i].Targets {
			if u == t {
				return t.Model, true
			}
		}
	}
	return t.Model, false
}
