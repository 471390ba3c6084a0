package price

import (
	"cmp"
	"encoding/json"
	"slices"
)

// A Change is a row that two catalogues do not have in common.
type Change struct {
	Change   string `json:"change"` // added, changed or removed
	Provider string `json:"provider"`
	Model    string `json:"model"`
	Row      string `json:"row"`
	Before   *Row   `json:"before"` // nil if it was added
	After    *Row   `json:"after"`  // nil if it was removed
}

// Diff lists the rows that differ in what they cost or when they hold, by
// provider, model and row.
func Diff(before, after *Catalogue) []Change {
	type key struct{ provider, model, row string }
	rows := func(c *Catalogue) map[key]*Row {
		m := map[key]*Row{}
		for i := range c.models {
			for j := range c.models[i].Rows {
				r := &c.models[i].Rows[j]
				m[key{c.models[i].Provider, c.models[i].ID, r.Row}] = r
			}
		}
		return m
	}
	old, now := rows(before), rows(after)
	list := []Change{}
	for k, r := range now {
		switch was := old[k]; {
		case was == nil:
			list = append(list, Change{"added", k.provider, k.model, k.row, nil, r})
		case was.facts() != r.facts():
			list = append(list, Change{"changed", k.provider, k.model, k.row, was, r})
		}
	}
	for k, r := range old {
		if now[k] == nil {
			list = append(list, Change{"removed", k.provider, k.model, k.row, r, nil})
		}
	}
	slices.SortFunc(list, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Row, b.Row))
	})
	return list
}

// facts is what of a row makes a price.
func (r *Row) facts() string {
	f := *r
	f.Label, f.Source, f.Origin, f.Dated = "", "", "", ""
	b, _ := json.Marshal(&f) // fails for no row
	return string(b)
}
