//go:build linux || darwin

package main

import "syscall"

// freeBytes is the space of a folder's file system that its user may fill.
func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// maxOpenFiles is how many file descriptors a process started here may have.
// The Go runtime raises the soft limit to the hard one when it starts.
func maxOpenFiles() (uint64, error) {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return l.Cur, err
}

// mayWrite says why a folder may not be written to.
func mayWrite(dir string) error { return syscall.Access(dir, 2|1) } // W_OK, X_OK
