package nested_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

const processVariable = "TCCSAGA_TEST_PROCESS"

// process says what a test does that runs in a process of its own.
type process struct {
	Test     string
	Database sqltest.Database
	Signals  string     // address of the test that waits for it
	Stops    barrier.Op // of a meal: this call does not return; empty for none
}

// asProcess reports whether this process is one of start, and what it has to do.
func asProcess(t *testing.T) (p process, is bool) {
	t.Helper()
	text, is := os.LookupEnv(processVariable)
	if is {
		sagatest.Must(t, json.Unmarshal([]byte(text), &p))
	}
	return p, is
}

// site returns the site that is in the database of the process.
func (p process) site(t *testing.T) *site {
	t.Helper()
	s := openSite(t, sqltest.Connect(t, p.Database, &gorm.Config{}), quick)
	s.meals.on(func(ctx context.Context, op barrier.Op) error {
		if op != p.Stops {
			return nil
		}
		p.signal(t, "stopped")
		<-ctx.Done() // the process is killed before
		return ctx.Err()
	})
	return s
}

// signal tells the test something.
func (p process) signal(t *testing.T, text string) {
	reply, err := http.Get(p.Signals + "?text=" + text)
	if err != nil {
		t.Error(err)
		return
	}
	reply.Body.Close()
}

// running is a process that a test has started.
type running struct {
	t       *testing.T
	command *exec.Cmd
	signals chan string
}

// start starts a process, which ends with this test at the latest.
func start(t *testing.T, p process) *running {
	t.Helper()
	r := &running{t: t, signals: make(chan string, 10)}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		r.signals <- request.URL.Query().Get("text")
	}))
	t.Cleanup(server.Close)
	p.Signals = server.URL
	text, err := json.Marshal(p)
	sagatest.Must(t, err)
	r.command = exec.Command(os.Args[0], "-test.run=^"+p.Test+"$")
	r.command.Env = append(os.Environ(), processVariable+"="+string(text))
	output, err := r.command.StdoutPipe()
	sagatest.Must(t, err)
	sagatest.Must(t, r.command.Start())
	t.Cleanup(func() { r.command.Process.Kill() })
	go func() {
		all, _ := io.ReadAll(output)
		select {
		case r.signals <- fmt.Sprintf("it ended: %s", all):
		default:
		}
	}()
	return r
}

// says waits for the next signal.
func (r *running) says() string {
	r.t.Helper()
	return <-r.signals
}

// kill kills the process.
func (r *running) kill() {
	r.t.Helper()
	sagatest.Must(r.t, r.command.Process.Kill())
	r.command.Wait()
}

// eachDatabase runs a test with a database of each kind that has things, and can be opened by
// other processes.
func eachDatabase(t *testing.T, test func(t *testing.T, database sqltest.Database, db *gorm.DB)) {
	t.Helper()
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			database := sqltest.Create(t, dialect)
			test(t, database, sqltest.Connect(t, database, &gorm.Config{}))
		})
	}
}
