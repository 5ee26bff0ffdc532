package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// processGroup starts processes that end with this one, even if it is killed.
type processGroup struct {
	dir    string // of their output
	starts chan func()
}

func newProcessGroup(dir string) *processGroup {
	g := &processGroup{dir: dir, starts: make(chan func())}
	go func() {
		// The kernel kills the children when the thread that started them ends. So
		// one thread starts them all, and ends with this goroutine.
		runtime.LockOSThread()
		for start := range g.starts {
			start()
		}
	}()
	return g
}

// close kills the processes that still run.
func (g *processGroup) close() { close(g.starts) }

func (g *processGroup) start(command *exec.Cmd) error {
	endWithParent(command)
	started := make(chan error)
	g.starts <- func() { started <- command.Start() }
	return <-started
}

// process is a program that is killed and started again. All its output goes to one
// file.
type process struct {
	name    string
	output  string // file
	command func() *exec.Cmd
	group   *processGroup

	// busy is held by a fault of the process, so that it is not killed and paused
	// at the same time.
	busy sync.Mutex

	mu      sync.Mutex
	current *exec.Cmd
	ended   chan struct{} // closed when current has ended
	running bool          // current was neither killed nor stopped
	paused  bool
	exited  error // it has ended by itself
}

func (g *processGroup) process(name string, command func() *exec.Cmd) *process {
	return &process{name: name, output: filepath.Join(g.dir, name+".log"), command: command, group: g}
}

// start starts the process. With watch, its standard output goes to the returned
// pipe, and not to the file.
func (p *process) start(watch bool) (io.ReadCloser, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	output, err := os.OpenFile(p.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	command := p.command()
	command.Stderr = output
	var pipe io.ReadCloser
	if watch {
		if pipe, err = command.StdoutPipe(); err != nil {
			return nil, err
		}
	} else {
		command.Stdout = output
	}
	if err := p.group.start(command); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.current, p.ended, p.running, p.paused = command, ended, true, false
	go func() {
		err := command.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.running && p.current == command {
			p.exited = fmt.Errorf("%s has ended by itself: %v; %s", p.name, err, p.outputTail())
		}
		close(ended)
	}()
	return pipe, nil
}

// kill is kill -9; it returns when the process is gone.
func (p *process) kill() {
	p.mu.Lock()
	p.running = false
	current, ended := p.current, p.ended
	if current != nil {
		current.Process.Kill()
	}
	p.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// stop asks the process to end, waits for it, and returns an error if it did not
// end well.
func (p *process) stop(ctx context.Context) error {
	p.mu.Lock()
	p.running = false
	current, ended := p.current, p.ended
	err := current.Process.Signal(syscall.SIGTERM)
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("%s does not stop: %w; %s", p.name, context.Cause(ctx), p.outputTail())
	}
	if !current.ProcessState.Success() {
		return fmt.Errorf("%s has stopped with %s; %s", p.name, current.ProcessState, p.outputTail())
	}
	return nil
}

// pause stops the process until resume.
func (p *process) pause() error  { return p.signal(pause, true) }
func (p *process) resume() error { return p.signal(resume, false) }

func (p *process) signal(send func(*os.Process) error, paused bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running || p.paused == paused {
		return nil
	}
	if err := send(p.current.Process); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	p.paused = paused
	return nil
}

// failure is an error if the process has ended by itself.
func (p *process) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exited
}

// outputTail is the end of the output, for an error: the file is removed with the
// run.
func (p *process) outputTail() string {
	output, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	const most = 4000
	return "its output ends with\n" + string(output[max(0, len(output)-most):])
}

// freeAddress returns a loopback address that nobody listens on. Its port is below
// those of outgoing connections: a server keeps its address while it is down, and
// no client may get the port in the meantime.
func freeAddress() (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if listener, err := net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no free port was found between 20000 and 32000")
}
