package tcc_test

import (
	"encoding/json"
	"os"
	osexec "os/exec"
	"testing"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

const childVariable = "TCCSAGA_TEST_CHILD"

// child says what a test does that runs in a process of its own.
type child struct {
	Test     string
	Database sqltest.Database
	Orders   sqltest.Database // of the orders; may be empty
	GID      string
	Gateway  string // its address; empty for none
}

// startChild starts a test in a process of its own, which ends with this test.
func startChild(t *testing.T, c child) *osexec.Cmd {
	t.Helper()
	text, err := json.Marshal(c)
	sagatest.Must(t, err)
	process := osexec.Command(os.Args[0], "-test.run=^"+c.Test+"$")
	process.Env = append(os.Environ(), childVariable+"="+string(text))
	sagatest.Must(t, process.Start())
	t.Cleanup(func() { process.Process.Kill() })
	return process
}

// asChild reports whether this process is one of startChild, and what it has to do.
func asChild(t *testing.T) (c child, is bool) {
	t.Helper()
	text, is := os.LookupEnv(childVariable)
	if is {
		sagatest.Must(t, json.Unmarshal([]byte(text), &c))
	}
	return c, is
}
