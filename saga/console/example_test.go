package console_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// A service mounts the console behind its own authentication: here, people of the group ops may
// act, and all others may look.
func Example() {
	engine, err := openEngine()
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := console.New(engine.Operations(), console.Config{
		Title: "orders",
		Authorize: func(r *http.Request, verb console.Verb) (who string, err error) {
			user, group := r.Header.Get("X-User"), r.Header.Get("X-Group") // by your own middleware
			switch {
			case user == "":
				return "", errors.New("log in first")
			case verb != console.View && group != "ops":
				return "", errors.New("this needs the group ops")
			}
			return user, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	mux := http.NewServeMux()
	mux.Handle("/console/", c) // with gin: router.Any("/console/*path", gin.WrapH(c))
	server := httptest.NewServer(mux)
	defer server.Close()

	request, err := http.NewRequest(http.MethodGet, server.URL+"/console/", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	request.Header.Set("X-User", "ann")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(response.StatusCode, strings.Contains(string(page), "Nothing needs a person."))
	// Output: 200 true
}

func openEngine() (*embedded.Engine, error) {
	dir, err := os.MkdirTemp("", "console")
	if err != nil {
		return nil, err
	}
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "orders.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), &gorm.Config{})
	if err != nil {
		return nil, err
	}
	if err := schema.Migrate(context.Background(), db); err != nil {
		return nil, err
	}
	return embedded.Open(context.Background(), db, embedded.Config{})
}
