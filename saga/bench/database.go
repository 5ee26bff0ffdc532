package main

import (
	"context"
	"fmt"
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

	"github.com/tccsaga/tccsaga/saga/schema"
)

// Database is a fresh database on one of the servers.
type Database struct {
	*gorm.DB
	dialect string
	name    string
	turns   chan struct{} // of the writers; nil if the database has a queue of its own
	drop    func()
}

// maxConnections is what every contender may use.
const maxConnections = 80

// openDatabase creates a database of its own for each contender.
func openDatabase(ctx context.Context, dialect string) (*Database, error) {
	name := fmt.Sprintf("bench_%d", time.Now().UnixNano())
	d := &Database{dialect: dialect, name: name, drop: func() {}}
	var err error
	switch dialect {
	case "mysql":
		err = d.openMySQL(name)
	case "postgres":
		err = d.openPostgres(name)
	default:
		err = d.openSQLite(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dialect, err)
	}
	if err := d.limit(); err != nil {
		return nil, err
	}
	if err := schema.Migrate(ctx, d.DB); err != nil {
		return nil, err
	}
	return d, d.stock()
}

// connect opens a database that another process has created.
func (d *Database) connect() (err error) {
	switch d.dialect {
	case "mysql":
		var config *mysqldriver.Config
		if config, err = mysqlConfig(); err == nil {
			config.DBName = d.name
			d.DB, err = gorm.Open(mysql.Open(config.FormatDSN()), quiet)
		}
	case "postgres":
		d.DB, err = gorm.Open(postgres.Open(postgresDSN(d.name)), quiet)
	default:
		err = fmt.Errorf("%s has no server", d.dialect)
	}
	if err != nil {
		return err
	}
	return d.limit()
}

func (d *Database) limit() error {
	pool, err := d.DB.DB()
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(maxConnections)
	pool.SetMaxIdleConns(maxConnections)
	return nil
}

var quiet = &gorm.Config{Logger: logger.Discard}

func mysqlConfig() (*mysqldriver.Config, error) {
	config, err := mysqldriver.ParseDSN(os.Getenv("TCCSAGA_TEST_MYSQL"))
	if err != nil || config.Addr == "" {
		return nil, fmt.Errorf("TCCSAGA_TEST_MYSQL names no server: %v", err)
	}
	config.InterpolateParams = true
	return config, nil
}

func (d *Database) openMySQL(name string) error {
	config, err := mysqlConfig()
	if err != nil {
		return err
	}
	admin, err := gorm.Open(mysql.Open(config.FormatDSN()), quiet)
	if err != nil {
		return err
	}
	if err := admin.Exec("CREATE DATABASE " + name).Error; err != nil {
		return err
	}
	d.drop = func() { admin.Exec("DROP DATABASE " + name); closePool(admin) }
	config.DBName = name
	d.DB, err = gorm.Open(mysql.Open(config.FormatDSN()), quiet)
	return err
}

func (d *Database) openPostgres(name string) error {
	dsn := os.Getenv("TCCSAGA_TEST_POSTGRES")
	admin, err := gorm.Open(postgres.Open(dsn), quiet)
	if err != nil {
		return err
	}
	if err := admin.Exec("CREATE DATABASE " + name).Error; err != nil {
		return err
	}
	d.drop = func() { admin.Exec("DROP DATABASE " + name + " WITH (FORCE)"); closePool(admin) }
	d.DB, err = gorm.Open(postgres.Open(postgresDSN(name)), quiet)
	return err
}

func postgresDSN(name string) string {
	return strings.Replace(os.Getenv("TCCSAGA_TEST_POSTGRES"), "/postgres?", "/"+name+"?", 1)
}

func (d *Database) openSQLite(name string) (err error) {
	dir, err := os.MkdirTemp("", "tccsaga-bench")
	if err != nil {
		return err
	}
	d.drop = func() { os.RemoveAll(dir) }
	d.turns = make(chan struct{}, 1)
	d.DB, err = gorm.Open(sqlite.Open(filepath.Join(dir, name+".db")+
		"?_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"), quiet)
	return err
}

func closePool(db *gorm.DB) {
	if pool, err := db.DB(); err == nil {
		pool.Close()
	}
}

func (d *Database) close() {
	closePool(d.DB)
	d.drop()
}

const articles = 1000

// spread and hot choose the article of an order.
func spread(n int64) string { return fmt.Sprintf("sku-%03d", n*7919%articles) }
func hot(int64) string      { return "sku-000" }

// stock puts more of each article into the stock than is ordered in any time.
func (d *Database) stock() error {
	var rows []string
	for i := range articles {
		rows = append(rows, fmt.Sprintf("('sku-%03d', 1000000000, 0, 0)", i))
	}
	return d.Exec("INSERT INTO saga_stock (sku, available, locked, sold) VALUES " + strings.Join(rows, ", ")).Error
}

// Counters are the server's own.
type Counters struct {
	Commits, Statements int64
	CPU                 time.Duration // 0 if the server is on another machine
}

// counters reads them. SQLite has none.
func (d *Database) counters() (c Counters, err error) {
	switch d.dialect {
	case "mysql":
		var rows []struct {
			VariableName  string
			VariableValue int64
		}
		err = d.Raw("SELECT variable_name, variable_value FROM information_schema.global_status WHERE variable_name IN ('COM_COMMIT', 'QUESTIONS')").Scan(&rows).Error
		for _, row := range rows {
			switch strings.ToUpper(row.VariableName) {
			case "COM_COMMIT":
				c.Commits = row.VariableValue
			case "QUESTIONS":
				c.Statements = row.VariableValue
			}
		}
	case "postgres":
		// The counters arrive with a delay.
		time.Sleep(1100 * time.Millisecond)
		err = d.Raw("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").Scan(&c.Commits).Error
	}
	if pid, unknown := d.process(); unknown == nil && err == nil {
		c.CPU, err = cpuOf(pid)
	}
	return c, err
}
