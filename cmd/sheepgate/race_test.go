//go:build race

package main

// raced says that everything takes ten times as long.
const raced = true
