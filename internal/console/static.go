package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/sheepgate/sheepgate/internal/call"
)

//go:embed dist
var dist embed.FS

//go:embed openapi.json
var openapiText []byte

// contentPolicy lets a page load and reach nothing but this server.
const contentPolicy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

// A file of the pages, ready to be sent.
type file struct {
	kind, etag    string
	plain, packed []byte
}

func newFile(name string, text []byte) *file {
	sum := sha256.Sum256(text)
	f := &file{kind: mime.TypeByExtension(path.Ext(name)), etag: `"` + hex.EncodeToString(sum[:12]) + `"`, plain: text}
	switch path.Ext(name) { // the system's table may differ
	case ".js":
		f.kind = "text/javascript; charset=utf-8"
	case ".css":
		f.kind = "text/css; charset=utf-8"
	case ".html":
		f.kind = "text/html; charset=utf-8"
	case ".json":
		f.kind = "application/json"
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = z.Write(text)                                  // a Buffer takes everything
	_ = z.Close()
	if b.Len() < len(text) {
		f.packed = b.Bytes()
	}
	return f
}

// files are packed once, when the first page is asked for.
var files = sync.OnceValue(func() map[string]*file {
	m := map[string]*file{}
	_ = fs.WalkDir(dist, "dist", func(p string, d fs.DirEntry, err error) error { // embedded: cannot fail
		if err == nil && !d.IsDir() {
			text, _ := dist.ReadFile(p)
			m[strings.TrimPrefix(p, "dist")] = newFile(p, text)
		}
		return nil
	})
	return m
})

var openapiFile = sync.OnceValue(func() *file { return newFile("openapi.json", openapiText) })

func (s *Console) openapi(w http.ResponseWriter, r *http.Request) { openapiFile().serve(w, r) }

// pages are the addresses that the script of index.html answers.
var pages = map[string]bool{"/": true, "/requests": true, "/keys": true, "/limits": true}

// page serves the web pages, and says of everything else that it is not there.
func (s *Console) page(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path
	if pages[name] {
		name = "/index.html"
	}
	f, ok := files()[name]
	switch {
	case ok && r.Method != http.MethodGet && r.Method != http.MethodHead:
		wrongMethod("GET, HEAD")(w, r)
		return
	case ok:
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		f.serve(w, r)
		return
	}
	fail(w, http.StatusNotFound, "unknown_route", "", "no such route: "+call.Clip(r.Method+" "+r.URL.Path, 120))
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache") // asked again each time, answered with 304
	h.Set("Vary", "Accept-Encoding")
	text := f.plain
	if f.packed != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		text = f.packed
	}
	h.Set("ETag", f.etag)
	if strings.Contains(r.Header.Get("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if r.Method != http.MethodHead {
		_, _ = w.Write(text) // the client may be gone
	}
}
