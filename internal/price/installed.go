package price

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// MaxInstalled bounds what EncodeInstalled makes, in bytes: JSON at most doubles
// a text.
const MaxInstalled = 2*MaxFile + 1<<12

const installedVersion = 1

// installed is a price file as it is kept: word for word, and with a checksum,
// because a price that a bit has fallen out of would be a price.
type installed struct {
	Version int       `json:"sheepgate_prices"`
	At      time.Time `json:"installed_at"`
	SHA256  string    `json:"sha256"` // of Text
	Text    string    `json:"text"`
}

// EncodeInstalled makes the form in which a price file that Parse reads is kept.
func EncodeInstalled(text []byte, at time.Time) []byte {
	sum := sha256.Sum256(text)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(installed{installedVersion, at.UTC().Truncate(time.Second), hex.EncodeToString(sum[:]), string(text)}) // fails for no text
	return b.Bytes()
}

// ReadInstalled reads what EncodeInstalled made.
func ReadInstalled(data []byte) (c *Catalogue, at time.Time, err error) {
	var in installed
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, at, fmt.Errorf("it is no installed price file: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, at, errors.New("something follows its end")
	}
	if in.Version != installedVersion {
		return nil, at, fmt.Errorf("it has version %d; this sheepgate knows %d", in.Version, installedVersion)
	}
	if sum := sha256.Sum256([]byte(in.Text)); hex.EncodeToString(sum[:]) != in.SHA256 {
		return nil, at, errors.New("its checksum is wrong")
	}
	if c, err = Parse([]byte(in.Text)); err != nil {
		return nil, at, fmt.Errorf("its prices cannot be read: %w", err)
	}
	return c, in.At, nil
}
