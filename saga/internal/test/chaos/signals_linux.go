package chaos

import (
	"os"
	"os/exec"
	"syscall"
)

// endWithParent lets the kernel kill the process when the thread that started it
// ends.
func endWithParent(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

func pause(p *os.Process) error  { return p.Signal(syscall.SIGSTOP) }
func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

const supported = true
