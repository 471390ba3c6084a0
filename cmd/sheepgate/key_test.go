package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/state"
)

// TestKeyCommands: the same at a running server and in the state of a stopped
// one. The secret is alone on standard output.
func TestKeyCommands(t *testing.T) {
	s := startTest(t, "providers: { ollama: }\nmodels: { fast: { use: ollama/qwen3 } }\nkeys: { fixed: { key: fixed-key-0123456789, team: red, models: [fast], budget: $5/day, limits: { rpm: 60 } } }\n")
	t.Run("running", func(t *testing.T) {
		keyCommands(t, []string{"SHEEPGATE_URL=" + s.url, "SHEEPGATE_ADMIN_KEY=" + testAdmin}, nil)
		list, err := s.state.Audit(t.Context(), "key:team-a", 0, 10)
		if err != nil || len(list) != 4 || list[0].Actor != "admin" {
			t.Errorf("audit = %v, %v", list, err)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		data := t.TempDir()
		conf := write(t, "c.yaml", fmt.Sprintf("data: %q\nproviders: { ollama: }\nmodels: { fast: { use: ollama/qwen3 } }\nkeys: { fixed: { key: env:FIXED, team: red, models: [fast], budget: $5/day, limits: { rpm: 60 } } }\n", data))
		keyCommands(t, []string{"FIXED=fixed-key-0123456789"}, []string{"--config", conf})
		if n, err := state.VerifyAudit(t.Context(), data); err != nil || n != 4 {
			t.Errorf("VerifyAudit = %d, %v", n, err)
		}
	})
	conf := write(t, "c.yaml", fmt.Sprintf("data: %q\nproviders: { ollama: }\n", s.data))
	if r := cli(t, nil, "key", "list", "--config", conf); r.code != exitFailed || !strings.Contains(r.stderr, "while a server runs, leave --config out") {
		t.Errorf("beside a server: %+v", r)
	}
	if strings.Contains(s.logs.String(), "sg-") {
		t.Errorf("the log holds a secret: %s", s.logs)
	}
}

func keyCommands(t *testing.T, environ, where []string) {
	run := func(want int, args ...string) result {
		t.Helper()
		r := cli(t, environ, append(append([]string{"key"}, args...), where...)...)
		if r.code != want {
			t.Errorf("key %v: %+v, want code %d", args, r, want)
		}
		return r
	}
	secret := func(r result) string {
		t.Helper()
		if !strings.HasPrefix(r.stdout, "sg-") || strings.Count(r.stdout, "\n") != 1 || strings.Contains(r.stderr, "sg-") || !strings.Contains(r.stderr, `"team-a"`) {
			t.Errorf("not a secret alone: %+v", r)
		}
		return strings.TrimSpace(r.stdout)
	}
	first := secret(run(exitOK, "create", "team-a", "--team", "search", "--models", "fast,ollama/x", "--expires", "90d", "--rpm", "60", "--tpm", "100k", "--concurrent", "3", "--budget", "$200/month", "--metadata", "owner=kim=1"))
	second := secret(run(exitOK, "rotate", "team-a", "--grace", "1h"))
	if first == second {
		t.Error("the secret is the old one")
	}
	var k shownKey
	if r := run(exitOK, "update", "team-a", "--rpm", "none", "--team", "", "--metadata", "x=y", "--json"); json.Unmarshal([]byte(r.stdout), &k) != nil || strings.Contains(r.stderr, "is changed") {
		t.Errorf("update --json: %+v", r)
	}
	if k.Team != "" || k.Limits["rpm"] != nil || *k.Limits["tpm"] != 100_000 || *k.Limits["concurrent"] != 3 || k.Metadata["owner"] != "kim=1" || k.Metadata["x"] != "y" || len(k.Models) != 2 || k.Expires == nil || time.Until(*k.Expires) < 89*24*time.Hour || k.Grace == nil || k.Last4 != second[len(second)-4:] {
		t.Errorf("update made %+v", k)
	}
	r := run(exitOK, "list")
	if lines := strings.Split(r.stdout, "\n"); len(lines) != 4 || strings.Join(strings.Fields(lines[1]), " ") != "fixed config active red fast - - 60 rpm $5/day" || !strings.HasPrefix(lines[2], "team-a  runtime  active  -") || !strings.Contains(lines[2], "…"+k.Last4) || !strings.Contains(lines[2], "100k tpm, 3 concurrent") {
		t.Errorf("list: %q", r.stdout)
	}
	if r := run(exitOK, "revoke", "team-a"); r.stdout != "" || !strings.Contains(r.stderr, "is revoked") {
		t.Errorf("revoke: %+v", r)
	}
	if r := run(exitOK, "list", "team"); r.stdout != "" || !strings.Contains(r.stderr, "1 key more: --all") {
		t.Errorf("list of what is revoked: %+v", r)
	}
	if r := run(exitOK, "list", "--all"); !strings.Contains(r.stdout, "revoked") {
		t.Errorf("list --all: %+v", r)
	}
	var list struct{ Keys []shownKey }
	if r := run(exitOK, "list", "--json"); json.Unmarshal([]byte(r.stdout), &list) != nil || len(list.Keys) != 2 || list.Keys[1].State != "revoked" {
		t.Errorf("list --json: %+v", r)
	}
	says := func(want int, text string, args ...string) {
		t.Helper()
		if r := run(want, args...); !strings.Contains(r.stderr, text) || r.stdout != "" {
			t.Errorf("key %v: %+v, want %q", args, r, text)
		}
	}
	says(exitFailed, `there was a key "team-a"`, "create", "team-a")
	says(exitFailed, "the configuration has a key", "create", "fixed")
	says(exitFailed, "is set in the configuration: change it there", "revoke", "fixed")
	says(exitFailed, `there is no key "none"`, "rotate", "none")
	says(exitFailed, "was revoked, which is final", "rotate", "team-a")
	says(exitFailed, `near: fast`, "create", "x", "--models", "fas")
	says(exitFailed, "lies in the past", "create", "x", "--expires", "2020-01-01")
	says(exitFailed, "two amounts for a day", "create", "x", "--budget", "$1/day", "--budget", "$9/day")
	says(exitUsage, "is not an amount of dollars", "create", "x", "--budget", "5 euro")
	says(exitUsage, "is not a number like", "create", "x", "--rpm", "-5")
	says(exitUsage, "is not a time like", "create", "x", "--expires", "soon")
	says(exitUsage, "is not NAME=VALUE", "create", "x", "--metadata", "owner")
	says(exitUsage, "--grace: ", "rotate", "team-a", "--grace", "x")
	says(exitUsage, "nothing is to be changed", "update", "team-a")
	says(exitUsage, "accepts 1 arg(s)", "create")
}

// held is an upstream whose streams stand still in the middle until they are
// let go.
func held(t *testing.T) (url string, begun chan struct{}, letGo func()) {
	begun, gate := make(chan struct{}, 1), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		chunk := func(text string) {
			fmt.Fprintf(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n", text)
			w.(http.Flusher).Flush()
		}
		chunk("begun ")
		select {
		case begun <- struct{}{}:
		default:
		}
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
		chunk("ended")
		fmt.Fprint(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\ndata: [DONE]\n\n")
	}))
	letGo = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(func() { letGo(); up.Close() })
	return up.URL, begun, letGo
}

// TestStreamOutlivesItsKey: a stream that was begun with a key is finished,
// whether the key is revoked, rotated or expires meanwhile; the next request is
// refused.
func TestStreamOutlivesItsKey(t *testing.T) {
	check := func(what string, end func(s *testServer, name string)) {
		t.Helper()
		upstream, begun, letGo := held(t)
		s := startTest(t, fmt.Sprintf("providers: { up: { type: openai, base_url: %q } }\n", upstream+"/v1"))
		admin := func(method, path, body string, want int) (out struct{ Secret string }) {
			t.Helper()
			res, b := s.do(t, method, path, testAdmin, strings.NewReader(body))
			if res.StatusCode != want || json.Unmarshal(b, &out) != nil {
				t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, b)
			}
			return out
		}
		secret := admin("POST", "/api/v1/keys", fmt.Sprintf(`{"name":"k","models":["up/m"],"expires_at":%q}`, time.Now().Add(1500*time.Millisecond).Format(time.RFC3339Nano)), 201).Secret
		if what != "expired" {
			admin("PATCH", "/api/v1/keys/k", `{"expires_at":null}`, 200)
		}
		const body = `{"model":"up/m","stream":true,"messages":[{"role":"user","content":"x"}]}`
		req, _ := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/chat/completions", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+secret)
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %v, %v", what, res, err)
		}
		defer res.Body.Close()
		lines := bufio.NewReader(res.Body)
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, "begun") {
			t.Fatalf("%s: the first event is %q, %v", what, line, err)
		}
		<-begun
		end(s, "k")
		if res, b := s.do(t, "POST", "/v1/chat/completions", secret, strings.NewReader(body)); res.StatusCode != 401 || !bytes.Contains(b, []byte("invalid_api_key")) || bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s: the next request is answered %d %s", what, res.StatusCode, b)
		}
		letGo()
		rest, err := io.ReadAll(lines)
		if err != nil || !bytes.Contains(rest, []byte("ended")) || !bytes.Contains(rest, []byte("[DONE]")) {
			t.Errorf("%s: the stream was not finished: %q, %v", what, rest, err)
		}
		if c := s.call(t, res.Header.Get("Sheepgate-Call-Id")); c.Key != "k" || c.Status != "success" {
			t.Errorf("%s: its call is %s of %q", what, c.Status, c.Key)
		}
	}
	check("revoked", func(s *testServer, name string) {
		if res, b := s.do(t, "DELETE", "/api/v1/keys/"+name, testAdmin, nil); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, b)
		}
	})
	check("rotated", func(s *testServer, name string) {
		if res, b := s.do(t, "POST", "/api/v1/keys/"+name+"/rotate", testAdmin, nil); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, b)
		}
	})
	check("expired", func(s *testServer, name string) { time.Sleep(1600 * time.Millisecond) })
}

// TestRuntimeKeysAreKeys: they may call, see their own and no more, are held to
// their models, outlive a restart, and whoever wants to know is told of them.
func TestRuntimeKeysAreKeys(t *testing.T) {
	upstream, _, letGo := held(t)
	letGo()
	data := t.TempDir()
	file := write(t, "c.yaml", fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\nadmin_key: %s\nproviders: { up: { type: openai, base_url: %q } }\nkeys: { fixed: { key: fixed-key-0123456789 } }\n", data, testAdmin, upstream+"/v1"))
	c, _, err := config.Load(file, config.Options{Known: known()})
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{logs: new(bytes.Buffer)}
	t.Run("before", func(t *testing.T) {
		s.serve(t, file, nil)
		var told [][]config.Key
		s.keysChanged = func(_ context.Context, list []config.Key) { told = append(told, list) }
		res, b := s.do(t, "POST", "/api/v1/keys", testAdmin, strings.NewReader(`{"name":"k","team":"t","models":["up/m"],"limits":{"rpm":5,"tpm":6,"input_tpm":8,"output_tpm":9,"concurrent":7},"budget":["$3/week","$9/total"]}`))
		var made struct{ Secret string }
		if res.StatusCode != 201 || json.Unmarshal(b, &made) != nil {
			t.Fatalf("%d %s", res.StatusCode, b)
		}
		want := config.Key{Name: "k", Team: "t", Models: []string{"up/m"}, Budget: []config.Budget{{NanoUSD: 3e9, Period: "week"}, {NanoUSD: 9e9, Period: "total"}}, Limits: config.Limits{RPM: 5, TPM: 6, InputTPM: 8, OutputTPM: 9, Concurrent: 7}}
		if len(told) != 1 || len(told[0]) != 1 || !reflect.DeepEqual(told[0][0], want) {
			t.Errorf("told %+v, want %+v", told, want)
		}
		if _, b := s.do(t, "POST", "/api/v1/keys/k/rotate", testAdmin, strings.NewReader(`{"grace":"1h"}`)); len(told) != 2 || len(told[1]) != 1 {
			t.Errorf("after a rotation with grace, told %+v: %s", told, b)
		}
		ask := func(model string, want int) {
			t.Helper()
			if res, b := s.do(t, "POST", "/v1/chat/completions", made.Secret, strings.NewReader(`{"model":"`+model+`","stream":true,"messages":[{"role":"user","content":"x"}]}`)); res.StatusCode != want {
				t.Errorf("%s: %d %s, want %d", model, res.StatusCode, b, want)
			}
		}
		ask("up/m", 200)
		ask("up/other", 403)
		s.adminKey = made.Secret
	})
	t.Run("after", func(t *testing.T) {
		secret := s.adminKey
		s.serve(t, file, nil)
		for path, want := range map[string]int{"/v1/models": 200, "/v1/metrics": 200, "/api/v1/usage": 200, "/api/v1/keys": 403} {
			if res, b := s.do(t, "GET", path, secret, nil); res.StatusCode != want {
				t.Errorf("%s: %d %s", path, res.StatusCode, b)
			}
		}
	})
	if fixed := fixedKeys(c); len(fixed) != 1 || fixed[0].Name != "fixed" || len(fixed[0].Budget) != 0 {
		t.Errorf("fixedKeys = %+v", fixed)
	}
	t.Run("hidden", func(t *testing.T) {
		secret := s.adminKey
		s.serve(t, write(t, "c.yaml", fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\nadmin_key: %s\nproviders: { ollama: }\nkeys: { k: { key: fixed-key-0123456789 } }\n", data, testAdmin)), nil)
		if res, _ := s.do(t, "GET", "/v1/models", secret, nil); res.StatusCode != 401 || !strings.Contains(s.logs.String(), "the configuration has keys of their names") {
			t.Errorf("a key whose name the configuration has taken: %d, %s", res.StatusCode, s.logs)
		}
	})
}

// TestRuntimeKeysAreHeld: limits of a key made at run time bind at once, and
// still do when the configuration was read again; a key that the new
// configuration has is that one.
func TestRuntimeKeysAreHeld(t *testing.T) {
	upstream, _, letGo := held(t)
	letGo()
	head := fmt.Sprintf("providers: { up: { type: openai, base_url: %q } }\n", upstream+"/v1")
	s := startTest(t, head+"keys: { fixed: { key: fixed-key-0123456789 } }\n")
	make := func(body string) string {
		t.Helper()
		res, b := s.do(t, "POST", "/api/v1/keys", testAdmin, strings.NewReader(body))
		var made struct{ Secret string }
		if res.StatusCode != 201 || json.Unmarshal(b, &made) != nil {
			t.Fatalf("%d %s", res.StatusCode, b)
		}
		return made.Secret
	}
	ask := func(what, key string, want int) {
		t.Helper()
		if res, b := s.do(t, "POST", "/v1/chat/completions", key, strings.NewReader(`{"model":"up/m","stream":true,"messages":[{"role":"user","content":"x"}]}`)); res.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", what, res.StatusCode, b, want)
		}
	}
	bound, other := make(`{"name":"bound","limits":{"rpm":1}}`), make(`{"name":"other"}`)
	ask("the first request", bound, 200)
	ask("the second", bound, 429)
	ask("of another key", other, 200)
	ask("of the configuration", "fixed-key-0123456789", 200)
	c, _, err := config.Load(write(t, "c.yaml", fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\nadmin_key: %s\n%skeys: { other: { key: other-key-0123456789 } }\n", s.data, testAdmin, head)), config.Options{Known: known()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ask("after a reload", bound, 429)
	ask("a key that left the configuration", "fixed-key-0123456789", 401)
	ask("a key whose name the configuration took", other, 401)
	ask("the configuration's", "other-key-0123456789", 200)
	if res, b := s.do(t, "PATCH", "/api/v1/keys/bound", testAdmin, strings.NewReader(`{"limits":null}`)); res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, b)
	}
	ask("without the limit", bound, 200)
	if res, _ := s.do(t, "DELETE", "/api/v1/keys/other", testAdmin, nil); res.StatusCode != 409 {
		t.Errorf("a key of the new configuration could be revoked: %d", res.StatusCode)
	}
}

func TestRuntimeKeyOfAnotherVersion(t *testing.T) {
	for _, k := range []state.Key{{Name: "a", Budget: []string{"5 euro"}}, {Name: "a", Budget: []string{"$1/day", "$2/day"}}} {
		if _, err := runtimeKey(k); !errors.As(err, new(*state.KeyError)) {
			t.Errorf("runtimeKey(%v) = %v", k.Budget, err)
		}
	}
}

func TestDoctorOfTheAuditLog(t *testing.T) {
	data := t.TempDir()
	yaml := fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\nproviders: { ollama: }\n", data)
	conf := write(t, "c.yaml", yaml)
	for _, name := range []string{"a", "b"} {
		if r := cli(t, nil, "key", "create", name, "--config", conf); r.code != exitOK {
			t.Fatalf("%+v", r)
		}
	}
	has(t, examine(t, exitOK, nil, yaml, "--offline"), "ok audit log: 2 entries, and each follows the one before")
	db, err := sql.Open("sqlite", filepath.Join(data, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"DROP TRIGGER audit_update", "UPDATE audit SET actor = 'nobody' WHERE seq = 1"} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	has(t, examine(t, exitFailed, nil, yaml, "--offline"), "fail audit log: the audit log is broken at entry 1: it is not what was written")
}
