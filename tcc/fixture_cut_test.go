package tcc_test

import (
	"net"
	"net/url"
	"sync"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// cut is a way to a server that can be cut off.
type cut struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	off   bool
	conns []net.Conn
}

func newCut(t *testing.T, server string) *cut {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	sagatest.Must(t, err)
	c := &cut{listener: listener, server: server}
	t.Cleanup(func() { listener.Close(); c.set(true) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.join(conn)
		}
	}()
	return c
}

func (c *cut) join(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		conn.Close()
		return
	}
	to, err := net.Dial("tcp", c.server)
	if err != nil {
		conn.Close()
		return
	}
	c.conns = append(c.conns, conn, to)
	for _, way := range [][2]net.Conn{{conn, to}, {to, conn}} {
		go func() {
			buffer := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(buffer)
				if n > 0 {
					way[1].Write(buffer[:n])
				}
				if err != nil {
					way[1].Close()
					return
				}
			}
		}()
	}
}

// set cuts the server off, with all connections, or lets new ones through.
func (c *cut) set(off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// connectCut opens a database through a way that can be cut off.
func connectCut(t *testing.T, database sqltest.Database) (*gorm.DB, *cut) {
	t.Helper()
	if database.Dialect == "mysql" {
		config, err := mysqldriver.ParseDSN(database.DSN)
		sagatest.Must(t, err)
		c := newCut(t, config.Addr)
		config.Addr = c.listener.Addr().String()
		return sqltest.Connect(t, sqltest.Database{Dialect: database.Dialect, DSN: config.FormatDSN()}, &gorm.Config{}), c
	}
	location, err := url.Parse(database.DSN)
	sagatest.Must(t, err)
	c := newCut(t, location.Host)
	location.Host = c.listener.Addr().String()
	return sqltest.Connect(t, sqltest.Database{Dialect: database.Dialect, DSN: location.String()}, &gorm.Config{}), c
}
