package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// A Disk is what the store does with files. The zero Options take the machine's
// own; a test brings one that fails.
type Disk interface {
	Open(name string) (File, error)   // to read: a file, or a folder to sync
	Create(name string) (File, error) // a new file, to write
	Stat(name string) (os.FileInfo, error)
	ReadDir(name string) ([]os.DirEntry, error)
	Rename(from, to string) error
	Remove(name string) error
	VFS() string // the SQLite VFS that opens the databases; "" is SQLite's own
}

// A File is an open one.
type File interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Stat() (os.FileInfo, error)
	Sync() error
}

type machine struct{}

func (machine) Open(name string) (File, error) { return os.Open(name) }
func (machine) Create(name string) (File, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}
func (machine) Stat(name string) (os.FileInfo, error)      { return os.Stat(name) }
func (machine) ReadDir(name string) ([]os.DirEntry, error) { return os.ReadDir(name) }
func (machine) Rename(from, to string) error               { return os.Rename(from, to) }
func (machine) Remove(name string) error                   { return os.Remove(name) }
func (machine) VFS() string                                { return "" }

// sides are the ends of the names of a database's files.
var sides = [...]string{"", "-wal", "-shm"}

// setDatabaseAside renames a database that cannot be read, with its side files,
// and says how it is called now.
func setDatabaseAside(d Disk, path string) (name string, err error) {
	aside := fmt.Sprintf("%s.%d%s", path, time.Now().UnixMilli(), quarantined)
	for _, side := range sides {
		if err := d.Rename(path+side, aside+side); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return filepath.Base(aside), nil
}

// SyncFolder makes what was renamed in a folder survive a loss of power, where
// the file system can.
func SyncFolder(dir string) error { return syncFolder(machine{}, dir) }

func syncFolder(d Disk, dir string) error {
	f, err := d.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// writeFile writes a small file, whole and synced, or none.
func writeFile(d Disk, name string, b []byte) error {
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = d.Remove(name)
	}
	return err
}
