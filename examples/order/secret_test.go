package main

import (
	"bytes"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/tccsaga/tccsaga/examples/internal/processtest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// With passwords that work: they are on no page and not in the banner.
func TestPasswordsStayHidden(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	server, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), Username: "orders", Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	if !server.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server did not start")
	}
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	dsn, err := mysqldriver.ParseDSN(sqltest.Create(t, "mysql").DSN)
	if err != nil {
		t.Fatal(err)
	}
	database := url.URL{Scheme: "mysql", User: url.UserPassword(dsn.User, dsn.Passwd), Host: dsn.Addr, Path: "/" + dsn.DBName, RawQuery: "maxAllowedPacket=1048576"}
	broker := url.URL{Scheme: "nats", User: url.UserPassword("orders", secret), Host: server.Addr().String()}
	_, c := startProcess(t, "-data", t.TempDir(), "-db", database.String(), "-nats", broker.String())
	_, page := c.raw("GET", "/", "")
	for _, hidden := range []string{secret, ":" + dsn.Passwd + "@", "maxAllowedPacket"} {
		if bytes.Contains(page, []byte(hidden)) {
			t.Errorf("the page shows %s: %s", hidden, page)
		}
	}
	for _, shown := range []string{dsn.Addr, "orders:xxxxx@" + broker.Host} {
		if !bytes.Contains(page, []byte(shown)) {
			t.Errorf("the page does not show %s: %s", shown, page)
		}
	}
	c.expect("POST", "/orders", `{"order_id":"1","sku":"none","quantity":1}`, 409, nil)
}

// With URLs that do not work, nothing of what is printed shows a password.
func TestPasswordsInErrors(t *testing.T) {
	t.Parallel()
	file := processtest.Binary(t)
	for _, arguments := range [][]string{
		{"-db", "mysql://root:s3cr3t@127.0.0.1:1/shop"},
		{"-db", "mysql://root:s3cr3t@127.0.0.1/shop?tls=s3cr3t"},
		{"-db", "mysql://root:s3 cr3t@127.0.0.1:1/shop"},
		{"-db", "mysql://root:s3cr3t@127.0.0.1:1"},
		{"-db", "postgres://root:s3cr3t@127.0.0.1:1/shop"},
		{"-db", "postgres://127.0.0.1:1/shop?user=root&password=s3cr3t"},
		{"-db", "postgres://root:s3cr3t@127.0.0.1:1/shop?sslmode=s3cr3t"},
		{"-db", "root:s3cr3t@tcp(127.0.0.1:1)/shop"},
		{"-db", "oracle://root:s3cr3t@127.0.0.1/shop"},
		{"-nats", "nats://orders:s3cr3t@127.0.0.1:1"},
		{"-nats", "nats://s3cr3t@127.0.0.1:1"},
		{"-nats", "orders:s3cr3t@127.0.0.1:1"},
		{"-nats", "nats://orders:s3 cr3t@127.0.0.1:1"},
		{"-nats", "nats://a:s3cr3t@127.0.0.1:1, nats://b:s3cr3t@127.0.0.1:2"},
		{"-data", "x", "-db=", "mysql://root:s3cr3t@127.0.0.1:1/shop"},
	} {
		command := exec.CommandContext(t.Context(), file, append([]string{"-addr", "127.0.0.1:0", "-data", t.TempDir()}, arguments...)...)
		out, err := command.CombinedOutput()
		if err == nil || len(out) == 0 || strings.Contains(string(out), "cr3t") {
			t.Errorf("%q: %v\n%s", arguments, err, out)
		}
	}
}
