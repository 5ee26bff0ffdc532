package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/go-resty/resty/v2"
	mysqldriver "github.com/go-sql-driver/mysql"
)

// DTM is the real DTM server on the same MariaDB: HTTP branches with DTM's own
// barrier, driven through DTM's own client, which waits for the result.
type DTM struct {
	db     *Database
	pool   *sql.DB
	server *exec.Cmd
	url    string
	busi   *httptest.Server
	folder string
}

func newDTM(ctx context.Context, db *Database) (*DTM, error) {
	d := &DTM{db: db}
	var err error
	if d.pool, err = db.DB.DB(); err != nil {
		return nil, err
	}
	if err := d.migrate(); err != nil {
		return nil, fmt.Errorf("DTM's tables: %w", err)
	}
	dtmcli.SetCurrentDBType("mysql")
	d.busi = httptest.NewServer(d.branches())
	if err := d.start(ctx); err != nil {
		return nil, fmt.Errorf("the DTM server: %w", err)
	}
	return d, nil
}

// dtmServer is the folder of the server's module, which is one of its own: it needs
// other versions of what we use.
const dtmServer = "../dtm/dtmtest/dtmserver"

// migrate creates the tables of server and barrier from the files that come with
// the server.
func (d *DTM) migrate() error {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/dtm-labs/dtm")
	list.Dir = dtmServer
	folder, err := list.Output()
	if err != nil {
		return fmt.Errorf("finding the module: %w", err)
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
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(folder)), "sqls", file))
		if err != nil {
			return err
		}
		if _, err := admin.Exec(string(text)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func (d *DTM) start(ctx context.Context) (err error) {
	if d.folder, err = os.MkdirTemp("", "tccsaga-bench-dtm"); err != nil {
		return err
	}
	binary := filepath.Join(d.folder, "dtmserver")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	build.Dir = dtmServer
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
	d.server = exec.CommandContext(ctx, binary)
	d.server.Env = append(os.Environ(), "STORE_DRIVER=mysql", "STORE_HOST="+host, "STORE_PORT="+port, "STORE_USER="+config.User, "STORE_PASSWORD="+config.Passwd,
		"STORE_DB=dtm", fmt.Sprint("HTTP_PORT=", ports[0]), fmt.Sprint("GRPC_PORT=", ports[1]), fmt.Sprint("JSON_RPC_PORT=", ports[2]), "LOG_LEVEL=error")
	if err := d.server.Start(); err != nil {
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

// branches is the service whose branches DTM calls.
func (d *DTM) branches() http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, work func(tx *sql.Tx, o Order) (sql.Result, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			var o Order
			err := json.NewDecoder(r.Body).Decode(&o)
			if err == nil {
				var barrier *dtmcli.BranchBarrier
				if barrier, err = dtmcli.BarrierFromQuery(r.URL.Query()); err == nil {
					err = barrier.CallWithDB(d.pool, func(tx *sql.Tx) error { return oneRow(work(tx, o)) })
				}
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, `{"dtm_result":"SUCCESS"}`)
		})
	}
	handle("/stock/try", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(tryStock, o.SKU) })
	handle("/stock/confirm", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(confirmStock, o.SKU) })
	handle("/stock/cancel", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(cancelStock, o.SKU) })
	handle("/message/try", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(prepare, o.ID, "02", []byte(o.ID)) })
	handle("/message/confirm", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(send, o.ID, "02") })
	handle("/message/cancel", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(discard, o.ID, "02") })
	return mux
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

func (d *DTM) Name() string { return "dtm" }

// Place tolerates that the server gives up an order, because of a deadlock in its
// own tables, say.
func (d *DTM) Place(_ context.Context, o Order) error {
	err := dtmcli.TccGlobalTransaction2(d.url, o.ID, func(t *dtmcli.Tcc) { t.WaitResult = true }, func(t *dtmcli.Tcc) (*resty.Response, error) {
		for _, branch := range []string{"/stock", "/message"} {
			url := d.busi.URL + branch
			if reply, err := t.CallBranch(o, url+"/try", url+"/confirm", url+"/cancel"); err != nil {
				return reply, err
			}
		}
		return nil, nil
	})
	if err != nil {
		return failed{err}
	}
	return nil
}

func (d *DTM) Close() error {
	err := d.server.Process.Kill()
	d.server.Wait()
	d.busi.Close()
	d.db.close()
	return errors.Join(err, os.RemoveAll(d.folder))
}
