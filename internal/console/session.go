package console

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

const (
	cookieName  = "sheepgate_session"
	sessionLife = 7 * 24 * time.Hour
	maxSessions = 1000
	maxLogin    = 4 << 10 // bytes of a login
)

// sessions are the pages that are signed in. They live in memory: a restart
// signs everybody out. The key is looked up again at each request, so that a
// revoked key ends its sessions at once.
type sessions struct {
	mu   sync.Mutex
	byID map[string]session
}

type session struct {
	secret string
	ends   time.Time
}

// start makes a session and returns its id, which says nothing of the key.
func (s *sessions) start(secret string, now time.Time) string {
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[string]session{}
	}
	oldest := ""
	for k, v := range s.byID {
		if now.After(v.ends) {
			delete(s.byID, k)
		} else if oldest == "" || v.ends.Before(s.byID[oldest].ends) {
			oldest = k
		}
	}
	if len(s.byID) >= maxSessions {
		delete(s.byID, oldest)
	}
	s.byID[id] = session{secret, now.Add(sessionLife)}
	return id
}

// find is the key of the request's session, "" if it has none.
func (s *sessions) find(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.byID[c.Value]
	if !ok || time.Now().After(v.ends) {
		return ""
	}
	return v.secret
}

func (s *sessions) end(r *http.Request) {
	if c, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.byID, c.Value)
	}
}

// sameOrigin reports whether a request that changes something comes from our
// own pages, or from no page at all.
func sameOrigin(r *http.Request) bool {
	return new(http.CrossOriginProtection).Check(r) == nil
}

func cookie(r *http.Request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	}
}

// login changes a key into a cookie.
func (s *Console) login(w http.ResponseWriter, r *http.Request) {
	if !sameOrigin(r) {
		fail(w, http.StatusForbidden, "cross_origin", "", "sign in from the console's own page")
		return
	}
	var in struct {
		Key string `json:"key"`
	}
	if err := strict(json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLogin)), &in); err != nil {
		fail(w, http.StatusBadRequest, "invalid_request", "", err.Error())
		return
	}
	p, ok := s.Auth(in.Key)
	if in.Key == "" || !ok {
		fail(w, http.StatusUnauthorized, "invalid_api_key", "key", "this key is not known")
		return
	}
	if !p.Admin && !p.Data {
		fail(w, http.StatusForbidden, "forbidden", "key", "this key may read /v1/metrics and nothing else")
		return
	}
	s.sessions.end(r)
	http.SetCookie(w, cookie(r, s.sessions.start(in.Key, time.Now()), int(sessionLife/time.Second)))
	s.whoami(w, r, p)
}

func (s *Console) logout(w http.ResponseWriter, r *http.Request) {
	if !sameOrigin(r) {
		fail(w, http.StatusForbidden, "cross_origin", "", "sign out from the console's own page")
		return
	}
	s.sessions.end(r)
	http.SetCookie(w, cookie(r, "", -1))
	w.WriteHeader(http.StatusNoContent)
}

// session says who is signed in: nobody is an answer too, for a page that has
// just been opened.
func (s *Console) session(w http.ResponseWriter, r *http.Request) {
	if header(r) == "" && s.sessions.find(r) == "" {
		answer(w, http.StatusOK, map[string]bool{"signed_in": false})
		return
	}
	s.scoped(s.whoami)(w, r)
}

// whoami says who asks and what a page needs to know of the server.
func (s *Console) whoami(w http.ResponseWriter, _ *http.Request, p *call.Principal) {
	me := struct {
		SignedIn bool   `json:"signed_in"`
		Key      string `json:"key"`
		Admin    bool   `json:"admin"`
		Zone     string `json:"zone"`
		Version  string `json:"version"`
		Demo     bool   `json:"demo"`
		DemoKey  string `json:"demo_key"`
	}{true, p.Key, p.Admin, s.Zone.String(), s.Version, s.Demo, ""}
	if p.Admin {
		me.DemoKey = s.DemoKey
	}
	answer(w, http.StatusOK, me)
}
