//go:build !race

package local

// Raced says that everything takes ten times as long.
const Raced = false
