package dtm_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	host, _ := newHost(t, sqltest.Open(t, "sqlite"))
	locked, err := remote.NewHost(t.Context(), sqltest.Open(t, "sqlite"), remote.HostConfig{Name: "stock", Keys: newKeys(t)})
	sagatest.Must(t, err)
	for name, c := range map[string]struct {
		url    string
		config dtm.Config
	}{
		"no URL":           {"", dtm.Config{}},
		"no scheme":        {"localhost:36789", dtm.Config{}},
		"half seconds":     {"http://localhost:1", dtm.Config{Timeout: time.Second / 2}},
		"host without URL": {"http://localhost:1", dtm.Config{Host: host}},
		"signed host":      {"http://localhost:1", dtm.Config{Host: locked, HostURL: "http://localhost:2"}},
	} {
		if _, err := dtm.Open(t.Context(), c.url, c.config); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := dtm.Open(t.Context(), "http://127.0.0.1:1/api/dtmsvr", dtm.Config{}); err == nil || !strings.Contains(err.Error(), "is the DTM server running") {
		t.Errorf("nobody there: %v", err)
	}
}
