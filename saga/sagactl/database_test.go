package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// An address that is wrong says what is right, and nothing says a password.
func TestAddresses(t *testing.T) {
	w := newWorld(t, "sqlite")
	for _, c := range []struct {
		code          int
		address, says string
	}{
		{ctl.CodeUsage, "", "no database is given"},
		{ctl.CodeUsage, "s3cret", "unknown form"},
		{ctl.CodeUsage, "oracle://tcc:s3cret@db/shop", "unknown form"},
		{ctl.CodeUsage, "mysql://tcc:s3cret@db", "no host or no database"},
		{ctl.CodeUsage, "postgres://tcc:s3%cret@db/shop", "not a URL"},
		{ctl.CodeUsage, "tcc:s3cret@tcp(127.0.0.1:1)/", "no database"},
		{ctl.CodeUsage, "mysql://tcc:s3cret@127.0.0.1:1/shop?tls=frob", "parameters"},
		{ctl.CodeUsage, "sqlite:/no/such/file.db", "there is no SQLite file /no/such/file.db"},
		{ctl.CodeUsage, "sqlite::memory:", "names no SQLite file"},
		{ctl.CodeUnreachable, nobodyThere("mysql"), "cannot be reached"},
		{ctl.CodeUnreachable, nobodyThere("postgres"), "cannot be reached"},
		{ctl.CodeUnreachable, "tcc:s3cret@tcp(127.0.0.1:1)/shop", "cannot be reached"},
		{ctl.CodeUnreachable, "host=127.0.0.1 port=1 user=tcc password=s3cret dbname=shop", "cannot be reached"},
	} {
		out := w.with("SAGACTL_DB=").fails(c.code, "tx", "list", "--db", c.address)
		has(t, out, c.says)
		if strings.Contains(out, "s3cret") {
			t.Errorf("%s: %s", c.address, out)
		}
	}
}

// Each form of an address opens its database.
func TestFormsOfAddresses(t *testing.T) {
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			database := sqltest.Create(t, dialect)
			sagatest.Must(t, schema.Migrate(t.Context(), sqltest.Connect(t, database, &gorm.Config{})))
			forms := []string{database.DSN, addressOf(database)}
			if dialect == "mysql" { // user:password@tcp(host:port)/database
				forms = append(forms, "mysql://"+strings.NewReplacer("tcp(", "", ")", "").Replace(database.DSN))
			}
			for _, address := range forms {
				newShell(t, address).ok("tx", "list")
			}
		})
	}
}

// A server that answers nothing ends the command after its time limit.
func TestServerWithoutAnAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	sagatest.Must(t, err)
	defer listener.Close()
	for _, dialect := range []string{"mysql", "postgres"} {
		s := newShell(t, dialect+"://tcc:s3cret@"+listener.Addr().String()+"/shop")
		out := s.fails(ctl.CodeTimeout, "tx", "list", "--timeout", "300ms")
		has(t, out, "--timeout")
	}
}

// The schema is missing, half migrated, or newer: each command says so, and "schema up" helps.
func TestSchema(t *testing.T) {
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			database := sqltest.Create(t, dialect)
			db := sqltest.Connect(t, database, &gorm.Config{})
			s := newShell(t, addressOf(database))
			has(t, s.fails(ctl.CodeSchema, "schema", "status"), "schema version 0 found")
			has(t, s.fails(ctl.CodeSchema, "tx", "list"), "schema version 0 found", "sagactl schema up")
			has(t, s.ok("schema", "up", "--dry-run"), "would be brought to version")
			s.fails(ctl.CodeSchema, "schema", "status")
			has(t, s.ok("schema", "up"), "is complete now")
			has(t, s.ok("schema", "up"), "nothing to do")
			has(t, s.ok("schema", "status"), "complete")
			s.ok("tx", "list")

			sagatest.Must(t, db.Exec("UPDATE saga_schema SET complete = 0").Error)
			has(t, s.fails(ctl.CodeSchema, "tx", "retry", "x", "--why", "x"), "broken off")
			has(t, s.fails(ctl.CodeSchema, "schema", "status", "-o", "json"), `"ok": false`)
			sagatest.Must(t, db.Exec("UPDATE saga_schema SET complete = 1, version = 99").Error)
			has(t, s.fails(ctl.CodeSchema, "tx", "list"), "newer than this version")
			has(t, s.fails(ctl.CodeSchema, "schema", "up"), "newer")
			if script := s.ok("schema", "print"); !strings.Contains(script, "CREATE TABLE IF NOT EXISTS saga_transactions") {
				t.Error(script)
			}
		})
	}
}

// "schema up" makes an SQLite file, and no other command does.
func TestSchemaUpMakesTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new.db")
	s := newShell(t, "sqlite:"+file)
	for _, call := range []string{"schema status", "schema up --dry-run", "tx list"} {
		has(t, s.fails(ctl.CodeUsage, strings.Fields(call)...), "there is no SQLite file "+file)
	}
	s.ok("schema", "up")
	s.ok("tx", "list")
}

// The scripts are printed without a database.
func TestSchemaPrint(t *testing.T) {
	s := newShell(t, "")
	for _, dialect := range sqltest.Dialects {
		has(t, s.ok("schema", "print", "--dialect", dialect), "CREATE TABLE IF NOT EXISTS saga_transactions")
	}
	has(t, s.ok("schema", "print", "--dialect", "mysql", "--from", "2"), "ALTER TABLE")
	if out := s.ok("schema", "print", "--dialect", "mysql", "--from", "3"); out != "" {
		t.Error(out)
	}
	has(t, s.fails(ctl.CodeUsage, "schema", "print"), "--dialect is missing")
	has(t, s.fails(ctl.CodeUsage, "schema", "print", "--dialect", "oracle"), "mysql, postgres or sqlite")
	has(t, s.fails(ctl.CodeUsage, "schema", "print", "--dialect", "mysql", "--from", "99"), "cannot be upgraded")
}

// A profile has the database and the person; it comes before the environment only by name.
func TestProfiles(t *testing.T) {
	w, other := newWorld(t, "sqlite"), newWorld(t, "sqlite")
	sagatest.Must(t, other.db.Exec("UPDATE saga_transactions SET gid = 'other-1' WHERE gid = 'ok-1'").Error)
	address := func(w *world) string { return strings.TrimPrefix(w.env[3], "SAGACTL_DB=") }
	home := t.TempDir()
	file := filepath.Join(home, "sagactl", "config.yaml")
	sagatest.Must(t, os.Mkdir(filepath.Dir(file), 0o700))
	write := func(text string) { sagatest.Must(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("default: here\nprofiles:\n  here:\n    db: " + address(w) + "\n    who: eve\n  there:\n    db: " + address(other) + "\n")
	s := w.with("XDG_CONFIG_HOME="+home, "SAGACTL_DB=", "SAGACTL_WHO=")
	if got := s.gids("--state=confirmed"); got != "ok-1" {
		t.Errorf("the default profile: %q", got)
	}
	if got := s.gids("--state=confirmed", "--profile", "there"); got != "other-1" {
		t.Errorf("the named profile: %q", got)
	}
	if got := s.with("SAGACTL_PROFILE=there").gids("--state=confirmed"); got != "other-1" {
		t.Errorf("the profile of the environment: %q", got)
	}
	if got := s.with("SAGACTL_DB=" + address(other)).gids("--state=confirmed"); got != "other-1" {
		t.Errorf("the environment comes before the default profile: %q", got)
	}
	if got := s.with("SAGACTL_DB="+address(other)).gids("--state=confirmed", "--profile", "here"); got != "ok-1" {
		t.Errorf("a named profile comes before the environment: %q", got)
	}
	s.ok("tx", "pause", "stuck-1", "--why", "x")
	if acts := s.acts(); acts[0].Who != "eve" {
		t.Errorf("%+v", acts)
	}
	has(t, s.fails(ctl.CodeUsage, "tx", "list", "--profile", "nowhere"), `no profile "nowhere"`, "here, there")
	write("profiles:\n  here:\n    database: mysql://tcc:s3cret@db/shop\n")
	out := s.fails(ctl.CodeUsage, "tx", "list")
	has(t, out, "is not valid", "database")
	if strings.Contains(out, "s3cret") {
		t.Error(out)
	}
	write("default: here\nprofiles:\n  here:\n    db: mysql://tcc:s3cret@127.0.0.1:1/shop\n")
	sagatest.Must(t, os.Chmod(file, 0o644))
	out = s.fails(ctl.CodeUnreachable, "tx", "list")
	has(t, out, "other people can read")
	if strings.Contains(out, "s3cret") {
		t.Error(out)
	}
}

// The command says what it is, completes, and refuses what it does not know.
func TestCommandLine(t *testing.T) {
	s := newShell(t, "")
	has(t, s.ok(), "Exit codes: 0 ok", "tx ", "check ")
	has(t, s.ok("version"), "sagactl ", "schema version")
	has(t, s.ok("completion", "bash"), "sagactl")
	has(t, s.ok("__complete", "tx", ""), "list", "retry")
	has(t, s.ok("__complete", "tx", "list", "--state", ""), "confirming")
	for _, c := range []struct{ call, says string }{
		{"frob", `no command "frob"`}, {"tx", "needs a command"}, {"tx frob", `no command "frob"`}, {"tx list --frob", "unknown flag"},
		{"tx list extra", "takes no argument"}, {"tx list -o xml", "table, json or jsonl"}, {"tx list --color=red", "auto, always or never"},
		{"version --timeout=-1s", "negative"},
	} {
		has(t, s.fails(ctl.CodeUsage, strings.Fields(c.call)...), c.says)
	}
	w := newWorld(t, "sqlite")
	for _, c := range []struct{ call, says string }{
		{"tx list --state=frob", "it must be trying"}, {"tx list --all --state=trying", "both set"}, {"tx list --limit=-1", "negative"},
		{"tx list --since=yesterday", "a duration such as 15m"}, {"tx list --since=-5m", "negative"}, {"tx list --label=a=b --value=c", "both set"},
	} {
		has(t, w.fails(ctl.CodeUsage, strings.Fields(c.call)...), c.says)
	}
}
