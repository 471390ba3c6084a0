package crash

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// readable is how long after its answer a Call may be read at the latest. While
// 100,000 Calls are made a segment, a commit may wait longer than the grace.
const readable = time.Second

// TestBackup takes backups of a server under load, while its store writes
// segments, and starts a server on each. Every Call whose answer had ended
// 200 ms before (a second, while a segment is made) is there, once, as the client saw it; so is every line whose
// import was confirmed; a query's totals are the sums over the rows; and the
// keys are good.
func TestBackup(t *testing.T) {
	s := newSite(t, 25)
	begun, seed := time.Now(), seed(t)
	t.Logf("repeat with SHEEPGATE_SEED=%d", seed)
	p := s.start(t)
	p.firstAnswer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := p.clients(ctx, writers, seed)
	imp := &importer{r: rand.New(rand.NewPCG(seed, 1)), base: begun.Add(-72 * time.Hour)}
	type backup struct {
		file     string
		begun    time.Time
		grace    time.Duration
		imported []string
	}
	var backups []backup
	var imported []string
	for i, lines := range []int{3_000, 102_000} { // 100,000 Calls are a segment
		for range lines / 3_000 {
			var batch bytes.Buffer
			for range 3_000 / importBatch {
				imp.pending = nil
				imp.fill(t)
				imported = append(imported, imp.pending...)
				batch.Write(imp.batch.Bytes())
			}
			if n, err := p.load(batch.Bytes()); err != nil || n != 3_000 {
				t.Fatalf("import: %d, %v\n%s", n, err, p.log.String())
			}
		}
		b := backup{filepath.Join(t.TempDir(), "b.tar.zst"), time.Now(), []time.Duration{grace, readable}[i], imported[:len(imported):len(imported)]}
		s.run(t, "backup", b.file)
		t.Logf("backup %d took %v", i+1, time.Since(b.begun).Round(time.Millisecond))
		backups = append(backups, b)
	}
	cancel()
	answers := wait()
	p.stop(t)
	for _, b := range backups {
		o := s.twin(t)
		o.run(t, "restore", b.file)
		q := o.start(t)
		rows := q.rows(t, begun.Add(-100*24*time.Hour), q.started)
		held := 0
		for _, a := range answers {
			row, ok := rows[a.id]
			switch {
			case a.err != nil: // the end of the test cut it
			case ok:
				held++
				a.compare(t, row)
			case b.begun.Sub(a.ended) >= b.grace:
				t.Errorf("call %s is not in a backup that was begun %v after its answer", a.id, b.begun.Sub(a.ended))
			}
		}
		for _, id := range b.imported {
			if rows[id] == "" {
				t.Errorf("line %s was imported before the backup and is not in it", id)
			}
		}
		new(ledger).count(t, q, begun.Add(-100*24*time.Hour), q.started, rows)
		if a := q.ask(errands[0]); a.err != nil || a.status != http.StatusOK {
			t.Errorf("a call to the restored server: %d, %v", a.status, a.err)
		}
		if log := q.log.String(); strings.Contains(log, "WARN") || strings.Contains(log, "ERROR") {
			t.Errorf("the restored server says:\n%s", log)
		}
		t.Logf("restored: %d rows, %d of them of clients", len(rows), held)
		q.stop(t)
	}
}

// twin is another site with the same program and configuration, and an empty
// data folder.
func (s *site) twin(t *testing.T) *site {
	t.Helper()
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o := &site{binary: s.binary, config: filepath.Join(dir, "sheepgate.yaml"), data: filepath.Join(dir, "data")}
	if err := os.WriteFile(o.config, []byte(strings.Replace(string(text), s.data, o.data, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// run runs a command of the program beside the server.
func (s *site) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(s.binary, append(args, "--config", s.config)...).CombinedOutput(); err != nil {
		t.Fatalf("sheepgate %v: %v\n%s", args, err, out)
	}
}
