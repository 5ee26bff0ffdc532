package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// onTerminal starts the command on a terminal of 90 columns.
func (w *world) onTerminal(t *testing.T, arguments ...string) (*exec.Cmd, *os.File, *output) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	sagatest.Must(t, err)
	t.Cleanup(func() { near.Close() })
	fd := int(near.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	sagatest.Must(t, err)
	sagatest.Must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	sagatest.Must(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 90}))
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	sagatest.Must(t, err)
	defer far.Close()
	c := w.command(arguments...)
	c.Stdin, c.Stdout, c.Stderr = far, far, far
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	sagatest.Must(t, c.Start())
	var o output
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := near.Read(buffer)
			o.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	return c, near, &o
}

// On a terminal, a person is asked, and nothing is done without a yes.
func TestQuestion(t *testing.T) {
	w := newWorld(t, "sqlite")
	c, keyboard, screen := w.onTerminal(t, "tx", "cancel", "open-1", "--why", "test")
	screen.waitFor(t, "cancel open-1? This cannot be undone. [y/N]")
	keyboard.WriteString("n\n")
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != ctl.CodeDeclined {
		t.Errorf("exit code %d: %s", code, screen)
	}
	if found, err := w.engine.Lookup(t.Context(), "open-1"); err != nil || found.State != saga.Trying {
		t.Errorf("%+v %v", found, err)
	}
	c, keyboard, screen = w.onTerminal(t, "tx", "cancel", "open-1", "--why", "test")
	screen.waitFor(t, "[y/N]")
	keyboard.WriteString("yes\n")
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, screen)
	}
	sagatest.Reach(t, w.engine, "open-1", saga.Cancelled)
}

// On a terminal there are colours, lines of its width, and a page that is drawn again.
func TestTerminal(t *testing.T) {
	w := newWorld(t, "sqlite")
	c, _, screen := w.onTerminal(t, "tx", "list")
	sagatest.Must(t, c.Wait())
	screen.waitFor(t, "stuck-1")
	screen.waitFor(t, "…")
	has(t, screen.String(), "\x1b[33mconfirming\x1b[0m", "…")

	c, keyboard, screen := w.onTerminal(t, "tx", "watch", "stuck-1", "--interval", "100ms")
	sagatest.Eventually(t, "the page is drawn twice", func() bool { return strings.Count(screen.String(), "\x1b[H\x1b[2J") > 1 })
	keyboard.WriteString("\x03") // Ctrl-C
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, screen)
	}
}
