package local_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/store"
	"github.com/sheepgate/sheepgate/internal/store/local"
	"github.com/sheepgate/sheepgate/internal/store/local/disktest"
)

// TestStall: a disk that is so busy that nothing gets there keeps nobody from
// storing Calls, also not while a segment is made: they are safe from a kill in
// what the system holds. Once it has time again all is there.
func TestStall(t *testing.T) {
	disk := disktest.New()
	defer disk.Close()
	s, err := local.Open(t.TempDir(), local.Options{Disk: disk, SealRows: 20_000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stored, at := 0, time.Now().Add(-time.Hour)
	var last atomic.Int64 // when the last batch was stored
	some := func() error {
		var batch []call.Entry
		for range 50 {
			at = at.Add(time.Millisecond)
			batch = append(batch, call.Entry{Exchange: &call.Exchange{Request: []byte("{}"), Response: []byte("{}")}, Call: &call.Call{ID: call.NewID(at), StartedAt: at.UTC().Truncate(time.Microsecond), Origin: call.OriginClient, Key: "k",
				Ingress: "openai.chat", Provider: "openai", Model: "gpt-4.1", ResponseID: "chatcmpl-" + call.NewID(at), Status: call.Success, HTTPStatus: 200, Cost: 1,
				Usage: llm.Usage{Source: llm.UsageUpstream, Input: 10, Output: 5}}})
		}
		stored += len(batch)
		err := s.Write(t.Context(), batch)
		last.Store(time.Now().UnixNano())
		return err
	}
	if err := some(); err != nil { // the log has begun, which SQLite waits for
		t.Fatal(err)
	}
	release := disk.Stall()
	defer release()
	done := make(chan error, 1)
	go func() {
		for stored < 50_000 { // some times what the log holds before it is brought to the database
			if err := some(); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for ended := false; !ended; {
		select {
		case err := <-done:
			if ended = true; err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Second):
			if time.Since(time.Unix(0, last.Load())) > 30*time.Second {
				release()
				<-done
				t.Fatal("calls cannot be stored while nothing gets to the disk")
			}
		}
	}
	count := func() int64 {
		res, err := s.Query(t.Context(), store.Query{From: at.Add(-2 * time.Hour), To: at.Add(time.Hour), Measures: []string{"requests"}})
		if err != nil {
			t.Fatal(err)
		}
		return res.Total[0].Int
	}
	if n := count(); n != int64(stored) {
		t.Errorf("%d calls of %d can be read", n, stored)
	}
	release()
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != int64(stored) {
		t.Errorf("%d calls of %d are there", n, stored)
	}
}
