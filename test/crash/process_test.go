// Package crash kills a real sheepgate under load, again and again on one data
// folder, damages its files, and holds what is left against what its clients
// were told.
package crash

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/provider/sim"
)

const (
	adminKey  = "crash-test-admin-key-0123456789"
	clientKey = "crash-test-client-key-0123456789"

	firstAnswerWithin = 2 * time.Second  // after the start of the process
	stuckAfter        = 30 * time.Second // what a machine that is busy elsewhere does not explain
	giveUp            = 60 * time.Second
)

// A site is what outlives a process: the program, its configuration and its
// data.
type site struct {
	binary, config, data string
}

// build makes the program once for all tests. SHEEPGATE_BINARY names another
// one, such as a release.
var build = sync.OnceValues(func() (string, error) {
	if binary := os.Getenv("SHEEPGATE_BINARY"); binary != "" {
		return binary, nil
	}
	dir, err := os.MkdirTemp("", "sheepgate-crash-")
	if err != nil {
		return "", err
	}
	built = dir
	binary := filepath.Join(dir, "sheepgate")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/sheepgate")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
})

var built string // the folder that build made

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// newSite has an empty data folder and, as its providers, a simulated one that
// lives as long as the test.
func newSite(t *testing.T, speed float64) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs the real program for a while")
	}
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(sim.New(sim.Options{Seed: 1, Speed: speed, Calm: true}))
	t.Cleanup(upstream.Close)
	dir := t.TempDir()
	s := &site{binary: binary, config: filepath.Join(dir, "sheepgate.yaml"), data: filepath.Join(dir, "data")}
	s.configure(t, upstream.URL)
	return s
}

func (s *site) configure(t *testing.T, upstream string) {
	t.Helper()
	text := fmt.Sprintf(`
listen: 127.0.0.1:0
data: %q
admin_key: env:ADMIN
providers:
  openai:    { base_url: %[2]s/openai/v1, key: env:UPSTREAM }
  anthropic: { base_url: %[2]s/anthropic/v1, key: env:UPSTREAM }
  gemini:    { base_url: %[2]s/gemini/v1beta, key: env:UPSTREAM }
keys:
  crash: { key: env:CLIENT, team: crash }
`, s.data, upstream)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A process is one life of the server.
type process struct {
	url     string
	started time.Time
	cmd     *exec.Cmd
	log     lockedBuffer
	exited  chan struct{}
	client  http.Client
}

// start runs the server until its address is known.
func (s *site) start(t *testing.T) *process {
	t.Helper()
	p := s.launch(t)
	select {
	case <-p.listening():
	case <-p.exited:
		t.Fatalf("the server ended at its start:\n%s", p.log.String())
	case <-time.After(giveUp):
		p.kill()
		t.Fatalf("the server did not listen within %v:\n%s", giveUp, p.log.String())
	}
	return p
}

// launch starts the process and waits for nothing.
func (s *site) launch(t *testing.T) *process {
	t.Helper()
	p := &process{cmd: exec.Command(s.binary, "serve", "--config", s.config), exited: make(chan struct{})}
	p.cmd.Env = []string{"ADMIN=" + adminKey, "CLIENT=" + clientKey, "UPSTREAM=simulated-provider"}
	p.cmd.Stderr = &p.log
	p.client.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is seen in its log
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	return p
}

// listening is closed once the server has said where it is.
func (p *process) listening() <-chan struct{} {
	found := make(chan struct{})
	go func() {
		for {
			if _, rest, ok := strings.Cut(p.log.String(), "sheepgate serves on "); ok {
				if url, _, ok := strings.Cut(rest, "\n"); ok {
					p.url = url
					close(found)
					return
				}
			}
			select {
			case <-p.exited:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return found
}

// firstAnswer makes calls until one is answered, and says how long after the
// start of the process that was.
func (p *process) firstAnswer(t *testing.T) (*answer, time.Duration) {
	t.Helper()
	for {
		a := p.ask(errands[0])
		if a.err == nil && a.status == http.StatusOK {
			return a, time.Since(p.started)
		}
		if time.Since(p.started) > giveUp {
			t.Fatalf("no call was answered within %v: status %d, %v\n%s", giveUp, a.status, a.err, p.log.String())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// kill ends the process as nothing can be prepared for.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.exited
	p.client.CloseIdleConnections()
}

// stop ends the process by its own doing.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(giveUp):
		p.kill()
		t.Errorf("the server did not stop within %v of a SIGTERM", giveUp)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the server stopped with code %d:\n%s", code, p.log.String())
	}
}

// api asks the server's API and decodes its JSON answer.
func (p *process) api(t *testing.T, method, path string, in []byte, out any) {
	t.Helper()
	body := p.open(t, method, path, in)
	defer body.Close()
	if err := json.NewDecoder(body).Decode(out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

func (p *process) open(t *testing.T, method, path string, in []byte) io.ReadCloser {
	t.Helper()
	req, err := http.NewRequest(method, p.url+path, bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	res, err := p.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, p.log.String())
	}
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // for the message
		t.Fatalf("%s %s: %s: %s\n%s", method, path, res.Status, b, p.log.String())
	}
	return res.Body
}

// rows are the stored Calls from their export, by id, each as it is written.
// An id that is there twice is an error.
func (p *process) rows(t *testing.T, from, to time.Time) map[string]string {
	t.Helper()
	body := p.open(t, "GET", "/api/v1/export?from="+stamp(from)+"&to="+stamp(to), nil)
	defer body.Close()
	rows := map[string]string{}
	sc := bufio.NewScanner(body)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var c struct{ ID string }
		if err := json.Unmarshal(sc.Bytes(), &c); err != nil {
			t.Fatalf("a line of the export: %v: %s", err, sc.Bytes())
		}
		if _, twice := rows[c.ID]; twice {
			t.Errorf("call %s is there twice", c.ID)
		}
		rows[c.ID] = sc.Text()
	}
	if err := sc.Err(); err != nil {
		t.Fatalf("the export broke off: %v", err)
	}
	return rows
}

// stamp is a time in a query parameter: RFC 3339 in UTC needs no escape.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// A lockedBuffer is written by a process and read by a test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// load imports lines and says how many of them are in the store then.
func (p *process) load(lines []byte) (int, error) {
	req, err := http.NewRequest("POST", p.url+"/api/v1/import", bytes.NewReader(lines))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	res, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var done struct{ Added, Duplicates int }
	if err := json.NewDecoder(res.Body).Decode(&done); err != nil {
		return 0, err
	}
	return done.Added + done.Duplicates, nil
}

// TestSignalsAtOnce: whoever sees that a server is there may tell it at once to
// read its configuration again, or to stop.
func TestSignalsAtOnce(t *testing.T) {
	s := newSite(t, 200)
	for i := range 20 {
		p := &process{cmd: exec.Command(s.binary, "serve", "--config", s.config), exited: make(chan struct{})}
		p.cmd.Env = []string{"ADMIN=" + adminKey, "CLIENT=" + clientKey, "UPSTREAM=simulated-provider"}
		first := syscall.SIGTERM
		if i%2 == 0 {
			first = syscall.SIGHUP
		}
		p.cmd.Stderr = &atOnce{to: p, signal: first}
		p.started = time.Now()
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			_ = p.cmd.Wait() // how it ended is asked below
			close(p.exited)
		}()
		t.Cleanup(p.kill)
		if first == syscall.SIGHUP { // which is heard, and does not end it
			for !strings.Contains(p.log.String(), "configuration read") {
				select {
				case <-p.exited:
					t.Fatalf("a hangup at once ended the server with code %d:\n%s", p.cmd.ProcessState.ExitCode(), p.log.String())
				case <-time.After(2 * time.Millisecond):
				}
				if time.Since(p.started) > giveUp {
					t.Fatalf("a hangup at once was not heard within %v:\n%s", giveUp, p.log.String())
				}
			}
			p.stop(t)
			continue
		}
		select {
		case <-p.exited:
		case <-time.After(giveUp):
			t.Fatalf("the server did not stop within %v of a SIGTERM at once:\n%s", giveUp, p.log.String())
		}
		if code := p.cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(p.log.String(), "stopped") {
			t.Fatalf("a SIGTERM at once ended the server with code %d:\n%s", code, p.log.String())
		}
	}
}

// atOnce is a log that sends its process a signal with its first line.
type atOnce struct {
	to     *process
	signal os.Signal
	once   sync.Once
}

func (a *atOnce) Write(b []byte) (int, error) {
	a.once.Do(func() { _ = a.to.cmd.Process.Signal(a.signal) })
	return a.to.log.Write(b)
}
