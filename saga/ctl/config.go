package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga"
)

// Config says what a command works on. Either DB or Open is required.
type Config struct {
	// Name is the name of the program, for help and errors, and of its profile folder.
	// Defaults to "sagactl".
	Name string

	// DB has the log. The command then has no flag --db, and reads no address of a database.
	// It does not close DB.
	DB *gorm.DB

	// Open opens the database of the log at an address: of the flag --db, of the environment,
	// or of a profile. The command closes it. An error that matches [saga.ErrInvalid] is one of
	// the address; any other says that the database cannot be reached. Create, if it is not nil, does the same for
	// "schema up", and makes a database file that does not exist. Both are not used with DB.
	Open, Create func(ctx context.Context, address string) (*gorm.DB, error)

	// Register, if it is not nil, registers the kinds of branches of the program. The command
	// then shows their barrier rows in other databases, and checks a resolve with them. It
	// calls no branch, but may ask one that decides.
	Register func(saga.Registrar) error

	// Outbox has the messages and dead letters, if it is not the database of the log.
	Outbox *gorm.DB

	// Broker, if it is not nil, connects to the broker of the messages at an address: of the
	// flag --nats, of the environment, or of a profile. The command calls close at its end.
	// Without it, the command has no dead letters.
	Broker func(ctx context.Context, address string) (b broker.Broker, close func(), err error)

	// Version is the version of the program. Defaults to that of its Go module.
	Version string

	// In, Out and Err default to the standard ones of the process, and Getenv to [os.Getenv].
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "sagactl"
	}
	if c.In == nil {
		c.In = os.Stdin
	}
	if c.Out == nil {
		c.Out = os.Stdout
	}
	if c.Err == nil {
		c.Err = os.Stderr
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	return c
}

// Main runs the command with the arguments after its name, and returns the exit code of the
// process; see [ExitCode]. It writes the error, if there is one. An interrupt ends it, and it
// leaves nothing half done: each act is one local transaction.
func Main(ctx context.Context, args []string, config Config) int {
	config = config.withDefaults()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	command := Command(config)
	command.SetArgs(args)
	err := command.ExecuteContext(ctx)
	if ctx.Err() != nil && (err != nil && errors.Is(err, context.Canceled)) {
		err = &codeError{CodeInterrupted, errors.New("interrupted")}
	}
	if err != nil && err.Error() != "" {
		fmt.Fprintf(config.Err, "%s: %s\n", config.Name, clean(err.Error()))
	}
	return ExitCode(err)
}

// Command returns the command, to be run by itself or as a part of the command of a program.
// The errors of its Execute have an [ExitCode].
func Command(config Config) *cobra.Command {
	s := &session{config: config.withDefaults()}
	name := s.config.Name
	root := &cobra.Command{
		Use:   name,
		Short: "Look at the transactions of tccsaga, and act on them",
		Long: `Look at the transactions of tccsaga, and act on them.

It reads the log of the engines in a database, and writes acts of operators into it. It drives no
transaction and calls no branch: a running engine does what an act asks for.

` + exitCodeHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          onlyCommands,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetIn(s.config.In)
	root.SetOut(s.config.Out)
	root.SetErr(s.config.Err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%s: see %s --help", err, c.CommandPath())
	})
	s.addFlags(root)
	root.AddCommand(
		txCommand(s), kindCommand(s), instanceCommand(s), actCommand(s), outboxCommand(s), checkCommand(s), statsCommand(s),
		schemaCommand(s), consoleCommand(s), versionCommand(s))
	if s.config.Broker != nil {
		root.AddCommand(deadCommand(s))
	}
	return root
}

// group returns a command that only has subcommands.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: onlyCommands, RunE: func(c *cobra.Command, _ []string) error {
		if err := c.Help(); err != nil {
			return err
		}
		return usage("%s needs a command", c.CommandPath())
	}}
	c.AddCommand(commands...)
	return c
}

func onlyCommands(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s has no command %q: see %s --help", c.CommandPath(), args[0], c.CommandPath())
	}
	return nil
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no argument, but there is %q: see %s --help", c.CommandPath(), args[0], c.CommandPath())
	}
	return nil
}

// someArgs returns a check of the number of arguments, of which what is the name.
func someArgs(what string, least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage("%s needs %s: see %s --help", c.CommandPath(), what, c.CommandPath())
		case most >= 0 && len(args) > most:
			return usage("%s takes %s only, but there is %q too", c.CommandPath(), what, args[most])
		}
		return nil
	}
}
