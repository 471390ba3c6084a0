package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/config"
)

// A testServer is the whole product on a loopback port.
type testServer struct {
	*server
	data string
	logs *bytes.Buffer
}

const testAdmin = "test-admin-key-0123456789"

// startTest serves a configuration with test keys until the test ends.
func startTest(t *testing.T, yaml string) *testServer {
	t.Helper()
	s := &testServer{data: t.TempDir(), logs: new(bytes.Buffer)}
	head := "listen: 127.0.0.1:0\ndata: " + strconv.Quote(s.data) + "\nadmin_key: " + testAdmin + "\n"
	s.serve(t, write(t, "test.yaml", head+yaml), nil)
	return s
}

// serveFile serves a configuration file until the test ends.
func serveFile(t *testing.T, file string, environ ...string) *testServer {
	t.Helper()
	s := &testServer{logs: new(bytes.Buffer)}
	s.serve(t, file, environ)
	return s
}

func (s *testServer) serve(t *testing.T, file string, environ []string) {
	t.Helper()
	c, _, err := config.Load(file, config.Options{Known: known(), Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	if s.server, err = startServer(c, slog.New(slog.NewTextHandler(s.logs, nil)), ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// do sends a request with a key and returns the answer with its body read.
func (s *testServer) do(t *testing.T, method, path, key string, body io.Reader) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, s.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, b
}

// send sends a recorded request to its own dialect's route.
func (s *testServer) send(t *testing.T, rec *recording) (*http.Response, []byte) {
	t.Helper()
	name := rec.Provider + "/" + rec.Model
	path, body := "/v1/chat/completions", rec.Request
	switch rec.Dialect {
	case "anthropic.messages":
		path = "/v1/messages"
	case "gemini.generate":
		method := ":generateContent"
		if rec.Stream {
			method = ":streamGenerateContent?alt=sse"
		}
		path = "/v1beta/models/" + name + method
	}
	if rec.Dialect != "gemini.generate" {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		m["model"] = json.RawMessage(strconv.Quote(name))
		body, _ = json.Marshal(m)
	}
	return s.do(t, "POST", path, "replay-key-0123456789", bytes.NewReader(body))
}

// call waits for a Call to be readable, which takes a second at most.
func (s *testServer) call(t *testing.T, id string) *call.Call {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; { // a second is promised, of a machine that has one
		res, body := s.do(t, "GET", "/api/v1/calls/"+id, testAdmin, nil)
		if res.StatusCode == http.StatusOK {
			c := new(call.Call)
			if err := json.Unmarshal(body, c); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("call %s: %d %s", id, res.StatusCode, body)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// compareSums holds what the Calls sum to against /v1/metrics and a query.
func compareSums(t *testing.T, s *testServer, want sums) {
	t.Helper()
	_, text := s.do(t, "GET", "/v1/metrics", testAdmin, nil)
	got := sums{
		requests: metricSum(t, text, "holysheep_request_total", 1),
		input:    metricSum(t, text, `holysheep_tokens_total`, 1, `type="input"`),
		output:   metricSum(t, text, `holysheep_tokens_total`, 1, `type="output"`),
		cost:     metricSum(t, text, "holysheep_cost_total", 1e9),
	}
	if got != want {
		t.Errorf("/v1/metrics sums to %+v, the calls to %+v", got, want)
	}
	now := time.Now().UTC()
	q, _ := json.Marshal(map[string]any{"from": now.Add(-time.Hour), "to": now.Add(time.Hour), "step": "1m", "group_by": []string{"model"},
		"measures": []string{"requests", "input_tokens", "output_tokens", "cost_nano_usd"}})
	res, body := s.do(t, "POST", "/api/v1/query", testAdmin, bytes.NewReader(q))
	var answer struct {
		Series []struct {
			Points [][]int64 `json:"points"`
		} `json:"series"`
		Total []int64 `json:"total"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("query: %d %v %.300s", res.StatusCode, err, body)
	}
	if got := (sums{answer.Total[0], answer.Total[1], answer.Total[2], answer.Total[3]}); got != want {
		t.Errorf("the query's total is %+v, the calls sum to %+v", got, want)
	}
	var points sums
	for _, series := range answer.Series {
		for _, p := range series.Points {
			points = sums{points.requests + p[1], points.input + p[2], points.output + p[3], points.cost + p[4]}
		}
	}
	if points != want {
		t.Errorf("the query's points sum to %+v, the calls to %+v", points, want)
	}
}

// metricSum adds a metric's samples, each times unit, that have all the labels.
func metricSum(t *testing.T, text []byte, name string, unit float64, labels ...string) (sum int64) {
	t.Helper()
lines:
	for _, line := range strings.Split(string(text), "\n") {
		rest, ok := strings.CutPrefix(line, name+"{")
		if !ok {
			continue
		}
		set, value, _ := strings.Cut(rest, "} ")
		for _, l := range labels {
			if !strings.Contains(set, l) {
				continue lines
			}
		}
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += int64(f*unit + 0.5)
	}
	return sum
}
