package gateway

import (
	"net/http"
	"path"
	"strings"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/provider"
)

// Register adds the routes to mux. What lies below them and is no route is
// answered here too, in the dialect whose clients would ask for it.
func (g *Gateway) Register(mux *http.ServeMux) {
	route := func(method, path string, h http.HandlerFunc) {
		mux.HandleFunc(method+" "+path, h)
		if method == http.MethodGet {
			method = "GET, HEAD"
		}
		mux.HandleFunc(path, WrongMethod(method))
	}
	route("POST", "/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		g.serve(w, r, ingress{dialect: provider.OpenAI})
	})
	route("POST", "/v1/messages", func(w http.ResponseWriter, r *http.Request) {
		g.serve(w, r, ingress{dialect: provider.Anthropic})
	})
	route("POST", "/v1beta/models/{call...}", g.serveGemini)
	route("GET", "/v1/models", g.serveModels)
	route("GET", "/v1beta/models", g.serveModels)
	for _, p := range []string{"/v1", "/v1/", "/v1beta", "/v1beta/"} { // without the bare ones the mux would redirect
		mux.HandleFunc(p, unknownRoute)
	}
}

// dialectOf is the dialect whose clients would ask for a path.
func dialectOf(p string) provider.Dialect {
	switch {
	case p == "/v1beta", strings.HasPrefix(p, "/v1beta/"):
		return provider.Gemini
	case p == "/v1/messages", strings.HasPrefix(p, "/v1/messages/"):
		return provider.Anthropic
	}
	return provider.OpenAI
}

func unknownRoute(w http.ResponseWriter, r *http.Request) {
	writeError(w, dialectOf(path.Clean(r.URL.Path)), &llm.Error{Class: llm.NotFound, Code: "unknown_route",
		Msg: "no such route: " + printable(r.Method+" "+r.URL.Path, 120)}, false)
}

// WrongMethod answers what comes for a route with a method that it does not
// take. allow are those that it does.
func WrongMethod(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		writeError(w, dialectOf(r.URL.Path), &llm.Error{Class: llm.InvalidRequest, Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
			Msg: printable(r.Method, 20) + " is not a method of " + printable(r.URL.Path, 120) + ": use " + allow}, false)
	}
}

// Exact answers paths that are not written in their clean form, such as //v1 or
// /v1/../v1, with 404. A ServeMux would redirect them, which a client that
// posts does not expect, with HTML.
func Exact(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; (strings.Contains(p, "//") || strings.Contains(p, "/.") || !strings.HasPrefix(p, "/")) && unclean(r) {
			unknownRoute(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func unclean(r *http.Request) bool {
	p := r.URL.EscapedPath() // an escaped slash is part of a name
	clean := path.Clean("/" + p)
	return clean != p && clean+"/" != p
}

// printable is what may be shown of text from outside: at most n bytes, UTF-8.
func printable(s string, n int) string {
	return strings.ToValidUTF8(call.Clip(s, n), "\ufffd")
}
