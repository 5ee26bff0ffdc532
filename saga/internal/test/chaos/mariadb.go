package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"
)

// The databases of the run.
const (
	engineDB  = "engine"  // of the engine's log and of the stock
	serviceDB = "service" // of another service: its points, and the messages that it handles
	hostDB    = "host"    // of the host: its seats and tickets
)

// mariadb is a MariaDB server that is killed and started again.
type mariadb struct {
	*process
	address string
	socket  string
}

// errNoMariaDB is returned if the server is not installed.
var errNoMariaDB = errors.New("mariadbd and mariadb-install-db are not installed: apt-get install mariadb-server, or make chaos")

// findMariaDB looks also where Debian installs the server, which is not in the path
// of every user.
func findMariaDB() (string, error) {
	if _, err := exec.LookPath("mariadb-install-db"); err != nil {
		return "", errNoMariaDB
	}
	for _, name := range []string{"mariadbd", "/usr/sbin/mariadbd"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoMariaDB
}

func newMariaDB(ctx context.Context, g *processGroup) (*mariadb, error) {
	program, err := findMariaDB()
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	m := &mariadb{address: address, socket: filepath.Join(g.dir, "mariadb.sock")}
	data := filepath.Join(g.dir, "mariadb")
	arguments := []string{"--no-defaults", "--datadir=" + data}
	if os.Getuid() == 0 {
		arguments = append(arguments, "--user=root")
	}
	install := exec.CommandContext(ctx, "mariadb-install-db", append(arguments, "--auth-root-authentication-method=normal", "--skip-test-db")...)
	if output, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mariadb-install-db: %w: %s", err, output)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	arguments = append(arguments, "--socket="+m.socket, "--port="+port, "--bind-address=127.0.0.1", "--pid-file="+filepath.Join(g.dir, "mariadb.pid"),
		"--max-connections=500", "--innodb-flush-log-at-trx-commit=1",
		// A paused worker keeps its row locks, and by default others wait 50
		// seconds for them.
		"--innodb-lock-wait-timeout=3")
	m.process = g.process("mariadb", func() *exec.Cmd { return exec.Command(program, arguments...) })
	return m, m.start(ctx)
}

// start returns when the server answers.
func (m *mariadb) start(ctx context.Context) error {
	if _, err := m.process.start(false); err != nil {
		return err
	}
	db, err := sql.Open("mysql", "root@unix("+m.socket+")/")
	if err != nil {
		return err
	}
	defer db.Close()
	return eventually(ctx, time.Minute, "MariaDB answers", func() error {
		if err := m.failure(); err != nil {
			return err
		}
		return db.PingContext(ctx)
	})
}

// createDatabases creates the empty databases, and the user of dsn.
func (m *mariadb) createDatabases(ctx context.Context) error {
	db, err := sql.Open("mysql", "root@unix("+m.socket+")/")
	if err != nil {
		return err
	}
	defer db.Close()
	for _, statement := range []string{
		"CREATE DATABASE " + engineDB, "CREATE DATABASE " + serviceDB, "CREATE DATABASE " + hostDB,
		"CREATE USER chaos@'127.0.0.1' IDENTIFIED BY 'chaos'", "GRANT ALL ON *.* TO chaos@'127.0.0.1'",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// dsn is the data source name of a database, at a proxy or at the server.
func dsn(address, database string, interpolate bool) string {
	config := mysql.NewConfig()
	config.User, config.Passwd, config.Net, config.Addr, config.DBName = "chaos", "chaos", "tcp", address, database
	config.Timeout, config.ReadTimeout, config.WriteTimeout = 2*time.Second, 20*time.Second, 5*time.Second
	config.InterpolateParams = interpolate
	config.Params = map[string]string{"charset": "utf8mb4"}
	return config.FormatDSN()
}
