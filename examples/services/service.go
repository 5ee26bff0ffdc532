package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/examples/internal/database"
	"github.com/tccsaga/tccsaga/saga/remote"
	sagasql "github.com/tccsaga/tccsaga/sql"
)

// service is what the three have in common: a database, a host of branches, and
// an HTTP server.
type service struct {
	name     string
	db       *gorm.DB
	dbName   string
	host     *remote.Host
	routes   *gin.Engine
	listener net.Listener
}

// newService takes the address of a service, and opens its database and the host of
// its branches.
func newService(ctx context.Context, config Config, name, addr, location string, tables ...any) (*service, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: is it in use? choose another with -%s-addr: %w", addr, name, err)
	}
	db, dbName, err := database.Open(ctx, location, filepath.Join(config.Data, name+".db"))
	if err != nil {
		listener.Close()
		return nil, err
	}
	s := &service{name: name, db: db, dbName: dbName, routes: gin.New(), listener: listener}
	err = sagasql.Migrate(ctx, db)
	if err == nil && len(tables) > 0 {
		err = db.WithContext(ctx).AutoMigrate(tables...)
	}
	var keys []remote.Key
	if err == nil {
		keys, err = signingKeys(config)
	}
	if err == nil {
		s.host, err = remote.NewHost(ctx, db, remote.HostConfig{Name: name, Keys: keys, AllowUnsigned: len(keys) == 0})
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.routes.Use(gin.Recovery())
	s.routes.POST("/branches/:kind", gin.WrapH(s.host))
	s.routes.GET("/barrier/:gid", s.getBarrier)
	s.routes.NoRoute(func(c *gin.Context) { fail(c, http.StatusNotFound, "there is no such page") })
	return s, nil
}

// serve serves until ctx ends, and then waits for what is under way.
func (s *service) serve(ctx context.Context) (err error) {
	server := &http.Server{Handler: s.routes, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	fmt.Printf("%s is at http://%s, on %s\n", s.name, s.listener.Addr(), s.dbName)
	go s.clean(ctx)
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(draining))
}

// clean removes what is old from the barrier, every hour.
func (s *service) clean(ctx context.Context) {
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hour.C:
		}
		if _, err := s.host.Clean(ctx, 7*24*time.Hour); err != nil {
			slog.Warn("cleaning the barrier", slog.Any("error", err))
		}
	}
}

func (s *service) close() {
	s.listener.Close()
	database.Close(s.db)
}

// getBarrier shows what the barrier of this service knows of a transaction.
func (s *service) getBarrier(c *gin.Context) {
	rows, err := s.host.Barrier(c.Request.Context(), c.Param("gid"))
	if err != nil {
		fail(c, http.StatusServiceUnavailable, err.Error())
		return
	}
	views := []gin.H{}
	for _, row := range rows {
		views = append(views, gin.H{"branch": row.BranchID, "state": row.State, "turned_away": row.TurnedAway, "means": row.Explain()})
	}
	c.JSON(http.StatusOK, views)
}

// signingKeys is the key that the services share, in a file that the first of
// them writes. A DTM server cannot sign, so that with one there are none.
func signingKeys(config Config) ([]remote.Key, error) {
	if config.Engine == "dtm" {
		return nil, nil
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	if err := os.MkdirAll(config.Data, 0o755); err != nil {
		return nil, err
	}
	// A link appears with its content, or not at all: whoever comes second reads
	// what the first has written.
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

// maxBody bounds what a request may send, in bytes.
const maxBody = 64 << 10

// decode reads a JSON body, and answers 400 if it is not one.
func decode(c *gin.Context, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	if err != nil {
		fail(c, http.StatusBadRequest, "the body is not what this page takes: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return err == nil
}

func fail(c *gin.Context, status int, message string) {
	c.AbortWithStatusJSON(status, gin.H{"error": message})
}
