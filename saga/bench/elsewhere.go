package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/tcc"
)

// elsewhere is tccsaga with plain branches, in this process, in other databases than the log.
type elsewhere struct {
	*Embedded
	others []*Database
}

// lockElsewhere and messageElsewhere are branches in a database of their own.
type (
	lockElsewhere struct {
		locks
		db *gorm.DB
	}
	messageElsewhere struct {
		messages
		db *gorm.DB
	}
)

func (l lockElsewhere) Database() *gorm.DB    { return l.db }
func (m messageElsewhere) Database() *gorm.DB { return m.db }

// newElsewhere opens one other database for both branches, or one for each.
func newElsewhere(ctx context.Context, name string, log *Database) (Contender, error) {
	first, err := openDatabase(ctx, log.dialect)
	if err != nil {
		return nil, err
	}
	others := []*Database{first}
	if name == "two other databases" {
		second, err := openDatabase(ctx, log.dialect)
		if err != nil {
			return nil, err
		}
		others = append(others, second)
	}
	orch, err := embedded.Open(ctx, log.DB, embedded.Config{Logger: warnings})
	if err != nil {
		return nil, err
	}
	e := &Embedded{name: name, db: log, orch: orch, ended: make(chan error, 1), closed: func() {}, plan: plans["plain"]("")}
	err = errors.Join(tcc.Register(orch, lockElsewhere{db: first.DB}), tcc.Register(orch, messageElsewhere{db: others[len(others)-1].DB}))
	go func() { e.ended <- orch.Run(context.WithoutCancel(ctx)) }()
	return &elsewhere{e, others}, err
}

func (e *elsewhere) Close() error {
	err := e.Embedded.Close()
	for _, db := range e.others {
		db.close()
	}
	return err
}

// warnings is a logger that leaves out what is normal.
var warnings = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
