package metrics

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/sheepgate/sheepgate/internal/call"
)

// Handler serves GET /v1/metrics: everything to the admin key and to keys that
// may read metrics, to another key the contract's four metrics of its own Calls.
func (m *Metrics) Handler(auth call.Auth) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := auth(call.Credential(r))
		if !ok {
			m.Unauthenticated()
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":{"message":"no valid key: send one as Authorization: Bearer","type":"authentication_error","param":null,"code":"invalid_api_key"}}`)
			return
		}
		if p.Admin || p.Metrics {
			m.full.ServeHTTP(w, r)
			return
		}
		t, ok := (*m.own.Load())[p.Key]
		if !ok {
			t = newTable(false)
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(collector{m, t.zeros(m.uses(p))})
		handler(reg).ServeHTTP(w, r)
	})
}

// handler serves the text, OpenMetrics and protobuf formats, whichever the
// client prefers.
func handler(g prometheus.Gatherer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		families, err := g.Gather()
		if err != nil { // our own bug: two series alike
			http.Error(w, "metrics: "+err.Error(), http.StatusInternalServerError)
			return
		}
		format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
		var b bytes.Buffer
		enc := expfmt.NewEncoder(&b, format)
		for _, f := range families {
			if err := enc.Encode(f); err != nil {
				http.Error(w, "metrics: "+err.Error(), http.StatusInternalServerError)
				return
			}
		}
		if c, ok := enc.(expfmt.Closer); ok {
			if err := c.Close(); err != nil {
				http.Error(w, "metrics: "+err.Error(), http.StatusInternalServerError)
				return
			}
		}
		text := b.Bytes()
		if format.FormatType() == expfmt.TypeTextPlain {
			text = wholeBounds.ReplaceAll(text, []byte(`${1}le="$2.0"`))
		}
		h := w.Header()
		h.Set("Content-Type", string(format))
		h.Add("Vary", "Accept, Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			_, _ = w.Write(text) // the client's loss
			return
		}
		h.Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(text)
		_ = z.Close()
	})
}

// wholeBounds finds le="1". OpenMetrics and Prometheus 3 write le="1.0" and so
// do the contract's queries; the text format's encoder and Prometheus 2 do not.
// https://prometheus.io/docs/prometheus/latest/migration/#le-and-quantile-label-values
var wholeBounds = regexp.MustCompile(`([{,])le="(\d+)"`)
