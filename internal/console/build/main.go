// Command build bundles the console's pages: ui/ becomes dist/, which is
// embedded. Run it by go generate; it needs no Node and no network.
package main

import (
	"fmt"
	"os"
)

func main() {
	files, err := bundle("ui")
	if err == nil {
		err = write("dist", files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}
