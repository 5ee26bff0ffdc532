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

// nursery starts processes that never outlive this one, even if it is killed.
type nursery struct {
	dir    string // of their output
	starts chan func()
}

func newNursery(dir string) *nursery {
	n := &nursery{dir: dir, starts: make(chan func())}
	go func() {
		// The kernel ends the children with the thread that started them, so it
		// has to be one that stays. It ends with this goroutine.
		runtime.LockOSThread()
		for start := range n.starts {
			start()
		}
	}()
	return n
}

// close kills what was started here and still runs.
func (n *nursery) close() { close(n.starts) }

func (n *nursery) start(command *exec.Cmd) error {
	endWithUs(command)
	started := make(chan error)
	n.starts <- func() { started <- command.Start() }
	return <-started
}

// process is a program that is killed and started again. Its output goes on in
// one file.
type process struct {
	name    string
	output  string // file
	command func() *exec.Cmd
	nursery *nursery

	// busy is held by the fault that the process suffers: it cannot be killed
	// and paused at once.
	busy sync.Mutex

	mu      sync.Mutex
	current *exec.Cmd
	ended   chan struct{} // closed when current has ended
	wanted  bool          // current should run
	paused  bool
	fell    error // it has ended by itself
}

func (n *nursery) process(name string, command func() *exec.Cmd) *process {
	return &process{name: name, output: filepath.Join(n.dir, name+".log"), command: command, nursery: n}
}

// start starts the process, with its standard output, besides the file, to be
// read from the returned pipe if watch is set.
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
	if err := p.nursery.start(command); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.current, p.ended, p.wanted, p.paused = command, ended, true, false
	go func() {
		err := command.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.wanted && p.current == command {
			p.fell = fmt.Errorf("%s has ended by itself: %v; %s", p.name, err, p.lastWords())
		}
		close(ended)
	}()
	return pipe, nil
}

// kill is kill -9; it returns when the process is gone.
func (p *process) kill() {
	p.mu.Lock()
	p.wanted = false
	current, ended := p.current, p.ended
	if current != nil {
		current.Process.Kill()
	}
	p.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// stop asks the process to end and returns how it did.
func (p *process) stop(ctx context.Context) error {
	p.mu.Lock()
	p.wanted = false
	current, ended := p.current, p.ended
	err := current.Process.Signal(syscall.SIGTERM)
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("%s does not stop: %w; %s", p.name, context.Cause(ctx), p.lastWords())
	}
	if !current.ProcessState.Success() {
		return fmt.Errorf("%s has stopped with %s; %s", p.name, current.ProcessState, p.lastWords())
	}
	return nil
}

// pause keeps the process from running until resume.
func (p *process) pause() error  { return p.signal(pause, true) }
func (p *process) resume() error { return p.signal(resume, false) }

func (p *process) signal(send func(*os.Process) error, paused bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wanted || p.paused == paused {
		return nil
	}
	if err := send(p.current.Process); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	p.paused = paused
	return nil
}

// failure says that the process has ended by itself.
func (p *process) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fell
}

// lastWords is the end of the output, for people: the file is removed with the
// run.
func (p *process) lastWords() string {
	output, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	const most = 4000
	return "its output ends with\n" + string(output[max(0, len(output)-most):])
}

// freeAddress returns a loopback address that nobody listens on. It is below the
// ports that the kernel gives to outgoing connections: a server keeps its
// address while it is down, and one that tries to connect to it must not get it.
func freeAddress() (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if listener, err := net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no free port was found between 20000 and 32000")
}
