// Package upstream is a provider that does everything a provider should not.
// A Server speaks the three dialects over bare TCP; the model of a request
// names the fault that it meets (see Faults), and what was really sent is kept
// in a ledger, one Entry for each request of a client. Start from New.
//
// It shares no code with the gateway: what it takes for the truth must not be
// the gateway's own opinion.
package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A Server is the upstream. Its base URLs are URL + "/openai/v1",
// "/anthropic/v1" and "/gemini/v1beta".
type Server struct {
	URL string
	ln  net.Listener
	wg  sync.WaitGroup

	mu      sync.Mutex
	entries map[string]*Entry
	conns   map[net.Conn]bool
	opened  int
	strange []string // requests that no gateway should have made
	gate    chan bool
}

// Gate holds the streams of the model "gated" in their middle until open is
// called.
func (s *Server) Gate() (open func()) {
	gate := make(chan bool)
	s.mu.Lock()
	s.gate = gate
	s.mu.Unlock()
	return func() { close(gate) }
}

// An Entry is what was served to one request of a client, over all attempts.
type Entry struct {
	mu       sync.Mutex
	attempts []*Attempt
	dropped  int
}

// An Attempt is one request that arrived.
type Attempt struct {
	At       time.Time
	Conn     int    // which connection it came on, from 1
	Key      string // the credential that came with it
	Header   http.Header
	Body     int       // bytes
	Reported bool      // an honest usage was sent
	Input    int64     // as reported
	Output   int64     // as reported
	Text     string    // sent in whole events or a whole reply
	Tokens   int64     // that Text is
	Holding  time.Time // since when the server only waits for the gateway to close; zero if it never did
	Released time.Time // when the gateway closed; zero if it has not
}

// New starts a Server on a loopback port.
func New() (*Server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return On(ln), nil
}

// On starts a Server on a listener.
func On(ln net.Listener) *Server {
	s := &Server{URL: "http://" + ln.Addr().String(), ln: ln, entries: map[string]*Entry{}, conns: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s
}

// Close ends the Server and every connection.
func (s *Server) Close() {
	s.ln.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Entry is the ledger of the client's request that carried nonce.
func (s *Server) Entry(nonce string) *Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[nonce]
	if e == nil {
		e = &Entry{}
		s.entries[nonce] = e
	}
	return e
}

// Strange lists requests to paths that no fault answers: where a redirect
// pointed to, or what a client could smuggle through.
func (s *Server) Strange() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.strange...)
}

// Open is the number of connections that are open now.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Attempts are copies of what arrived so far.
func (e *Entry) Attempts() []Attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []Attempt
	for _, a := range e.attempts {
		list = append(list, *a)
	}
	return list
}

// Dropped is how many requests met a connection that was closing: an upstream
// that knows nothing of them.
func (e *Entry) Dropped() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dropped
}

func (s *Server) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.opened++
		n := s.opened
		s.mu.Unlock()
		s.wg.Go(func() {
			s.serve(c, n)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// Nonce is how a client's prompt carries the name of its Entry.
func Nonce(name string) string { return "n:" + name + ";" }

var nonce = regexp.MustCompile(`n:([A-Za-z0-9._/-]+);`)

// serve answers the requests of one connection until a fault ends it.
func (s *Server) serve(c net.Conn, conn int) {
	br := bufio.NewReaderSize(c, 4<<10)
	for n := 0; ; n++ {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		x := &Exchange{s: s, c: c, br: br, reused: n > 0}
		if !x.parse(req, body) {
			s.mu.Lock()
			s.strange = append(s.strange, req.Method+" "+req.URL.String())
			s.mu.Unlock()
			x.Reply(404, nil, `{"error":{"message":"no such route"}}`)
			continue
		}
		f := Faults[x.Model]
		if f == nil {
			x.Reply(404, nil, x.failure(404, "model "+x.Model+" is no fault"))
			continue
		}
		name := ""
		if m := nonce.FindSubmatch(body); m != nil {
			name = string(m[1])
		}
		e := s.Entry(name)
		e.mu.Lock()
		if x.reused && strings.HasPrefix(x.Model, "stale-conn") {
			e.dropped++
			e.mu.Unlock()
			return
		}
		x.e, x.N = e, len(e.attempts)
		x.a = &Attempt{At: time.Now(), Conn: conn, Header: req.Header, Body: len(body), Key: x.key}
		e.attempts = append(e.attempts, x.a)
		e.mu.Unlock()
		if !f(x) {
			return
		}
	}
}

// An Exchange is a request as a fault sees it.
type Exchange struct {
	s          *Server
	c          net.Conn
	br         *bufio.Reader
	reused     bool
	e          *Entry
	a          *Attempt
	key        string
	Dialect    string // openai, anthropic, gemini
	Model      string
	Stream     bool
	AskedUsage bool
	N          int // attempts that came before it
}

// parse finds dialect, model and credential. It is false for what is no route
// of a provider.
func (x *Exchange) parse(r *http.Request, body []byte) bool {
	if r.Method != http.MethodPost {
		return false
	}
	text := string(body)
	switch p := r.URL.Path; {
	case p == "/openai/v1/chat/completions":
		x.Dialect, x.key = "openai", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	case p == "/anthropic/v1/messages":
		x.Dialect, x.key = "anthropic", r.Header.Get("X-Api-Key")
	case strings.HasPrefix(p, "/gemini/v1beta/models/"):
		x.Dialect, x.key = "gemini", r.Header.Get("X-Goog-Api-Key")
		model, method, _ := strings.Cut(path.Base(p), ":")
		x.Model, x.Stream = model, method == "streamGenerateContent"
		return method == "streamGenerateContent" && r.URL.RawQuery == "alt=sse" || method == "generateContent"
	default:
		return false
	}
	m := modelName.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	x.Model = m[1]
	x.Stream = strings.Contains(text, `"stream":true`)
	x.AskedUsage = strings.Contains(text, `"include_usage":true`)
	return true
}

var modelName = regexp.MustCompile(`"model":"([^"]*)"`)

// Raw writes bytes as they are.
func (x *Exchange) Raw(s string) bool {
	_ = x.c.SetWriteDeadline(time.Now().Add(20 * time.Second))
	_, err := io.WriteString(x.c, s)
	if err != nil {
		x.released()
	}
	return err == nil
}

// Sleep waits for d. It returns false, at once, when the gateway closes. What
// the gateway sends meanwhile, on a connection that is not free, is lost.
func (x *Exchange) Sleep(d time.Duration) bool {
	_ = x.c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, x.br)
	_ = x.c.SetReadDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	x.released()
	return false
}

// Hold says nothing more and waits for the gateway to close.
func (x *Exchange) Hold() bool {
	x.e.mu.Lock()
	x.a.Holding = time.Now()
	x.e.mu.Unlock()
	x.Sleep(time.Minute)
	return false
}

func (x *Exchange) released() {
	x.e.mu.Lock()
	defer x.e.mu.Unlock()
	if x.a.Released.IsZero() {
		x.a.Released = time.Now()
	}
}

// Reset ends the connection with a RST.
func (x *Exchange) Reset() bool {
	if c, ok := x.c.(interface{ SetLinger(int) error }); ok {
		_ = c.SetLinger(0)
	}
	x.c.Close()
	return false
}

// sent notes what the client could have got.
func (x *Exchange) sent(text string, tokens int64) {
	x.e.mu.Lock()
	defer x.e.mu.Unlock()
	x.a.Text += text
	x.a.Tokens += tokens
}

// reported notes an honest usage that went out.
func (x *Exchange) reported(in, out int64) {
	x.e.mu.Lock()
	defer x.e.mu.Unlock()
	x.a.Reported, x.a.Input, x.a.Output = true, in, out
}
