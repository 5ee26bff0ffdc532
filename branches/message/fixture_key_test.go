package message_test

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// sendKeyed sends messages of several keys in turn: their ids are key-number.
func (b *bench) sendKeyed(keys, each int) {
	b.t.Helper()
	for i := range each {
		for k := range keys {
			key := fmt.Sprint("k", k)
			b.send("a", key, nats.Header{message.HeaderID: {fmt.Sprintf("%s-%03d", key, i)}, message.HeaderKey: {key}})
		}
	}
}

// ordered checks that the effects of each key are there once, in their order.
func (b *bench) ordered(keys, each int) {
	b.t.Helper()
	for k := range keys {
		var ids, want []string
		sagatest.Must(b.t, b.db.Raw("SELECT id FROM effects WHERE consumer = ? ORDER BY n", fmt.Sprint("k", k)).Scan(&ids).Error)
		for i := range each {
			want = append(want, fmt.Sprintf("k%d-%03d", k, i))
		}
		if !slices.Equal(ids, want) {
			b.t.Errorf("key %d: %v", k, ids)
		}
	}
}

// inOrder is a table of effects with the order in which they came.
func (b *bench) inOrder() (handle func(tx *gorm.DB, m message.Received) error) {
	b.t.Helper()
	sqltest.Exec(b.t, b.db, "CREATE TABLE effects (n BIGINT NOT NULL, consumer VARCHAR(64) NOT NULL, id VARCHAR(200) NOT NULL)")
	var n atomic.Int64
	return func(tx *gorm.DB, m message.Received) error {
		return tx.Exec("INSERT INTO effects VALUES (?, ?, ?)", n.Add(1), m.Key, m.ID).Error
	}
}
