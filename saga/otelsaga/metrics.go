package otelsaga

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"

	"github.com/tccsaga/tccsaga/saga"
)

// metrics are the metrics that are made of events.
type metrics struct {
	transactions, decisions, calls, messages metric.Float64Histogram

	verdicts, takeovers, leases, commits, attention metric.Int64Counter

	batches metric.Int64Histogram

	ofTransaction, ofDecision, ofCall, ofMessage, ofVerdict, ofBatch, ofAttention *attributes

	patterns, kinds, streams, consumers *names
}

func newMetrics(meter metric.Meter) (metrics, error) {
	make := &maker{meter: meter}
	m := metrics{
		transactions: make.seconds(transactionDuration, "Time from the begin of a transaction to its end."),
		decisions:    make.seconds(decisionDuration, "Time from the begin of a transaction to its decision."),
		calls:        make.seconds(callDuration, "Time of one call of a branch, with its commit."),
		messages:     make.seconds(messageDuration, "Time of one call of a consumer's handler."),
		verdicts:     make.counter(verdicts, "{call}", "Calls of branches, by what the barrier has said."),
		takeovers:    make.counter(takeovers, "{transaction}", "Transactions that were taken over from an instance that is gone."),
		leases:       make.counter(leasesLost, "{lease}", "How often this instance has lost its lease."),
		commits:      make.counter(commitsUnanswered, "{commit}", "COMMITs that were not answered."),
		batches:      make.size(batchSize, "{member}", "Calls or writes that were made together."),
		attention:    make.counter(attentionRaised, "{transaction}", "Transactions that were raised to attention."),

		ofTransaction: newAttributes("pattern", "outcome"),
		ofDecision:    newAttributes("pattern", "outcome", "decided_by"),
		ofCall:        newAttributes("kind", "operation", "result"),
		ofMessage:     newAttributes("stream", "consumer", "result"),
		ofVerdict:     newAttributes("kind", "operation", "verdict"),
		ofBatch:       newAttributes("batch"),
		ofAttention:   newAttributes("pattern"),

		patterns: &names{}, kinds: &names{}, streams: &names{}, consumers: &names{},
	}
	if make.err == nil {
		// A series that begins with its first event has no increase.
		for _, counter := range []metric.Int64Counter{m.takeovers, m.leases, m.commits} {
			counter.Add(context.Background(), 0)
		}
	}
	return m, make.err
}

// outcome returns the outcome of a state that is decided.
func outcome(state saga.State) string {
	if state == saga.Cancelling || state == saga.Cancelled {
		return string(saga.Cancelled)
	}
	return string(saga.Confirmed)
}

func (m *metrics) decided(ctx context.Context, e saga.Decided) {
	if e.Took > 0 {
		m.decisions.Record(ctx, e.Took.Seconds(), m.ofDecision.of(values{m.patterns.of(e.Pattern), outcome(e.State), e.By}))
	}
}

func (m *metrics) finished(ctx context.Context, e saga.Finished) {
	if e.Took > 0 {
		m.transactions.Record(ctx, e.Took.Seconds(), m.ofTransaction.of(values{m.patterns.of(e.Pattern), outcome(e.State)}))
	}
}

func (m *metrics) call(ctx context.Context, e saga.CallEnded) {
	kind, operation := m.kinds.of(e.Kind), string(e.Operation)
	m.calls.Record(ctx, e.Took.Seconds(), m.ofCall.of(values{kind, operation, string(e.Result)}))
	if e.Verdict != "" {
		m.verdicts.Add(ctx, 1, m.ofVerdict.of(values{kind, operation, string(e.Verdict)}))
	}
}

func (m *metrics) message(ctx context.Context, e saga.MessageEnded) {
	m.messages.Record(ctx, e.Took.Seconds(), m.ofMessage.of(values{m.streams.of(e.Stream), m.consumers.of(e.Consumer), handled(e)}))
}

// handled returns the result of a handler.
func handled(e saga.MessageEnded) string {
	switch {
	case e.Err == nil:
		return "ok"
	case errors.Is(e.Err, context.DeadlineExceeded):
		return "timeout"
	default:
		return "failed"
	}
}

func (m *metrics) count(ctx context.Context, e saga.Event) {
	switch e := e.(type) {
	case saga.TakenOver:
		m.takeovers.Add(ctx, int64(e.Transactions))
	case saga.LeaseLost:
		m.leases.Add(ctx, 1)
	case saga.CommitUnanswered:
		m.commits.Add(ctx, 1)
	case saga.AttentionRaised:
		m.attention.Add(ctx, 1, m.ofAttention.of(values{m.patterns.of(e.Pattern)}))
	case saga.BatchCommitted:
		m.batches.Record(ctx, int64(e.Size), m.ofBatch.of(values{e.Batch}))
	}
}
