package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/examples/internal/database"
	"github.com/tccsaga/tccsaga/examples/internal/web"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// service is the common part of the three: a database, a host of branches, and an HTTP
// server.
type service struct {
	name     string
	db       *gorm.DB
	dbName   string
	host     *remote.Host
	routes   *gin.Engine
	listener net.Listener
	hosts    web.Hosts // that requests may name, besides this machine
	public   bool      // other machines reach it
	asks     bool      // it asks the order service for outcomes
}

// newService listens on the address of a service, and opens its database and the host of its
// branches.
func newService(ctx context.Context, config Config, name, addr, location string, tables ...any) (*service, error) {
	listener, err := web.Listen(addr, config.Public)
	if err != nil {
		return nil, fmt.Errorf("-%s-addr: %w", name, err)
	}
	db, dbName, err := database.Open(ctx, location, filepath.Join(config.Data, name+".db"))
	if err != nil {
		listener.Close()
		return nil, err
	}
	s := &service{name: name, db: db, dbName: dbName, routes: web.New(), listener: listener, hosts: config.hosts(), public: config.Public.Any()}
	err = schema.Migrate(ctx, db)
	if err == nil && len(tables) > 0 {
		err = db.WithContext(ctx).AutoMigrate(tables...)
	}
	var keys []remote.Key
	if err == nil {
		keys, err = signingKeys(config)
	}
	hosting := remote.HostConfig{Name: name, Keys: keys, AllowUnsigned: len(keys) == 0}
	if err == nil && config.Engine == "embedded" && name != "order" {
		s.asks = true
		err = ask(&hosting, config)
	}
	if err == nil {
		s.host, err = remote.NewHost(ctx, db, hosting)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.routes.POST("/branches/:kind", gin.WrapH(s.host))
	if !s.public {
		web.Get(s.routes, "/barrier/:gid", s.getBarrier)
	}
	return s, nil
}

// serve serves until ctx or the engine ends. Then it stops the parts in order: the HTTP
// server answers the requests under way, and then the engine, if there is one, finishes
// its calls. The database is closed last, by close.
func (s *service) serve(ctx context.Context, engine *driver) (err error) {
	server := web.NewServer(web.Guard(s.routes, s.hosts))
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	background, stopBackground := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { s.clean(background) })
	if s.asks {
		tasks.Go(func() { _ = s.host.Run(background) }) // its error says that nobody can be asked
	}
	fmt.Printf("%s"+servesAt+"%s, on %s\n", s.name, s.listener.Addr(), s.dbName)
	select {
	case <-ctx.Done():
	case err = <-served:
	case <-engine.ended():
	}
	fmt.Println(s.name, "is stopping: waiting for requests and calls under way")
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if late := server.Shutdown(draining); late != nil {
		server.Close() // ends the contexts of the handlers
		err = errors.Join(err, late)
	}
	err = errors.Join(err, engine.stop())
	stopBackground()
	tasks.Wait()
	fmt.Println(s.name, "has stopped")
	return err
}

// ask makes a host ask the order service for the outcome of a transaction of which it has a
// branch in doubt.
func ask(hosting *remote.HostConfig, config Config) error {
	orders, err := remote.NewEngine(config.OrderURL+"/outcomes", remote.EngineConfig{Name: "order", Keys: hosting.Keys})
	hosting.Outcomes, hosting.AskAfter = []participant.Outcomes{orders}, config.AskAfter
	return err
}

// clean removes old rows of the barrier, every hour.
func (s *service) clean(ctx context.Context) {
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hour.C:
		}
		if _, err := s.host.Clean(ctx, 7*24*time.Hour); err != nil && ctx.Err() == nil {
			slog.Warn("the barrier could not be cleaned", slog.Any("error", err))
		}
	}
}

func (s *service) close() {
	s.listener.Close()
	database.Close(s.db)
}

// getBarrier shows the barrier rows of a transaction in this service.
func (s *service) getBarrier(c *gin.Context) {
	gid := web.Param(c, "gid")
	if err := barrier.ValidateGID(gid); err != nil {
		web.Fail(c, http.StatusBadRequest, err.Error())
		return
	}
	rows, err := s.host.Barrier(c.Request.Context(), gid)
	if err != nil {
		web.Unavailable(c, "the barrier cannot be read now: try again", err)
		return
	}
	views := []gin.H{}
	for _, row := range rows {
		views = append(views, gin.H{"branch": row.BranchID, "state": row.State, "turned_away": row.TurnedAway, "means": row.Explain()})
	}
	c.JSON(http.StatusOK, views)
}

// signingKeys returns the key that the services share: the first service writes it into a
// file. With a DTM server there is none, because it cannot sign.
func signingKeys(config Config) ([]remote.Key, error) {
	if config.Engine == "dtm" {
		return nil, nil
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	if err := os.MkdirAll(config.Data, 0o755); err != nil {
		return nil, err
	}
	// A link appears with its whole content, or not at all. The second service reads the
	// key of the first.
	file := filepath.Join(config.Data, "key")
	draft := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err := os.WriteFile(draft, []byte(hex.EncodeToString(secret)), 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(draft)
	if err := os.Link(draft, file); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if secret, err = hex.DecodeString(strings.TrimSpace(string(text))); err != nil {
		return nil, fmt.Errorf("the key in %s: %w", file, err)
	}
	key, err := remote.NewKey("services", secret)
	return []remote.Key{key}, err
}
