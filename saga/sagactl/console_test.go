package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

var consoleAt = regexp.MustCompile(`http://127\.0\.0\.1:\d+/`)

// The console is served on this machine until Ctrl-C, and acts only if they are asked for.
func TestConsole(t *testing.T) {
	w := newWorld(t, "sqlite")
	for _, acts := range []bool{false, true} {
		call := []string{"console", "--listen", "127.0.0.1:0"}
		if acts {
			call = append(call, "--acts")
		}
		serving := w.command(call...)
		out := start(t, serving)
		out.waitFor(t, "until Ctrl-C")
		at := consoleAt.FindString(out.String())
		get := func(path string, change func(*http.Request)) (int, string) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+path, nil)
			sagatest.Must(t, err)
			if change != nil {
				change(r)
			}
			answer, err := http.DefaultClient.Do(r)
			sagatest.Must(t, err)
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			sagatest.Must(t, err)
			return answer.StatusCode, string(body)
		}
		status, page := get("transactions?all=1", nil)
		if status != http.StatusOK || !strings.Contains(page, "stuck-1") {
			t.Errorf("status %d: %s", status, page)
		}
		for _, change := range []func(*http.Request){
			func(r *http.Request) { r.Host = "evil.example" },
			func(r *http.Request) { r.Header.Set("X-Forwarded-For", "10.0.0.1") },
		} {
			if status, _ := get("", change); status != http.StatusForbidden {
				t.Errorf("acts %v: a request of somebody else has the status %d", acts, status)
			}
		}
		sagatest.Must(t, serving.Process.Signal(os.Interrupt))
		if err := serving.Wait(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	for _, address := range []string{"0.0.0.0:7707", ":7707", "192.0.2.1:80", "example.org:80", "frob"} {
		has(t, w.fails(ctl.CodeUsage, "console", "--listen", address), "--listen")
	}
}
