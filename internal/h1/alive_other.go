//go:build !unix

package h1

// silent cannot tell here: a connection that was closed shows when it is used.
func silent(uintptr) bool { return true }
