package chaos

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// packet is a command in MySQL's protocol.
func packet(command byte, text string) []byte {
	n := len(text) + 1
	return append([]byte{byte(n), byte(n >> 8), byte(n >> 16), 0, command}, text...)
}

func TestMySQLCommits(t *testing.T) {
	t.Parallel()
	const query, prepare = 3, 22
	for _, test := range []struct {
		name   string
		pieces [][]byte
		want   []event
	}{
		{"a COMMIT", [][]byte{packet(query, "COMMIT")}, []event{commit}},
		{"in lower case", [][]byte{packet(query, "commit")}, []event{commit}},
		{"after another packet", [][]byte{append(packet(query, "SELECT 1"), packet(query, "COMMIT")...)}, []event{commit}},
		{"in two pieces", [][]byte{packet(query, "COMMIT")[:7], packet(query, "COMMIT")[7:]}, []event{nothing, commit}},
		{"not a ROLLBACK", [][]byte{packet(query, "ROLLBACK")}, []event{nothing}},
		{"not a text that holds the word", [][]byte{packet(query, "SELECT 'COMMIT'")}, []event{nothing}},
		{"not another command", [][]byte{packet(prepare, "COMMIT")}, []event{nothing}},
		{"after a long packet", [][]byte{packet(query, strings.Repeat("x", 1<<17)), packet(query, "COMMIT")}, []event{nothing, commit}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			look := mysqlCommits(true)
			var got []event
			for _, piece := range test.pieces {
				got = append(got, look(piece))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if got := mysqlCommits(false)(packet(query, "COMMIT")); got != nothing {
		t.Errorf("the server's bytes are taken for a %s", got)
	}
}

// echo is a server that answers each piece with itself, and tells what it got.
func echo(t *testing.T) (address string, got <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	pieces := make(chan string, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 1024)
				for {
					n, err := conn.Read(buffer)
					if err != nil {
						pieces <- "closed"
						return
					}
					pieces <- string(buffer[:n])
					conn.Write(buffer[:n])
				}
			}()
		}
	}()
	return listener.Addr().String(), pieces
}

func TestProxyTraps(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		then     spring
		arrives  bool
		answered bool
	}{
		{"cut off before the server", spring{cut: atOnce}, false, false},
		{"cut off under way", spring{pass: true, cut: atOnce}, true, false},
		{"answer lost", spring{pass: true, cut: afterAnswer}, true, false},
		{"only watched", spring{pass: true}, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address, got := echo(t)
			p, err := newProxy(address, mysqlCommits)
			if err != nil {
				t.Fatal(err)
			}
			defer p.close()
			conn, err := net.Dial("tcp", p.address())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			sprung := make(chan struct{})
			test.then.first = func() { close(sprung) }
			p.arm(&trap{commit, test.then})

			exchange := func(text string) (string, error) {
				sent := packet(3, text)
				if _, err := conn.Write(sent); err != nil {
					return "", err
				}
				answer := make([]byte, len(sent))
				n, err := io.ReadFull(conn, answer)
				return string(answer[:n]), err
			}
			if answer, err := exchange("SELECT 1"); err != nil || answer != string(packet(3, "SELECT 1")) {
				t.Fatalf("before the COMMIT: %q, %v", answer, err)
			}
			<-got
			_, err = exchange("COMMIT")
			<-sprung
			if (err == nil) != test.answered {
				t.Errorf("the COMMIT came to %v", err)
			}
			if arrived := <-got == string(packet(3, "COMMIT")); arrived != test.arrives {
				t.Errorf("the COMMIT arrived: %t", arrived)
			}
		})
	}
}

func TestDisarm(t *testing.T) {
	t.Parallel()
	var p proxy
	first, second := &trap{commit, spring{cut: atOnce}}, &trap{commit, spring{pass: true, cut: afterAnswer}}
	p.arm(first)
	p.arm(second)
	if !p.disarm(first) || p.disarm(first) {
		t.Error("a trap can be taken away once")
	}
	if s := p.spring(ack); !s.pass || s.cut != never {
		t.Error("another event has sprung the trap")
	}
	if s := p.spring(commit); s.cut != afterAnswer || p.disarm(second) {
		t.Error("the second trap was not sprung")
	}
}
