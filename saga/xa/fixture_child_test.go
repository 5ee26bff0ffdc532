package xa_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

const childVariable = "TCCSAGA_TEST_XA_CHILD"

// child says what a process of its own does: it executes a transaction, and stops at a step.
type child struct {
	Database sqltest.Database
	GID      string
	Step     string
}

// killAt runs a test in a process of its own, and kills it with SIGKILL when it is at its step.
func killAt(t *testing.T, test string, c child) {
	t.Helper()
	text, err := json.Marshal(c)
	sagatest.Must(t, err)
	process := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	process.Env = append(os.Environ(), childVariable+"="+string(text))
	output, err := process.StdoutPipe()
	sagatest.Must(t, err)
	sagatest.Must(t, process.Start())
	var all strings.Builder
	at := false
	for lines := bufio.NewScanner(output); !at && lines.Scan(); {
		all.WriteString(lines.Text() + "\n")
		at = strings.Contains(lines.Text(), atStep)
	}
	sagatest.Must(t, process.Process.Kill())
	process.Wait()
	if !at {
		t.Fatalf("the process did not come to its step %q:\n%s", c.Step, all.String())
	}
}

const atStep = "at the step"

// stop stops a goroutine of a child at its step, until the process is killed.
func stop() {
	fmt.Println(atStep)
	select {}
}

// asChild reports whether this process is one of killAt, and what it has to do.
func asChild(t *testing.T) (c child, is bool) {
	t.Helper()
	text, is := os.LookupEnv(childVariable)
	if is {
		sagatest.Must(t, json.Unmarshal([]byte(text), &c))
	}
	return c, is
}
