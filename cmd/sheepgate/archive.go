package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A backup is a tar under zstd: files named as in a data folder, and last, so
// that an archive which was cut off has none, its list with their checksums.
const (
	listName    = "sheepgate-backup.json"
	listVersion = 1
	callsFolder = "calls"

	maxListBytes = 32 << 20
	maxFiles     = 200_000
	maxEnd       = 1 << 20  // after the list: a tar ends in zeros
	maxWindow    = 32 << 20 // of zstd: what a reader must hold
)

// fileName is what a file of an archive may be called: nothing here leads out
// of a folder, and no other folder than calls is there.
var fileName = regexp.MustCompile(`^(calls/)?[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

// A backupList says what is in an archive.
type backupList struct {
	Version int          `json:"version"`
	By      string       `json:"sheepgate"` // the version that made it
	At      time.Time    `json:"made_at"`   // every Call that was stored by then is in it
	Files   []backupFile `json:"files"`
}

type backupFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func (l *backupList) bytes() (sum int64) {
	for _, f := range l.Files {
		sum += f.Bytes
	}
	return sum
}

// An archiver writes an archive.
type archiver struct {
	zip  *zstd.Encoder
	tar  *tar.Writer
	list backupList
}

func newArchiver(w io.Writer) (*archiver, error) {
	// One thread: a server may be serving beside it. Most of it is compressed already.
	zip, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return &archiver{zip, tar.NewWriter(zip), backupList{Version: listVersion, By: version(), At: time.Now().UTC(), Files: []backupFile{}}}, nil
}

// add writes a file, from its beginning.
func (a *archiver) add(name string, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: st.Size(), Mode: 0o600, ModTime: st.ModTime()}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(a.tar, h), io.NewSectionReader(f, 0, st.Size()))
	if err == nil && n < st.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.list.Files = append(a.list.Files, backupFile{name, n, hex.EncodeToString(h.Sum(nil))})
	return nil
}

// close writes the list and the end.
func (a *archiver) close() error {
	b, err := json.Marshal(&a.list)
	if err != nil {
		return err
	}
	if err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: listName, Size: int64(len(b)), Mode: 0o600, ModTime: a.list.At}); err != nil {
		return err
	}
	_, err = a.tar.Write(b)
	return errors.Join(err, a.tar.Close(), a.zip.Close())
}

// unpack writes the files of an archive into a folder and holds them against
// its list. What it was not given by backup it refuses: other names, links,
// folders, more than room bytes.
func unpack(r io.Reader, to *os.Root, room int64) (*backupList, error) {
	zip, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	got, list, err := untar(tar.NewReader(zip), to, room)
	if err != nil {
		return nil, err
	}
	if list == nil {
		return nil, errors.New("the archive is cut off, or no backup: it has no list of its files")
	}
	switch n, err := io.Copy(io.Discard, io.LimitReader(zip, maxEnd)); {
	case err != nil: // zstd's own checksum stands at the end
		return nil, fmt.Errorf("the archive cannot be read: %w", err)
	case n == maxEnd:
		return nil, errors.New("the archive goes on after its list")
	}
	return list, list.check(got)
}

// untar writes files until it comes to the list. got is what there was.
func untar(t *tar.Reader, to *os.Root, room int64) (got map[string]backupFile, list *backupList, err error) {
	got = map[string]backupFile{}
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return got, nil, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("the archive cannot be read: %w", err)
		}
		if h.Name == listName {
			list, err = readList(t)
			return got, list, err
		}
		switch {
		case h.Typeflag != tar.TypeReg:
			return nil, nil, fmt.Errorf("the archive holds %q, which is no file", cut(h.Name))
		case !fileName.MatchString(h.Name) || h.Name == callsFolder || h.Name == callsFolder+"/lock":
			return nil, nil, fmt.Errorf("the archive holds %q, which no backup has", cut(h.Name))
		case got[h.Name].Name != "" || len(got) == maxFiles:
			return nil, nil, fmt.Errorf("the archive holds %q twice, or too many files", h.Name)
		case h.Size > room:
			return nil, nil, fmt.Errorf("%s has %d bytes, and there is room for %d", h.Name, h.Size, room)
		}
		room -= h.Size
		if got[h.Name], err = writeFile(t, to, h.Name); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// cut shortens a name for a message.
func cut(s string) string { return s[:min(len(s), 100)] }

func writeFile(r io.Reader, to *os.Root, name string) (backupFile, error) {
	if dir := path.Dir(name); dir != "." {
		if err := to.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return backupFile{}, err
		}
	}
	f, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return backupFile{}, err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), r)
	if err == nil {
		err = f.Sync()
	}
	return backupFile{name, n, hex.EncodeToString(h.Sum(nil))}, errors.Join(err, f.Close())
}

func readList(r io.Reader) (*backupList, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxListBytes+1))
	if err != nil {
		return nil, fmt.Errorf("the archive's list: %w", err)
	}
	l := new(backupList)
	if err := json.Unmarshal(b, l); err != nil || len(b) > maxListBytes {
		return nil, errors.New("the archive's list cannot be read")
	}
	if l.Version != listVersion {
		return nil, fmt.Errorf("the archive has version %d, made by sheepgate %q; this one knows %d", l.Version, cut(l.By), listVersion)
	}
	return l, nil
}

// check holds the files that came against the list.
func (l *backupList) check(got map[string]backupFile) error {
	for _, f := range l.Files {
		g, ok := got[f.Name]
		switch {
		case !ok:
			return fmt.Errorf("the archive's list names %q, which is not in it", cut(f.Name))
		case g != f:
			return fmt.Errorf("%s is damaged: its checksum is not that of the list", f.Name)
		}
	}
	if len(got) != len(l.Files) {
		return fmt.Errorf("the archive holds %d files and its list names %d", len(got), len(l.Files))
	}
	return nil
}

// folders are where an archive's files lie.
func (l *backupList) folders() []string {
	if slices.ContainsFunc(l.Files, func(f backupFile) bool { return path.Dir(f.Name) == callsFolder }) {
		return []string{callsFolder, "."}
	}
	return []string{"."}
}
