package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write docs/config.md")

func TestReference(t *testing.T) {
	const path = "../../docs/config.md"
	want := Reference()
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
		t.Error("docs/config.md is out of date: run go generate ./internal/config")
	}
	for _, s := range []string{"| `timeouts.first_token` | a duration like 10m | `1m` | `SHEEPGATE_TIMEOUTS_FIRST_TOKEN` |", "| `keys.NAME.limits.rpm` |"} {
		if !strings.Contains(string(got), s) {
			t.Errorf("docs/config.md has no %s", s)
		}
	}
}

// validate checks a YAML document against the schema.
func validate(t *testing.T, text string) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func TestSchema(t *testing.T) {
	good := func(text string) {
		t.Helper()
		if err := validate(t, text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	bad := func(text, want string) {
		t.Helper()
		if err := validate(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
	good(contractExample)
	good(string(Example))
	good("providers: { openai: }\nalerts: [{ any: thing }]\nmodels: { a: { use: [openai/x], weights: [1, 2.5] } }")
	bad("lisen: x", "additional properties 'lisen' not allowed")
	bad("timeouts: { total: 600 }", "/timeouts/total")
	bad("privacy: { bodies: some }", "value must be one of 'off', 'redacted', 'full'")
	bad("providers: { x: { typ: y } }", "/providers/x")
	bad("models: { a: { use: gpt } }", "/models/a")
	bad("keys: { a: { budget: 200 } }", "/keys/a")
}

// TestExample reads the file that init writes as a first-time user would.
func TestExample(t *testing.T) {
	c, warnings, err := Parse("sheepgate.yaml", Example, Options{Known: known, Environ: []string{"OPENAI_API_KEY=sk"}})
	if err != nil || len(warnings) != 0 || len(c.Providers) != 1 {
		t.Errorf("config %+v, warnings %v, error %v", c, warnings, err)
	}
}
