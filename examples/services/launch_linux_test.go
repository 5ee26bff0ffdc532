package main

import (
	"bufio"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/tccsaga/tccsaga/examples/internal/processtest"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// The command that starts all three stops the order service before those that it
// needs; and if it is killed, none of them stays.
func TestLauncherStops(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := processtest.Binary(t)
			s := startTrio(t, databases(t, "sqlite")...)
			command := exec.CommandContext(t.Context(), file, s.order.Arguments[:len(s.order.Arguments)-2]...) // without -service
			output, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			command.Stderr = command.Stdout
			command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(output)
			for serving := 0; serving < 3 && lines.Scan(); {
				if strings.Contains(lines.Text(), servesAt) && !strings.Contains(lines.Text(), "curl") {
					serving++
				}
			}
			s.put("phone", 10)
			if status, reason := s.place(Order{OrderID: "1", SKU: "phone", Quantity: 1, Email: "a@b"}); status != 201 {
				t.Errorf("%d %s", status, reason)
			}
			whom := command.Process.Pid
			if signal == syscall.SIGINT {
				whom = -whom // as a terminal does: to all of them at once
			}
			if err := syscall.Kill(whom, signal); err != nil {
				t.Fatal(err)
			}
			var rest []string
			for lines.Scan() { // until nobody holds the output any more
				rest = append(rest, lines.Text())
			}
			if err := command.Wait(); (err == nil) != (signal == syscall.SIGINT) {
				t.Errorf("it ended with %v: %q", err, rest)
			}
			text := strings.Join(rest, "\n")
			if signal == syscall.SIGINT && !inOrder(text, "order has stopped", "stock is stopping") ||
				signal == syscall.SIGINT && !inOrder(text, "order has stopped", "notification is stopping") {
				t.Errorf("not in order: %s", text)
			}
			for _, at := range []string{s.orderAt, s.stockAt, s.mailAt} {
				sagatest.Eventually(t, at+" is not served any more", func() bool {
					conn, err := net.Dial("tcp", strings.TrimPrefix(at, "http://"))
					if err == nil {
						conn.Close()
					}
					return err != nil
				})
			}
		})
	}
}

func inOrder(text, first, second string) bool {
	before, _, found := strings.Cut(text, second)
	return found && strings.Contains(before, first)
}
