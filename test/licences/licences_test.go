// Package licences keeps docs/licences.md: what the program is made of and
// under which licence, read from the licences themselves.
package licences

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/licences.md")

// allowed are the licences that a program under Apache-2.0 may be linked with.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib", "blessing"}

// platforms are those that the program is built for: what it links depends on
// them a little.
var platforms = []string{"linux/amd64", "darwin/arm64", "windows/amd64"}

const and = " AND " // between licences that apply together

// A part is what the program is made of beside our own code.
type part struct{ name, version, licence, where string }

func TestLicences(t *testing.T) {
	parts := append(modules(t), vendored(t)...)
	for _, p := range parts {
		for _, l := range strings.Split(p.licence, and) {
			if !slices.Contains(allowed, l) {
				t.Errorf("%s %s has the licence %q (%s), which is not on the list of allowed ones", p.name, p.version, p.licence, p.where)
			}
		}
	}
	const path = "../../docs/licences.md"
	want := page(parts)
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/licences.md is out of date: run make licences")
	}
}

// page is docs/licences.md.
func page(parts []part) []byte {
	var b bytes.Buffer
	b.WriteString("# Licences\n\nWritten by `make licences`; do not edit. Sheepgate is under [Apache-2.0](../LICENSE). The program is linked with, or has\nwithin its console:\n\n| part | version | licence |\n|---|---|---|\n")
	for _, p := range parts {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.name, p.version, p.licence)
	}
	return b.Bytes()
}

// modules are the modules of the packages that the program imports, and Go.
func modules(t *testing.T) []part {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]part{"": {"Go's standard library", "", licence(t, strings.TrimSpace(string(root))), "GOROOT"}}
	for _, platform := range platforms {
		system, arch, _ := strings.Cut(platform, "/")
		cmd := exec.Command("go", "list", "-deps", "-json=Module", "./cmd/sheepgate")
		cmd.Dir, cmd.Stderr = filepath.Join("..", ".."), os.Stderr
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for dec := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				Module *struct {
					Path, Version, Dir string
					Main               bool
				}
			}
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if m := p.Module; m != nil && !m.Main && seen[m.Path].name == "" {
				seen[m.Path] = part{m.Path, m.Version, licence(t, m.Dir), m.Dir}
			}
		}
	}
	var list []part
	for _, p := range seen {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b part) int { return cmp.Compare(a.name, b.name) })
	if len(list) < 10 {
		t.Fatalf("only %d modules were found", len(list))
	}
	return list
}

var vendorRow = regexp.MustCompile(`(?m)^\| [^|]+ \| ([a-z-]+) ([0-9.]+),[^|]* \| [^|]*(LICENSE\.[a-z]+) \|$`)

// vendored are the libraries of the console, from the list beside them.
func vendored(t *testing.T) []part {
	t.Helper()
	dir := filepath.Join("..", "..", "internal", "console", "ui", "vendor")
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var list []part
	for _, m := range vendorRow.FindAllStringSubmatch(string(text), -1) {
		file := filepath.Join(dir, m[3])
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p := part{"console: " + m[1], m[2], identify(text), file}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	if len(list) < 2 {
		t.Fatalf("%d libraries were found in %s", len(list), dir)
	}
	return list
}

// licence is what the files in a module's folder say.
func licence(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, e := range list {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || name == "LICENSE-LOGO" || // a picture's, which is not linked
			!strings.HasPrefix(name, "LICENSE") && !strings.HasPrefix(name, "LICENCE") && !strings.HasPrefix(name, "COPYING") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, strings.Split(identify(text), and)...)
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), and)
}

// clauses are sentences that one family of licences has and no other.
var clauses = []struct{ id, sentence string }{
	{"Apache-2.0", "apache license version 2.0"},
	{"MPL-2.0", "mozilla public license version 2.0"},
	{"GPL", "gnu general public license"},
	{"LGPL", "gnu lesser general public license"},
	{"AGPL", "gnu affero general public license"},
	{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"},
	{"ISC", "permission to use, copy, modify, and distribute this software for any purpose"},
	{"BSD", "redistribution and use in source and binary forms"},
	{"Unlicense", "this is free and unencumbered software released into the public domain"},
	{"blessing", "all of the code and documentation in sqlite has been dedicated to the public domain"},
	{"Zlib", "this software is provided 'as-is', without any express or implied warranty"},
}

// identify gives the SPDX names of the licences that a text holds; "unknown"
// if there is none that it knows.
func identify(text []byte) string {
	s := strings.Join(strings.Fields(strings.NewReplacer(",", " ", "/", " ", "“", "'", "”", "'").Replace(strings.ToLower(string(text)))), " ")
	var ids []string
	for _, c := range clauses {
		id := c.id
		if !strings.Contains(s, strings.Join(strings.Fields(strings.NewReplacer(",", " ", "/", " ").Replace(c.sentence)), " ")) {
			continue
		}
		if id == "BSD" {
			id = "BSD-2-Clause"
			if strings.Contains(s, "neither the name") || strings.Contains(s, "names of its contributors") || strings.Contains(s, "may not be used to endorse") {
				id = "BSD-3-Clause"
			}
			if strings.Contains(s, "all advertising materials") {
				id = "BSD-4-Clause"
			}
		}
		if strings.HasSuffix(id, "GPL") && (slices.Contains(ids, "MPL-2.0") || slices.Contains(ids, "Apache-2.0")) {
			continue // they name the GPL as one that they go with
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "unknown"
	}
	slices.Sort(ids)
	return strings.Join(ids, and)
}

func TestIdentify(t *testing.T) {
	check := func(want, text string) {
		t.Helper()
		if got := identify([]byte(text)); got != want {
			t.Errorf("identify(%.40q) = %s, want %s", text, got, want)
		}
	}
	check("MIT", "Copyright\n\nPermission is hereby granted, free of charge, to any person\nobtaining a copy of this software")
	check("BSD-2-Clause", "Redistribution and use in source and binary forms, with or without")
	check("BSD-3-Clause", "Redistribution and use in source and binary forms ... * Neither the name of Google")
	check("BSD-4-Clause", "Redistribution and use in source and binary forms ... All advertising materials mentioning ... Neither the name")
	check("GPL", "GNU GENERAL PUBLIC LICENSE Version 3")
	check("AGPL", "GNU AFFERO GENERAL PUBLIC LICENSE Version 3")
	check("unknown", "All rights reserved.")
	check("unknown", "")
	check("Apache-2.0 AND BSD-3-Clause", "Apache License\n  Version 2.0, January 2004 ... Redistribution and use in source and binary forms ... Neither the name")
}
