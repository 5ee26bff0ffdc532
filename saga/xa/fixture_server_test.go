package xa_test

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// ownServer is a database server of one test, which can be killed and started again.
type ownServer struct {
	t        *testing.T
	database sqltest.Database
	program  string
	args     []string
	as       *syscall.SysProcAttr
	process  *exec.Cmd
	exited   chan struct{} // closed when the process has ended
}

// newServer starts a server with the settings, and with a migrated database.
func newServer(t *testing.T, dialect string, settings ...string) (*ownServer, *gorm.DB) {
	t.Helper()
	s := &ownServer{t: t}
	// Not t.TempDir, whose parents only the user of this process can open.
	dir, err := os.MkdirTemp("", "xa")
	sagatest.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	if dialect == "mysql" {
		s.mariadb(dir, port)
	} else {
		s.postgres(dir, port)
	}
	s.args = append(s.args, settings...)
	t.Cleanup(s.kill)
	s.start()
	db := sqltest.Connect(t, s.database, &gorm.Config{})
	sagatest.Must(t, schema.Migrate(t.Context(), db))
	return s, db
}

func freePort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	sagatest.Must(t, err)
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

func (s *ownServer) mariadb(dir, port string) {
	s.program = program(s.t, "mariadbd", "/usr/sbin/mariadbd")
	s.args = []string{"--no-defaults", "--datadir=" + dir + "/data", "--socket=" + dir + "/sock", "--port=" + port, "--bind-address=127.0.0.1", "--pid-file=" + dir + "/pid"}
	install := []string{"--no-defaults", "--datadir=" + dir + "/data", "--auth-root-authentication-method=normal", "--skip-test-db"}
	if os.Getuid() == 0 {
		s.args, install = append(s.args, "--user=root"), append(install, "--user=root")
	}
	run(s.t, exec.Command(program(s.t, "mariadb-install-db"), install...))
	s.database = sqltest.Database{Dialect: "mysql", DSN: "root@tcp(127.0.0.1:" + port + ")/mysql"}
}

func (s *ownServer) postgres(dir, port string) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		missing(s.t, "PostgreSQL")
	}
	bin := found[len(found)-1]
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		postgres, err := user.Lookup("postgres")
		sagatest.Must(s.t, err)
		uid, _ := strconv.Atoi(postgres.Uid)
		gid, _ := strconv.Atoi(postgres.Gid)
		sagatest.Must(s.t, os.Chown(dir, uid, gid))
		s.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	initdb := exec.Command(bin+"/initdb", "-D", dir+"/data", "-U", "tcc", "--auth=trust")
	initdb.SysProcAttr, initdb.Dir = s.as, dir
	run(s.t, initdb)
	s.program = bin + "/postgres"
	s.args = []string{"-D", dir + "/data", "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + dir}
	s.database = sqltest.Database{Dialect: "postgres", DSN: "postgres://tcc@127.0.0.1:" + port + "/postgres?sslmode=disable"}
}

// start starts the server, and returns when it answers. A server that ends at once is started
// again: after a kill, PostgreSQL refuses to start while a process of the old server is left.
func (s *ownServer) start() {
	s.t.Helper()
	s.launch()
	driver := map[string]string{"mysql": "mysql", "postgres": "pgx"}[s.database.Dialect]
	db, err := sql.Open(driver, s.database.DSN)
	sagatest.Must(s.t, err)
	defer db.Close()
	sagatest.Eventually(s.t, "the server answers", func() bool {
		select {
		case <-s.exited:
			s.launch()
		default:
		}
		return db.PingContext(s.t.Context()) == nil
	})
}

func (s *ownServer) launch() {
	s.t.Helper()
	process, exited := exec.Command(s.program, s.args...), make(chan struct{})
	// A group of its own: PostgreSQL has several processes.
	attributes := syscall.SysProcAttr{Setpgid: true}
	if s.as != nil {
		attributes.Credential = s.as.Credential
	}
	process.SysProcAttr, process.Dir = &attributes, os.TempDir()
	sagatest.Must(s.t, process.Start())
	go func() { process.Wait(); close(exited) }()
	s.process, s.exited = process, exited
}

// kill is kill -9.
func (s *ownServer) kill() {
	if s.process != nil {
		syscall.Kill(-s.process.Process.Pid, syscall.SIGKILL)
		<-s.exited
		s.process = nil
	}
}

func run(t *testing.T, command *exec.Cmd) {
	t.Helper()
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, output)
	}
}

// program returns the path of the first of the names that is installed.
func program(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, names[0])
	return ""
}

func missing(t *testing.T, name string) {
	t.Helper()
	message := fmt.Sprintf("%s is not installed: run the tests with make test", name)
	if os.Getenv("CI") != "" {
		t.Fatal(message)
	}
	t.Skip(message)
}
