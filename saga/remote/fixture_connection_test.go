package remote_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// openRequest sends the head of a request and the beginning of its body, and leaves the
// rest out.
func openRequest(t *testing.T, th *theatre, sign func(r *http.Request, body []byte), framing string, beginning []byte, length int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", th.server.Listener.Addr().String())
	sagatest.Must(t, err)
	t.Cleanup(func() { c.Close() })
	sagatest.Must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	r := request(t, th.url(), sagatest.GID(), barrier.Try, "")
	if sign != nil {
		sign(r, make([]byte, length))
	}
	var head strings.Builder
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n", r.URL.RequestURI(), framing)
	sagatest.Must(t, r.Header.Write(&head))
	head.WriteString("\r\n")
	_, err = io.WriteString(c, head.String())
	sagatest.Must(t, err)
	_, err = c.Write(beginning) // the host may have answered and closed by then
	if err != nil && len(beginning) < 1000 {
		t.Fatal(err)
	}
	return c
}

func answerOf(t *testing.T, c net.Conn) *http.Response {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	sagatest.Must(t, err)
	return answer
}

// closes waits for the end of a connection.
func closes(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection was kept: %v", err)
	}
}

// slowBody says when it is read, and waits.
type slowBody struct {
	io.ReadCloser
	entered chan<- struct{}
	leave   <-chan struct{}
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.entered != nil {
		b.entered <- struct{}{}
		b.entered = nil
	}
	<-b.leave
	return b.ReadCloser.Read(p)
}

// heap returns the bytes in use. Tests that run beside the caller's count too, so the caller
// must not be parallel.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools keep survives the first one
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
