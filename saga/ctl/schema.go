package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
	"github.com/tccsaga/tccsaga/saga/schema"
)

func schemaCommand(s *session) *cobra.Command {
	return group("schema", "The tables: status, up and print", schemaStatus(s), schemaUp(s), schemaPrint(s))
}

func schemaStatus(s *session) *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Say whether the database has the complete schema of this version", Args: noArgs,
		Long: "Say whether the database has the complete schema of this version. If not, the exit code is 9."}
	c.RunE = s.runWith(s.open, true, func(ctx context.Context, _ []string) error {
		err := schema.Check(ctx, s.db)
		if err != nil && ExitCode(err) != CodeSchema {
			return err
		}
		status := struct {
			Needed  int    `json:"needed"` // version of this program
			Dialect string `json:"dialect"`
			OK      bool   `json:"ok"`
			Problem string `json:"problem,omitempty"`
		}{schema.Version, s.db.Name(), err == nil, ""}
		if err != nil {
			status.Problem = err.Error()
		}
		if writeErr := s.write(status, func(w term.Screen) {
			if status.OK {
				fmt.Fprintf(w, "the schema is complete: version %d, %s\n", status.Needed, status.Dialect)
			}
		}); writeErr != nil {
			return writeErr
		}
		if err != nil && s.flags.output != "table" {
			return &codeError{code: CodeSchema}
		}
		return err
	})
	return c
}

func schemaUp(s *session) *cobra.Command {
	var dryRun bool
	c := &cobra.Command{Use: "up", Short: "Create the tables, or upgrade them", Args: noArgs,
		Long: `Create the tables, or upgrade them. It may run any number of times, also in several processes at once.
An SQLite file that does not exist is made.`}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say whether there is something to do")
	c.RunE = s.runWith(func(ctx context.Context) error {
		if s.config.Create == nil || dryRun {
			return s.open(ctx)
		}
		return s.connect(ctx, s.config.Create)
	}, true, func(ctx context.Context, _ []string) error {
		before := schema.Check(ctx, s.db)
		if before != nil && ExitCode(before) != CodeSchema {
			return before
		}
		result := struct {
			Version int    `json:"version"`
			Changed bool   `json:"changed"`
			DryRun  bool   `json:"dry_run,omitempty"`
			Before  string `json:"before,omitempty"` // what was missing
		}{Version: schema.Version, Changed: before != nil, DryRun: dryRun}
		if before != nil {
			result.Before = before.Error()
		}
		if !dryRun {
			if err := schema.Migrate(ctx, s.db); err != nil {
				return err
			}
		}
		return s.write(result, func(w term.Screen) {
			switch {
			case before == nil:
				fmt.Fprintf(w, "nothing to do: the schema is complete, version %d\n", schema.Version)
			case dryRun:
				fmt.Fprintf(w, "the schema would be brought to version %d: %s\n", schema.Version, term.Clean(result.Before))
			default:
				fmt.Fprintf(w, "the schema is complete now: version %d\n", schema.Version)
			}
		})
	})
	return c
}

func schemaPrint(s *session) *cobra.Command {
	var name string
	var from int
	c := &cobra.Command{Use: "print", Short: "Print the schema as an SQL script, or the upgrade from an older version", Args: noArgs,
		Long: "Print the schema as an SQL script, or the upgrade from an older version, for your own migrations.\nWithout --dialect it is that of the database."}
	c.Flags().StringVar(&name, "dialect", "", "mysql, also for MariaDB, postgres or sqlite")
	c.Flags().IntVar(&from, "from", 0, "print the upgrade from this `version`; empty if there is nothing to do")
	complete(c, "dialect", "mysql", "postgres", "sqlite")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := s.begin("table"); err != nil {
			return err
		}
		defer s.close()
		if name == "" {
			if s.config.DB == nil && s.address() == "" {
				return usage("--dialect is missing: mysql, postgres or sqlite")
			}
			if err := s.open(c.Context()); err != nil {
				return err
			}
			name = s.db.Name()
		}
		if err := oneOf("--dialect", name, "mysql", "postgres", "sqlite"); err != nil {
			return err
		}
		script, err := schema.Script(name)
		if c.Flags().Changed("from") {
			if script, err = schema.Upgrade(name, from); err != nil {
				return usage("%w", err)
			}
		}
		if err != nil {
			return err
		}
		if script != "" {
			_, err = fmt.Fprint(s.config.Out, strings.TrimRight(script, "\n")+"\n")
		}
		return err
	}
	return c
}
