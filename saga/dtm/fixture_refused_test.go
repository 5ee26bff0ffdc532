package dtm_test

import (
	"context"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

type unknown struct{}

func (unknown) Branch() string { return "unknown" }

type nowhere struct{}

func (nowhere) Call(context.Context, saga.Call) error { return nil }

func hostless(t *testing.T, b *bench) *dtm.Engine {
	t.Helper()
	engine, err := dtm.Open(t.Context(), b.server.URL, dtm.Config{})
	sagatest.Must(t, err)
	return engine
}

func signed(t *testing.T) *remote.Service {
	t.Helper()
	service, err := remote.NewService("http://localhost/branches", remote.ServiceConfig{Name: "stock", Keys: newKeys(t)})
	sagatest.Must(t, err)
	return service
}

func newKeys(t *testing.T) []remote.Key {
	t.Helper()
	key, err := remote.NewKey("a", []byte("some 32 bytes that nobody guesses"))
	sagatest.Must(t, err)
	return []remote.Key{key}
}
