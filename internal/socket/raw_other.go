//go:build unix && (!linux || race || msan)

package socket

import "syscall"

// Elsewhere system calls are a library's functions, and the race detector sees
// by these that who reads comes after who wrote.

func sysRead(fd int, p []byte) (int, error)  { return syscall.Read(fd, p) }
func sysWrite(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }
