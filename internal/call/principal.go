package call

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Principal is who asks: what is left of a credential once it has been
// checked. Nothing behind the door sees the credential itself.
type Principal struct {
	Key     string    // the key's name
	Team    string    // "" if none
	Models  []string  // aliases and models it may use; empty means all
	Expires time.Time // the credential is good before; zero means for ever. The Auth sees to it.
	Admin   bool      // may use /api/v1 and see everything
	Metrics bool      // may read /v1/metrics in full
	Data    bool      // may make calls
}

// MayUse reports whether p may call the model or alias that a client named.
func (p *Principal) MayUse(model string) bool {
	return p.Data && (len(p.Models) == 0 || slices.Contains(p.Models, model))
}

// An Auth checks a credential. It compares digests in constant time.
type Auth func(secret string) (*Principal, bool)

// Credential finds the key in a request, wherever a client's SDK puts it:
// Authorization: Bearer, x-api-key, x-goog-api-key or ?key=. It is the only
// place that looks for one.
func Credential(r *http.Request) string {
	if s := r.Header.Get("Authorization"); s != "" {
		if scheme, key, ok := strings.Cut(s, " "); ok && strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(key)
		}
	}
	for _, h := range [...]string{"X-Api-Key", "X-Goog-Api-Key"} {
		if s := r.Header.Get(h); s != "" {
			return s
		}
	}
	if !strings.Contains(r.URL.RawQuery, "key=") {
		return ""
	}
	return r.URL.Query().Get("key")
}
