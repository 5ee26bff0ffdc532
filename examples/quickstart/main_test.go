package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The program runs as it stands, and again: a gid that was used is the same transaction.
func TestQuickstart(t *testing.T) {
	dsn = sqltest.Create(t, "mysql").DSN
	const orders = "order-1001 is confirmed\n" +
		"order-1002 is cancelled: stock.lock: stock of phone is short: 99 wanted, 9 available\n"
	for _, want := range []string{orders + "phones: 9 available, 1 sold\n", orders + "phones: 10 available, 1 sold\n"} {
		if got := printed(t, main); got != want {
			t.Errorf("it printed\n%swant\n%s", got, want)
		}
	}
}

// printed returns what a function prints.
func printed(t *testing.T, function func()) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	os.Stdout = file
	function()
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
