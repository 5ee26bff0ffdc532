package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/tccsaga/tccsaga/saga/dtm/dtmtest/source"
)

// dtmServer is the real DTM server, a process of its own with its log on the same MariaDB.
type dtmServer struct {
	process *exec.Cmd
	url     string
	folder  string
}

// startDTM starts the server. The barrier of the client is in barrierTable.
func startDTM(ctx context.Context, barrierTable string) (*dtmServer, error) {
	if err := migrateDTM(); err != nil {
		return nil, fmt.Errorf("DTM's tables: %w", err)
	}
	dtmcli.SetCurrentDBType("mysql")
	dtmcli.SetBarrierTableName(barrierTable)
	d := &dtmServer{}
	if err := d.start(ctx); err != nil {
		return nil, fmt.Errorf("the DTM server: %w", err)
	}
	return d, nil
}

func (d *dtmServer) stop() error {
	err := d.process.Process.Kill()
	d.process.Wait()
	return errors.Join(err, os.RemoveAll(d.folder))
}

// dtmModule is the folder of the server's module, which is one of its own: it needs
// other versions of what we use.
const dtmModule = "../dtm/dtmtest/dtmserver"

// migrateDTM creates the tables of server and barrier from the files that come with
// the server.
func migrateDTM() error {
	folder, err := source.Folder(dtmModule)
	if err != nil {
		return err
	}
	config, err := mysqldriver.ParseDSN(os.Getenv("TCCSAGA_TEST_MYSQL"))
	if err != nil {
		return err
	}
	config.MultiStatements = true
	admin, err := sql.Open("mysql", config.FormatDSN())
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, file := range []string{"dtmsvr.storage.mysql.sql", "dtmcli.barrier.mysql.sql"} {
		text, err := os.ReadFile(filepath.Join(folder, "sqls", file))
		if err != nil {
			return err
		}
		if _, err := admin.Exec(string(text)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func (d *dtmServer) start(ctx context.Context) (err error) {
	if d.folder, err = os.MkdirTemp("", "tccsaga-bench-dtm"); err != nil {
		return err
	}
	binary := filepath.Join(d.folder, "dtmserver")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	build.Dir = dtmModule
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building it: %w: %s", err, out)
	}
	config, err := mysqldriver.ParseDSN(os.Getenv("TCCSAGA_TEST_MYSQL"))
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(config.Addr)
	if err != nil {
		return err
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	d.process = exec.CommandContext(ctx, binary)
	d.process.Env = append(os.Environ(), "STORE_DRIVER=mysql", "STORE_HOST="+host, "STORE_PORT="+port, "STORE_USER="+config.User, "STORE_PASSWORD="+config.Passwd,
		"STORE_DB=dtm", fmt.Sprint("HTTP_PORT=", ports[0]), fmt.Sprint("GRPC_PORT=", ports[1]), fmt.Sprint("JSON_RPC_PORT=", ports[2]), "LOG_LEVEL=error")
	if err := d.process.Start(); err != nil {
		return err
	}
	d.url = fmt.Sprintf("http://127.0.0.1:%d/api/dtmsvr", ports[0])
	for range 100 {
		if reply, err := http.Get(d.url + "/newGid"); err == nil {
			reply.Body.Close()
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("it does not answer")
}

func freePorts(n int) (ports []int, err error) {
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// handleBranch serves a branch that DTM calls: work, in a local transaction of the pool with
// DTM's barrier.
func handleBranch(mux *http.ServeMux, path string, pool *sql.DB, work func(tx *sql.Tx, o Order) (sql.Result, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var o Order
		err := json.NewDecoder(r.Body).Decode(&o)
		if err == nil {
			var barrier *dtmcli.BranchBarrier
			if barrier, err = dtmcli.BarrierFromQuery(r.URL.Query()); err == nil {
				err = barrier.CallWithDB(pool, func(tx *sql.Tx) error { return oneRow(work(tx, o)) })
			}
		}
		answer(w, err)
	})
}

func answer(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, dtmcli.ErrFailure):
		http.Error(w, err.Error(), http.StatusConflict)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, `{"dtm_result":"SUCCESS"}`)
}

func oneRow(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%d rows instead of one: %w", n, err)
	}
	return nil
}

// ownBarrier creates DTM's barrier table in a database of its own, beside the data of one
// service.
func (d *Database) ownBarrier() error {
	return d.Exec("CREATE TABLE barrier LIKE dtm_barrier.barrier").Error
}
