package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// history is a log as a long time of use leaves it.
type history struct {
	finished int // of these, one of 50 is cancelled, one of 100 had a failed call, and one of 5 has labels
	failing  int // of these, one of 10 needs an operator, one of 20 is paused, and one of 100 is undecided
}

// fill writes it with statements that make many rows each, on all processors.
func (h history) fill(ctx context.Context, db *Database) error {
	const chunk = 100_000
	fill := func(n int, statements []string) error {
		var writing sync.WaitGroup
		errs := make(chan error, 4)
		for worker := range 4 {
			writing.Go(func() {
				for from := 1 + worker*chunk; from <= n; from += 4 * chunk {
					for _, statement := range statements {
						if err := db.WithContext(ctx).Exec(db.sequence(statement, from, min(n, from+chunk-1))).Error; err != nil {
							errs <- fmt.Errorf("filling the log: %w", err)
							return
						}
					}
				}
			})
		}
		writing.Wait()
		close(errs)
		return <-errs
	}
	if err := fill(h.finished, finishedRows); err != nil {
		return err
	}
	if err := fill(h.failing, failingRows); err != nil {
		return err
	}
	if err := fill(10_000, actRows); err != nil {
		return err
	}
	for _, table := range []string{"saga_transactions", "saga_branches", "saga_attempts", "saga_labels", "saga_acts"} {
		analyze := "ANALYZE " + table
		if db.dialect == "mysql" {
			analyze = "ANALYZE TABLE " + table
		}
		if err := db.WithContext(ctx).Exec(analyze).Error; err != nil {
			return err
		}
	}
	return nil
}

// sequence completes a statement: {numbers} is a table with the numbers seq from one to another,
// {ago X} is the time that many microseconds
// before now, and {in X} the time after now.
func (d *Database) sequence(statement string, from, to int) string {
	numbers := fmt.Sprintf("seq_%d_to_%d", from, to)
	if d.dialect == "postgres" {
		numbers = fmt.Sprintf("(SELECT CAST(n AS BIGINT) AS seq FROM generate_series(%d, %d) AS n) AS numbers", from, to)
	}
	statement = strings.ReplaceAll(statement, "{numbers}", numbers)
	for name, sign := range map[string]string{"{ago ": "-", "{in ": "+"} {
		for {
			before, rest, found := strings.Cut(statement, name)
			if !found {
				break
			}
			microseconds, after, _ := strings.Cut(rest, "}")
			now, interval := "UTC_TIMESTAMP(6)", "INTERVAL ("+microseconds+") MICROSECOND"
			if d.dialect == "postgres" {
				now, interval = "CURRENT_TIMESTAMP", "("+microseconds+") * INTERVAL '1 microsecond'"
			}
			statement = before + "(" + now + " " + sign + " " + interval + ")" + after
		}
	}
	return statement
}

const (
	orderGID   = "CONCAT('order-', 100000000 + seq)"
	failingGID = "CONCAT('failing-', 100000000 + seq)"
	twoKinds   = "(SELECT '01' AS b, 'bench.lock' AS k UNION SELECT '02', 'bench.message') AS kinds"
)

// The newest orders come first: one each half second, back for a month.
var finishedRows = []string{
	`INSERT INTO saga_transactions (gid, pattern, state, digest, reason, reason_code, decided_by, attention, owner, epoch, failures, created_at, deadline_at, decided_at, finished_at)
		SELECT ` + orderGID + `, 'tcc', CASE WHEN seq % 50 = 0 THEN 'cancelled' ELSE 'confirmed' END, REPEAT('d', 64), CASE WHEN seq % 50 = 0 THEN 'bench.lock: there is not enough in stock' ELSE '' END,
		CASE WHEN seq % 50 = 0 THEN 'stock.short' ELSE '' END, 'caller', '', CONCAT('instance-', seq % 20), 1, CASE WHEN seq % 100 = 0 THEN 1 ELSE 0 END,
		{ago seq * 500000}, {ago seq * 500000}, {ago seq * 500000 - 5000}, {ago seq * 500000 - 9000} FROM {numbers}`,
	`INSERT INTO saga_branches (gid, branch_id, kind, payload) SELECT ` + orderGID + `, b, k, '{"SKU":"sku-001"}' FROM {numbers} CROSS JOIN ` + twoKinds,
	`INSERT INTO saga_attempts (gid, branch_id, operation, attempt, error, instance, failed_at) SELECT ` + orderGID + `, '01', 'confirm', 1, 'the stock service does not answer: connection refused', 'instance-1', {ago seq * 500000 - 6000}
		FROM {numbers} WHERE seq % 100 = 0`,
	`INSERT INTO saga_labels (name, value, created_at, gid) SELECT 'order', CONCAT('', 1000000 + seq), {ago seq * 500000}, ` + orderGID + ` FROM {numbers} WHERE seq % 5 = 0`,
	`INSERT INTO saga_labels (name, value, created_at, gid) SELECT 'customer', CONCAT('customer-', seq % 10000), {ago seq * 500000}, ` + orderGID + ` FROM {numbers} WHERE seq % 5 = 0`,
}

// They fail since a day, and the next attempts are due in some hours.
var failingRows = []string{
	`INSERT INTO saga_transactions (gid, pattern, state, digest, reason, decided_by, attention, owner, epoch, failures, created_at, deadline_at, due_at, decided_at, paused_at)
		SELECT ` + failingGID + `, 'tcc', CASE WHEN seq % 100 = 0 THEN 'trying' WHEN seq % 3 = 0 THEN 'cancelling' ELSE 'confirming' END, REPEAT('d', 64), '', CASE WHEN seq % 100 = 0 THEN '' ELSE 'caller' END,
		CASE WHEN seq % 10 = 0 THEN 'bench.pay 02: the account is closed' ELSE '' END, CONCAT('instance-', seq % 20), 1, 2,
		{ago seq * 860000}, {in 36000000000}, {in 36000000000 + seq * 1000}, CASE WHEN seq % 100 = 0 THEN NULL ELSE {ago seq * 860000} END, CASE WHEN seq % 20 = 1 THEN {ago 1000000} ELSE NULL END FROM {numbers}`,
	`INSERT INTO saga_branches (gid, branch_id, kind, payload) SELECT ` + failingGID + `, b, k, '{"Account":"4711"}' FROM {numbers} CROSS JOIN (SELECT '01' AS b, 'bench.lock' AS k UNION SELECT '02', 'bench.pay') AS kinds`,
	`INSERT INTO saga_attempts (gid, branch_id, operation, attempt, error, instance, failed_at, next_at) SELECT ` + failingGID + `, '02', 'confirm', a, CASE WHEN seq % 1000 = 0 THEN 'the certificate of the bank has ended' ELSE 'the payment service does not answer: connection refused' END,
		'instance-1', {ago seq * 860000}, {in 36000000000} FROM {numbers} CROSS JOIN (SELECT 1 AS a UNION SELECT 2) AS attempts`,
}

var actRows = []string{
	`INSERT INTO saga_acts (gid, kind, number, act, who, why, acted_at) SELECT ` + failingGID + `, '', 1, 'retry', CONCAT('operator-', seq % 5), 'the bank says that it works again', {ago seq * 1000000} FROM {numbers}`,
}
