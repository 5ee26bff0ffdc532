package main

import (
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// line is a line to a server, which can be cut.
type line struct {
	listener net.Listener
	mu       sync.Mutex
	open     []net.Conn
	cut      bool
}

// newLine returns a line to a server.
func newLine(t *testing.T, server string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	sagatest.Must(t, err)
	l := &line{listener: listener}
	t.Cleanup(func() { listener.Close(); l.set(true) })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil || !l.add(near, far) {
				near.Close()
				continue
			}
			go io.Copy(near, far)
			go io.Copy(far, near)
		}
	}()
	return l
}

func (l *line) add(connections ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cut {
		l.open = append(l.open, connections...)
	}
	return !l.cut
}

// set cuts the line, or mends it.
func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for _, c := range l.open {
		c.Close()
	}
	l.open = nil
}

// throughLine returns the world's shell with a line to its server in between.
func throughLine(t *testing.T, w *world) (shell, *line) {
	t.Helper()
	address := strings.TrimPrefix(w.env[3], "SAGACTL_DB=")
	begin := strings.LastIndex(address, "127.0.0.1:")
	if begin < 0 {
		t.Fatalf("no server on this machine in %s", address)
	}
	end := begin + strings.IndexAny(address[begin:], ")/")
	l := newLine(t, address[begin:end])
	return w.with("SAGACTL_DB=" + address[:begin] + l.listener.Addr().String() + address[end:]), l
}

// The database goes away while a command waits or watches. A watch continues when it is back.
func TestDatabaseGoesAway(t *testing.T) {
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, dialect)
			s, line := throughLine(t, w)
			s.ok("tx", "list")

			watching := s.command("tx", "watch", "stuck-1", "--interval", "100ms")
			out := start(t, watching)
			out.waitFor(t, "failed (attempt 1")
			line.set(true)
			out.waitFor(t, "does not answer, trying again")
			has(t, s.fails(ctl.CodeUnreachable, "tx", "retry", "stuck-1", "--why", "x"), "cannot be reached")
			line.set(false)
			out.waitFor(t, "answers again")
			sagatest.Must(t, watching.Process.Signal(os.Interrupt))
			if err := watching.Wait(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if n := strings.Count(out.String(), "begun with"); n != 1 {
				t.Errorf("the begin is there %d times:\n%s", n, out)
			}
			if acts := w.acts(); len(acts) != 0 {
				t.Errorf("%+v", acts)
			}
		})
	}
}

// The database goes away in the middle of a command: the exit code says so.
func TestDatabaseGoesAwayInTheMiddle(t *testing.T) {
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			s, line := throughLine(t, newWorld(t, dialect))
			exporting := s.command("tx", "export", "-")
			gids, err := exporting.StdinPipe()
			sagatest.Must(t, err)
			out := start(t, exporting)
			io.WriteString(gids, "ok-1\n")
			out.waitFor(t, `"gid":"ok-1"`)
			line.set(true)
			io.WriteString(gids, "odd-1\n")
			gids.Close()
			exporting.Wait()
			if code := exporting.ProcessState.ExitCode(); code != ctl.CodeUnreachable {
				t.Errorf("exit code %d: %s", code, out)
			}
			has(t, out.String(), "the database cannot be reached")
		})
	}
}
