package message

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// OutboxCounts counts messages that wait. A count has More if there may be others: it looks at
// the 1,000 rows of each stream in saga_outbox_delayed that are due first, and at the 10,000
// oldest unfinished transactions, or fewer if these have more than 1,000 messages.
type OutboxCounts struct {
	Waiting saga.Count    `json:"waiting"`             // all, also those of undecided transactions
	Due     saga.Count    `json:"due"`                 // of these, to be published now
	Failing saga.Count    `json:"failing"`             // of these, with a failed attempt
	Oldest  time.Time     `json:"oldest_due,omitzero"` // when the oldest of those to be published now was due; zero if there is none
	Lag     time.Duration `json:"lag"`                 // how long ago that was, by the database's clock; 0 if there is none
}

// add adds the counts of other messages.
func (c *OutboxCounts) add(other OutboxCounts) {
	sum := func(a, b saga.Count) saga.Count { return saga.Count{N: a.N + b.N, More: a.More || b.More} }
	c.Waiting, c.Due, c.Failing = sum(c.Waiting, other.Waiting), sum(c.Due, other.Due), sum(c.Failing, other.Failing)
	if c.Oldest.IsZero() || !other.Oldest.IsZero() && other.Oldest.Before(c.Oldest) {
		c.Oldest = other.Oldest
	}
}

// StreamStats counts the messages that wait to be published on one stream.
type StreamStats struct {
	Stream string `json:"stream"`
	OutboxCounts
}

// OutboxStats counts the messages that wait.
type OutboxStats struct {
	Now time.Time `json:"now"` // by the database's clock
	OutboxCounts
	Streams []StreamStats `json:"streams"`                // those with messages that wait, by name; at most 100
	More    bool          `json:"more_streams,omitempty"` // there are other streams, which are not counted
}

// streamRows is how many rows of a stream are counted.
const streamRows = 1000

// Stats counts the messages that wait. It is for monitoring: its reads are bounded, also if
// millions of messages wait. A message that is just being published is one that waits, with a
// lag of some milliseconds.
func (o *Outbox) Stats(ctx context.Context) (OutboxStats, error) {
	stats, err := o.stats(ctx)
	if err != nil {
		return OutboxStats{}, fmt.Errorf("message: statistics of the outbox: %w", err)
	}
	return stats, nil
}

func (o *Outbox) stats(ctx context.Context) (stats OutboxStats, err error) {
	streams := map[string]*OutboxCounts{}
	if stats.More, err = o.countOthers(ctx, streams); err != nil {
		return stats, err
	}
	all, err := o.countPrepared(ctx, streams)
	if err != nil {
		return stats, err
	}
	var nowMicros int64
	db := o.db.WithContext(ctx)
	if err := db.Raw("SELECT " + micros(db, started(db))).Scan(&nowMicros).Error; err != nil {
		return stats, err
	}
	stats.Now = timeOf(nowMicros)
	stats.Streams = []StreamStats{}
	for name, counts := range streams {
		stats.OutboxCounts.add(*counts)
		counts.Lag = stats.lag(counts.Oldest)
		stats.Streams = append(stats.Streams, StreamStats{name, *counts})
	}
	stats.Lag = stats.lag(stats.Oldest)
	for _, count := range []*saga.Count{&stats.Waiting, &stats.Due, &stats.Failing} {
		count.More = count.More || !all || stats.More
	}
	slices.SortFunc(stats.Streams, func(a, b StreamStats) int { return cmp.Compare(a.Stream, b.Stream) })
	if len(stats.Streams) > outboxStreams {
		stats.Streams, stats.More = stats.Streams[:outboxStreams], true
	}
	return stats, nil
}

func (s OutboxStats) lag(oldest time.Time) time.Duration {
	if oldest.IsZero() {
		return 0
	}
	return max(0, s.Now.Sub(oldest))
}

// countOthers counts the rows of saga_outbox_delayed by stream. It returns true if there are
// more streams.
func (o *Outbox) countOthers(ctx context.Context, streams map[string]*OutboxCounts) (more bool, err error) {
	db := o.db.WithContext(ctx)
	for name := ""; ; {
		if name, err = streamAfter(db, name); err != nil || name == "" {
			return false, err
		}
		if len(streams) == outboxStreams {
			return true, nil
		}
		// Along the index, those that are due first.
		var row struct {
			Waiting, Due, Failing int
			Oldest                int64
		}
		isDue := "due_at <= " + started(db)
		err = db.Raw("SELECT COUNT(*) AS waiting, COALESCE(SUM(CASE WHEN "+isDue+" THEN 1 ELSE 0 END), 0) AS due, COALESCE(SUM(CASE WHEN "+isDue+
			" AND failures > 0 THEN 1 ELSE 0 END), 0) AS failing, COALESCE("+micros(db, "MIN(due_at)")+", 0) AS oldest FROM "+
			"(SELECT due_at, failures FROM saga_outbox_delayed WHERE destination = ? ORDER BY due_at LIMIT ?) d", name, streamRows+1).Scan(&row).Error
		if err != nil {
			return false, err
		}
		count := func(n int) saga.Count { return saga.Count{N: min(n, streamRows), More: row.Waiting > streamRows} }
		counts := &OutboxCounts{Waiting: count(row.Waiting), Due: saga.Count{N: min(row.Due, streamRows), More: row.Due > streamRows},
			Failing: saga.Count{N: min(row.Failing, streamRows), More: row.Due > streamRows}}
		if row.Due > 0 {
			counts.Oldest = timeOf(row.Oldest)
		}
		if row.Waiting > 0 {
			streams[name] = counts
		}
	}
}

// countPrepared counts the messages of unfinished transactions by stream, beginning with the
// oldest transaction. It returns true if it has looked at all of these transactions.
func (o *Outbox) countPrepared(ctx context.Context, streams map[string]*OutboxCounts) (all bool, err error) {
	r := waitingReader{db: o.db.WithContext(ctx)}
	next, counted := &outboxPlace{}, 0
	for step := 0; next != nil && step < outboxSteps && counted <= streamRows; step++ {
		var rows []preparedCounts
		if rows, next, err = r.countStep(*next); err != nil {
			return false, err
		}
		for _, row := range rows {
			if streams[row.Destination] == nil {
				streams[row.Destination] = &OutboxCounts{}
			}
			streams[row.Destination].add(OutboxCounts{Waiting: saga.Count{N: row.Waiting}, Due: saga.Count{N: row.Due}, Failing: saga.Count{N: row.Failing}, Oldest: timeOf(row.Oldest)})
			counted += row.Waiting
		}
	}
	return next == nil, nil
}

// preparedCounts counts the messages of some transactions for one stream.
type preparedCounts struct {
	Destination           string
	Waiting, Due, Failing int
	Oldest                int64
}

// countStep counts the messages of the transactions that one statement looks at.
func (r waitingReader) countStep(p outboxPlace) (rows []preparedCounts, next *outboxPlace, err error) {
	if next, err = r.end(p); err != nil {
		return nil, nil, err
	}
	window, arguments := unfinished(r.db, p, next)
	query := preparedOf(r.db, window) + " AND t.state IN ('trying', 'confirming')"
	if p.GID != "" { // it is the last one of the step before
		query, arguments = query+" AND t.gid <> ?", append(arguments, p.GID)
	}
	const isDue = "t.state = 'confirming'"
	err = r.db.Raw("SELECT o.destination, COUNT(*) AS waiting, SUM(CASE WHEN "+isDue+" THEN 1 ELSE 0 END) AS due, SUM(CASE WHEN "+isDue+
		" AND t.failures > 0 AND (SELECT MAX(a.attempt)"+failedConfirms+") > 0 THEN 1 ELSE 0 END) AS failing, COALESCE("+micros(r.db, "MIN(CASE WHEN "+isDue+" THEN t.decided_at END)")+
		", 0) AS oldest"+query+" GROUP BY o.destination", arguments...).Scan(&rows).Error
	return rows, next, err
}
