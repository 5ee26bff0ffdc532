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
	dialer   *dialer            // cuts the connections to the broker
	embedded *natsserver.Server // nil if the broker is another process
	dbName   string
	natsName string
}

func openBackend(ctx context.Context, config Config) (*backend, error) {
	b := &backend{dialer: &dialer{}}
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
			return fmt.Errorf("start the embedded NATS server: %w", err)
		}
		b.embedded.Start()
		if !b.embedded.ReadyForConnections(10 * time.Second) {
			return errors.New("the embedded NATS server did not start")
		}
		address = b.embedded.ClientURL()
		b.natsName = "NATS, embedded, " + folder
	}
	conn, err := nats.Connect(address, nats.Name("order"), nats.SetCustomDialer(b.dialer),
		nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.Timeout(5*time.Second))
	if err != nil {
		return fmt.Errorf("connect to %s: is it running? %w", b.natsName, err)
	}
	b.nats = conn
	return nil
}

// askBroker returns an error if the broker does not answer.
func (b *backend) askBroker(ctx context.Context) error {
	if !b.nats.IsConnected() {
		return nats.ErrDisconnected // Flush would wait until it is connected again
	}
	return b.nats.FlushWithContext(ctx)
}

// natsName returns the address for people, without a password or a token. An address
// may be several URLs with commas between them, with or without a scheme.
func natsName(address string) (string, error) {
	var names []string
	for location := range strings.SplitSeq(address, ",") {
		if location = strings.TrimSpace(location); !strings.Contains(location, "://") {
			location = "nats://" + location
		}
		at, err := url.Parse(location)
		if err != nil {
			// The error is not wrapped: its text holds the URL.
			return "", errors.New("-nats is not a URL: use nats://user:password@host:port, with special characters of the password escaped, such as %40 for @")
		}
		if _, password := at.User.Password(); at.User != nil && !password {
			at.User = url.User("xxxxx") // a token
		}
		names = append(names, redact.URL(at))
	}
	return "NATS, " + strings.Join(names, ","), nil
}

// dialer is a [nats.CustomDialer] that can cut the connections to the broker.
type dialer struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// Dial connects, unless the connections are cut.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.mu.Lock()
	cut := d.cut
	d.mu.Unlock()
	if cut {
		return nil, errors.New("POST /faults has made the broker unreachable")
	}
	conn, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns = append(d.conns, conn)
	return conn, nil
}

// set closes every connection and refuses new ones, or lets connections through again.
func (d *dialer) set(cut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut = cut; !cut {
		return
	}
	for _, conn := range d.conns {
		conn.Close()
	}
	d.conns = nil
}
