package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// binary is the command, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sagactl")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "sagactl")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %s", err, out)
		return 1
	}
	return m.Run()
}

// shell runs the command as a process, with an environment of its own.
type shell struct {
	t   testing.TB
	env []string
}

// newShell returns a shell whose database is at the address.
func newShell(t testing.TB, address string) shell {
	return shell{t, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "USER=ann", "SAGACTL_DB=" + address, "SAGACTL_WHO=ann@desk"}}
}

func (s shell) with(env ...string) shell {
	return shell{s.t, append(append([]string{}, s.env...), env...)}
}

func (s shell) command(arguments ...string) *exec.Cmd {
	c := exec.CommandContext(s.t.Context(), binary, arguments...)
	c.Env = s.env
	return c
}

// result is what a process has written, and its exit code.
type result struct {
	out, err string
	code     int
}

func (s shell) run(arguments ...string) result { return s.feed("", arguments...) }

// feed runs the command with a standard input.
func (s shell) feed(in string, arguments ...string) result {
	s.t.Helper()
	c := s.command(arguments...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in), &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%v: %v", arguments, err)
	}
	return result{out.String(), errs.String(), c.ProcessState.ExitCode()}
}

// ok runs the command, which has to succeed, and returns its output.
func (s shell) ok(arguments ...string) string {
	s.t.Helper()
	r := s.run(arguments...)
	if r.code != 0 {
		s.t.Fatalf("%v: exit code %d: %s%s", arguments, r.code, r.out, r.err)
	}
	return r.out
}

// fails runs the command, which has to end with the code, and returns what it says.
func (s shell) fails(code int, arguments ...string) string {
	s.t.Helper()
	r := s.run(arguments...)
	if r.code != code {
		s.t.Fatalf("%v: exit code %d, %d was expected: %s%s", arguments, r.code, code, r.out, r.err)
	}
	return r.out + r.err
}

// read runs the command with -o json, and decodes its output.
func read[T any](s shell, arguments ...string) (value T) {
	s.t.Helper()
	out := s.ok(append(arguments, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &value); err != nil {
		s.t.Fatalf("%v: %v: %s", arguments, err, out)
	}
	return value
}

// has reports an error if a text lacks one of the parts.
func has(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %q in:\n%s", part, text)
		}
	}
}

// world is a log with transactions in each state, and its engine.
type world struct {
	shell
	db     *gorm.DB
	engine *embedded.Engine
	open   atomic.Bool // the bank is open: Confirms of pay succeed
}

// addressOf returns the address of a database as a person types it.
func addressOf(database sqltest.Database) string {
	if database.Dialect == "sqlite" {
		file, _, _ := strings.Cut(database.DSN, "?")
		return "sqlite:" + file
	}
	return database.DSN
}

// eachWorld runs a test on each database.
func eachWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, dialect))
		})
	}
}

// newWorld makes the transactions ok-1, which is confirmed; short-1, which a branch has rejected;
// stuck-1 and stuck-2, whose branch pay fails to confirm; odd-1, with a conflict; and open-1, which is open.
func newWorld(t *testing.T, dialect string) *world {
	t.Helper()
	database := sqltest.Create(t, dialect)
	w := &world{shell: newShell(t, addressOf(database)), db: sqltest.Connect(t, database, &gorm.Config{})}
	sagatest.Must(t, schema.Migrate(t.Context(), w.db))
	w.engine = sagatest.Open(t, w.db, embedded.Config{MinBackoff: time.Hour, MaxBackoff: time.Hour, AttentionAttempts: 1})
	branch := func(kind string, work func(saga.Call) error) {
		sagatest.Must(t, w.engine.Register(saga.NewLocal(kind, json.Marshal, saga.Local{
			Work: func(_ context.Context, _ *gorm.DB, c saga.Call) error { return work(c) }})))
	}
	branch("stock.lock", func(saga.Call) error { return nil })
	branch("pay", w.pay)
	sagatest.Run(t, w.engine)
	for i, gid := range []string{"ok-1", "short-1", "stuck-1", "stuck-2", "odd-1"} {
		_, err := w.engine.Execute(t.Context(), saga.Plan{GID: gid, Pattern: "tcc", Steps: []saga.Step{{Kind: "stock.lock", Input: 1}, {Kind: "pay", Input: gid}},
			Options: saga.Options{Labels: map[string]string{"order": fmt.Sprint(1001 + i)}}})
		if err != nil && !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
	}
	sagatest.Must(t, w.engine.Begin(t.Context(), saga.Opening{GID: "open-1", Pattern: "tcc", Timeout: time.Hour}))
	sagatest.Must(t, w.engine.Try(t.Context(), "open-1", "01", saga.Step{Kind: "stock.lock", Input: 1}))
	for _, gid := range []string{"stuck-1", "stuck-2", "odd-1"} {
		sagatest.Eventually(t, gid+" needs an operator", func() bool {
			found, err := w.engine.Lookup(t.Context(), gid)
			return err == nil && found.Attention != ""
		})
	}
	return w
}

func (w *world) pay(c saga.Call) error {
	switch {
	case c.Op == barrier.Try && strings.HasPrefix(c.GID, "short"):
		return saga.RejectCode("funds.short", errors.New("100 are missing"))
	case c.Op == barrier.Confirm && strings.HasPrefix(c.GID, "odd"):
		return fmt.Errorf("%w: the account has no hold", barrier.ErrConflict)
	case c.Op == barrier.Confirm && strings.HasPrefix(c.GID, "stuck") && !w.open.Load():
		return errors.New("dial tcp 10.0.0.7:443: connection refused")
	}
	return nil
}

// output collects what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// waitFor waits until a text was written.
func (o *output) waitFor(t *testing.T, text string) {
	t.Helper()
	sagatest.Eventually(t, text, func() bool { return strings.Contains(o.String(), text) })
}

// start starts a process, and returns what it writes from now on.
func start(t *testing.T, c *exec.Cmd) *output {
	t.Helper()
	var o output
	c.Stdout, c.Stderr = &o, &o
	sagatest.Must(t, c.Start())
	return &o
}
