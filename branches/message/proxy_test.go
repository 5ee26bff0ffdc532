package message_test

import (
	"net"
	"sync"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// proxy stands between a test and a database server, and can be cut.
type proxy struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	cut      bool
	conns    []net.Conn
	gate     sync.RWMutex // held by who stalls the traffic
}

func (p *proxy) forward(to, from net.Conn) {
	defer to.Close()
	piece := make([]byte, 32<<10)
	for {
		n, err := from.Read(piece)
		p.gate.RLock()
		_, writeErr := to.Write(piece[:n])
		p.gate.RUnlock()
		if err != nil || writeErr != nil {
			return
		}
	}
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	sagatest.Must(t, err)
	p := &proxy{listener: listener, target: target}
	t.Cleanup(func() { listener.Close(); p.set(true) })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			p.mu.Lock()
			if p.cut || err != nil {
				near.Close()
			} else {
				p.conns = append(p.conns, near, far)
				go p.forward(near, far)
				go p.forward(far, near)
			}
			p.mu.Unlock()
		}
	}()
	return p
}

func (p *proxy) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// throughProxy opens a database of a test on MySQL through a proxy.
func throughProxy(t *testing.T) (direct, cuttable *gorm.DB, p *proxy) {
	t.Helper()
	database := sqltest.Create(t, "mysql")
	direct = sqltest.Connect(t, database, &gorm.Config{})
	sagatest.Must(t, schema.Migrate(t.Context(), direct))
	config, err := mysqldriver.ParseDSN(database.DSN)
	sagatest.Must(t, err)
	p = newProxy(t, config.Addr)
	config.Addr = p.listener.Addr().String()
	return direct, sqltest.Connect(t, sqltest.Database{Dialect: "mysql", DSN: config.FormatDSN()}, &gorm.Config{}), p
}
