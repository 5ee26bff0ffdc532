package simulation

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
)

// The numbers of the process that hosts branches, and of the network between it and the engines.
const (
	hostNumber    = processes
	networkNumber = processes + 1
)

// withHost adds a process that hosts branches, in the other database.
func withHost(w *world) { w.hosted = true }

// hostKey signs all calls of the host.
var hostKey = func() remote.Key {
	key, err := remote.NewKey("sim", []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		panic(err)
	}
	return key
}()

const hostName = "host"

// startHost starts the process as one that hosts branches in db.
func (p *process) startHost(ctx context.Context, db *gorm.DB) (err error) {
	if p.host, err = remote.NewHost(ctx, db, remote.HostConfig{Name: hostName, Keys: []remote.Key{hostKey}, CallTimeout: 3 * time.Second, Logger: quiet}); err != nil {
		return err
	}
	p.starting = false
	k := works{p.world, p}
	return register(p.host, []saga.Branch{
		saga.NewLocal(far, encode, saga.Local{Work: k.inside}),
		saga.NewLocal(farBulk, encode, saga.Local{Work: k.inside, WorkBatch: k.insideBatch}),
		saga.NewExternal(farOut, encode, saga.External{Try: k.outside, Confirm: k.outside, Cancel: k.outside}),
		saga.NewLocal(actFar, encode, saga.Local{Work: k.act}).AsAction(),
	})
}

// service returns the host as the engine of the process calls it.
func (p *process) service() (*remote.Service, error) {
	return remote.NewService("http://host.sim/branches", remote.ServiceConfig{Name: hostName, Keys: []remote.Key{hostKey},
		Timeout: 2500 * time.Millisecond, Client: &http.Client{Transport: &network{p}}})
}

func remoteBranches(service saga.Remote) []saga.Branch {
	return []saga.Branch{
		saga.NewRemote(far, encode, service),
		saga.NewRemote(farBulk, encode, service),
		saga.NewRemote(farOut, encode, service),
		saga.NewRemote(actFar, encode, service).AsAction(),
	}
}

// insideBatch is inside for several calls at once.
func (k works) insideBatch(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) (failures []error, err error) {
	failures = make([]error, len(calls))
	var keys, rows []string
	var values []any
	for i, c := range calls {
		keys = append(keys, c.Key().String())
		if failures[i] = refusal(c.Call); failures[i] != nil {
			continue
		}
		rows, values = append(rows, "(?, ?, ?)"), append(values, c.GID, c.BranchID, string(op))
	}
	err = k.world.pass(ctx, k.process, fmt.Sprintf("%s of %s, %s", op, strings.Join(keys, " "), calls[0].Kind), func() error {
		if len(rows) == 0 {
			return nil
		}
		return tx.Exec("INSERT INTO effects (gid, branch, op) VALUES "+strings.Join(rows, ", "), values...).Error
	})
	return failures, err
}
