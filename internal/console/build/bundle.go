package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/evanw/esbuild/pkg/api"
)

// libraries are the vendored packages by the name they are imported by.
var libraries = map[string]string{
	"preact":             "preact.mjs",
	"preact/hooks":       "hooks.mjs",
	"preact/jsx-runtime": "jsx-runtime.mjs",
	"uplot":              "uplot.mjs",
}

// copied are the files that need no bundling.
var copied = []string{"index.html", "icon.svg"}

// languages are the texts, in files of their own: a page loads one of them.
var languages = []string{"en", "ko"}

// bundle builds the pages in the folder ui and returns them by name.
func bundle(ui string) (map[string][]byte, error) {
	abs, err := filepath.Abs(ui)
	if err != nil {
		return nil, err
	}
	alias := map[string]string{}
	for name, file := range libraries {
		alias[name] = filepath.Join(abs, "vendor", file)
	}
	res := api.Build(api.BuildOptions{
		AbsWorkingDir:       abs,
		EntryPointsAdvanced: []api.EntryPoint{{InputPath: "main.tsx", OutputPath: "app"}, {InputPath: "style.css", OutputPath: "style"}},
		Outdir:              filepath.Join(abs, "out"), // nothing is written there
		Bundle:              true,
		MinifyWhitespace:    true,
		MinifyIdentifiers:   true,
		MinifySyntax:        true,
		Format:              api.FormatESModule,
		Target:              api.ES2022,
		JSX:                 api.JSXAutomatic,
		JSXImportSource:     "preact",
		Alias:               alias,
		Charset:             api.CharsetUTF8,
		LegalComments:       api.LegalCommentsEndOfFile,
		LogLevel:            api.LogLevelSilent,
	})
	var errs []error
	for _, m := range append(res.Errors, res.Warnings...) {
		at := ""
		if m.Location != nil {
			at = fmt.Sprintf("%s:%d:%d: ", m.Location.File, m.Location.Line, m.Location.Column)
		}
		errs = append(errs, errors.New(at+m.Text))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	files := map[string][]byte{}
	for _, f := range res.OutputFiles {
		files[filepath.Base(f.Path)] = f.Contents
	}
	for _, name := range copied {
		if files[name], err = os.ReadFile(filepath.Join(abs, name)); err != nil {
			return nil, err
		}
	}
	for _, lang := range languages {
		text, err := os.ReadFile(filepath.Join(abs, "lang", lang+".json"))
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := json.Compact(&b, text); err != nil {
			return nil, fmt.Errorf("lang/%s.json: %w", lang, err)
		}
		files[lang+".json"] = b.Bytes()
	}
	return files, nil
}

// write makes dir hold files and nothing else.
func write(dir string, files map[string][]byte) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
