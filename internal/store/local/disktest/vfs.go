package disktest

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite sees the disk as a VFS of its own: the machine's, with a few functions
// of its files in front. See the VFS object and the I/O methods object at
// sqlite.org/vfs.html. All memory here is SQLite's, not Go's.

var registry struct {
	sync.Mutex
	n     int
	disks map[uintptr]*Disk   // by VFS
	names map[string]uintptr  // VFSs by name
	files map[uintptr]opened  // by sqlite3_file
	made  map[uintptr]uintptr // our I/O methods, by those that they stand before
}

type opened struct {
	d       *Disk
	name    string
	methods *sqlite3.Tsqlite3_io_methods // the machine's
}

// at is the object at an address that SQLite gave.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// pointer is a Go function, which must not be a closure, as SQLite calls one.
func pointer(f any) uintptr { return (*[2]uintptr)(unsafe.Pointer(&f))[1] }

// function is the Go function behind a pointer of SQLite's.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ uintptr }{p})) }

type (
	openFunc     = func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32
	deleteFunc   = func(*libc.TLS, uintptr, uintptr, int32) int32
	closeFunc    = func(*libc.TLS, uintptr) int32
	moveFunc     = func(*libc.TLS, uintptr, uintptr, int32, int64) int32 // read and write
	truncateFunc = func(*libc.TLS, uintptr, int64) int32
	syncFunc     = func(*libc.TLS, uintptr, int32) int32
)

// The functions, once, where the collector leaves them alone.
var (
	openPointer, deletePointer = any(openFunc(xOpen)), any(deleteFunc(xDelete))
	closePointer               = any(closeFunc(xClose))
	readPointer, writePointer  = any(moveFunc(xRead)), any(moveFunc(xWrite))
	truncatePointer            = any(truncateFunc(xTruncate))
	syncPointer                = any(syncFunc(xSync))
)

func plain(tls *libc.TLS) *sqlite3.Tsqlite3_vfs {
	return at[sqlite3.Tsqlite3_vfs](sqlite3.Xsqlite3_vfs_find(tls, 0))
}

func register(d *Disk) string {
	tls := libc.NewTLS()
	defer tls.Close()
	if rc := sqlite3.Xsqlite3_initialize(tls); rc != 0 {
		panic(rc)
	}
	registry.Lock()
	defer registry.Unlock()
	if registry.disks == nil {
		registry.disks, registry.names = map[uintptr]*Disk{}, map[string]uintptr{}
		registry.files, registry.made = map[uintptr]opened{}, map[uintptr]uintptr{}
	}
	registry.n++
	name := fmt.Sprintf("disktest-%d", registry.n)
	cname, err := libc.CString(name)
	if err != nil {
		panic(err)
	}
	p := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
	v := at[sqlite3.Tsqlite3_vfs](p)
	*v = *plain(tls)
	v.FpNext, v.FzName = 0, cname
	v.FxOpen, v.FxDelete = pointer(openPointer), pointer(deletePointer)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, p, 0); rc != 0 {
		panic(rc)
	}
	registry.disks[p], registry.names[name] = d, p
	return name
}

func unregister(name string) {
	tls := libc.NewTLS()
	defer tls.Close()
	registry.Lock()
	defer registry.Unlock()
	p := registry.names[name]
	sqlite3.Xsqlite3_vfs_unregister(tls, p)
	delete(registry.names, name)
	delete(registry.disks, p)
}

func diskOf(vfs uintptr) *Disk {
	registry.Lock()
	defer registry.Unlock()
	return registry.disks[vfs]
}

func fileOf(p uintptr) opened {
	registry.Lock()
	defer registry.Unlock()
	return registry.files[p]
}

func xOpen(tls *libc.TLS, vfs, name, p uintptr, flags int32, out uintptr) int32 {
	d := diskOf(vfs)
	path := ""
	if name != 0 {
		path = libc.GoString(name)
	}
	if d.op("open", path) != nil {
		at[sqlite3.Tsqlite3_file](p).FpMethods = 0
		return sqlite3.SQLITE_CANTOPEN
	}
	v := plain(tls)
	if rc := function[openFunc](v.FxOpen)(tls, sqlite3.Xsqlite3_vfs_find(tls, 0), name, p, flags, out); rc != 0 {
		return rc
	}
	f := at[sqlite3.Tsqlite3_file](p)
	registry.Lock()
	defer registry.Unlock()
	theirs := at[sqlite3.Tsqlite3_io_methods](f.FpMethods)
	registry.files[p] = opened{d, path, theirs}
	ours := registry.made[f.FpMethods]
	if ours == 0 {
		ours = libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(*theirs)))
		m := at[sqlite3.Tsqlite3_io_methods](ours)
		*m = *theirs
		m.FxClose, m.FxRead, m.FxWrite = pointer(closePointer), pointer(readPointer), pointer(writePointer)
		m.FxTruncate, m.FxSync = pointer(truncatePointer), pointer(syncPointer)
		registry.made[f.FpMethods] = ours
	}
	f.FpMethods = ours
	return 0
}

func xDelete(tls *libc.TLS, vfs, name uintptr, dirSync int32) int32 {
	if diskOf(vfs).op("delete", libc.GoString(name)) != nil {
		return sqlite3.SQLITE_IOERR_DELETE
	}
	return function[deleteFunc](plain(tls).FxDelete)(tls, sqlite3.Xsqlite3_vfs_find(tls, 0), name, dirSync)
}

func xClose(tls *libc.TLS, p uintptr) int32 {
	registry.Lock()
	f := registry.files[p]
	delete(registry.files, p)
	registry.Unlock()
	return function[closeFunc](f.methods.FxClose)(tls, p)
}

func xRead(tls *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	f := fileOf(p)
	if f.d.read("read", f.name) != nil {
		return sqlite3.SQLITE_IOERR_READ
	}
	return function[moveFunc](f.methods.FxRead)(tls, p, buf, n, off)
}

func xWrite(tls *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	f := fileOf(p)
	if err := f.d.op("write", f.name); err != nil {
		function[moveFunc](f.methods.FxWrite)(tls, p, buf, n/2, off)
		if errors.Is(err, syscall.ENOSPC) {
			return sqlite3.SQLITE_FULL
		}
		return sqlite3.SQLITE_IOERR_WRITE
	}
	return function[moveFunc](f.methods.FxWrite)(tls, p, buf, n, off)
}

func xTruncate(tls *libc.TLS, p uintptr, size int64) int32 {
	f := fileOf(p)
	if f.d.op("truncate", f.name) != nil {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	return function[truncateFunc](f.methods.FxTruncate)(tls, p, size)
}

func xSync(tls *libc.TLS, p uintptr, flags int32) int32 {
	f := fileOf(p)
	if f.d.op("sync", f.name) != nil {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	f.d.wait()
	return function[syncFunc](f.methods.FxSync)(tls, p, flags)
}
