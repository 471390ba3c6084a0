package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/store/local"
)

func newRestore(e *env) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "restore FILE|-", Short: "Make the data folder of a backup, where there is none", Args: cobra.ExactArgs(1),
		Long: "Restore makes the configured data folder from an archive of `sheepgate backup`. The folder must be\n" +
			"empty or not there, and no server may run on it. Every file is checked against the archive's list\n" +
			"before anything is in its place; after an error the folder is as it was.",
		Example: "  sheepgate restore /backups/sheepgate-2026-11-23.tar.zst --config /etc/sheepgate.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop() // until then a signal ends the reading, and what is half done goes
			c, err := offlineConfig(e, file)
			if err != nil {
				return err
			}
			in, err := openInput(e, args[0])
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			defer in.Close()
			p := newProgress(e.stderr, "read")
			list, err := restore(io.TeeReader(untilReader{ctx, in}, p), c.Data, storeFolder(c))
			p.close()
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			if asJSON {
				return writeJSON(e.stdout, list)
			}
			_, err = fmt.Fprintf(e.stdout, "%s: %s, %s, as of %s\nnext: sheepgate serve\n", c.Data, count(len(list.Files), "file"), megabytes(list.bytes()), list.At.Format(time.RFC3339))
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default ./"+defaultConfig+" if it exists)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the archive's list of files as JSON")
	return cmd
}

// An untilReader reads until ctx ends.
type untilReader struct {
	ctx context.Context
	r   io.Reader
}

func (u untilReader) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}

// restore makes the folder data, and calls if it lies elsewhere.
func restore(r io.Reader, data, calls string) (*backupList, error) {
	apart := filepath.Clean(calls) != filepath.Join(data, callsFolder)
	if err := vacant(data, calls, apart); err != nil {
		return nil, err
	}
	s, err := newStage(data)
	if err != nil {
		return nil, err
	}
	defer s.clear()
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	room, err := freeBytes(s.dir)
	if err != nil {
		room = math.MaxInt64 // it is known as soon as the disk is full
	}
	list, err := unpack(r, root, room)
	if err != nil {
		return nil, err
	}
	for _, dir := range list.folders() {
		if err := local.SyncFolder(filepath.Join(s.dir, dir)); err != nil {
			return nil, err
		}
	}
	if err := s.land(); err != nil {
		return nil, err
	}
	if apart && len(list.folders()) > 1 {
		from := filepath.Join(data, callsFolder)
		if err := errors.Join(os.MkdirAll(filepath.Dir(calls), 0o700), removeEmpty(calls), os.Rename(from, calls)); err != nil {
			return nil, fmt.Errorf("all files are restored, but the configuration has the calls elsewhere: move %s to %s: %w", from, calls, err)
		}
	}
	return list, nil
}

// vacant refuses folders that something is in.
func vacant(data, calls string, apart bool) error {
	for _, dir := range []string{calls, filepath.Join(data, callsFolder)} {
		if busy, err := local.Locked(dir); err != nil {
			return err
		} else if busy {
			return fmt.Errorf("a sheepgate is running on %s: stop it, and move the folder away", dir)
		}
	}
	check := []string{data}
	if apart {
		check = append(check, calls)
	}
	for _, dir := range check {
		list, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		list = slices.DeleteFunc(list, func(e fs.DirEntry) bool { return e.Name() == "lost+found" }) // a fresh volume has it
		if len(list) > 0 {
			return fmt.Errorf("%s is not empty (it holds %s): nothing is overwritten, move it away first", dir, list[0].Name())
		}
	}
	return nil
}

// A stage is where a data folder is made before it is there: a folder beside
// it, which then takes its place in one step. Where that cannot be, because the
// data folder is a mount of its own or the folder around it is not ours, it is
// a folder within, and the files move up one by one, state.db last.
type stage struct {
	data, dir string
	within    bool
	made      bool // data was not there before
}

func newStage(data string) (*stage, error) {
	if real, err := filepath.EvalSymlinks(data); err == nil {
		data = real
	}
	s := &stage{data: filepath.Clean(data)}
	_, err := os.Stat(s.data)
	s.made = errors.Is(err, fs.ErrNotExist)
	parent := filepath.Dir(s.data)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	if s.made || os.Remove(s.data) == nil { // it is empty; a mount cannot be removed
		if s.dir, err = os.MkdirTemp(parent, ".sheepgate-restore-"); err == nil {
			return s, s.keep()
		}
		if err := os.Mkdir(s.data, 0o700); err != nil {
			return nil, err
		}
	}
	s.within = true
	s.dir, err = os.MkdirTemp(s.data, ".sheepgate-restore-")
	return s, err
}

// keep puts back the empty folder that was there.
func (s *stage) keep() error {
	if s.made {
		return nil
	}
	return os.Mkdir(s.data, 0o700)
}

// land puts the folder into its place.
func (s *stage) land() error {
	if !s.within {
		if err := errors.Join(removeEmpty(s.data), os.Rename(s.dir, s.data)); err != nil {
			return err
		}
		return local.SyncFolder(filepath.Dir(s.data))
	}
	list, err := os.ReadDir(s.dir) // sorted: calls before state.db
	if err != nil {
		return err
	}
	for _, f := range list {
		if err := os.Rename(filepath.Join(s.dir, f.Name()), filepath.Join(s.data, f.Name())); err != nil {
			return err
		}
	}
	return local.SyncFolder(s.data)
}

// clear removes what is left of the stage.
func (s *stage) clear() { os.RemoveAll(s.dir) }

// removeEmpty removes an empty folder, if there is one.
func removeEmpty(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
