// Package disktest is a disk that fails when a test wants it to: the machine's
// own, in which any operation on a file, of the store as well as of SQLite, can
// come to nothing. It hides how SQLite is brought to take its files from it.
package disktest

import (
	"os"
	"sync"
	"syscall"

	"github.com/sheepgate/sheepgate/internal/store/local"
)

// A Disk counts operations, and lets those fail that it is told to. Reads
// count where Reads is set, and what changes a file always.
type Disk struct {
	Reads bool

	vfs string

	mu     sync.Mutex
	n      int  // operations so far
	at     int  // the one that fails
	on     bool // and all that follow
	dead   int  // from this one on all fail; 0 means never
	with   syscall.Errno
	failed string // the first that did

	stalled chan struct{} // nil, or closed when that is over
}

// New makes a disk. Close it once every store on it is closed.
func New() *Disk {
	d := &Disk{}
	d.vfs = register(d)
	return d
}

// Close forgets the disk.
func (d *Disk) Close() { unregister(d.vfs) }

// Fail lets the n-th operation from now on fail with err, and if on is set all
// that follow. What is written then is half written.
func (d *Disk) Fail(n int, on bool, err syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n, d.at, d.on, d.with, d.failed, d.dead = 0, n, on, err, "", 0
}

// Kill lets the n-th operation since Fail and all that follow fail, too: as far
// as the disk can tell the process has ended.
func (d *Disk) Kill(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = n
}

// Stall makes whoever waits until something is on the disk wait, as a busy one
// does, until release is called.
func (d *Disk) Stall() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalled = make(chan struct{})
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		close(d.stalled)
		d.stalled = nil
	})
}

// wait waits as long as the disk is stalled.
func (d *Disk) wait() {
	d.mu.Lock()
	stalled := d.stalled
	d.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
}

// Heal ends all failing.
func (d *Disk) Heal() { d.Fail(0, false, 0) }

// Ops are the operations since the last Fail or Heal.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// Dead reports whether the operations have come to that of Kill.
func (d *Disk) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead > 0 && d.n >= d.dead
}

// Failed is the first operation that failed since then; "" if none did.
func (d *Disk) Failed() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// op counts an operation: an error is what comes of it.
func (d *Disk) op(what, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	switch {
	case d.dead > 0 && d.n >= d.dead:
		return &os.PathError{Op: what, Path: name, Err: syscall.EIO}
	case d.at == 0 || d.n != d.at && (!d.on || d.n < d.at):
		return nil
	}
	if d.failed == "" {
		d.failed = what + " " + name
	}
	return &os.PathError{Op: what, Path: name, Err: d.with}
}

func (d *Disk) read(what, name string) error {
	if !d.Reads {
		return nil
	}
	return d.op(what, name)
}

var _ local.Disk = (*Disk)(nil)

// VFS implements local.Disk.
func (d *Disk) VFS() string { return d.vfs }

// Open implements local.Disk.
func (d *Disk) Open(name string) (local.File, error) {
	if err := d.read("open", name); err != nil {
		return nil, err
	}
	return d.file(os.Open(name))
}

// Create implements local.Disk.
func (d *Disk) Create(name string) (local.File, error) {
	if err := d.op("create", name); err != nil {
		return nil, err
	}
	return d.file(os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600))
}

// Stat implements local.Disk.
func (d *Disk) Stat(name string) (os.FileInfo, error) {
	if err := d.read("stat", name); err != nil {
		return nil, err
	}
	return os.Stat(name)
}

// ReadDir implements local.Disk.
func (d *Disk) ReadDir(name string) ([]os.DirEntry, error) {
	if err := d.read("list", name); err != nil {
		return nil, err
	}
	return os.ReadDir(name)
}

// Rename implements local.Disk.
func (d *Disk) Rename(from, to string) error {
	if err := d.op("rename", from); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// Remove implements local.Disk.
func (d *Disk) Remove(name string) error {
	if err := d.op("remove", name); err != nil {
		return err
	}
	return os.Remove(name)
}

type file struct {
	*os.File
	d *Disk
}

func (d *Disk) file(f *os.File, err error) (local.File, error) {
	if err != nil {
		return nil, err
	}
	return &file{f, d}, nil
}

func (f *file) Write(b []byte) (int, error) {
	if err := f.d.op("write", f.Name()); err != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, err
	}
	return f.File.Write(b)
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if err := f.d.read("read", f.Name()); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

func (f *file) Sync() error {
	if err := f.d.op("sync", f.Name()); err != nil {
		return err
	}
	f.d.wait()
	return f.File.Sync()
}
