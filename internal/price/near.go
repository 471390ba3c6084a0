package price

import (
	"slices"
	"strings"
)

// Near lists at most n model ids that look like name, the likest first: what
// somebody who mistyped may have meant.
func (c *Catalogue) Near(name string, n int) []string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	if name == "" || len(name) > 128 {
		return nil
	}
	type scored struct {
		id   string
		dist int
	}
	var list []scored
	low := plain(name)
	for i := range c.models {
		id := c.models[i].ID
		d := distance(low, plain(id))
		if strings.HasPrefix(plain(id), low) {
			d = min(d, 2) // a name cut short: claude-sonnet
		}
		if d <= max(2, len(name)/3) {
			list = append(list, scored{id, d})
		}
	}
	slices.SortStableFunc(list, func(a, b scored) int { return a.dist - b.dist })
	var ids []string
	for _, s := range list {
		if len(ids) < n && !slices.Contains(ids, s.id) {
			ids = append(ids, s.id)
		}
	}
	return ids
}

// plain takes away what people mix up: case, and which mark stands between words.
func plain(s string) string {
	return strings.NewReplacer(".", "-", "_", "-", " ", "-").Replace(strings.ToLower(s))
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			d := diag
			if a[i-1] != b[j-1] {
				d++
			}
			diag = row[j]
			row[j] = min(d, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
