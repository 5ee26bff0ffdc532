package ctl

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
	"github.com/tccsaga/tccsaga/saga/schema"
)

func versionCommand(s *session) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version of the program, and of the schema that it needs", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := s.begin(); err != nil {
				return err
			}
			v := struct {
				Version  string `json:"version"`
				Revision string `json:"revision,omitempty"`
				Schema   int    `json:"schema"`
				Go       string `json:"go"`
			}{Version: s.config.Version, Schema: schema.Version, Go: runtime.Version()}
			if info, ok := debug.ReadBuildInfo(); ok {
				v.Version = cmp.Or(v.Version, info.Main.Version)
				for _, setting := range info.Settings {
					if setting.Key == "vcs.revision" {
						v.Revision = setting.Value
					}
				}
			}
			v.Version = cmp.Or(v.Version, "(unknown)")
			return s.write(v, func(w term.Screen) {
				fmt.Fprintf(w, "%s %s, schema version %d, %s\n", s.config.Name, v.Version, v.Schema, v.Go)
			})
		}}
}
