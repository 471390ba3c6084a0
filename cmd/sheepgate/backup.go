package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

func newBackup(e *env) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "backup FILE|-", Short: "Copy everything that is kept into one archive, while serving or not", Args: cobra.ExactArgs(1),
		Long: "Backup writes all calls, kept bodies and the state (digests of keys, never keys) of the configured\n" +
			"data folder as they are at one moment into one archive; - is standard output. The server may go on\n" +
			"serving. FILE must not exist and only its owner may read it: with privacy.bodies on, it holds\n" +
			"prompts and answers. The configuration and the secrets that it names are not in it.\n\n" +
			"Databases are copied one at a time beside FILE (for -, in the folder for temporary files), which\n" +
			"needs as much room again as the largest of them.",
		Example: "  sheepgate backup /backups/sheepgate-$(date +%F).tar.zst\n  sheepgate backup - | ssh host 'cat > sheepgate.tar.zst'",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop() // until then a signal ends the work, and what is half done goes
			c, err := offlineConfig(e, file)
			if err != nil {
				return err
			}
			list, err := backup(ctx, e, c, args[0])
			if err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			if args[0] == "-" { // standard output is the archive
				fmt.Fprintf(e.stderr, "%s, %s\n", count(len(list.Files), "file"), megabytes(list.bytes()))
				return nil
			}
			if asJSON {
				return writeJSON(e.stdout, list)
			}
			_, err = fmt.Fprintf(e.stdout, "%s: %s, %s\n", args[0], count(len(list.Files), "file"), megabytes(list.bytes()))
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default ./"+defaultConfig+" if it exists)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the archive's list of files as JSON")
	return cmd
}

// offlineConfig reads the configuration for its folders: the secrets that it
// names need not be there.
func offlineConfig(e *env, flag string) (*config.Config, error) {
	c, _, err := config.Load(configPath(flag), config.Options{Environ: e.environ, Known: known(), Offline: true})
	if err != nil {
		return nil, exitError{exitConfig, err}
	}
	return c, nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// backup writes the archive. It reads the folder itself instead of asking the
// server: that works as well when there is none, needs no key, and no request
// waits for it. (A seal at that moment waits for the copy of tail.db, some
// tenths of a second in which Calls queue.) What is consistent is each
// database, by SQLite's own means, and the segments, which a database names and
// which never change (see local.Copy); nothing else ties state.db and the Calls
// together.
func backup(ctx context.Context, e *env, c *config.Config, name string) (*backupList, error) {
	if st, err := os.Stat(c.Data); err != nil {
		return nil, fmt.Errorf("the data folder: %w", err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("the data folder: %s is no folder", c.Data)
	}
	if name == "-" {
		if f, ok := e.stdout.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
			return nil, errors.New("an archive is nothing for a terminal: name a file, or send the output to one")
		}
		tmp, err := os.MkdirTemp("", "sheepgate-backup-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(tmp)
		return writeBackup(ctx, e, c, tmp, e.stdout)
	}
	if _, err := os.Lstat(name); err == nil {
		return nil, fmt.Errorf("%s is there already and stays as it is", name)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(name), ".sheepgate-backup-") // only its owner may look into it
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	half := filepath.Join(tmp, "archive")
	f, err := os.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	list, err := writeBackup(ctx, e, c, tmp, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	err = os.Link(half, name) // unlike a renaming, it overwrites nothing; not every file system can
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = os.Rename(half, name)
	}
	if err != nil {
		return nil, err
	}
	return list, local.SyncFolder(filepath.Dir(name))
}

func writeBackup(ctx context.Context, e *env, c *config.Config, tmp string, w io.Writer) (*backupList, error) {
	p := newProgress(e.stderr, "wrote")
	defer p.close()
	a, err := newArchiver(io.MultiWriter(w, p))
	if err != nil {
		return nil, err
	}
	copied := filepath.Join(tmp, "state.db")
	switch err := state.Copy(ctx, c.Data, copied); {
	case errors.Is(err, fs.ErrNotExist): // nothing was served yet
	case err != nil:
		return nil, err
	default:
		if err := addFile(a, "state.db", copied); err != nil {
			return nil, err
		}
	}
	ours := func(name string) bool { // restore takes no other
		ok := fileName.MatchString(name)
		if !ok {
			fmt.Fprintf(e.stderr, "warning: %q is left out: sheepgate gives no file such a name\n", name)
		}
		return ok
	}
	list, err := os.ReadDir(c.Data)
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		name := f.Name()
		if !strings.HasPrefix(name, "state.db.") && !(strings.HasPrefix(name, installedPrices) && name != installedPrices+".new") || !f.Type().IsRegular() || !ours(name) {
			continue
		}
		if err := addFile(a, f.Name(), filepath.Join(c.Data, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	missing, err := local.Copy(ctx, storeFolder(c), tmp, func(name string, f *os.File) error {
		if name = callsFolder + "/" + name; !ours(name) {
			return nil
		}
		return a.add(name, f)
	})
	if err != nil {
		return nil, err
	}
	for _, name := range missing {
		fmt.Fprintf(e.stderr, "warning: %s is lost: the manifest names it, and it is not in %s\n", name, storeFolder(c))
	}
	return &a.list, a.close()
}

func addFile(a *archiver, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return a.add(name, f)
}
