// Package database opens the database of an example by its URL.
package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/glebarez/sqlite"
	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/examples/internal/redact"
)

// Open opens the database at location, which is mysql://user:password@host:port/database
// or postgres://user:password@host:port/database. For an empty location it opens the
// SQLite file, and creates its folder. The name is for people. Neither the name nor the
// error holds a password.
func Open(ctx context.Context, location, file string) (db *gorm.DB, name string, err error) {
	at, err := url.Parse(location)
	if err != nil {
		// The error is not wrapped: its text holds the URL.
		return nil, "", errors.New("the database is not given by a URL: use " + forms)
	}
	db, name, err = open(ctx, at, file)
	return db, name, redact.Error(err, at)
}

func open(ctx context.Context, at *url.URL, file string) (db *gorm.DB, name string, err error) {
	dialector, name, err := dialectorOf(at, file)
	if err != nil {
		return nil, "", err
	}
	db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, "", fmt.Errorf("open the database %s: %w", name, err)
	}
	pool, err := db.DB()
	if err != nil {
		return nil, "", err
	}
	connections := 64
	if dialector.Name() == "sqlite" {
		// SQLite lets one connection write at a time.
		connections = 8
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, "", fmt.Errorf("reach the database %s: is it running? %w", name, err)
	}
	return db, name, nil
}

// Close closes the pool.
func Close(db *gorm.DB) {
	if pool, err := db.DB(); err == nil {
		pool.Close()
	}
}

// forms are the forms of a location.
const forms = "mysql://user:password@host:port/database or postgres://user:password@host:port/database"

func dialectorOf(at *url.URL, file string) (dialector gorm.Dialector, name string, err error) {
	if *at == (url.URL{}) {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, "", err
		}
		return sqlite.Open("file:" + file + "?_txlock=immediate&_pragma=busy_timeout(20000)" +
			"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"), "SQLite, " + file, nil
	}
	database := strings.TrimPrefix(at.Path, "/")
	switch {
	case at.Host == "" && at.Opaque != "":
		// The location is not printed: it may be a DSN, and redact finds no password in it.
		return nil, "", errors.New("the database is not given by a URL: use " + forms)
	case at.Host == "" || database == "":
		return nil, "", fmt.Errorf("the database URL %s names no host or no database: use %s", redact.URL(at), forms)
	}
	switch at.Scheme {
	case "mysql":
		dsn, err := mysqlConfig(at, database)
		if err != nil {
			return nil, "", fmt.Errorf("the parameters of the database %s: %w", redact.URL(at), err)
		}
		return mysql.New(mysql.Config{DSNConfig: dsn}), "MySQL or MariaDB, " + redact.URL(at), nil
	case "postgres", "postgresql":
		return postgres.Open(at.String()), "PostgreSQL, " + redact.URL(at), nil
	default:
		return nil, "", fmt.Errorf("the database URL begins with %.20s://: use mysql:// or postgres://", at.Scheme)
	}
}

// mysqlConfig reads the parameters of the URL as the driver does, such as tls=true.
func mysqlConfig(at *url.URL, database string) (*mysqldriver.Config, error) {
	dsn, err := mysqldriver.ParseDSN("/?" + at.RawQuery)
	if err != nil {
		return nil, err
	}
	dsn.Net, dsn.Addr, dsn.DBName = "tcp", at.Host, database
	if at.Port() == "" {
		dsn.Addr = net.JoinHostPort(at.Hostname(), "3306")
	}
	dsn.User = at.User.Username()
	dsn.Passwd, _ = at.User.Password()
	dsn.ParseTime = true
	// This saves a round trip for each statement with parameters.
	dsn.InterpolateParams = true
	return dsn, nil
}
