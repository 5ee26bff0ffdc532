package database

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/glebarez/sqlite"
	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga"
)

// Forms are the forms of an address, for help and errors.
const Forms = "mysql://user:password@host:port/database, postgres://user:password@host:port/database or sqlite:FILE"

// ErrAddress is wrapped if an address has none of the forms, or names a file that does not
// exist. It matches [saga.ErrInvalid].
var ErrAddress error = addressError{}

type addressError struct{}

func (addressError) Error() string { return "the database address is not usable" }

// Is matches [saga.ErrInvalid].
func (addressError) Is(target error) bool { return target == saga.ErrInvalid }

// connectTimeout limits the wait for a connection, if the address sets no other limit.
const connectTimeout = 10 * time.Second

// Open opens a pool of a few connections to the database at an address, and checks that it
// answers. The address is one of [Forms], or the DSN of the Go driver:
//
//	user:password@tcp(host:3306)/database    MySQL and MariaDB
//	host=... user=... dbname=...             PostgreSQL
//	FILE.db?_pragma=...                      SQLite; also .sqlite, .sqlite3 and file:FILE
//
// A URL takes the parameters of the driver. SQLite's file has to exist, so that an error of
// typing does not make an empty database; Create makes it. No error holds a password.
func Open(ctx context.Context, address string) (*gorm.DB, error) { return open(ctx, address, false) }

// Create is [Open], but makes SQLite's file if it does not exist.
func Create(ctx context.Context, address string) (*gorm.DB, error) { return open(ctx, address, true) }

func open(ctx context.Context, address string, create bool) (*gorm.DB, error) {
	t, err := parse(address)
	if err != nil {
		return nil, err
	}
	if t.file != "" && !create {
		if _, err = os.Stat(t.file); err != nil {
			return nil, fmt.Errorf("%w: there is no SQLite file %s", ErrAddress, t.file)
		}
	}
	db, err := gorm.Open(t.dialector, &gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
	if err != nil {
		return nil, t.unreachable(err)
	}
	pool, err := db.DB()
	if err != nil {
		return nil, t.unreachable(err)
	}
	pool.SetMaxOpenConns(4)
	pool.SetMaxIdleConns(4)
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+time.Second)
	defer cancel()
	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, t.unreachable(err)
	}
	return db, nil
}

// target is a parsed address.
type target struct {
	dialector gorm.Dialector
	name      string   // for people, without a password
	file      string   // of SQLite
	secrets   []string // texts that no error may hold
}

func (t target) unreachable(err error) error {
	text := err.Error()
	for _, secret := range t.secrets {
		text = strings.ReplaceAll(text, secret, "xxxxx")
	}
	return fmt.Errorf("the database %s cannot be reached: %s", t.name, text)
}

// sqliteFile is the DSN of an SQLite file.
var sqliteFile = regexp.MustCompile(`^(file:)?[^?]+\.(db|sqlite|sqlite3)(\?.*)?$`)

// parse finds out which database an address is of. Its errors do not hold the address.
func parse(address string) (target, error) {
	scheme, rest, hasScheme := strings.Cut(address, ":")
	switch strings.ToLower(scheme) {
	case "mysql", "mariadb", "postgres", "postgresql":
		if hasScheme && strings.HasPrefix(rest, "//") {
			return parseURL(address)
		}
	case "sqlite", "sqlite3":
		if hasScheme {
			return sqliteOf(strings.TrimPrefix(rest, "//"))
		}
	}
	switch {
	case address == "":
		return target{}, fmt.Errorf("%w: it is empty: use %s", ErrAddress, Forms)
	case strings.Contains(address, "@tcp(") || strings.Contains(address, "@unix("):
		return mysqlOf(address)
	case strings.Contains(address, "dbname=") && !strings.Contains(address, "://"):
		return postgresOf(address)
	case !strings.Contains(address, "://") && sqliteFile.MatchString(address):
		return sqliteOf(strings.TrimPrefix(address, "file:"))
	default:
		// The address is not printed: it may hold a password in an unknown place.
		return target{}, fmt.Errorf("%w: it has an unknown form: use %s", ErrAddress, Forms)
	}
}

func parseURL(address string) (target, error) {
	at, err := url.Parse(address)
	if err != nil {
		return target{}, fmt.Errorf("%w: it is not a URL; escape special characters of the password, such as %%40 for @", ErrAddress)
	}
	database := strings.TrimPrefix(at.Path, "/")
	shown := *at
	shown.RawQuery, shown.Fragment = "", ""
	t := target{name: shown.Redacted(), secrets: secretsOf(at)}
	if at.Host == "" || database == "" {
		return target{}, fmt.Errorf("%w: %s names no host or no database: use %s", ErrAddress, t.name, Forms)
	}
	if strings.HasPrefix(at.Scheme, "postgres") {
		query := at.Query()
		if !query.Has("connect_timeout") {
			query.Set("connect_timeout", "10")
			at.RawQuery = query.Encode()
		}
		t.dialector = postgres.Open(at.String())
		return t, nil
	}
	config, err := mysqldriver.ParseDSN("/?" + at.RawQuery)
	if err != nil {
		return target{}, fmt.Errorf("%w: the parameters of %s: %w", ErrAddress, t.name, err)
	}
	config.Net, config.Addr, config.DBName, config.User = "tcp", at.Host, database, at.User.Username()
	config.Passwd, _ = at.User.Password()
	if at.Port() == "" {
		config.Addr = net.JoinHostPort(at.Hostname(), "3306")
	}
	t.dialector = mysqlDialector(config)
	return t, nil
}

func mysqlOf(dsn string) (target, error) {
	config, err := mysqldriver.ParseDSN(dsn)
	if err != nil {
		return target{}, fmt.Errorf("%w: it is not a DSN of MySQL: user:password@tcp(host:port)/database", ErrAddress)
	}
	if config.DBName == "" {
		return target{}, fmt.Errorf("%w: the DSN names no database: add /DATABASE before the parameters", ErrAddress)
	}
	t := target{name: "mysql://" + config.User + "@" + config.Addr + "/" + config.DBName, dialector: mysqlDialector(config)}
	if config.Passwd != "" {
		t.secrets = []string{config.Passwd}
	}
	return t, nil
}

func mysqlDialector(config *mysqldriver.Config) gorm.Dialector {
	if config.Timeout == 0 {
		config.Timeout = connectTimeout
	}
	config.InterpolateParams = true
	config.Logger = &mysqldriver.NopLogger{} // the errors are returned, too
	// The version is asked for without a time limit.
	return mysql.New(mysql.Config{DSNConfig: config, SkipInitializeWithVersion: true})
}

// passwordOf finds the password of PostgreSQL's DSN.
var passwordOf = regexp.MustCompile(`password\s*=\s*('(?:[^'\\]|\\.)*'|\S+)`)

func postgresOf(dsn string) (target, error) {
	t := target{name: "PostgreSQL"}
	if found := passwordOf.FindStringSubmatch(dsn); found != nil {
		t.secrets = []string{strings.Trim(found[1], "'")}
	}
	if !strings.Contains(dsn, "connect_timeout") {
		dsn += " connect_timeout=10"
	}
	t.dialector = postgres.Open(dsn)
	return t, nil
}

func sqliteOf(dsn string) (target, error) {
	file, parameters, _ := strings.Cut(dsn, "?")
	if file == "" || file == ":memory:" || strings.Contains(parameters, "mode=memory") {
		return target{}, fmt.Errorf("%w: it names no SQLite file: use sqlite:FILE", ErrAddress)
	}
	if parameters == "" {
		// The journal mode is kept in the file, and is not changed.
		parameters = "_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=synchronous(FULL)"
	}
	return target{dialector: sqlite.Open(file + "?" + parameters), name: "sqlite:" + file, file: file}, nil
}

// secretsOf returns the password and the secret parameters of a URL, plain and escaped.
func secretsOf(at *url.URL) (secrets []string) {
	add := func(secret string) {
		if secret != "" {
			secrets = append(secrets, secret, url.QueryEscape(secret), url.PathEscape(secret))
		}
	}
	if password, _ := at.User.Password(); password != "" {
		add(password)
		_, written, _ := strings.Cut(at.User.String(), ":")
		add(written)
	}
	for name, values := range at.Query() {
		for _, word := range []string{"pass", "secret", "token", "key"} {
			if strings.Contains(strings.ToLower(name), word) {
				for _, value := range values {
					add(value)
				}
			}
		}
	}
	return secrets
}
