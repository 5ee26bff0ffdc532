package console_test

import (
	"net/http"
	"net/url"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func TestPages(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann"), Title: "Orders"})
		for _, page := range []string{"", "?span=1h", "?span=6h", "?span=24h", "transactions", "transactions?show=all", "transactions?state=trying&state=cancelled",
			"transactions?attention=1", "transactions?text=bank&order=oldest&limit=100", "transactions?prefix=don&show=all",
			"transactions?kind=pay&from=2020-01-01T00:00&to=2999-01-01T00:00&owner=x", "transaction?gid=done-1", "transaction?gid=rejected-1",
			"transaction?gid=failing-1", "transaction?gid=conflict-1", "transaction?gid=open-1", "kinds", "instances", "bulks", "bulk/new?kind=pay", "messages", "indoubt", "acts", "acts?who=ann&act=retry"} {
			for _, lang := range []string{"en", "zh"} {
				s.header.Set("Accept-Language", lang)
				a := s.get("/console/"+page).want(t, http.StatusOK, "<!doctype html>", "Orders")
				if a.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %v", page, a.Header)
				}
			}
		}
		s.get("/console/transaction?gid="+url.QueryEscape(nastyGID)).want(t, http.StatusOK)
	})
}
