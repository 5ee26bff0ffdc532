// Package dtmtest starts the real DTM server for tests, on the MariaDB that
// package sqltest uses, in a database of its own.
package dtmtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/tccsaga/tccsaga/saga/dtm/dtmtest/source"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// program builds the server once, in a module of its own with its own dependencies.
var program = sync.OnceValues(func() (string, error) {
	built.Store(true)
	dir, err := os.MkdirTemp("", "dtmtest")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "dtmserver")
	build := exec.Command("go", "build", "-o", file, ".")
	build.Dir = module()
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the DTM server: %w: %s", err, out)
	}
	return file, nil
})

var built atomic.Bool

// module is the folder of the server's module.
func module() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "dtmserver")
}

// Clean removes the program that the tests of a package have built. Call it in TestMain,
// after the tests.
func Clean() {
	if built.Load() {
		if file, err := program(); err == nil {
			os.RemoveAll(filepath.Dir(file))
		}
	}
}

// Server is a DTM server, as a process of its own.
type Server struct {
	URL string // of its API

	t       testing.TB
	env     []string
	mu      sync.Mutex
	command *exec.Cmd
}

// Start starts a server, which ends with the test. Without a MariaDB, the test is
// skipped, or fails in CI, as in package sqltest.
func Start(t testing.TB) *Server {
	t.Helper()
	database := sqltest.Create(t, "mysql")
	config, err := mysqldriver.ParseDSN(database.DSN)
	if err != nil {
		t.Fatal(err)
	}
	if err = createTables(*config); err != nil {
		t.Fatalf("creating the tables of the DTM server: %v", err)
	}
	host, port, err := net.SplitHostPort(config.Addr)
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	s := &Server{t: t, URL: fmt.Sprintf("http://127.0.0.1:%d/api/dtmsvr", ports[0]), env: append(os.Environ(),
		"STORE_DRIVER=mysql", "STORE_HOST="+host, "STORE_PORT="+port, "STORE_USER="+config.User, "STORE_PASSWORD="+config.Passwd,
		"STORE_DB="+config.DBName, fmt.Sprint("HTTP_PORT=", ports[0]), fmt.Sprint("GRPC_PORT=", ports[1]), fmt.Sprint("JSON_RPC_PORT=", ports[2]),
		"TRANS_CRON_INTERVAL=1", "LOG_LEVEL=fatal")}
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// createTables runs the script of the server, in another database than the script names.
func createTables(config mysqldriver.Config) error {
	folder, err := source.Folder(module())
	if err != nil {
		return err
	}
	script, err := os.ReadFile(filepath.Join(folder, "sqls", "dtmsvr.storage.mysql.sql"))
	if err != nil {
		return err
	}
	config.MultiStatements = true
	db, err := sql.Open("mysql", config.FormatDSN())
	if err != nil {
		return err
	}
	defer db.Close()
	_, tables, found := strings.Cut(string(script), ";")
	if !found {
		return errors.New("the script is not as expected")
	}
	_, err = db.Exec(strings.ReplaceAll(tables, " dtm.", " "))
	return err
}

func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// Kill ends the process as kill -9 does.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.command != nil {
		s.command.Process.Kill()
		s.command.Wait()
		s.command = nil
	}
}

// Restart kills the process, starts a new one, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	file, err := program()
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.command = exec.Command(file)
	s.command.Env = s.env
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !answers(ctx, s.URL+"/newGid") {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatal("the DTM server does not answer")
		}
	}
}

func answers(ctx context.Context, address string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return false
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	reply.Body.Close()
	return reply.StatusCode == http.StatusOK
}
