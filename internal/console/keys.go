package console

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/state"
)

const (
	maxKeyBody = 64 << 10 // bytes of a wish about a key
	maxListed  = 1000     // keys, or entries of the audit log, of one page
	fewListed  = 100      // where no limit is asked for
)

// An AuditLog lists entries: see state.State.Audit.
type AuditLog func(ctx context.Context, object string, before int64, limit int) ([]*state.AuditEntry, error)

// actor is whom the audit log names for a request.
func actor(r *http.Request, p *call.Principal) string {
	if header(r) == "" {
		return p.Key + " (console)"
	}
	return p.Key
}

// keyFailed answers an error of the keys.
func (s *Console) keyFailed(w http.ResponseWriter, r *http.Request, err error) {
	var bad *state.KeyError
	if !errors.As(err, &bad) {
		s.Log.Error("the state failed", "route", r.Pattern, "err", err)
		fail(w, http.StatusServiceUnavailable, "state_unavailable", "", "the state cannot be written at the moment: nothing was changed")
		return
	}
	status, code := http.StatusBadRequest, "invalid_key_settings"
	switch bad.Kind {
	case state.KeyConflict:
		status, code = http.StatusConflict, "conflict"
	case state.KeyNotFound:
		status, code = http.StatusNotFound, "not_found"
	}
	fail(w, status, code, bad.Field, bad.Msg)
}

// keySettings are the fields of a key that a wish may name. What is named is
// set, null sets it back; of limits and metadata that goes for each entry
// (RFC 7396, JSON Merge Patch).
type keySettings struct {
	Team     *string            `json:"team"`
	Models   []string           `json:"models"`
	Limits   *limitSettings     `json:"limits"`
	Budget   []string           `json:"budget"`
	Metadata map[string]*string `json:"metadata"`
	Expires  *time.Time         `json:"expires_at"`
}

type limitSettings struct {
	RPM        *int64 `json:"rpm"`
	TPM        *int64 `json:"tpm"`
	InputTPM   *int64 `json:"input_tpm"`
	OutputTPM  *int64 `json:"output_tpm"`
	Concurrent *int64 `json:"concurrent"`
}

// settingsOf is what a wish about k is decoded over.
func settingsOf(k *state.Key) *keySettings {
	n := func(n int64) *int64 {
		if n == 0 {
			return nil
		}
		return &n
	}
	team := k.Team
	v := &keySettings{Team: &team, Models: slices.Clone(k.Models), Budget: slices.Clone(k.Budget), Metadata: map[string]*string{},
		Limits: &limitSettings{n(k.Limits.RPM), n(k.Limits.TPM), n(k.Limits.InputTPM), n(k.Limits.OutputTPM), n(k.Limits.Concurrent)}}
	for name, text := range k.Metadata {
		v.Metadata[name] = &text
	}
	if !k.Expires.IsZero() {
		at := k.Expires
		v.Expires = &at
	}
	return v
}

// apply puts the settings into k.
func (v *keySettings) apply(k *state.Key) error {
	k.Team, k.Models, k.Budget, k.Metadata, k.Expires, k.Limits = "", v.Models, v.Budget, nil, time.Time{}, state.Limits{}
	if v.Team != nil {
		k.Team = *v.Team
	}
	if v.Expires != nil {
		k.Expires = *v.Expires
	}
	for name, text := range v.Metadata {
		if text == nil {
			continue
		}
		if k.Metadata == nil {
			k.Metadata = map[string]string{}
		}
		k.Metadata[name] = *text
	}
	l := v.Limits
	if l == nil {
		l = &limitSettings{}
	}
	for _, f := range []struct {
		name string
		from *int64
		to   *int64
	}{{"rpm", l.RPM, &k.Limits.RPM}, {"tpm", l.TPM, &k.Limits.TPM}, {"input_tpm", l.InputTPM, &k.Limits.InputTPM},
		{"output_tpm", l.OutputTPM, &k.Limits.OutputTPM}, {"concurrent", l.Concurrent, &k.Limits.Concurrent}} {
		if f.from == nil {
			continue
		}
		if *f.from < 1 {
			return &state.KeyError{Kind: state.KeyInvalid, Field: "limits." + f.name, Msg: fmt.Sprintf("limits.%s is %d: write a whole number from 1 to 10^15, or null for none", f.name, *f.from)}
		}
		*f.to = *f.from
	}
	return nil
}

// readBody reads the body of a wish about a key. It has answered if it is not ok.
func readBody(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxKeyBody))
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		fail(w, http.StatusRequestEntityTooLarge, "too_large", "", fmt.Sprintf("the body is longer than %d bytes", big.Limit))
	case err != nil:
		fail(w, http.StatusBadRequest, "invalid_request", "", "the body cannot be read")
	}
	return body, err == nil
}

// params reads the query of a list of the given names and its limit.
func params(v url.Values, names ...string) (limit int, bad *paramError) {
	for name := range v {
		if !slices.Contains(names, name) {
			msg := fmt.Sprintf("there is no parameter %.60q", name)
			if near := nearest(name, names); near != "" {
				msg += fmt.Sprintf("; did you mean %q?", near)
			}
			return 0, &paramError{call.Clip(name, 60), msg}
		}
	}
	text := v.Get("limit")
	if text == "" {
		return fewListed, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxListed {
		return 0, &paramError{"limit", fmt.Sprintf("limit is a number from 1 to %d", maxListed)}
	}
	return n, nil
}

// listKeys lists keys by name, those of the configuration too.
func (s *Console) listKeys(w http.ResponseWriter, r *http.Request, _ *call.Principal) {
	v := r.URL.Query()
	limit, bad := params(v, "q", "state", "source", "limit", "cursor")
	if bad != nil {
		fail(w, http.StatusBadRequest, "invalid_query", bad.param, bad.msg)
		return
	}
	want, source := v.Get("state"), v.Get("source")
	for _, c := range []struct {
		param, value string
		known        []string
	}{{"state", want, []string{"", state.KeyActive, state.KeyExpired, state.KeyRevoked}}, {"source", source, []string{"", "config", "runtime"}}} {
		if !slices.Contains(c.known, c.value) {
			fail(w, http.StatusBadRequest, "invalid_query", c.param, fmt.Sprintf("%s is one of %s", c.param, strings.Join(c.known[1:], ", ")))
			return
		}
	}
	text, now := strings.ToLower(v.Get("q")), time.Now()
	page := struct {
		Keys  []*state.Key `json:"keys"`
		Next  string       `json:"next"`  // the cursor of the following page; "" at the end
		Total int          `json:"total"` // keys that match, on all pages
	}{Keys: []*state.Key{}}
	for _, k := range s.Keys.All() {
		if want != "" && k.State(now) != want || source != "" && (source == "config") != k.Fixed ||
			text != "" && !strings.Contains(strings.ToLower(k.Name), text) && !strings.Contains(strings.ToLower(k.Team), text) {
			continue
		}
		page.Total++
		if k.Name <= v.Get("cursor") {
			continue
		}
		if len(page.Keys) == limit {
			page.Next = page.Keys[limit-1].Name
			continue
		}
		page.Keys = append(page.Keys, k)
	}
	answer(w, http.StatusOK, page)
}

func (s *Console) getKey(w http.ResponseWriter, r *http.Request, _ *call.Principal) {
	k, ok := s.Keys.Get(r.PathValue("name"))
	if !ok {
		s.keyFailed(w, r, &state.KeyError{Kind: state.KeyNotFound, Msg: fmt.Sprintf("there is no key %.60q", r.PathValue("name"))})
		return
	}
	answer(w, http.StatusOK, k)
}

// A madeKey is the one answer that holds a credential.
type madeKey struct {
	Key    *state.Key `json:"key"`
	Secret string     `json:"secret"`
}

func (s *Console) createKey(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	k, err := readKey(body)
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_request", "", err.Error())
		return
	}
	var wish state.Key
	if err := k.apply(&wish); err != nil {
		s.keyFailed(w, r, err)
		return
	}
	wish.Name = k.Name
	made, secret, err := s.Keys.Create(r.Context(), actor(r, p), wish)
	if err != nil {
		s.keyFailed(w, r, err)
		return
	}
	answer(w, http.StatusCreated, madeKey{made, secret})
}

// A newKey is the wish for one.
type newKey struct {
	Name string `json:"name"`
	keySettings
}

// readKey reads the wish for a key.
func readKey(body []byte) (k newKey, err error) {
	err = strict(json.NewDecoder(bytes.NewReader(body)), &k)
	return k, err
}

func (s *Console) updateKey(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	var form error // of the body, which only the key as it is can be decoded over
	k, err := s.Keys.Update(r.Context(), actor(r, p), r.PathValue("name"), func(k *state.Key) error {
		if form = editKey(k, body); form != nil {
			return form
		}
		return nil
	})
	var bad *state.KeyError
	if form != nil && !errors.As(form, &bad) {
		fail(w, http.StatusBadRequest, "invalid_request", "", form.Error())
		return
	}
	if err != nil {
		s.keyFailed(w, r, err)
		return
	}
	answer(w, http.StatusOK, k)
}

// editKey changes k by a merge patch.
func editKey(k *state.Key, body []byte) error {
	v := settingsOf(k)
	if t := bytes.TrimSpace(body); len(t) > 0 && t[0] != '{' {
		return errors.New("the body is not the JSON object expected")
	}
	if err := strict(json.NewDecoder(bytes.NewReader(body)), v); err != nil {
		return err
	}
	return v.apply(k)
}

func (s *Console) revokeKey(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	k, err := s.Keys.Revoke(r.Context(), actor(r, p), r.PathValue("name"))
	if err != nil {
		s.keyFailed(w, r, err)
		return
	}
	answer(w, http.StatusOK, k)
}

func (s *Console) rotateKey(w http.ResponseWriter, r *http.Request, p *call.Principal) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	var in struct {
		Grace string `json:"grace"`
	}
	if len(bytes.TrimSpace(body)) > 0 {
		if err := strict(json.NewDecoder(bytes.NewReader(body)), &in); err != nil {
			fail(w, http.StatusBadRequest, "invalid_request", "", err.Error())
			return
		}
	}
	var grace time.Duration
	if in.Grace != "" {
		var err error
		if grace, err = time.ParseDuration(in.Grace); err != nil {
			fail(w, http.StatusBadRequest, "invalid_request", "grace", "grace is a duration like 30m or 1h")
			return
		}
	}
	k, secret, err := s.Keys.Rotate(r.Context(), actor(r, p), r.PathValue("name"), grace)
	if err != nil {
		s.keyFailed(w, r, err)
		return
	}
	answer(w, http.StatusOK, madeKey{k, secret})
}

// An auditJSON is an entry of the audit log.
type auditJSON struct {
	Seq    int64           `json:"seq"`
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	Object string          `json:"object"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
	Prev   string          `json:"prev"`
	Hash   string          `json:"hash"`
}

// audit lists the audit log, newest first.
func (s *Console) audit(w http.ResponseWriter, r *http.Request, _ *call.Principal) {
	v := r.URL.Query()
	limit, bad := params(v, "object", "limit", "cursor")
	var before int64
	if text := v.Get("cursor"); text != "" && bad == nil {
		var err error
		if before, err = strconv.ParseInt(text, 10, 64); err != nil || before < 1 {
			bad = &paramError{"cursor", "cursor is next of the page before"}
		}
	}
	if bad != nil {
		fail(w, http.StatusBadRequest, "invalid_query", bad.param, bad.msg)
		return
	}
	list, err := s.Audit(r.Context(), v.Get("object"), before, limit)
	if err != nil {
		s.keyFailed(w, r, err)
		return
	}
	page := struct {
		Entries []auditJSON `json:"entries"`
		Next    string      `json:"next"`
	}{Entries: []auditJSON{}}
	for _, e := range list {
		page.Entries = append(page.Entries, auditJSON{e.Seq, e.At, e.Actor, e.Action, e.Object, e.Before, e.After, hex.EncodeToString(e.Prev[:]), hex.EncodeToString(e.Hash[:])})
	}
	if len(list) == limit && list[limit-1].Seq > 1 {
		page.Next = strconv.FormatInt(list[limit-1].Seq, 10)
	}
	answer(w, http.StatusOK, page)
}
