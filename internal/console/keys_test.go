package console

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/state"
)

// A shownKey is a key as the API shows it.
type shownKey struct {
	Name, Source, State, Last4, Team string
	Models, Budget                   []string
	Limits                           map[string]*int64
	Metadata                         map[string]string
	Expires                          *time.Time `json:"expires_at"`
	Grace                            *time.Time `json:"grace_until"`
}

type made struct {
	Key    shownKey
	Secret string
}

func (s *site) refuses(key, method, path, body string, status int, param, text string) {
	s.Helper()
	var e apiError
	s.do(key, method, path, body, status, &e)
	got := ""
	if e.Error.Param != nil {
		got = *e.Error.Param
	}
	if got != param || !strings.Contains(e.Error.Message, text) || e.Error.Code == "" {
		s.Errorf("%s %s %s = %+v (param %q), want %q with %q", method, path, body, e.Error, got, param, text)
	}
}

func TestKeysAPI(t *testing.T) {
	s := newSite(t)
	var m made
	in := fmt.Sprintf(`{"name":"팀/하나","team":"blue","models":["fast"],"limits":{"rpm":60,"concurrent":2},"budget":["$5/day"],"expires_at":%q,"metadata":{"owner":"kim","x":"y"}}`, time.Now().Add(time.Hour).Format(time.RFC3339))
	res := s.do("the-admin", "POST", "/api/v1/keys", in, 201, &m)
	if k := m.Key; k.Name != "팀/하나" || k.Source != "runtime" || k.State != "active" || k.Team != "blue" || *k.Limits["rpm"] != 60 || k.Limits["tpm"] != nil || k.Metadata["owner"] != "kim" || k.Expires == nil || m.Secret[len(m.Secret)-4:] != k.Last4 {
		t.Errorf("created %+v", m)
	}
	if got := res.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("the answer with the secret is %q", got)
	}
	path := "/api/v1/keys/" + url.PathEscape(m.Key.Name)
	s.do(m.Secret, "GET", "/api/v1/calls", "", 200, nil)
	var k shownKey
	s.do("the-admin", "GET", path, "", 200, &k)
	patch := func(body string) shownKey {
		t.Helper()
		var k shownKey
		s.do("the-admin", "PATCH", path, body, 200, &k)
		return k
	}
	if k = patch(`{"limits":{"tpm":1000,"rpm":null},"metadata":{"x":null,"z":"1"}}`); k.Limits["rpm"] != nil || *k.Limits["tpm"] != 1000 || *k.Limits["concurrent"] != 2 || len(k.Metadata) != 2 || k.Metadata["z"] != "1" || k.Team != "blue" || len(k.Models) != 1 || k.Expires == nil {
		t.Errorf("a patch of some = %+v", k)
	}
	if k = patch(`{"team":null,"limits":null,"metadata":null,"models":[],"budget":null,"expires_at":null}`); k.Team != "" || k.Limits["tpm"] != nil || len(k.Metadata) != 0 || len(k.Models) != 0 || len(k.Budget) != 0 || k.Expires != nil {
		t.Errorf("a patch to nothing = %+v", k)
	}
	if k = patch(`{"team":"green"}`); k.Team != "green" {
		t.Errorf("a patch of the team = %+v", k)
	}
	var next made
	s.do("the-admin", "POST", path+"/rotate", "", 200, &next)
	s.do(m.Secret, "GET", "/api/v1/calls", "", 401, nil)
	s.do(next.Secret, "GET", "/api/v1/calls", "", 200, nil)
	s.do("the-admin", "POST", path+"/rotate", `{"grace":"1h"}`, 200, &m)
	if m.Key.Grace == nil || time.Until(*m.Key.Grace) > time.Hour || m.Secret == next.Secret {
		t.Errorf("rotated with grace = %+v", m.Key)
	}
	s.do(next.Secret, "GET", "/api/v1/calls", "", 200, nil)
	s.do(m.Secret, "GET", "/api/v1/calls", "", 200, nil)
	s.do("the-admin", "DELETE", path, "", 200, &k)
	if k.State != "revoked" {
		t.Errorf("revoked = %+v", k)
	}
	s.do(next.Secret, "GET", "/api/v1/calls", "", 401, nil)
	s.do(m.Secret, "GET", "/api/v1/calls", "", 401, nil)
	s.do("the-admin", "DELETE", path, "", 200, nil) // once more changes nothing

	var log struct {
		Entries []struct {
			Seq                   int64
			Actor, Action, Object string
			Before, After         map[string]any
			Prev, Hash            string
		}
		Next string
	}
	res = s.do("the-admin", "GET", "/api/v1/audit?limit=4&object="+url.QueryEscape("key:팀/하나"), "", 200, &log)
	if len(log.Entries) != 4 || log.Entries[0].Action != "key.revoke" || log.Entries[0].Actor != "admin" || log.Entries[0].Prev != log.Entries[1].Hash || log.Entries[0].Before["state"] != "active" || log.Entries[0].After["state"] != "revoked" || log.Next == "" {
		t.Errorf("audit = %+v", log)
	}
	s.do("the-admin", "GET", "/api/v1/audit?limit=4&cursor="+log.Next, "", 200, &log)
	if n := len(log.Entries); n != 3 || log.Entries[2].Seq != 1 || log.Entries[2].Before != nil || log.Next != "" {
		t.Errorf("the next page = %+v", log)
	}
	_ = res
}

func TestKeysAPIRefuses(t *testing.T) {
	s := newSite(t)
	var m made
	s.do("the-admin", "POST", "/api/v1/keys", `{"name":"x"}`, 201, &m)
	for _, body := range []struct{ body, param, text string }{
		{``, "", "empty"},
		{`{"name":"y"} {}`, "", "after the JSON object"},
		{`[]`, "", ""},
		{`{"name":"y","taem":"a"}`, "", `did you mean "team"?`},
		{`{"nam":"y"}`, "", `did you mean "name"?`},
		{`{"name":"y","secret":"mine"}`, "", "no field"},
		{`{"name":"y","limits":{"rps":1}}`, "", "rps"},
		{`{"name":"y","limits":{"rpm":"60"}}`, "", "limits.rpm cannot be a JSON string"},
		{`{"name":"y","limits":{"rpm":1.5}}`, "", "limits.rpm cannot be a JSON number 1.5"},
		{`{"name":"y","limits":{"rpm":0}}`, "limits.rpm", "null for none"},
		{`{"name":"y","limits":{"tpm":-5}}`, "limits.tpm", "is -5"},
		{`{"name":"y","limits":{"input_tpm":1000000000000001}}`, "limits.input_tpm", "10^15"},
		{`{"name":"y","models":["nosuch"]}`, "models", "near: fast"},
		{`{"name":"y","expires_at":"2020-01-01T00:00:00Z"}`, "expires_at", "in the past"},
		{`{"name":"y","expires_at":"tomorrow"}`, "", ""},
		{`{"name":"y","metadata":{"a":1}}`, "", ""},
		{`{"name":""}`, "name", "is not a name"},
		{`{"name":"admin"}`, "name", "admin"},
	} {
		s.refuses("the-admin", "POST", "/api/v1/keys", body.body, 400, body.param, body.text)
	}
	s.refuses("the-admin", "POST", "/api/v1/keys", `{"name":"x"}`, 409, "name", `there is a key "x"`)
	s.refuses("the-admin", "POST", "/api/v1/keys", `{"name":"a"}`, 409, "name", "the configuration has")
	s.refuses("the-admin", "POST", "/api/v1/keys", `{"name":"`+strings.Repeat("x", maxKeyBody)+`"}`, 413, "", "longer than")
	s.refuses("the-admin", "PATCH", "/api/v1/keys/x", `{"name":"z"}`, 400, "", "no field")
	s.refuses("the-admin", "PATCH", "/api/v1/keys/x", `{"source":"config"}`, 400, "", "no field")
	s.refuses("the-admin", "PATCH", "/api/v1/keys/x", `null`, 400, "", "JSON object")
	s.refuses("the-admin", "PATCH", "/api/v1/keys/x", `{"limits":{"rpm":-1}}`, 400, "limits.rpm", "is -1")
	s.refuses("the-admin", "PATCH", "/api/v1/keys/none", `{}`, 404, "", `no key "none"`)
	s.refuses("the-admin", "GET", "/api/v1/keys/none", ``, 404, "", `no key "none"`)
	s.refuses("the-admin", "POST", "/api/v1/keys/none/rotate", ``, 404, "", "")
	s.refuses("the-admin", "POST", "/api/v1/keys/x/rotate", `{"grace":"soon"}`, 400, "grace", "30m")
	s.refuses("the-admin", "POST", "/api/v1/keys/x/rotate", `{"grace":"-1h"}`, 400, "grace", "")
	s.refuses("the-admin", "POST", "/api/v1/keys/x/rotate", `{"grease":"1h"}`, 400, "", `did you mean "grace"?`)
	for _, c := range [][3]string{{"PATCH", "/api/v1/keys/a", `{"team":"x"}`}, {"DELETE", "/api/v1/keys/a", ""}, {"POST", "/api/v1/keys/a/rotate", ""}} {
		s.refuses("the-admin", c[0], c[1], c[2], 409, "", "is set in the configuration: change it there")
	}
	s.refuses("the-admin", "GET", "/api/v1/keys?sate=active", "", 400, "sate", `did you mean "state"?`)
	s.refuses("the-admin", "GET", "/api/v1/keys?state=dead", "", 400, "state", "active, expired, revoked")
	s.refuses("the-admin", "GET", "/api/v1/keys?limit=1001", "", 400, "limit", "1 to 1000")
	s.refuses("the-admin", "GET", "/api/v1/audit?cursor=x", "", 400, "cursor", "")
	// A data key, and one for metrics.
	for _, c := range [][2]string{{"GET", "/api/v1/keys"}, {"POST", "/api/v1/keys"}, {"GET", "/api/v1/keys/x"}, {"PATCH", "/api/v1/keys/x"}, {"DELETE", "/api/v1/keys/x"}, {"POST", "/api/v1/keys/x/rotate"}, {"GET", "/api/v1/audit"}} {
		for _, key := range []string{"the-a", m.Secret, "the-scrap"} {
			s.refuses(key, c[0], c[1], `{"name":"mine"}`, 403, "", "")
		}
		s.refuses("", c[0], c[1], `{"name":"mine"}`, 401, "", "")
		s.refuses("wrong", c[0], c[1], `{"name":"mine"}`, 401, "", "")
	}
	var page struct{ Total int }
	if s.do("the-admin", "GET", "/api/v1/keys", "", 200, &page); page.Total != 4 {
		t.Errorf("%d keys after all that, want a, b, grafana and x", page.Total)
	}
}

// A page of another site cannot change keys in the name of one that is signed
// in; the console's own can.
func TestKeysFromPages(t *testing.T) {
	s := newSite(t)
	c := s.do("", "POST", "/api/v1/session", `{"key":"the-admin"}`, 200, nil).Cookies()[0]
	ask := func(method, path, body, header, value string, want int) {
		t.Helper()
		req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.AddCookie(c)
		req.Header.Set(header, value)
		s.send(req, want, nil)
	}
	for _, from := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		ask("POST", "/api/v1/keys", `{"name":"x"}`, from[0], from[1], 403)
		ask("PATCH", "/api/v1/keys/x", `{"team":"x"}`, from[0], from[1], 403)
		ask("DELETE", "/api/v1/keys/x", "", from[0], from[1], 403)
		ask("POST", "/api/v1/keys/x/rotate", "", from[0], from[1], 403)
	}
	ask("POST", "/api/v1/keys", `{"name":"x"}`, "Sec-Fetch-Site", "same-origin", 201)
	if list, err := s.state.Audit(t.Context(), "", 0, 10); err != nil || len(list) != 1 || list[0].Actor != "admin (console)" {
		t.Errorf("audit = %+v, %v", list, err)
	}
}

func TestKeysInPages(t *testing.T) {
	s := newSite(t)
	for n := range 7 {
		s.do("the-admin", "POST", "/api/v1/keys", fmt.Sprintf(`{"name":"k%d","team":"T%d"}`, n, n%2), 201, nil)
	}
	s.do("the-admin", "DELETE", "/api/v1/keys/k3", "", 200, nil)
	names := func(query string) (all string) {
		t.Helper()
		for cursor := ""; ; {
			var page struct {
				Keys []shownKey
				Next string
			}
			s.do("the-admin", "GET", "/api/v1/keys?limit=2&"+query+"&cursor="+url.QueryEscape(cursor), "", 200, &page)
			for _, k := range page.Keys {
				all += k.Name + " "
			}
			if cursor = page.Next; cursor == "" {
				return strings.TrimSpace(all)
			}
		}
	}
	for query, want := range map[string]string{
		"": "a b grafana k0 k1 k2 k3 k4 k5 k6", "source=config": "a b grafana", "state=revoked": "k3", "q=t1": "k1 k3 k5", "q=K6": "k6", "q=t1&state=active": "k1 k5", "q=none": "",
	} {
		if got := names(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestUsage(t *testing.T) {
	s := newSite(t)
	var m made
	s.do("the-admin", "POST", "/api/v1/keys", `{"name":"mine","team":"blue","models":["fast"],"limits":{"rpm":7},"budget":["$9/month"],"expires_at":"2099-01-01T00:00:00Z"}`, 201, &m)
	now := time.Now().UTC()
	y, mo, _ := now.Date()
	var calls []*call.Call
	for i, at := range []time.Time{now, now, time.Date(y, mo, 1, 0, 0, 1, 0, time.UTC), time.Date(y, mo, 1, 0, 0, 0, 0, time.UTC).Add(-time.Second)} {
		c := sample(i, "mine")
		c.StartedAt, c.ID = at.Truncate(time.Microsecond), call.NewID(at)
		calls = append(calls, c)
	}
	other := sample(9, "a")
	other.StartedAt, other.ID = now, call.NewID(now)
	s.put(append(calls, other)...)
	var u struct {
		Key, Team, State string
		Models, Budget   []string
		Expires          *time.Time `json:"expires_at"`
		Limits           map[string]*int64
		Today, Month     struct {
			Requests int64
			Cost     int64 `json:"cost_nano_usd"`
			Input    int64 `json:"input_tokens"`
		}
	}
	for _, c := range [][2]string{{m.Secret, ""}, {m.Secret, "?key=mine"}, {"the-admin", "?key=mine"}} {
		s.do(c[0], "GET", "/api/v1/usage"+c[1], "", 200, &u)
		today := int64(2)
		if now.Day() == 1 {
			today = 3
		}
		if u.Key != "mine" || u.Team != "blue" || u.State != "active" || len(u.Models) != 1 || u.Budget[0] != "$9/month" || *u.Limits["rpm"] != 7 || u.Expires == nil || u.Today.Requests != today || u.Month.Requests != 3 || u.Month.Cost != 3*238_000 || u.Month.Input != 3*23 {
			t.Errorf("usage%s = %+v", c[1], u)
		}
	}
	s.refuses(m.Secret, "GET", "/api/v1/usage?key=a", "", 403, "key", "itself")
	s.refuses("the-admin", "GET", "/api/v1/usage?key=none", "", 404, "key", `no key "none"`)
	s.refuses("the-scrap", "GET", "/api/v1/usage", "", 403, "", "metrics")
	s.refuses("the-admin", "GET", "/api/v1/usage?kee=a", "", 400, "kee", `did you mean "key"?`)
	s.do("the-admin", "GET", "/api/v1/usage", "", 200, &u)
	if u.Key != "admin" || u.Today.Requests != 0 {
		t.Errorf("usage of the admin = %+v", u)
	}
}

// No answer, and no log, holds a credential or a digest, but for the one that
// made it.
func TestSecretsAreSaidOnce(t *testing.T) {
	s := newSite(t)
	var m made
	s.do("the-admin", "POST", "/api/v1/keys", `{"name":"x"}`, 201, &m)
	d := s.state.Digest(m.Secret)
	for _, path := range []string{"/api/v1/keys", "/api/v1/keys/x", "/api/v1/audit", "/api/v1/usage?key=x"} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
		req.Header.Set("Authorization", "Bearer the-admin")
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		_, _ = b.ReadFrom(res.Body)
		res.Body.Close()
		if text := b.String(); res.StatusCode != 200 || strings.Contains(text, m.Secret) || strings.Contains(text, hex.EncodeToString(d[:])) || strings.Contains(text, m.Secret[:8]) {
			t.Errorf("%s: %d %s", path, res.StatusCode, text)
		}
	}
}

// TestStreamEndsWithItsKey: the live stream of a key, and of a session begun
// with it, ends when the key is revoked.
func TestStreamEndsWithItsKey(t *testing.T) {
	s := newSite(t)
	var m made
	s.do("the-admin", "POST", "/api/v1/keys", `{"name":"x"}`, 201, &m)
	c := s.do("", "POST", "/api/v1/session", `{"key":"`+m.Secret+`"}`, 200, nil).Cookies()[0]
	for _, set := range []func(*http.Request){func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+m.Secret) }, func(r *http.Request) { r.AddCookie(c) }} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/api/v1/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		set(req)
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		if !lines.Scan() {
			t.Fatal("no first event")
		}
		defer func() {
			for lines.Scan() {
			}
			if lines.Err() != nil {
				t.Errorf("it ended with %v", lines.Err())
			}
		}()
	}
	s.do("the-admin", "DELETE", "/api/v1/keys/x", "", 200, nil)
	s.do(m.Secret, "GET", "/api/v1/stream", "", 401, nil)
}

// FuzzKeySettings: what is read of a wish is a key or an error, and a patch with
// what a key shows of itself leaves it as it is.
func FuzzKeySettings(f *testing.F) {
	for _, s := range []string{
		`{"name":"x","team":"a","models":["fast"],"limits":{"rpm":1},"budget":["$1/day"],"metadata":{"a":"b"},"expires_at":"2099-01-01T00:00:00Z"}`,
		`{"limits":null,"metadata":{"a":null},"models":[null]}`, `{"name":1}`, `null`, `{"limits":{"rpm":-1}}`, `{"expires_at":"9999-12-31T23:59:59Z"}`, `{"name":"x"}{`, ``, `{"team":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := readKey(body)
		if err != nil {
			return
		}
		var k state.Key
		if err := in.apply(&k); err != nil {
			if !errors.As(err, new(*state.KeyError)) {
				t.Fatal(err)
			}
			return
		}
		before, err := json.Marshal(&k)
		if err != nil {
			return // a year past 9999
		}
		if err := editKey(&k, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		after, err := json.Marshal(&k)
		if err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s became %s, %v", before, after, err)
		}
		_ = editKey(&k, body) // must not panic
	})
}
