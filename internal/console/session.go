package console

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

const (
	cookieName  = "sheepgate_session"
	sessionLife = 7 * 24 * time.Hour
	maxLogin    = 4 << 10 // bytes of a login
)

// cookieOf is the session's id in the request, "" if it has none.
func cookieOf(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	return c.Value
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
	s.end(r)
	id, err := s.Sessions.Start(in.Key, sessionLife)
	if err != nil {
		s.Log.Warn("a session will not outlive the process", "err", err)
	}
	http.SetCookie(w, cookie(r, id, int(sessionLife/time.Second)))
	s.whoami(w, r, p)
}

func (s *Console) logout(w http.ResponseWriter, r *http.Request) {
	if !sameOrigin(r) {
		fail(w, http.StatusForbidden, "cross_origin", "", "sign out from the console's own page")
		return
	}
	s.end(r)
	http.SetCookie(w, cookie(r, "", -1))
	w.WriteHeader(http.StatusNoContent)
}

// end ends the request's session, if it has one.
func (s *Console) end(r *http.Request) {
	if id := cookieOf(r); id != "" {
		if err := s.Sessions.End(id); err != nil {
			s.Log.Error("a session could not be ended for good", "err", err)
		}
	}
}

// session says who is signed in: nobody is an answer too, for a page that has
// just been opened.
func (s *Console) session(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.Sessions.Find(cookieOf(r)); header(r) == "" && !ok {
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
		Example  string `json:"example_model"`
	}{true, p.Key, p.Admin, s.Zone.String(), s.Version, s.DemoKey != "", "", s.Example}
	if p.Admin {
		me.DemoKey = s.DemoKey
	}
	answer(w, http.StatusOK, me)
}
