package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/glebarez/sqlite"
	mysqldriver "github.com/go-sql-driver/mysql"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// backend is the database and the broker.
type backend struct {
	db       *gorm.DB
	nats     *nats.Conn
	cable    *cable             // between this process and the broker
	embedded *natsserver.Server // nil with a broker of its own
	dbName   string
	natsName string
}

func openBackend(ctx context.Context, config Config) (*backend, error) {
	b := &backend{cable: &cable{}}
	err := os.MkdirAll(config.Data, 0o755)
	if err == nil {
		err = b.openDB(ctx, config)
	}
	if err == nil {
		err = b.openNATS(config)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *backend) close() {
	if b.nats != nil {
		b.nats.Close()
	}
	if b.embedded != nil {
		b.embedded.Shutdown()
		b.embedded.WaitForShutdown()
	}
	if b.db != nil {
		if pool, err := b.db.DB(); err == nil {
			pool.Close()
		}
	}
}

func (b *backend) openDB(ctx context.Context, config Config) error {
	dialector, name, err := dialectorOf(config)
	if err != nil {
		return err
	}
	b.dbName = name
	b.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return fmt.Errorf("opening the database %s: %w", name, err)
	}
	pool, err := b.db.DB()
	if err != nil {
		return err
	}
	connections := 64
	if dialector.Name() == "sqlite" {
		// One writes at a time anyway; more only wait for each other.
		connections = 8
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := pool.PingContext(ctx); err != nil {
		return fmt.Errorf("reaching the database %s: %w", name, err)
	}
	return nil
}

// dialectorOf chooses the gorm driver for -db. The name is without a password.
func dialectorOf(config Config) (dialector gorm.Dialector, name string, err error) {
	if config.DB == "" {
		file := filepath.Join(config.Data, "order.db")
		return sqlite.Open("file:" + file + "?_txlock=immediate&_pragma=busy_timeout(20000)" +
			"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"), "SQLite, " + file, nil
	}
	location, err := url.Parse(config.DB)
	if err != nil {
		return nil, "", errors.New("-db is not a URL: use mysql://user:password@host:port/database or postgres://user:password@host:port/database")
	}
	database := strings.TrimPrefix(location.Path, "/")
	if location.Host == "" || database == "" {
		return nil, "", fmt.Errorf("-db %s names no host or no database: use mysql://user:password@host:port/database", location.Redacted())
	}
	switch location.Scheme {
	case "mysql":
		return mysql.Open(mysqlDSN(location, database)), "MySQL or MariaDB, " + location.Redacted(), nil
	case "postgres", "postgresql":
		return postgres.Open(config.DB), "PostgreSQL, " + location.Redacted(), nil
	default:
		return nil, "", fmt.Errorf("-db begins with %s://: use mysql:// or postgres://", location.Scheme)
	}
}

func mysqlDSN(location *url.URL, database string) string {
	dsn := mysqldriver.NewConfig()
	dsn.Net, dsn.Addr, dsn.DBName = "tcp", location.Host, database
	if location.Port() == "" {
		dsn.Addr = net.JoinHostPort(location.Hostname(), "3306")
	}
	dsn.User = location.User.Username()
	dsn.Passwd, _ = location.User.Password()
	dsn.ParseTime = true
	// One round trip less for each statement with parameters.
	dsn.InterpolateParams = true
	return dsn.FormatDSN()
}

func (b *backend) openNATS(config Config) error {
	address := config.NATS
	b.natsName = "NATS, " + address
	if address == "" {
		folder := filepath.Join(config.Data, "nats")
		server, err := natsserver.NewServer(&natsserver.Options{
			Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: folder,
			SyncAlways: true, // an acknowledged message is on the disk
		})
		if err != nil {
			return fmt.Errorf("starting the embedded NATS server: %w", err)
		}
		b.embedded = server
		server.Start()
		if !server.ReadyForConnections(10 * time.Second) {
			return errors.New("the embedded NATS server did not start")
		}
		address = server.ClientURL()
		b.natsName = "NATS, embedded, " + folder
	}
	conn, err := nats.Connect(address, nats.Name("order"), nats.SetCustomDialer(b.cable),
		nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.Timeout(5*time.Second))
	if err != nil {
		return fmt.Errorf("connecting to NATS at %s: is it running? %w", address, err)
	}
	b.nats = conn
	return nil
}

// cable is the network between this process and the broker, with a switch. It
// is a [nats.CustomDialer].
type cable struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// Dial connects, unless the cable is cut.
func (c *cable) Dial(network, address string) (net.Conn, error) {
	c.mu.Lock()
	cut := c.cut
	c.mu.Unlock()
	if cut {
		return nil, errors.New("the broker is unreachable, as POST /faults asked for")
	}
	conn, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conn)
	return conn, nil
}

// set cuts the cable, with every connection that runs over it, or mends it.
func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut = cut; !cut {
		return
	}
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}
