// Package processtest runs the command in the directory of a test as a process, which the
// test can kill.
package processtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

var dir string // of the binary; empty if nothing is built

// binary builds the command once.
var binary = sync.OnceValues(func() (file string, err error) {
	if dir, err = os.MkdirTemp("", "processtest"); err != nil {
		return "", err
	}
	file = filepath.Join(dir, "command")
	if out, err := exec.Command("go", "build", "-o", file, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
})

// Run runs the tests and removes the binary. It is for TestMain.
func Run(m *testing.M) (code int) {
	defer func() { os.RemoveAll(dir) }()
	return m.Run()
}

// Binary returns the file of the command.
func Binary(t testing.TB) string {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Process is a process of the command.
type Process struct {
	Arguments []string

	t       testing.TB
	file    string
	ready   string
	mu      sync.Mutex
	command *exec.Cmd
}

// New returns a process that is not started. It is ready when it has printed a line with
// the text ready. It is killed when the test ends.
func New(t testing.TB, ready string, arguments ...string) *Process {
	t.Helper()
	p := &Process{t: t, file: Binary(t), ready: ready, Arguments: arguments}
	t.Cleanup(p.Kill)
	return p
}

// Start starts the process, and returns when it is ready. The test fails if it ends before.
func (p *Process) Start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.command = exec.Command(p.file, p.Arguments...)
	output, err := p.command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	var stderr strings.Builder
	p.command.Stderr = &stderr
	if err := p.command.Start(); err != nil {
		p.t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if strings.Contains(lines.Text(), p.ready) {
			go io.Copy(io.Discard, output)
			return
		}
	}
	p.command.Wait()
	p.t.Fatalf("%v did not start: %s", p.Arguments, stderr.String())
}

// Kill is kill -9. It does nothing to a process that has ended.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.command != nil {
		p.command.Process.Kill()
		p.command.Wait()
	}
}

// Terminate sends SIGTERM.
func (p *Process) Terminate() error { return p.command.Process.Signal(syscall.SIGTERM) }

// Wait waits for the end of the process.
func (p *Process) Wait() error { return p.command.Wait() }
