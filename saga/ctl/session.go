package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/profile"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// session is one call of the command.
type session struct {
	config  Config
	flags   flags
	profile profile.Profile

	db  *gorm.DB
	ops *embedded.Operations
	now time.Time // by the database's clock, when the command began
}

// flags are those of all commands.
type flags struct {
	db, profile, output, color string
	timeout                    time.Duration
	local                      bool
}

func (s *session) addFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	prefix := s.env("")
	if s.config.DB == nil {
		f.StringVar(&s.flags.db, "db", "", "`address` of the database: mysql://user:password@host:port/database, postgres://..., sqlite:FILE, or a Go DSN; defaults to $"+prefix+"DB or the profile")
	}
	f.StringVar(&s.flags.profile, "profile", "", "`name` of a profile in "+cmp.Or(profile.Path(s.config.Name, s.config.Getenv), "the profile file")+"; defaults to $"+prefix+"PROFILE")
	f.StringVarP(&s.flags.output, "output", "o", "table", "`form` of the output: table, json or jsonl")
	f.StringVar(&s.flags.color, "color", "auto", "`when` to use colours: auto, always or never")
	f.DurationVar(&s.flags.timeout, "timeout", 30*time.Second, "`limit` of the whole command; 0 is none")
	f.BoolVar(&s.flags.local, "local", false, "show times in the local time zone instead of UTC")
}

// env returns the name of an environment variable of the command.
func (s *session) env(name string) string {
	return strings.ToUpper(strings.ReplaceAll(s.config.Name, "-", "_")) + "_" + name
}

// begin checks the flags of all commands, and reads the profile.
func (s *session) begin(outputs ...string) error {
	if len(outputs) == 0 {
		outputs = []string{"table", "json", "jsonl"}
	}
	if err := oneOf("--output", s.flags.output, outputs...); err != nil {
		return err
	}
	if err := oneOf("--color", s.flags.color, "auto", "always", "never"); err != nil {
		return err
	}
	if s.flags.timeout < 0 {
		return usage("--timeout is negative")
	}
	path := profile.Path(s.config.Name, s.config.Getenv)
	name := cmp.Or(s.flags.profile, s.config.Getenv(s.env("PROFILE")))
	found, warning, err := profile.Read(path, name)
	if err != nil {
		return usage("%s", err)
	}
	if warning != "" {
		s.warn("%s", warning)
	}
	s.profile = found
	return nil
}

func oneOf(flag, value string, values ...string) error {
	for _, v := range values {
		if v == value {
			return nil
		}
	}
	return usage("%s is %q, it must be %s", flag, value, alternatives(values))
}

func alternatives(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values[:len(values)-1], ", ") + " or " + values[len(values)-1]
}

// address returns the address of the database.
func (s *session) address() string {
	if s.flags.db == "" && s.flags.profile != "" {
		return s.profile.DB // asked for by name, so before the environment
	}
	return cmp.Or(s.flags.db, s.config.Getenv(s.env("DB")), s.profile.DB)
}

// connect opens the database, without a look at its schema.
func (s *session) connect(ctx context.Context, open func(context.Context, string) (*gorm.DB, error)) error {
	if s.config.DB != nil {
		s.db = s.config.DB
		return nil
	}
	address := s.address()
	if address == "" {
		return usage("no database is given: use --db, $%s, or a profile in %s", s.env("DB"), profile.Path(s.config.Name, s.config.Getenv))
	}
	db, err := open(ctx, address)
	switch {
	case err == nil:
	case errors.Is(err, saga.ErrInvalid):
		return usage("%w", err)
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return &codeError{CodeUnreachable, err}
	}
	s.db = db
	return nil
}

// open opens the database, without a look at its schema.
func (s *session) open(ctx context.Context) error { return s.connect(ctx, s.config.Open) }

// close closes what the session has opened.
func (s *session) close() {
	if s.ops != nil {
		s.ops.Close()
	}
	if s.db != nil && s.config.DB == nil {
		if pool, err := s.db.DB(); err == nil {
			pool.Close()
		}
	}
}

// openLog opens the log.
func (s *session) openLog(ctx context.Context) (err error) {
	if err = s.connect(ctx, s.config.Open); err != nil {
		return err
	}
	s.ops, err = embedded.OpenOperations(ctx, s.db, embedded.OperationsConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if s.config.Register != nil {
		if err := s.config.Register(s.ops); err != nil {
			return fmt.Errorf("register the kinds of branches: %w", err)
		}
	}
	return s.readClock(ctx)
}

// readClock reads the clock that all times in the log are of.
func (s *session) readClock(ctx context.Context) error {
	d, err := dialect.Of(s.db)
	if err != nil {
		return err
	}
	var micros int64
	if err := s.db.WithContext(ctx).Raw(d.SQL("SELECT {micros now}")).Row().Scan(&micros); err != nil {
		return err
	}
	s.now = dialect.Time(micros)
	return nil
}

// run returns the work of a command that needs the log. Its context ends after the time limit.
func (s *session) run(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return s.runWith(s.openLog, true, work)
}

// runLong is [session.run] for a command that lasts as long as it likes.
func (s *session) runLong(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return s.runWith(s.openLog, false, work)
}

func (s *session) runWith(open func(context.Context) error, limited bool, work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := s.begin(); err != nil {
			return err
		}
		ctx := c.Context()
		if limited && s.flags.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.flags.timeout)
			defer cancel()
		}
		defer s.close()
		err := open(ctx)
		if err == nil {
			err = work(ctx, args)
		}
		return s.explain(ctx, err)
	}
}

// explain adds to an error what a person can do about it, and finds out whether the database is
// gone.
func (s *session) explain(ctx context.Context, err error) error {
	code := ExitCode(err)
	switch code {
	case CodeSchema:
		return &codeError{code, fmt.Errorf("%w\nrun %s schema status, and %s schema up", err, s.config.Name, s.config.Name)}
	case CodeTimeout:
		return &codeError{code, fmt.Errorf("%w\nthe command has a time limit of %s: see --timeout", err, s.flags.timeout)}
	case CodeFailed:
	default:
		return err
	}
	var coded *codeError
	if errors.As(err, &coded) || !s.gone(ctx) {
		return err
	}
	return &codeError{CodeUnreachable, fmt.Errorf("the database cannot be reached: %w", err)}
}

// gone reports whether the database does not answer.
func (s *session) gone(ctx context.Context) bool {
	if s.db == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	pool, err := s.db.DB()
	return err == nil && pool.PingContext(ctx) != nil
}

// screen returns where results are written.
func (s *session) screen() term.Screen {
	return term.Open(s.config.Out, s.flags.color, s.config.Getenv)
}

// warn writes a line for a person, beside the results.
func (s *session) warn(format string, arguments ...any) {
	fmt.Fprintf(s.config.Err, "%s: %s\n", s.config.Name, clean(fmt.Sprintf(format, arguments...)))
}

// defaultWho names the person who runs the command.
func (s *session) defaultWho() string {
	if who := cmp.Or(s.config.Getenv(s.env("WHO")), s.profile.Who); who != "" {
		return who
	}
	name := s.config.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, _ := os.Hostname()
	return cmp.Or(name, "unknown") + "@" + cmp.Or(host, "unknown")
}

// clean keeps lines apart, and makes the rest safe for a terminal.
func clean(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = term.Clean(lines[i])
	}
	return strings.Join(lines, "\n")
}
