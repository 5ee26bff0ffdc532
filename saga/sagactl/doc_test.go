package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga/ctl"
)

// The documentation names each command, and each exit code of the help.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if command, found := strings.CutPrefix(line, "//\t"); found {
			if name, _, found := strings.Cut(command, "  "); found {
				documented[name] = true
			}
		}
	}
	root := ctl.Command(ctl.Config{
		Open:   func(context.Context, string) (*gorm.DB, error) { return nil, nil },
		Broker: func(context.Context, string) (broker.Broker, func(), error) { return nil, nil, nil },
	})
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.HasSubCommands() {
			for _, sub := range c.Commands() {
				visit(sub)
			}
			if c.Use != "bulk ACT" { // which works by itself, too
				return
			}
		}
		if name := strings.TrimPrefix(c.CommandPath(), "sagactl "); !documented[name] {
			t.Errorf("doc.go does not describe %q", name)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: %q", c.CommandPath(), c.Short)
		}
	}
	visit(root)
	for _, code := range []string{"0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "8 ", "9 ", "130 "} {
		if !strings.Contains(string(text), "//\t"+code) || !strings.Contains(strings.ReplaceAll(root.Long, "\n", " "), " "+code) {
			t.Errorf("exit code %s is not described", code)
		}
	}
}
