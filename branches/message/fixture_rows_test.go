package message_test

import (
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// outboxRow is what the tests look at in saga_outbox.
type outboxRow struct {
	BranchID, State, Subject, Stream string
	Sequence                         uint64
	Published, Discarded             bool
}

// id returns the logical id of a message.
func (b *bench) id(gid, branch string) (id string) {
	b.t.Helper()
	sagatest.Must(b.t, b.outbox.Raw("SELECT message_id FROM saga_outbox WHERE gid = ? AND branch_id = ?", gid, branch).Scan(&id).Error)
	if !strings.HasPrefix(id, gid+"/"+branch+"/") {
		b.t.Errorf("message %s/%s has the id %q", gid, branch, id)
	}
	return id
}

func (b *bench) outboxRows(gid string) (rows []outboxRow) {
	b.t.Helper()
	sagatest.Must(b.t, b.outbox.Raw(`SELECT branch_id, state, subject, stream, sequence, published_at IS NOT NULL AS published,
		discarded_at IS NOT NULL AS discarded FROM saga_outbox WHERE gid = ? ORDER BY branch_id`, gid).Scan(&rows).Error)
	return rows
}

// holds checks how many messages there are in a stream.
func (b *bench) holds(stream string, messages uint64) {
	b.t.Helper()
	if got := count(b.t, b.js, stream); got != messages {
		b.t.Errorf("stream %s holds %d messages, want %d", stream, got, messages)
	}
}

// effects is a table that handlers write into, so that what a handler did is
// seen only if its local transaction was committed.
func (b *bench) effects() {
	b.t.Helper()
	sqltest.Exec(b.t, b.db, "CREATE TABLE effects (consumer VARCHAR(64) NOT NULL, id VARCHAR(200) NOT NULL)")
}

func effect(tx *gorm.DB, consumer, id string) error {
	return tx.Exec("INSERT INTO effects VALUES (?, ?)", consumer, id).Error
}

// had checks how often a handler had its effect on a message.
func (b *bench) had(consumer, id string, times int64) {
	b.t.Helper()
	var n int64
	sagatest.Must(b.t, b.db.Raw("SELECT COUNT(*) FROM effects WHERE consumer = ? AND id = ?", consumer, id).Scan(&n).Error)
	if n != times {
		b.t.Errorf("%s had its effect on %s %d times, want %d", consumer, id, n, times)
	}
}
