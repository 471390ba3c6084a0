package call

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestCredential(t *testing.T) {
	check := func(want string, target string, headers ...string) {
		t.Helper()
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{URL: u, Header: http.Header{}}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		if got := Credential(r); got != want {
			t.Errorf("Credential(%s, %q) = %q, want %q", target, headers, got, want)
		}
	}
	check("k", "/", "Authorization", "Bearer k")
	check("k", "/", "Authorization", "bearer  k ")
	check("k", "/", "X-Api-Key", "k")
	check("k", "/", "X-Goog-Api-Key", "k")
	check("k", "/?alt=sse&key=k")
	check("k", "/", "Authorization", "Basic eDp5", "X-Api-Key", "k") // another scheme is none of ours
	check("k", "/?key=k", "Authorization", "Bearer")                 // nor is one without a key
	check("a", "/?key=d", "Authorization", "Bearer a", "X-Api-Key", "b", "X-Goog-Api-Key", "c")
	check("", "/?monkey=k")
	check("", "/")
}

// FuzzCredential: what is found is what stands in one of the four places, in
// their order, whatever else the request holds.
func FuzzCredential(f *testing.F) {
	f.Add("Bearer k", "", "", "")
	f.Add("", "k", "", "")
	f.Add("Basic x", "", "k", "key=z")
	f.Add("Bearer\tk", " ", "", "key=%6b&key=b")
	f.Add("Bearer", "", "", "a;key=b")
	f.Add("bearer  a b ", "", "", "%zz&key=k")
	f.Fuzz(func(t *testing.T, authorization, apiKey, googKey, query string) {
		r := &http.Request{URL: &url.URL{Path: "/", RawQuery: query}, Header: http.Header{}}
		for name, v := range map[string]string{"Authorization": authorization, "X-Api-Key": apiKey, "X-Goog-Api-Key": googKey} {
			if v != "" {
				r.Header.Set(name, v)
			}
		}
		got := Credential(r)
		scheme, rest, bearer := strings.Cut(authorization, " ")
		bearer = bearer && strings.EqualFold(scheme, "Bearer")
		values, _ := url.ParseQuery(query) // what can be read of it counts
		switch {
		case bearer:
			if got != strings.TrimSpace(rest) {
				t.Errorf("%q of Authorization %q", got, authorization)
			}
		case apiKey != "":
			if got != apiKey {
				t.Errorf("%q of X-Api-Key %q", got, apiKey)
			}
		case googKey != "":
			if got != googKey {
				t.Errorf("%q of X-Goog-Api-Key %q", got, googKey)
			}
		case got != "" && got != values.Get("key"):
			t.Errorf("%q of the query %q", got, query)
		}
	})
}
