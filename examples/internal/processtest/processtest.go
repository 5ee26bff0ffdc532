// Package processtest runs the command in the directory of a test as a process of
// its own, which the test can kill.
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

var dir string // of what is built; empty if nothing is

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

// Run runs the tests and removes what they have built. It is for TestMain.
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

// New returns a process that is not started. It serves when it has printed a line
// with the text ready. It is killed when the test ends.
func New(t testing.TB, ready string, arguments ...string) *Process {
	t.Helper()
	p := &Process{t: t, file: Binary(t), ready: ready, Arguments: arguments}
	t.Cleanup(p.Kill)
	return p
}

// Start returns when the process serves. A process that does not fails the test.
func (p *Process) Start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.command = exec.Command(p.file, p.Arguments...)
	output, err := p.command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	var complaints strings.Builder
	p.command.Stderr = &complaints
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
	p.t.Fatalf("%v did not start: %s", p.Arguments, complaints.String())
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

// Terminate asks the process to end, as a host does.
func (p *Process) Terminate() error { return p.command.Process.Signal(syscall.SIGTERM) }

// Wait waits until the process has ended by itself.
func (p *Process) Wait() error { return p.command.Wait() }
