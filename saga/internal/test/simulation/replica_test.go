package simulation

import (
	"database/sql/driver"
	"os"
	"path/filepath"
	"testing"
)

// replica is a copy of a database from an earlier moment.
type replica struct {
	primary, file string
	conn          sqliteConn
}

func newReplica(t *testing.T, d driver.Driver, primary string) *replica {
	t.Helper()
	r := &replica{primary: primary, file: filepath.Join(t.TempDir(), "replica.db")}
	must(t, r.copy())
	opened, err := d.Open("file:" + r.file + "?nolock=1&_pragma=journal_mode(MEMORY)")
	must(t, err)
	t.Cleanup(func() { opened.Close() })
	r.conn = opened.(sqliteConn)
	return r
}

func (r *replica) copy() error {
	text, err := os.ReadFile(r.primary)
	if err != nil {
		return err
	}
	return os.WriteFile(r.file, text, 0o600)
}

// replicate copies the database to the replica, unless a local transaction is
// under way.
func (d *database) replicate() {
	d.io.Lock()
	defer d.io.Unlock()
	if !d.free() {
		return
	}
	if err := d.replica.copy(); err != nil {
		panic(err)
	}
}
