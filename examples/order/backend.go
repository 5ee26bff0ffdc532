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

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/examples/internal/database"
	"github.com/tccsaga/tccsaga/examples/internal/redact"
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
		b.db, b.dbName, err = database.Open(ctx, config.DB, filepath.Join(config.Data, "order.db"))
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
		database.Close(b.db)
	}
}

func (b *backend) openNATS(config Config) error {
	address := config.NATS
	name, err := natsName(address)
	if err != nil {
		return err
	}
	b.natsName = name
	if address == "" {
		folder := filepath.Join(config.Data, "nats")
		b.embedded, err = natsserver.NewServer(&natsserver.Options{
			Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: folder,
			SyncAlways: true, // an acknowledged message is on the disk
		})
		if err != nil {
			return fmt.Errorf("starting the embedded NATS server: %w", err)
		}
		b.embedded.Start()
		if !b.embedded.ReadyForConnections(10 * time.Second) {
			return errors.New("the embedded NATS server did not start")
		}
		address = b.embedded.ClientURL()
		b.natsName = "NATS, embedded, " + folder
	}
	conn, err := nats.Connect(address, nats.Name("order"), nats.SetCustomDialer(b.cable),
		nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.Timeout(5*time.Second))
	if err != nil {
		return fmt.Errorf("connecting to %s: is it running? %w", b.natsName, err)
	}
	b.nats = conn
	return nil
}

// natsName is an address for people, without a password or a token. It may hold
// several URLs with commas between them, and the client takes them also without
// a scheme.
func natsName(address string) (string, error) {
	var names []string
	for location := range strings.SplitSeq(address, ",") {
		if location = strings.TrimSpace(location); !strings.Contains(location, "://") {
			location = "nats://" + location
		}
		at, err := url.Parse(location)
		if err != nil {
			// Not its text, which has the URL in it.
			return "", errors.New("-nats is not a URL: use nats://user:password@host:port, with special characters of the password escaped, such as %40 for @")
		}
		if _, password := at.User.Password(); at.User != nil && !password {
			at.User = url.User("xxxxx") // a token
		}
		names = append(names, redact.URL(at))
	}
	return "NATS, " + strings.Join(names, ","), nil
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
