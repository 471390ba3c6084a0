package fault

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/test/fault/upstream"
)

const mib = 1 << 20

// memory is a line of the process's status in bytes, such as VmRSS or VmHWM, the
// most that VmRSS has been. Linux tells.
func (g *gateway) memory(t *testing.T, name string) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here: ", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib * 1024
		}
	}
	t.Skipf("no %s here", name)
	return 0
}

// peak begins to watch the resident memory; the returned function tells the
// most that it was.
func (g *gateway) peak(t *testing.T) func() float64 {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", g.cmd.Process.Pid), []byte("5"), 0o200); err != nil {
		t.Skip("the peak of memory cannot be reset here: ", err)
	}
	return func() float64 { return g.memory(t, "VmHWM") }
}

// TestMemory: what an upstream sends to fill our memory does not.
func TestMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	up := startUpstream(t)
	c := client{"openai", false}
	for _, fault := range []string{"gzip-bomb", "big-error", "big-headers", "deep-json", "too-large", "long-event"} {
		for _, stream := range []bool{false, true} {
			g := serve(t, providers(up))                                        // what one fault leaves behind is not the next one's
			c.ask(c.request(g.url, "up-openai/usage-none", "warm", true), true) // the vocabulary for estimates stays
			before, most := g.memory(t, "VmRSS"), g.peak(t)
			a := c.ask(c.request(g.url, "up-openai/"+fault, fmt.Sprint(fault, stream), stream), stream)
			grown := (most() - before) / mib
			t.Logf("%s, stream %t: %d, %.1f MiB more than at the start", fault, stream, a.status, grown)
			if grown > 64 || a.status != 502 {
				t.Errorf("%s, stream %t: %d, and the process grew by %.1f MiB", fault, stream, a.status, grown)
			}
		}
	}
}

// TestRetryBudget: an upstream that fails under load gets a fifth more load, not
// three times as much.
func TestRetryBudget(t *testing.T) {
	up := startUpstream(t)
	g := serve(t, providers(up))
	const requests = 300
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			c := client{"openai", false}
			if a := c.ask(c.request(g.url, "up-openai/503-slow", fmt.Sprint("budget-", i), false), false); a.status != 503 {
				t.Errorf("%d %v", a.status, a.err)
			}
		})
	}
	wg.Wait()
	attempts := 0
	for i := range requests {
		attempts += len(up.Entry(fmt.Sprint("budget-", i)).Attempts())
	}
	t.Logf("%d attempts for %d requests", attempts, requests)
	if attempts > requests+2*requests/5+64 { // two more attempts for a fifth of them, and for a few
		t.Errorf("%d attempts for %d requests", attempts, requests)
	}
	if n := int(g.metrics(t).sum("holysheep_attempts_total")); n != attempts {
		t.Errorf("%d attempts arrived, %d were counted", attempts, n)
	}
}

// TestOverload: with a memory limit, requests beyond what it allows are refused
// and the rest are served; the process lives, and recovers.
func TestOverload(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	up := startUpstream(t)
	gate := up.Gate()
	g := serve(t, providers(up)+"privacy: { bodies: full }\n", "GOMEMLIMIT=200MiB")
	c := client{"openai", false}
	c.ask(c.request(g.url, "up-openai/usage-none", "warm", true), true)
	most := g.peak(t)
	long := strings.Repeat("lazy dogs sleep ", 8*mib/16)
	var served, refused atomic.Int64
	var wg sync.WaitGroup
	const requests = 80 // of 8 MiB
	for i := range requests {
		wg.Go(func() {
			req := c.request(g.url, "up-openai/gated", fmt.Sprint("load-", i), true)
			b, _ := io.ReadAll(req.Body)
			b = bytes.Replace(b, []byte(prompt), []byte(long), 1)
			req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
			a := c.ask(req, true)
			switch {
			case a.status == 200 && a.ended && a.text == upstream.Text:
				served.Add(1)
			case a.status == 503 && a.header.Get("Retry-After") == "1" && strings.Contains(a.body, "gateway_overloaded") && c.checkFailure(a.failure, 503) == "":
				refused.Add(1)
			case a.err != nil && a.status == 0: // it was still sending when it was refused
				refused.Add(1)
			default:
				t.Errorf("%d %v %.300s", a.status, a.err, a.body)
			}
		})
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond)
	gate()
	wg.Wait()
	top := most()
	t.Logf("%d were served, %d refused; at most %.0f MiB", served.Load(), refused.Load(), top/mib)
	if served.Load() < 4 || refused.Load() < 20 || top > 420*mib {
		t.Errorf("%d were served, %d refused; at most %.0f MiB", served.Load(), refused.Load(), top/mib)
	}
	if n := int64(g.metrics(t)["holysheep_shed_total"]); n != refused.Load() {
		t.Errorf("holysheep_shed_total is %d", n)
	}
	time.Sleep(200 * time.Millisecond)
	for i := range 20 {
		if a := c.ask(c.request(g.url, "up-openai/ok", fmt.Sprint("after-", i), false), false); a.status == 200 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("still refusing two seconds later")
}

// TestDescriptors: without file descriptors nothing spins and nothing is lost,
// and the readiness says so.
func TestDescriptors(t *testing.T) {
	up := startUpstream(t)
	g := serve(t, providers(up), "FILES=64")
	c := client{"openai", false}
	if a := c.ask(c.request(g.url, "up-openai/ok", "before", false), false); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	ready := func() (int, string) {
		res, err := http.Get(g.url + "/readyz") // on a connection that is there
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	if status, b := ready(); status != 200 {
		t.Fatalf("readyz: %d %s", status, b)
	}
	var conns []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err != nil {
			break
		}
		conns = append(conns, conn)
	}
	time.Sleep(300 * time.Millisecond)
	if status, b := ready(); status != 503 || !strings.Contains(b, "descriptors") {
		t.Errorf("readyz without descriptors: %d %s", status, b)
	}
	before := g.metrics(t)["process_cpu_seconds_total"]
	time.Sleep(2 * time.Second)
	if spent := g.metrics(t)["process_cpu_seconds_total"] - before; spent > 0.5 {
		t.Errorf("%v s of CPU in 2 s of waiting", spent)
	}
	for _, conn := range conns {
		conn.Close()
	}
	for i := range 80 {
		time.Sleep(100 * time.Millisecond)
		if status, _ := ready(); status != 200 {
			continue
		}
		if a := c.ask(c.request(g.url, "up-openai/ok", fmt.Sprint("after-", i), false), false); a.status == 200 {
			return
		}
	}
	t.Error("not back eight seconds after the connections were closed")
}

// TestDrain: SIGTERM lets streams finish, refuses what is new, and keeps every
// Call; what outlives the drain is told so.
func TestDrain(t *testing.T) {
	t.Parallel()
	up := startUpstream(t)
	drain := func(fault, config string, streams int) (*gateway, []*answer, time.Duration) {
		t.Helper()
		g := begin(t, providers(up)+config)
		t.Cleanup(func() { g.checkLog(t) })
		answers := make([]*answer, streams)
		var wg sync.WaitGroup
		for i := range answers {
			c := []client{{"openai", false}, {"anthropic", false}, {"gemini", false}, {"gemini", true}}[i%4]
			wg.Go(func() {
				answers[i] = c.ask(c.request(g.url, "up-openai/"+fault, fmt.Sprintf("drain-%s-%d", fault, i), true), true)
			})
		}
		for n := 0; n < 500; n++ {
			if m := g.metrics(t); int(m.sum("holysheep_in_flight")) == streams {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(300 * time.Millisecond)
		start := time.Now()
		if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for n := 0; ; n++ {
			c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
			if err != nil {
				break
			}
			c.Close()
			if n > 100 {
				t.Error("the listener is still open a second after SIGTERM")
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		wg.Wait()
		select {
		case err := <-g.done:
			if err != nil {
				t.Errorf("%s: the gateway ended with %v", fault, err)
			}
		case <-time.After(10 * time.Second):
			_ = g.cmd.Process.Kill()
			t.Fatalf("%s: the gateway does not end", fault)
		}
		return g, answers, time.Since(start)
	}
	_, answers, took := drain("slow-stream", "", 50)
	for i, a := range answers {
		if a.status != 200 || a.text != upstream.Text || !a.ended || a.err != nil {
			t.Errorf("stream %d was cut: %v %q %s", i, a.err, a.text, a.failure)
		}
	}
	t.Logf("50 streams were drained in %v", took)

	g, answers, took := drain("endless", "timeouts: { drain: 1s }\n", 20)
	if took > 4*time.Second {
		t.Errorf("with a drain of 1 s it took %v", took)
	}
	for i, a := range answers {
		if a.failure == "" || a.ended || !strings.Contains(a.failure, "shutting down") || a.problem != "" || a.err != nil {
			t.Errorf("stream %d: %v, failure %q, ended %t, %s", i, a.err, a.failure, a.ended, a.problem)
		}
	}
	// Every Call was kept.
	again := serve(t, providers(up)+"data: "+g.data+"\n")
	calls := again.calls(t, len(answers))
	if len(calls) != len(answers) {
		t.Errorf("%d Calls of %d streams were kept", len(calls), len(answers))
	}
	for _, c := range calls {
		if c.Status != call.Failed || c.Error.Code != "shutting_down" || c.Usage.Source != guess || c.Usage.Output == 0 {
			t.Errorf("call: %s %+v %+v", c.Status, c.Error, c.Usage)
		}
	}
}

// TestNames: names that clients make up make no series, and no memory.
func TestNames(t *testing.T) {
	up := startUpstream(t)
	g := serve(t, providers(up))
	names := 5_000
	if n, err := strconv.Atoi(os.Getenv("SHEEPGATE_FAULT_NAMES")); err == nil { // 1,000,000 take a quarter of an hour
		names = n
	}
	ask := func(from, to int) {
		var wg sync.WaitGroup
		const workers = 8
		for w := range workers {
			wg.Go(func() {
				c := g.dial(t)
				br := bufio.NewReader(c)
				for i := from + w; i < to; i += workers {
					model, tag := fmt.Sprintf("junk-%d", i), fmt.Sprintf("tag-%d", i)
					if i%2 == 0 {
						model = "up-openai/" + model
					}
					body := fmt.Sprintf(`{"model":%q,"user":%q,"messages":[{"role":"user","content":"n:%s;"}]}`, model, model, tag)
					fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nSheepgate-Tag-%s: %s\r\nContent-Length: %d\r\n\r\n%s", clientKey, tag, model, len(body), body)
					res, err := http.ReadResponse(br, nil)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					if res.StatusCode != 404 {
						t.Errorf("%s: %d", model, res.StatusCode)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	ask(0, names/10)
	before := g.metrics(t)
	ask(names/10, names)
	after := g.metrics(t)
	if n := len(after) - len(before); n > 200 {
		t.Errorf("%d new series for %d names", n, names)
	}
	if n := int(after.sum("holysheep_request_total")); n != names {
		t.Errorf("%d requests were counted of %d", n, names)
	}
	t.Logf("%d names: %d series more, %.1f MiB", names, len(after)-len(before), (after["process_resident_memory_bytes"]-before["process_resident_memory_bytes"])/mib)
	for name := range after {
		if strings.Contains(name, "junk") || strings.Contains(name, "tag-") {
			t.Fatalf("a name of a client's is a label: %s", name)
		}
	}
}

// TestIdleStreams: thousands of streams that hardly move cost little each, and
// all come to their end.
func TestIdleStreams(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	streams := 5000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < uint64(2*streams+500) || testing.Short() {
		streams = 200
	}
	const each = 40 << 10 // 39 were measured on a busy machine, of which net/http and two stacks take 21
	up := startUpstream(t)
	g := serve(t, providers(up))
	c := client{"openai", false}
	c.ask(c.request(g.url, "up-openai/ok", "warm", true), true)
	before := g.metrics(t)
	gate := up.Gate()
	var ended, cut atomic.Int64
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
			if err != nil {
				cut.Add(1)
				return
			}
			defer conn.Close()
			if err := c.request(g.url, "up-openai/gated", fmt.Sprintf("idle-%d", i), true).Write(conn); err != nil {
				cut.Add(1)
				return
			}
			res, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
			if err != nil {
				cut.Add(1)
				return
			}
			var b bytes.Buffer
			if _, err := io.Copy(&b, res.Body); err == nil && bytes.HasSuffix(b.Bytes(), []byte("data: [DONE]\n\n")) && bytes.Count(b.Bytes(), []byte("data: ")) == len(upstream.Words)+3 {
				ended.Add(1)
			}
		})
		if i%100 == 99 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	for n := 0; n < 3000 && int(g.metrics(t).sum("holysheep_in_flight"))+int(cut.Load()) < streams; n++ {
		time.Sleep(10 * time.Millisecond)
	}
	var perStream float64
	for range 6 { // what came with the rush goes with the next collections
		time.Sleep(5 * time.Second)
		now := g.metrics(t)
		perStream = (now["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]) / float64(streams)
		t.Logf("%d streams: %.1f KiB and %.1f goroutines each", streams, perStream/(1<<10), (now["go_goroutines"]-before["go_goroutines"])/float64(streams))
		if perStream <= each {
			break
		}
	}
	if streams > 1000 && perStream > each {
		t.Errorf("a stream that stands still takes %.1f KiB", perStream/(1<<10))
	}
	gate()
	wg.Wait()
	if int(ended.Load()) != streams {
		t.Errorf("%d of %d streams came to their end; %d could not begin", ended.Load(), streams, cut.Load())
	}
	if n := g.metrics(t).sum("holysheep_request_total", `code="2xx"`); int(n) != streams+1 {
		t.Errorf("%v Calls succeeded", n)
	}
	up.Close()
	g.settled(t, before)
}
