package main

import (
	"io"
	"net"
	"os"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

// far opens the database of d on MySQL once more, over a network that takes a while
// each way.
func (d *Database) far(delay time.Duration) (*gorm.DB, error) {
	config, err := mysqldriver.ParseDSN(os.Getenv("TCCSAGA_TEST_MYSQL"))
	if err != nil {
		return nil, err
	}
	if err := d.Raw("SELECT DATABASE()").Scan(&config.DBName).Error; err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go slow(listener, config.Addr, delay)
	config.Addr, config.InterpolateParams = listener.Addr().String(), true
	db, err := gorm.Open(mysql.Open(config.FormatDSN()), quiet)
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(maxConnections)
	pool.SetMaxIdleConns(maxConnections)
	return db, nil
}

// slow forwards what comes to target, and the answers, each after a delay.
func slow(listener net.Listener, target string, delay time.Duration) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", target)
		if err != nil {
			near.Close()
			continue
		}
		go forward(near, far, delay)
		go forward(far, near, delay)
	}
}

func forward(from, to net.Conn, delay time.Duration) {
	defer to.Close()
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer close(pieces)
		for {
			data := make([]byte, 16<<10)
			n, err := from.Read(data)
			if n > 0 {
				pieces <- piece{data[:n], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			from.Close()
			io.Copy(io.Discard, from)
			return
		}
	}
}
