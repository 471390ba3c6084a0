//go:build unix

package h1

import "syscall"

// silent reports whether a connection is open and has nothing to read. It does
// not wait.
func silent(fd uintptr) bool {
	var one [1]byte
	n, err := syscall.Read(int(fd), one[:])
	return n <= 0 && err == syscall.EAGAIN
}
