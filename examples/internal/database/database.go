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
)

// Open opens the database at location, mysql://user:password@host:port/database
// or postgres://user:password@host:port/database, and for an empty location the
// SQLite file, whose folder it creates. The name is for people, without a
// password.
func Open(ctx context.Context, location, file string) (db *gorm.DB, name string, err error) {
	dialector, name, err := dialectorOf(location, file)
	if err != nil {
		return nil, "", err
	}
	db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, "", fmt.Errorf("opening the database %s: %w", name, err)
	}
	pool, err := db.DB()
	if err != nil {
		return nil, "", err
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
		pool.Close()
		return nil, "", fmt.Errorf("reaching the database %s: %w", name, err)
	}
	return db, name, nil
}

// Close closes what Open has opened.
func Close(db *gorm.DB) {
	if pool, err := db.DB(); err == nil {
		pool.Close()
	}
}

func dialectorOf(location, file string) (dialector gorm.Dialector, name string, err error) {
	if location == "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, "", err
		}
		return sqlite.Open("file:" + file + "?_txlock=immediate&_pragma=busy_timeout(20000)" +
			"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"), "SQLite, " + file, nil
	}
	at, err := url.Parse(location)
	if err != nil {
		return nil, "", errors.New("the database is not given by a URL: use mysql://user:password@host:port/database or postgres://user:password@host:port/database")
	}
	database := strings.TrimPrefix(at.Path, "/")
	if at.Host == "" || database == "" {
		return nil, "", fmt.Errorf("the database %s names no host or no database: use mysql://user:password@host:port/database", at.Redacted())
	}
	switch at.Scheme {
	case "mysql":
		return mysql.Open(mysqlDSN(at, database)), "MySQL or MariaDB, " + at.Redacted(), nil
	case "postgres", "postgresql":
		return postgres.Open(location), "PostgreSQL, " + at.Redacted(), nil
	default:
		return nil, "", fmt.Errorf("the database begins with %s://: use mysql:// or postgres://", at.Scheme)
	}
}

func mysqlDSN(at *url.URL, database string) string {
	dsn := mysqldriver.NewConfig()
	dsn.Net, dsn.Addr, dsn.DBName = "tcp", at.Host, database
	if at.Port() == "" {
		dsn.Addr = net.JoinHostPort(at.Hostname(), "3306")
	}
	dsn.User = at.User.Username()
	dsn.Passwd, _ = at.User.Password()
	dsn.ParseTime = true
	// One round trip less for each statement with parameters.
	dsn.InterpolateParams = true
	return dsn.FormatDSN()
}
