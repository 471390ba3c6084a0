package local

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// recover brings the folder to where the last run left it, whatever ended it:
// files that the manifest does not know are set aside, those that cannot be
// read as well, and a database that is lost is made anew from the segments.
func (s *Store) recover() error {
	path := filepath.Join(s.dir, "tail.db")
	var d *db
	var known []*segment
	err := again(func() (err error) {
		if d, err = openDB(s.o.Disk, path); err != nil {
			return err
		}
		if known, err = d.segments(s.o.Disk, s.dir); err != nil {
			d.close()
		}
		return err
	})
	if newer := (*newerError)(nil); errors.As(err, &newer) {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err != nil && passing(s.o.Disk, path, err) {
		return fmt.Errorf("%s: %w", path, err)
	}
	lost := err != nil
	if lost {
		if err := s.setAside(path, err); err != nil {
			return err
		}
		if d, err = openDB(s.o.Disk, path); err != nil {
			return err
		}
	}
	s.db = d
	files, err := s.scanFolder()
	if err != nil {
		return err
	}
	if d.fresh && len(files) > 0 && !lost {
		lost = true
		s.o.Log.Error("the store's database is missing or empty: calls that were not sealed are lost", "file", filepath.Base(path))
		s.troubles[filepath.Base(path)] = errors.New("it was missing or empty; calls that were not sealed are lost")
	}
	if lost {
		if known, err = s.rebuild(files); err != nil {
			return err
		}
	}
	if d.fresh {
		if err := d.made(); err != nil {
			return err
		}
	}
	for _, g := range known {
		if err := s.admit(g, files); err != nil {
			return err
		}
		delete(files, g.name)
	}
	s.segments = inOrder(s.segments)
	for name := range files {
		s.o.Log.Warn("a file that the manifest does not know is set aside", "file", name, "as", name+orphaned)
		if err := s.o.Disk.Rename(filepath.Join(s.dir, name), filepath.Join(s.dir, name+orphaned)); err != nil {
			return err
		}
	}
	return s.readTail()
}

// setAside renames a database with its side files.
func (s *Store) setAside(path string, why error) error {
	aside, err := setDatabaseAside(s.o.Disk, path)
	s.o.Log.Error("a database cannot be read and is set aside", "file", filepath.Base(path), "as", aside, "why", why, "err", err)
	if err == nil {
		s.troubles["set aside: "+aside] = why
	}
	return err
}

// scanFolder finds the files of segments, by name with their size, deletes
// unfinished ones and recalls what was set aside before.
func (s *Store) scanFolder() (map[string]int64, error) {
	list, err := s.o.Disk.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	files := map[string]int64{}
	for _, e := range list {
		name := e.Name()
		switch {
		case strings.HasSuffix(name, quarantined):
			if s.troubles["set aside: "+name] == nil {
				s.troubles["set aside: "+name] = errors.New("it could not be read; repair it, or delete it to settle the matter")
			}
		case strings.HasPrefix(name, "new-") && strings.HasSuffix(name, ".tmp"):
			_ = s.o.Disk.Remove(filepath.Join(s.dir, name))
		case strings.HasSuffix(name, suffix):
			st, err := e.Info()
			if err != nil {
				return nil, err
			}
			files[name] = st.Size()
		}
	}
	return files, nil
}

// rebuild makes the manifest from the files: all that can be read, but those
// that another one was merged from.
func (s *Store) rebuild(files map[string]int64) ([]*segment, error) {
	var list []*segment
	replaced := map[string]bool{}
	for name, size := range files {
		g := &segment{disk: s.o.Disk, name: name, path: segmentPath(s.dir, name), bytes: size}
		f, err := openSegment(s.o.Disk, g.path, &g.about)
		if err != nil { // or the disk stumbled
			f, err = openSegment(s.o.Disk, g.path, &g.about)
		}
		if lacks(err) {
			return nil, err
		}
		if err != nil {
			s.troubles["set aside: "+name+quarantined] = err
			s.o.Log.Error("a segment cannot be read and is set aside", "file", name, "why", err)
			if err := s.o.Disk.Rename(g.path, g.path+quarantined); err != nil {
				return nil, err
			}
			delete(files, name)
			continue
		}
		g.file = f
		list = append(list, g)
		for _, r := range g.Replaces {
			replaced[r] = true
		}
	}
	list = slices.DeleteFunc(list, func(g *segment) bool { return replaced[g.name] })
	s.o.Log.Info("the manifest is made anew from the segments", "segments", len(list))
	return list, s.db.change(list, list, 0) // some may be known since a start that was ended here
}

// admit takes a segment of the manifest whose file is there, whole.
func (s *Store) admit(g *segment, files map[string]int64) error {
	size, ok := files[g.name]
	if ok && size == g.bytes {
		s.segments = append(s.segments, g)
		return nil
	}
	why := fmt.Errorf("it has %d bytes instead of %d", size, g.bytes)
	if !ok {
		why = errors.New("it is missing")
	} else if err := s.o.Disk.Rename(g.path, g.path+quarantined); err != nil {
		return err
	}
	s.o.Log.Error("a segment cannot be read and is set aside", "file", g.name, "calls", g.Rows, "why", why)
	s.troubles["set aside: "+g.name+quarantined] = why
	return s.db.change(nil, []*segment{g}, 0)
}

// readTail fills the tail from the database. A batch that cannot be read is
// set aside in a file.
func (s *Store) readTail() error {
	var err error
	if s.seq, err = s.db.sealed(); err != nil {
		return err
	}
	t := s.tails[0]
	var broken []int64
	err = s.db.batches(func(seq int64, calls []*call.Call) {
		t.add(seq, calls)
		s.seq = seq
	}, func(seq int64, err error) {
		broken = append(broken, seq)
		s.seq = seq
		s.o.Log.Error("a batch of the tail cannot be read and is set aside", "batch", seq, "why", err)
	})
	if err != nil {
		return err
	}
	for _, seq := range broken {
		if err := s.setBatchAside(seq); err != nil {
			return err
		}
	}
	return nil
}

// setBatchAside moves a batch that cannot be read into a file.
func (s *Store) setBatchAside(seq int64) error {
	name := fmt.Sprintf("batch-%d-%d%s", seq, time.Now().UnixMilli(), quarantined)
	err := s.db.drop(seq, func(b []byte) error { return writeFile(s.o.Disk, filepath.Join(s.dir, name), b) })
	if err == nil {
		s.trouble("set aside: "+name, errBatch)
	}
	return err
}

// dropBroken lets go of the batches of the oldest tail, of which nothing comes
// any more, that were damaged after they were stored: the others can be sealed
// without. If it fails halfway it can be done again.
func (s *Store) dropBroken() error {
	old, left := s.tails[0], newTail()
	first, last := old.seq[0], old.seq[old.n-1]
	var broken []int64
	err := s.db.batches(func(seq int64, calls []*call.Call) {
		if seq >= first && seq <= last {
			left.add(seq, calls)
		}
	}, func(seq int64, err error) {
		if seq >= first && seq <= last {
			broken = append(broken, seq)
			s.o.Log.Error("a batch of the tail cannot be read and is set aside", "batch", seq, "why", err)
		}
	})
	if err != nil {
		return err
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	for _, seq := range broken { // all: a seal forgets whatever was stored before its last Call
		if err := s.setBatchAside(seq); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tails = slices.Clone(s.tails)
	s.tails[0] = left
	if left.n == 0 {
		s.tails = s.tails[1:]
	}
	return nil
}
