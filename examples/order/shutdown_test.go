package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// A request is under way when the process is told to stop: it is answered, with the
// order confirmed and its message published, and the process ends without an error.
func TestStopWhileARequestIsUnderWay(t *testing.T) {
	t.Parallel()
	service, c := startProcess(t, "-data", t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	addr := strings.TrimPrefix(c.base, "http://")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"order_id":"1","sku":"phone","quantity":1}`
	fmt.Fprintf(conn, "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
	reader := bufio.NewReader(conn)
	// The server says so when the handler reads the body.
	if line, err := reader.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	reader.ReadString('\n')

	if err := service.Terminate(); err != nil {
		t.Fatal(err)
	}
	sagatest.Eventually(c.t, "no new connections are taken", func() bool {
		another, err := net.Dial("tcp", addr)
		if err == nil {
			another.Close()
		}
		return err != nil
	})
	io.WriteString(conn, body)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusCreated {
		t.Errorf("the request under way was answered %d %s", response.StatusCode, text)
	}
	if err := service.Wait(); err != nil {
		t.Errorf("the process ended with %v", err)
	}
	service.Start()
	c.stock(9, 0, 1)
	c.notified("1")
}

// What is under way in the background is waited for, and then nothing is left running.
func TestStopInOrder(t *testing.T) {
	t.Parallel()
	_, service := serve(t, t.TempDir())
	if err := service.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if !service.backend.nats.IsClosed() {
		t.Error("the connection to the broker is open")
	}
	if pool, err := service.backend.db.DB(); err != nil || pool.Ping() == nil {
		t.Errorf("the database is open: %v", err)
	}
	<-service.ran
	if service.failed != nil {
		t.Error(service.failed)
	}
}

// Without a database, the answers say what to do, and nothing of the database.
func TestAnswersWithoutADatabase(t *testing.T) {
	t.Parallel()
	c, service := serve(t, t.TempDir())
	pool, err := service.backend.db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
	for _, page := range [][3]string{
		{"GET", "/stock/phone", ""}, {"PUT", "/stock/phone", `{"available":1}`}, {"GET", "/notifications", ""}, {"GET", "/transactions/order-1", ""},
		{"POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`}, {"POST", "/reservations", `{"order_id":"1","sku":"phone","quantity":1}`},
		{"POST", "/reservations/1/pay", ""}, {"POST", "/reservations/1/cancel", ""}, {"POST", "/transactions/order-1/retry", `{"who":"a","why":"b"}`},
	} {
		status, header, text := c.as(page[0], page[1], page[2], nil)
		if status != 503 || header.Get("Retry-After") == "" || strings.Contains(text, "sql") || !strings.Contains(text, "again") {
			t.Errorf("%s %s: %d %s", page[0], page[1], status, text)
		}
	}
}
