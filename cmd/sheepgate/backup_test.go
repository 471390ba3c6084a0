package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A piece is an entry of an archive that a test makes.
type piece struct {
	name, text string
	kind       byte // tar's; 0 is a file
	size       int64
	link       string
}

// pack makes an archive of pieces; with list, a true list is added.
func pack(t testing.TB, list bool, pieces ...piece) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	l := backupList{Version: listVersion, At: time.Now()}
	for _, p := range pieces {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: p.name, Size: int64(len(p.text)), Mode: 0o777, Linkname: p.link}
		if p.kind != 0 {
			h.Typeflag = p.kind
		}
		if p.size > 0 {
			h.Size = p.size
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, p.text)
		sum := sha256.Sum256([]byte(p.text))
		l.Files = append(l.Files, backupFile{p.name, int64(len(p.text)), hex.EncodeToString(sum[:])})
	}
	if list {
		text, _ := json.Marshal(l)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: listName, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(text)
	}
	_ = w.Close() // a piece that lies of its size leaves it wrong
	return squeeze(t, b.Bytes())
}

func squeeze(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// tree lists what is below a folder.
func tree(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path != dir {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestRestoreRefuses: an archive that backup did not make leaves nothing
// behind, wherever it wants to write.
func TestRestoreRefuses(t *testing.T) {
	check := func(what, message string, archive []byte) {
		t.Helper()
		dir := t.TempDir()
		data := filepath.Join(dir, "data")
		conf := write(t, "c.yaml", fmt.Sprintf("data: %q\n", data))
		file := write(t, "a.tar.zst", string(archive))
		r := cli(t, nil, "restore", file, "--config", conf)
		if r.code != exitFailed || r.stdout != "" || !strings.Contains(r.stderr, message) || len(r.stderr) > 500 {
			t.Errorf("%s: %+v, want %q", what, r, message)
		}
		if left := tree(t, dir); len(left) > 0 {
			t.Errorf("%s leaves %q", what, left)
		}
	}
	good := piece{name: "state.db", text: "state"}
	for _, name := range []string{"../evil", "/etc/evil", "calls/../../evil", "calls/../state.db", "./state.db", "calls//x", "other/x", "calls/x/y", "..", ".hidden", "calls/lock", "calls", `calls\..\x`, "a b", strings.Repeat("x", 300)} {
		check(name, "no ", pack(t, true, piece{name: name, text: "x"}))
	}
	check("a link", `holds "calls/x", which is no file`, pack(t, true, good, piece{name: "calls/x", kind: tar.TypeSymlink, link: "/etc"}))
	check("a link to write through", "which is no file", pack(t, true, piece{name: "calls", kind: tar.TypeSymlink, link: "/tmp"}, piece{name: "calls/x", text: "x"}))
	check("a hard link", "which is no file", pack(t, true, piece{name: "calls/x", kind: tar.TypeLink, link: "state.db"}))
	check("a folder", "which is no file", pack(t, true, piece{name: "calls/", kind: tar.TypeDir}))
	check("a device", "which is no file", pack(t, true, piece{name: "state.db", kind: tar.TypeChar}))
	check("a file twice", "twice", pack(t, true, good, good))
	check("a huge file", "there is room for", pack(t, false, piece{name: "state.db", size: 1 << 60}))
	check("no list", "cut off", pack(t, false, good))
	check("nothing", "cut off", pack(t, false))
	check("a file that the list does not name", "its list names 0", pack(t, false, good, piece{name: listName, text: `{"version":1}`}))
	check("a file that is not there", "is not in it", pack(t, false, good, piece{name: listName, text: `{"version":1,"files":[{"name":"x"}]}`}))
	check("another content", "state.db is damaged", pack(t, false, good, piece{name: listName, text: `{"version":1,"files":[{"name":"state.db","bytes":5,"sha256":"00"}]}`}))
	check("a newer version", "has version 2", pack(t, false, piece{name: listName, text: `{"version":2}`}))
	check("a broken list", "list cannot be read", pack(t, false, piece{name: listName, text: `{`}))
	check("more after the list", "goes on after its list", pack(t, true, good, piece{name: listName, text: `{"version":1,"files":[{"name":"state.db"}]}`}, piece{name: "z", text: strings.Repeat("z", 2<<20)}))
	check("no archive", "cannot be read", []byte("this is text"))
	check("an empty file", "cut off", nil)
	whole := pack(t, true, good, piece{name: "calls/tail.db", text: strings.Repeat("tail", 1000)})
	for n := 1; n < len(whole); n += 7 {
		check(fmt.Sprint("the first ", n, " bytes"), "", whole[:n])
	}
	for n := 0; n < len(whole); n += 11 {
		bad := bytes.Clone(whole)
		bad[n] ^= 0x10
		check(fmt.Sprint("byte ", n, " changed"), "", bad)
	}
}

func TestRestoreOnlyWhereNothingIs(t *testing.T) {
	s := startTest(t, "")
	archive := write(t, "a.tar.zst", string(pack(t, true, piece{name: "state.db", text: "x"})))
	check := func(data, message string) {
		t.Helper()
		before := tree(t, data)
		r := cli(t, nil, "restore", archive, "--config", write(t, "c.yaml", fmt.Sprintf("data: %q\n", data)))
		if r.code != exitFailed || !strings.Contains(r.stderr, message) {
			t.Errorf("restore to %s: %+v, want %q", data, r, message)
		}
		if after := tree(t, data); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("restore to %s leaves %q, there was %q", data, after, before)
		}
	}
	check(s.data, "a sheepgate is running on ")
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check(full, "is not empty (it holds mine): nothing is overwritten")
	r := cli(t, nil, "restore", "/nonexistent", "--config", write(t, "c.yaml", fmt.Sprintf("data: %q\n", t.TempDir())))
	if r.code != exitFailed || !strings.Contains(r.stderr, "no such file") {
		t.Errorf("restore of no file: %+v", r)
	}
}

// TestBackupAndRestore takes a server's data to another folder: calls, totals
// and the admin key, which was made there, are as they were.
func TestBackupAndRestore(t *testing.T) {
	data := t.TempDir()
	conf := write(t, "c.yaml", fmt.Sprintf("data: %q\nproviders: { openai: { key: env:NOT_SET_HERE } }\n", data))
	key := strings.TrimSpace(cli(t, []string{"NOT_SET_HERE=x"}, "key", "reset-admin", "--config", conf).stdout)
	var text strings.Builder
	at := time.Now().UTC().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range 500 {
		text.WriteString(line(t, i, at.Add(time.Duration(i)*time.Millisecond)))
	}
	if r := cli(t, []string{"NOT_SET_HERE=x"}, "import", "--ndjson", write(t, "c.ndjson", text.String()), "--config", conf); r.code != exitOK {
		t.Fatalf("import: %+v", r)
	}
	export := cli(t, []string{"NOT_SET_HERE=x"}, "export", "--config", conf).stdout
	if err := os.WriteFile(filepath.Join(data, "state.db.1.quarantine"), []byte("aside"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "b.tar.zst")
	r := cli(t, nil, "backup", out, "--config", conf)
	if r.code != exitOK || !strings.HasPrefix(r.stdout, out+": 3 files, ") {
		t.Fatalf("backup: %+v", r)
	}
	if st, err := os.Stat(out); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the archive: %v, %v; want mode 0600", st, err)
	}
	if left := tree(t, filepath.Dir(out)); len(left) != 1 {
		t.Errorf("backup leaves %q", left)
	}
	if r := cli(t, nil, "backup", out, "--config", conf); r.code != exitFailed || !strings.Contains(r.stderr, "is there already and stays as it is") {
		t.Errorf("a second backup to the same file: %+v", r)
	}
	if r := cli(t, nil, "backup", "-", "--config", write(t, "n.yaml", "data: /nonexistent\n")); r.code != exitFailed || r.stdout != "" || !strings.Contains(r.stderr, "the data folder: ") {
		t.Errorf("a backup of nothing: %+v", r)
	}
	piped := cli(t, nil, "backup", "-", "--config", conf)
	if piped.code != exitOK || !strings.Contains(piped.stderr, "3 files") {
		t.Fatalf("backup -: %d %s", piped.code, piped.stderr)
	}
	try := func(what, archive, yaml, data string) {
		t.Helper()
		conf := write(t, "d.yaml", yaml+"listen: 127.0.0.1:0\nproviders: { openai: { key: env:NOT_SET_HERE } }\n")
		if r := cli(t, nil, "restore", archive, "--config", conf); r.code != exitOK || !strings.Contains(r.stdout, "3 files") {
			t.Fatalf("%s: restore: %+v", what, r)
		}
		if got := cli(t, []string{"NOT_SET_HERE=x"}, "export", "--config", conf).stdout; got != export {
			t.Errorf("%s: the export has %d bytes, of what was backed up %d", what, len(got), len(export))
		}
		for _, name := range tree(t, data) {
			if st, err := os.Lstat(filepath.Join(data, name)); err != nil || strings.HasPrefix(name, ".") {
				t.Errorf("%s: %s: %v", what, name, err)
			} else if !st.IsDir() && !strings.Contains(name, "-shm") && !strings.Contains(name, "-wal") && st.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s has mode %v, want 0600", what, name, st.Mode())
			}
		}
		if b, err := os.ReadFile(filepath.Join(data, "state.db.1.quarantine")); err != nil || string(b) != "aside" {
			t.Errorf("%s: what was set aside: %q, %v", what, b, err)
		}
		s := serveFile(t, conf, "NOT_SET_HERE=x")
		if s.adminKey != "" {
			t.Errorf("%s: the server made a new admin key", what)
		}
		if res, body := s.do(t, "GET", "/api/v1/calls?limit=1", key, nil); res.StatusCode != 200 {
			t.Errorf("%s: the admin key: %d %s", what, res.StatusCode, body)
		}
	}
	dir := t.TempDir()
	try("a new folder", out, fmt.Sprintf("data: %q\n", filepath.Join(dir, "new", "data")), filepath.Join(dir, "new", "data"))
	empty := t.TempDir()
	try("an empty folder, from a pipe", write(t, "p", piped.stdout), fmt.Sprintf("data: %q\n", empty), empty)
	link := filepath.Join(dir, "link")
	target := t.TempDir()
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	try("a link to a folder", out, fmt.Sprintf("data: %q\n", link), target)
	try("a store of its own", out, fmt.Sprintf("data: %q\nstore: %q\n", filepath.Join(dir, "d"), "file:"+filepath.Join(dir, "calls-elsewhere")), filepath.Join(dir, "d"))
}

// TestRestoreWithin: where the data folder cannot be replaced, such as a mount,
// the files move into it.
func TestRestoreWithin(t *testing.T) {
	data := t.TempDir()
	dir, err := os.MkdirTemp(data, ".sheepgate-restore-")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{data: data, dir: dir, within: true}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := unpack(bytes.NewReader(pack(t, true, piece{name: "state.db", text: "a"}, piece{name: "calls/tail.db", text: "b"})), root, 1000); err != nil {
		t.Fatal(err)
	}
	if err := s.land(); err != nil {
		t.Fatal(err)
	}
	s.clear()
	if got := fmt.Sprint(tree(t, data)); got != "[calls calls/tail.db state.db]" {
		t.Errorf("the folder holds %s", got)
	}
}

// FuzzRestore: whatever an archive holds, nothing leaves the folder, no more is
// written than there is room, and what is accepted is what its list says.
// Files that somebody put beside the store's own, under names of his own, do not
// make a backup that cannot be restored, and data may lie anywhere.
func TestBackupOfOtherNames(t *testing.T) {
	data, again := filepath.Join(t.TempDir(), "data [1"), filepath.Join(t.TempDir(), "data")
	for _, name := range []string{"state.db.1.quarantine", "state.db.1.quarantine (copy)", "state.db.d/x", "calls/x.parquet.quarantine", "calls/x.parquet.quarantine~"} {
		path := filepath.Join(data, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "a.tar.zst")
	r := cli(t, nil, "backup", file, "--config", write(t, "c.yaml", fmt.Sprintf("data: %q\n", data)))
	if r.code != 0 || strings.Count(r.stderr, "left out") != 2 {
		t.Fatalf("backup: %+v", r)
	}
	if r := cli(t, nil, "restore", file, "--config", write(t, "c.yaml", fmt.Sprintf("data: %q\n", again))); r.code != 0 {
		t.Fatalf("restore: %+v", r)
	}
	if got, want := fmt.Sprint(tree(t, again)), "[calls calls/x.parquet.quarantine state.db.1.quarantine]"; got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
}

func FuzzRestore(f *testing.F) {
	unzip, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(16<<20))
	if err != nil {
		f.Fatal(err)
	}
	for _, archive := range [][]byte{
		pack(f, true, piece{name: "state.db", text: "state"}, piece{name: "calls/tail.db", text: "tail"}),
		pack(f, true, piece{name: "../x", text: "x"}),
		pack(f, true, piece{name: "calls", kind: tar.TypeSymlink, link: "/"}, piece{name: "calls/x", text: "x"}),
		pack(f, false, piece{name: "state.db", size: 1 << 40}),
	} {
		raw, err := unzip.DecodeAll(archive, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive, false)
		f.Add(raw, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, raw bool) {
		if raw {
			b = squeeze(t, b)
		}
		const room = 1 << 16
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(filepath.Join(dir, "in"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		list, err := unpack(bytes.NewReader(b), root, room)
		var bytes int64
		files := 0
		for _, name := range tree(t, dir) {
			st, serr := os.Lstat(filepath.Join(dir, name))
			if serr != nil || name != "in" && !strings.HasPrefix(name, "in"+string(filepath.Separator)) || !st.IsDir() && !st.Mode().IsRegular() {
				t.Fatalf("%s: %v, %v", name, st, serr)
			}
			if !st.IsDir() {
				bytes += st.Size()
				files++
			}
		}
		if bytes > room {
			t.Errorf("%d bytes were written, there was room for %d", bytes, room)
		}
		if err == nil && (files != len(list.Files) || bytes != list.bytes()) {
			t.Errorf("%d files of %d bytes were accepted, the list says %d of %d", files, bytes, len(list.Files), list.bytes())
		}
	})
}
