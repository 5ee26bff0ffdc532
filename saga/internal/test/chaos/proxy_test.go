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
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	if got := mysqlCommits(false)(packet(query, "COMMIT")); got != nothing {
		t.Errorf("the server's bytes are taken for %s", got)
	}
}

// echo starts a server that answers each piece with the same piece, and sends it to
// got.
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

func TestInterceptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		then     action
		arrives  bool
		answered bool
	}{
		{"cut off before the server", action{cut: cutNow}, false, false},
		{"cut off under way", action{forward: true, cut: cutNow}, true, false},
		{"answer lost", action{forward: true, cut: cutAtAnswer}, true, false},
		{"only watched", action{forward: true}, true, true},
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
			intercepted := make(chan struct{})
			test.then.before = func() { close(intercepted) }
			p.intercept(&interception{commit, test.then})

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
			<-intercepted
			if (err == nil) != test.answered {
				t.Errorf("the COMMIT came to %v", err)
			}
			if arrived := <-got == string(packet(3, "COMMIT")); arrived != test.arrives {
				t.Errorf("the COMMIT arrived: %t", arrived)
			}
		})
	}
}

func TestWithdraw(t *testing.T) {
	t.Parallel()
	var p proxy
	first, second := &interception{commit, action{cut: cutNow}}, &interception{commit, action{forward: true, cut: cutAtAnswer}}
	p.intercept(first)
	p.intercept(second)
	if !p.withdraw(first) || p.withdraw(first) {
		t.Error("an interception cannot be withdrawn exactly once")
	}
	if a := p.actionAt(ack); !a.forward || a.cut != noCut {
		t.Error("another event was intercepted")
	}
	if a := p.actionAt(commit); a.cut != cutAtAnswer || p.withdraw(second) {
		t.Error("the event was not intercepted")
	}
}
