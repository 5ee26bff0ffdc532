package remote_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

const childVariable = "TCCSAGA_TEST_CHILD"

// child is what a process of the theatre needs that asks.
type child struct {
	Database sqltest.Database
	Asks     string // the URL of the Outcomes
	Ready    string // the URL that is called in the Confirm; empty for none
}

// start starts TestOutcomeChild in a process of its own.
func (c child) start(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(c)
	sagatest.Must(t, err)
	process := exec.Command(os.Args[0], "-test.run=^TestOutcomeChild$")
	process.Env = append(os.Environ(), childVariable+"="+string(text))
	sagatest.Must(t, process.Start())
	return process
}

// TestOutcomeChild is a process of the theatre. It asks until it is killed.
func TestOutcomeChild(t *testing.T) {
	text, is := os.LookupEnv(childVariable)
	if !is {
		t.Skip("another test starts it")
	}
	var c child
	sagatest.Must(t, json.Unmarshal([]byte(text), &c))
	engine, err := remote.NewEngine(c.Asks, remote.EngineConfig{Name: "agency", Keys: keys("a")})
	sagatest.Must(t, err)
	host, err := remote.NewHost(t.Context(), sqltest.Connect(t, c.Database, &gorm.Config{}),
		remote.HostConfig{Name: "theatre", Keys: keys("a"), Outcomes: []participant.Outcomes{engine}, AskAfter: 10 * time.Millisecond})
	sagatest.Must(t, err)
	branch := &reserving[seats]{read: func(p seats) (int, int) { return p.Row, p.Number }}
	branch.fail = func(op barrier.Op) error { // after its work, before the commit
		reply, err := http.Get(c.Ready)
		if err == nil {
			reply.Body.Close()
		}
		return err
	}
	sagatest.Must(t, tcc.Register(host, branch))
	sagatest.Must(t, host.Run(t.Context()))
}

// A process is killed between the question and the answer, or in the call that is due.
// Another one asks again.
func TestOutcomeOfAProcessThatIsKilled(t *testing.T) {
	for _, dialect := range sqltest.Dialects {
		for _, answered := range []bool{false, true} {
			t.Run(dialect+map[bool]string{false: " before the answer", true: " in the call"}[answered], func(t *testing.T) {
				t.Parallel()
				database := sqltest.Create(t, dialect)
				db := sqltest.Connect(t, database, &gorm.Config{})
				sagatest.Must(t, schema.Migrate(t.Context(), db))
				d := newInDoubt(t, sqltest.Open(t, "sqlite"), db, keys("a")...)
				tx := d.tried()
				_, err := tx.Confirm(t.Context())
				sagatest.Must(t, err)

				arrived := make(chan struct{}, 100)
				wait := func(r *http.Request) {
					arrived <- struct{}{}
					<-r.Context().Done() // until the process is killed
				}
				ready := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { wait(r) }))
				defer ready.Close()
				if !answered {
					d.disturbed(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) { wait(r) })
				}
				makeDue(t, db)
				process := child{Database: database, Asks: d.asks.URL + "/outcomes", Ready: ready.URL}.start(t)
				<-arrived
				sagatest.Must(t, process.Process.Kill())
				if err := process.Wait(); err == nil {
					t.Error("the process was not killed")
				}
				d.theatre.holds(98, 2, 0)
				d.disturbed(nil)
				d.ends(98, 0, 2)
			})
		}
	}
}
