package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/config"
)

func newInit(e *env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "init", Short: "Write a commented " + defaultConfig + " and its schema; never overwrites", Args: cobra.NoArgs,
		Long: "Init writes sheepgate.yaml, with comments, and the schema that editors check it with. Providers\nwhose usual variable is set (OPENAI_API_KEY …) are switched on. Nothing is overwritten.",
		RunE: func(*cobra.Command, []string) error { return initFiles(e, dir) },
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder to write to")
	return cmd
}

func initFiles(e *env, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, defaultConfig)
	text, ready := exampleFor(e.environ)
	if err := writeNew(file, text); errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already and stays as it is", file)
	} else if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "wrote %s\n", file)
	schema := filepath.Join(dir, "sheepgate.schema.json")
	switch err := writeNew(schema, config.Schema()); {
	case errors.Is(err, os.ErrExist):
		fmt.Fprintf(e.stderr, "%s is there already and stays as it is\n", schema)
	case err != nil:
		return err
	default:
		fmt.Fprintf(e.stdout, "wrote %s\n", schema)
	}
	serve := "sheepgate serve"
	if filepath.Clean(dir) != "." {
		serve += " --config " + file
	}
	if !ready {
		serve = "switch a provider on in " + file + ", then " + serve
	}
	fmt.Fprintln(e.stdout, "next:", serve)
	return nil
}

// writeNew writes a file that does not exist yet.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

var exampleProvider = regexp.MustCompile(`^  (?:# )?([a-z]+: \{ key: env:([A-Z_]+_API_KEY) \})$`)

// exampleFor is the example with those providers switched on whose variable is
// set, so that what init wrote can be served at once. ready tells whether there
// is one.
func exampleFor(environ []string) (text []byte, ready bool) {
	lines := bytes.Split(config.Example, []byte("\n"))
	for i, line := range lines {
		m := exampleProvider.FindSubmatch(line)
		if m == nil {
			continue
		}
		mark := "  # "
		if slices.ContainsFunc(environ, func(s string) bool { return strings.HasPrefix(s, string(m[2])+"=") && len(s) > len(m[2])+1 }) {
			mark, ready = "  ", true
		}
		lines[i] = append([]byte(mark), m[1]...)
	}
	return bytes.Join(lines, []byte("\n")), ready
}
