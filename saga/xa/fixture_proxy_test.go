package xa_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// proxy stands between a test and a database server. It breaks the connection of a statement:
// before the server gets the statement, or before the test gets the answer.
type proxy struct {
	listener net.Listener
	target   string

	mu       sync.Mutex
	text     []byte // of the statement; nil for none
	answered bool   // the server gets it
	lost     int
}

// lose loses the answer to the next statement with the text, or the statement itself.
func (p *proxy) lose(text string, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text, p.answered = []byte(text), answered
}

// count returns how many connections were broken.
func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *proxy) hit(piece []byte) (hit, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text == nil || !bytes.Contains(piece, p.text) {
		return false, false
	}
	p.text = nil
	p.lost++
	return true, p.answered
}

func (p *proxy) connect(near, far net.Conn) {
	swallow, ended := make(chan struct{}), make(chan struct{})
	defer close(ended)
	go func() {
		defer far.Close()
		piece := make([]byte, 64<<10)
		for {
			n, err := near.Read(piece)
			if err != nil {
				return
			}
			hit, answered := p.hit(piece[:n])
			switch {
			case hit && !answered:
				near.Close()
				return
			case hit:
				close(swallow)
			}
			if _, err := far.Write(piece[:n]); err != nil {
				return
			}
			if hit { // the other direction ends both when the answer has come
				<-ended
				return
			}
		}
	}()
	defer near.Close()
	piece := make([]byte, 64<<10)
	for {
		n, err := far.Read(piece)
		select {
		case <-swallow:
			far.Close()
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := near.Write(piece[:n]); err != nil {
			return
		}
	}
}

// throughProxy returns a migrated database: directly, and through a proxy.
func throughProxy(t *testing.T, dialect string) (direct, through *gorm.DB, p *proxy) {
	t.Helper()
	database := sqltest.Create(t, dialect)
	direct = sqltest.Connect(t, database, &gorm.Config{})
	sagatest.Must(t, schema.Migrate(t.Context(), direct))
	numbers(t, direct)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	sagatest.Must(t, err)
	t.Cleanup(func() { listener.Close() })
	p = &proxy{listener: listener}
	if dialect == "mysql" {
		config, err := mysqldriver.ParseDSN(database.DSN)
		sagatest.Must(t, err)
		p.target, config.Addr = config.Addr, listener.Addr().String()
		database.DSN = config.FormatDSN()
	} else {
		location, err := url.Parse(database.DSN)
		sagatest.Must(t, err)
		p.target, location.Host = location.Host, listener.Addr().String()
		database.DSN = location.String()
	}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", p.target)
			if err != nil {
				near.Close()
				continue
			}
			go p.connect(near, far)
		}
	}()
	return direct, sqltest.Connect(t, database, &gorm.Config{}), p
}
