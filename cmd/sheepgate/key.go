package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/state"
)

func newKey(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Manage keys",
	}
	group(cmd)
	var file string
	reset := &cobra.Command{
		Use: "reset-admin", Short: "Make a new admin key and print it; the old one ends", Args: cobra.NoArgs,
		Long: "Reset-admin makes a new admin key in the data folder of the configuration and prints it, once. A\nrunning server takes it at its next start; until then the old one is good.",
		RunE: func(*cobra.Command, []string) (err error) {
			c, err := loadConfig(e, file)
			if err != nil {
				return err
			}
			if c.AdminKey.Set() {
				return fmt.Errorf("the configuration sets admin_key: change it there")
			}
			s, err := state.Open(c.Data)
			if err != nil {
				return err
			}
			defer s.Close()
			_, key, err := s.ResetAdmin(localActor())
			if err != nil {
				return err
			}
			fmt.Fprintln(e.stderr, "The new admin key, shown this once. A running server takes it when it starts again.")
			_, err = fmt.Fprintln(e.stdout, key)
			return err
		},
	}
	reset.Flags().StringVar(&file, "config", "", "configuration file (default ./"+defaultConfig+" if it exists)")
	cmd.AddCommand(reset)
	return cmd
}

// localActor is whom the audit log names for a command that asks no server.
func localActor() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return "local:" + call.Clip(u.Username, 100)
	}
	return "local:" + strconv.Itoa(os.Getuid())
}
