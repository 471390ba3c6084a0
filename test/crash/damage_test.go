package crash

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A damage is what a bad disk, a full one or a careless hand does to a file.
type damage struct {
	name string
	do   func(path string, r *rand.Rand) error
}

var damages = []damage{
	{"emptied", func(path string, _ *rand.Rand) error { return os.Truncate(path, 0) }},
	{"cut in half", func(path string, _ *rand.Rand) error {
		return change(path, func(b []byte) []byte { return b[:len(b)/2] })
	}},
	{"begun with noise", func(path string, r *rand.Rand) error {
		return change(path, func(b []byte) []byte { noise(r, b[:min(len(b), 64)]); return b })
	}},
	{"garbled in the middle", func(path string, r *rand.Rand) error {
		return change(path, func(b []byte) []byte { noise(r, b[len(b)/2:min(len(b), len(b)/2+4096)]); return b })
	}},
	{"flipped by one bit", func(path string, r *rand.Rand) error {
		return change(path, func(b []byte) []byte {
			if len(b) > 0 {
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			return b
		})
	}},
	{"followed by noise", func(path string, r *rand.Rand) error {
		return change(path, func(b []byte) []byte { more := make([]byte, 1000); noise(r, more); return append(b, more...) })
	}},
	{"noise", func(path string, r *rand.Rand) error {
		return change(path, func(b []byte) []byte { noise(r, b); return b })
	}},
	{"gone", func(path string, _ *rand.Rand) error { return os.Remove(path) }},
	{"a folder", func(path string, _ *rand.Rand) error {
		if err := os.Remove(path); err != nil {
			return err
		}
		return os.Mkdir(path, 0o700)
	}},
}

func change(path string, f func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, f(b), 0o600)
}

func noise(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// TestDamage damages each kind of file in the data folder of a server that was
// killed, in each way. The next start serves within 2 s whatever it finds; a
// Call is stored; and what cannot be read is named and kept, or nothing is
// missing.
func TestDamage(t *testing.T) {
	s := newSite(t, 200)
	seed := seed(t)
	t.Logf("repeat with SHEEPGATE_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	p := s.start(t)
	p.firstAnswer(t)
	fillStore(t, p, r)
	settle(t, s.data)
	for _, e := range errands {
		if a := p.ask(e); a.err != nil || a.status != e.status {
			t.Fatalf("%s: %d, %v", e.path, a.status, a.err)
		}
	}
	time.Sleep(2 * grace)
	whole := p.look(t, time.Now())
	p.kill()
	killed := s.copyTo(t, filepath.Join(t.TempDir(), "killed"))
	p = s.start(t)
	p.stop(t)

	base, n := t.TempDir(), 0 // no path must hold the name of a damaged file
	for _, from := range []*site{killed, s} {
		for _, path := range kindsOfFiles(t, from.data) {
			if from == s && !strings.HasSuffix(path, ".db") {
				continue // a stop leaves databases without a log, and nothing else that a kill does not
			}
			ways := damages
			if os.Getenv("CI") != "true" { // one at random; all of them take minutes
				ways = damages[r.IntN(len(damages)):][:1]
			}
			for _, d := range ways {
				if scratch(path) && d.name != "emptied" && d.name != "noise" && d.name != "gone" {
					continue
				}
				n++
				dir := filepath.Join(base, strconv.Itoa(n))
				t.Run(path+" "+d.name, func(t *testing.T) {
					defer os.RemoveAll(dir)
					moved := from.copyTo(t, dir)
					file := filepath.Join(moved.data, path)
					if err := d.do(file, r); err != nil {
						t.Fatal(err)
					}
					damaged, _ := os.ReadFile(file) // nothing of what is gone or a folder
					after := moved.survives(t, path, damaged, whole, silent(path, d.name))
					if n%4 == 0 { // what was found once is as it is
						moved.survives(t, path, nil, after, false)
					}
				})
			}
		}
	}
}

// scratch reports whether a file holds nothing that is not elsewhere: SQLite's
// shared memory, a lock.
func scratch(path string) bool {
	return strings.HasSuffix(path, "-shm") || strings.HasPrefix(filepath.Base(path), "lock")
}

// silent reports whether a damage cannot be told from a good file, so that
// what it costs cannot be named: SQLite knows no checksum of a page, and takes
// a log that is empty, or has not one whole frame, for one that was never
// begun.
func silent(path, damage string) bool {
	switch {
	case strings.HasSuffix(path, ".db"):
		return damage == "flipped by one bit"
	case strings.HasSuffix(path, "-wal"):
		return damage != "a folder"
	}
	return false
}

// copyTo is the site with a copy of its data, in dir.
func (s *site) copyTo(t *testing.T, dir string) *site {
	t.Helper()
	moved := &site{binary: s.binary, config: filepath.Join(dir, "sheepgate.yaml"), data: filepath.Join(dir, "data")}
	if err := os.CopyFS(moved.data, os.DirFS(s.data)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(strconv.Quote(s.data)), []byte(strconv.Quote(moved.data)), 1)
	if err := os.WriteFile(moved.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return moved
}

// fillStore imports what the engine needs to have files of every kind: more
// Calls than it holds back before it seals a segment, of several days.
func fillStore(t *testing.T, p *process, r *rand.Rand) {
	t.Helper()
	imp := &importer{r: r, base: time.Now().Add(-72 * time.Hour)}
	for range 21 {
		var lines bytes.Buffer
		for range 5000 / importBatch {
			imp.pending = nil
			imp.fill(t)
			lines.Write(imp.batch.Bytes())
		}
		if n, err := p.load(lines.Bytes()); err != nil || n != 5000/importBatch*importBatch {
			t.Fatalf("import: %d, %v", n, err)
		}
	}
}

// settle waits until nothing in dir changes for two seconds and no file is
// half made: what the engine does by itself is done.
func settle(t *testing.T, dir string) {
	t.Helper()
	list := func() (all []string) {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) { // renamed or deleted meanwhile
				return nil
			}
			if err == nil {
				if st, err := e.Info(); err == nil {
					all = append(all, fmt.Sprint(path, st.Size(), st.ModTime()))
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before, since := list(), time.Now()
	for deadline := time.Now().Add(giveUp); time.Since(since) < 2*time.Second; time.Sleep(50 * time.Millisecond) {
		now := list()
		if !slices.Equal(now, before) || slices.ContainsFunc(now, func(s string) bool { return strings.Contains(s, ".tmp") }) {
			before, since = now, time.Now()
		}
		if time.Now().After(deadline) {
			t.Fatalf("the data folder changes without end: %v", before)
		}
	}
}

var digits = regexp.MustCompile(`[0-9A-HJKMNP-TV-Z]*[0-9][0-9A-HJKMNP-TV-Z.]*`)

// kindsOfFiles are the files below dir, one of those whose names differ in
// numbers and ids only.
func kindsOfFiles(t *testing.T, dir string) []string {
	t.Helper()
	kinds := map[string]int{}
	var list []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if k := digits.ReplaceAllString(rel, "#"); kinds[k] == 0 {
			kinds[k]++
			list = append(list, rel)
		}
		return nil
	})
	if err != nil || len(list) < 2 {
		t.Fatalf("the data folder holds %v, %v", list, err)
	}
	t.Logf("the data folder holds %v", slices.Sorted(maps.Keys(kinds)))
	return list
}

// A stock is what a store holds, seen from outside: sums over everything and
// the newest rows.
type stock struct {
	sums   [6]float64
	newest map[string]string
}

var stockMeasures = []string{"requests", "input_tokens", "output_tokens", "cost_nano_usd", "latency_avg", "errors_4xx"}

// look takes stock of what started before to.
func (p *process) look(t *testing.T, to time.Time) (s stock) {
	t.Helper()
	from := to.Add(-200 * 24 * time.Hour)
	q, err := json.Marshal(map[string]any{"from": from.UTC(), "to": to.UTC(), "measures": stockMeasures})
	if err != nil {
		t.Fatal(err)
	}
	var res struct{ Total [6]float64 }
	p.api(t, "POST", "/api/v1/query", q, &res)
	s.sums = res.Total
	var page struct{ Calls []json.RawMessage }
	p.api(t, "GET", "/api/v1/calls?limit=1000&to="+stamp(to), nil, &page)
	s.newest = map[string]string{}
	for _, row := range page.Calls {
		s.newest[parse(t, "", string(row)).ID] = string(row)
	}
	return s
}

// survives starts the server on a folder in which the file at path was
// damaged, and takes stock at its end. damaged is what the file holds, nil if
// it need not be kept. If the damage is silent, a loss need not be named.
func (s *site) survives(t *testing.T, path string, damaged []byte, before stock, silent bool) stock {
	t.Helper()
	p := s.start(t)
	a, took := p.firstAnswer(t)
	if took > stuckAfter {
		t.Errorf("the first answer came after %v", took)
	}
	now := p.look(t, p.started)
	p.stored(t, a)
	ready, name := p.ready(t), strings.TrimSuffix(filepath.Base(path), "-wal") // by the name of its database
	named := regexp.MustCompile(regexp.QuoteMeta(name) + `([^-\w]|$)`).MatchString(p.log.String() + ready)
	switch {
	case now.sums[0] > before.sums[0]:
		t.Errorf("there are %v calls, and there were %v", now.sums[0], before.sums[0])
	case !named && silent:
	case !named && now.sums != before.sums:
		t.Errorf("the store sums to %v, was %v, and neither the log nor /readyz (%s) names %s:\n%s", now.sums, before.sums, ready, name, p.log.String())
	case !named && !maps.Equal(now.newest, before.newest):
		t.Errorf("the newest calls are not what they were, and neither the log nor /readyz (%s) names %s:\n%s", ready, name, p.log.String())
	}
	if file := filepath.Join(s.data, path); named && len(damaged) > 0 && !scratch(path) && !strings.HasSuffix(path, "-wal") && !kept(t, file, damaged) {
		t.Errorf("%s is named, and what it held is nowhere:\n%s", name, p.log.String())
	}
	now = p.look(t, time.Now())
	p.stop(t)
	return now
}

// stored waits for the Call of an answer, which takes a second at most.
func (p *process) stored(t *testing.T, a *answer) {
	t.Helper()
	for deadline := a.ended.Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		req, _ := http.NewRequest("GET", p.url+"/api/v1/calls/"+a.id, nil)
		req.Header.Set("Authorization", "Bearer "+adminKey)
		res, err := p.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var row json.RawMessage
		err = json.NewDecoder(res.Body).Decode(&row)
		res.Body.Close()
		if res.StatusCode == http.StatusOK && err == nil {
			a.compare(t, string(row))
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the call of the first answer is not there after a second: %d %s\n%s", res.StatusCode, row, p.log.String())
			return
		}
	}
}

func (p *process) ready(t *testing.T) string {
	t.Helper()
	res, err := p.client.Get(p.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

// kept reports whether a file beside the damaged one holds what it held. Of a
// database it is enough that there is one with its name and as long, for
// SQLite may have written what its log holds into it when it was looked at.
func kept(t *testing.T, file string, damaged []byte) bool {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(file))
		if !ok || rest == "-wal" || rest == "-shm" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(filepath.Dir(file), e.Name()))
		if err != nil {
			t.Error(err)
		}
		if bytes.Equal(b, damaged) || strings.HasSuffix(file, ".db") && rest != "" && len(b) >= len(damaged) {
			return true
		}
	}
	return false
}
